"""Find the files that patterns name."""

import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from kd_dist.config.paths import matching_paths, require_utf8
from kd_dist.errors import CorpusError

JSON_SUFFIXES = (".jsonl", ".json")

CELL_SUFFIXES = (".tsv", ".csv")

TABLE_SUFFIXES = (".parquet", ".arrow")

NAMED_SUFFIXES = (*JSON_SUFFIXES, *TABLE_SUFFIXES)  # of files that always name their columns

RECORD_SUFFIXES = (*CELL_SUFFIXES, *NAMED_SUFFIXES)

TEXT_SUFFIXES = (".txt", *NAMED_SUFFIXES)

LABELLED_SUFFIXES = (".txt", *RECORD_SUFFIXES)

UNREAD_SHOWN = 10

SPLIT_NAMES = {
    "train": "train", "training": "train",
    "dev": "validation", "eval": "validation", "val": "validation", "valid": "validation", "validation": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip

UNLABELLED_FOLDERS = ("unsup", "unsupervised", "unlabelled", "unlabeled")

DESCRIPTIONS = ("manifest.json", "dataset_info.json", "state.json")  # files about the tables beside them


def find_files(patterns: Sequence[str], suffixes: Sequence[str] = TEXT_SUFFIXES) -> list[Path]:
    """Find the files that paths, folders and globs name, each once.

    Folders are searched recursively for files with one of the suffixes, except hidden ones and descriptions of tables.
    The patterns keep their order; the files that one pattern matches are sorted.

    Raises:
        CorpusError: patterns that match nothing; the message names all of them.
    """
    matches = {pattern: _match(pattern, suffixes) for pattern in patterns}
    if bad := [pattern for pattern, files in matches.items() if not files]:
        names = ", ".join(repr(pattern) for pattern in bad)
        others = [str(file) for file in unread_files(bad, [])]
        raise CorpusError(
            f"no text file matches {names} (working directory: {Path.cwd()}); "
            f"give existing files, globs, or folders with {', '.join(suffixes)} files (plain or .gz)"
            + (f"; there is {', '.join(others[:UNREAD_SHOWN])}" if others else "")
        )
    unique: dict[str, Path] = {}
    for file in itertools.chain.from_iterable(matches.values()):
        unique.setdefault(os.path.abspath(file), file)
    return list(unique.values())


def _match(pattern: str, suffixes: Sequence[str]) -> list[Path]:
    found = map(Path, matching_paths(pattern))
    return [file for entry in found for file in (_files_inside(entry, suffixes) if entry.is_dir() else [entry])]


def _files_inside(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    found = (file for file in visible_files(folder) if format_suffix(file) in suffixes and file.is_file())
    return sorted(file for file in found if file.name not in DESCRIPTIONS)


def unread_files(patterns: Sequence[str], read: Iterable[Path]) -> list[Path]:
    """Return the files inside folders that patterns name which are not among those that are read.

    Hidden files and descriptions of tables do not count.
    """
    known = {os.path.abspath(file) for file in read}
    folders = (Path(path) for pattern in patterns for path in matching_paths(pattern) if os.path.isdir(path))
    inside = {os.path.abspath(file): file for folder in folders for file in visible_files(folder)}
    unread = [file for path, file in inside.items() if path not in known and file.is_file()]
    return sorted(file for file in unread if file.name not in DESCRIPTIONS)


def unread_note(files: Sequence[Path | str]) -> str:
    """Return what a user is told of files that folders hold and nobody reads."""
    names = ", ".join(map(str, files[:UNREAD_SHOWN])) + " ..." * (len(files) > UNREAD_SHOWN)
    return f"files in the given folders that are of no kind that is read here: {len(files):,} ({names})"


def visible_files(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder, without hidden files and folders, which editors and notebooks leave.

    Raises:
        CorpusError: a folder that may not be read, or a name that is not UTF-8.
    """
    return map(Path, _visible_paths(folder))


def _visible_paths(folder: Path) -> Iterator[str]:
    for inside, folders, names in os.walk(folder, onerror=_refuse_folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (require_utf8(os.path.join(inside, name)) for name in names if not name.startswith("."))


def _refuse_folder(error: OSError) -> NoReturn:
    raise CorpusError(f"{error.filename}: {error.strerror}; make the folder readable for you (`chmod u+rx`)") from error


def format_suffix(path: Path) -> str:
    """Return the suffix that says how to read a file, in lower case and without .gz."""
    return (path.with_suffix("") if is_compressed(path) else path).suffix.lower()


def is_compressed(path: Path) -> bool:
    """Return whether the suffix says that the file is packed with gzip."""
    return path.suffix.lower() == ".gz"


def labelled_files(patterns: Sequence[str]) -> list[tuple[Path, str | None]]:
    """Find the labelled files that patterns name, each once: tables, and documents in folders named after labels.

    A folder that contains folders and no table is a class tree: every folder in it is a label, and every file below
    that is a document. Files beside the class folders and hidden files are ignored.

    Returns:
        (file, None) for a table, (file, label) for a document; `is_unlabelled` tells documents without a label.

    Raises:
        CorpusError: a pattern that matches nothing, a folder that holds a whole data set in its splits, or a class
            folder without documents.
    """
    return list(each_labelled_file(patterns))


def each_labelled_file(patterns: Sequence[str]) -> Iterator[tuple[Path, str | None]]:
    """Yield what `labelled_files` returns, of a class tree one class folder after another.

    Raises:
        CorpusError: what `labelled_files` raises, before the first file.
    """
    found = {pattern: _tables_or_tree(pattern) for pattern in patterns}
    seen: set[str] | None = set() if len(patterns) > 1 else None  # one pattern names no file twice
    for pattern, tables in found.items():
        files = _documents(Path(pattern).expanduser()) if tables is None else ((table, None) for table in tables)
        for file, label in files:
            if seen is not None:
                path = os.path.abspath(file)
                if path in seen:
                    continue
                seen.add(path)
            yield file, label


def _tables_or_tree(pattern: str) -> list[Path] | None:
    """Return the tables that a pattern names, or None for a class tree."""
    folder = Path(pattern).expanduser()
    _refuse_splits(folder)
    if not is_class_tree(folder):
        return find_files([pattern], LABELLED_SUFFIXES)
    for class_folder in _class_folders(folder):
        if not is_unlabelled(class_folder.name) and not any(map(os.path.isfile, _visible_paths(class_folder))):
            raise CorpusError(f"{class_folder}: a class without a document; remove the folder or fill it")
    return None


def unread_labelled_files(patterns: Sequence[str]) -> list[Path]:
    """Return the files inside folders of labelled data that are of no kind that is read.

    Raises:
        CorpusError: what `labelled_files` raises.
    """
    found = {pattern: _tables_or_tree(pattern) for pattern in patterns}
    tables = [table for tables in found.values() for table in tables or ()]
    trees = [Path(pattern).expanduser() for pattern, tables in found.items() if tables is None]
    unread = unread_files([pattern for pattern, tables in found.items() if tables is not None], tables)
    known = set(map(os.path.abspath, (*tables, *unread)))
    beside = (file for tree in trees for file in tree.iterdir() if not file.name.startswith(".") and file.is_file())
    documents = {os.path.abspath(folder) for tree in trees for folder in _class_folders(tree)}
    unread = [file for file in unread if not documents & {os.path.abspath(folder) for folder in file.parents}]
    return sorted([*unread, *(file for file in beside if os.path.abspath(file) not in known)])


def is_unlabelled(label: str | None) -> bool:
    """Return whether documents in a folder of this name have no label, such as those of aclImdb/train/unsup."""
    return label is not None and label.lower() in UNLABELLED_FOLDERS


def _refuse_splits(folder: Path) -> None:
    """Refuse a folder that holds the splits of a data set: they are neither classes nor, read as one, what is meant."""
    if not folder.is_dir():
        return
    folders = [entry for entry in _class_folders(folder) if not is_unlabelled(entry.name)]
    files = [entry for entry in sorted(folder.iterdir()) if format_suffix(entry) in LABELLED_SUFFIXES]
    found: dict[str, list[str]] = {split: [] for split in ("train", "validation", "test")}
    for entry in (*folders, *files):
        if split := SPLIT_NAMES.get(entry.name.lower().partition(".")[0]):
            found[split].append(str(entry))
    found = {split: entries for split, entries in found.items() if entries}
    if len(found) > 1 or (folders and all(entry.name.lower() in SPLIT_NAMES for entry in folders)):
        names = [Path(entry).name for entries in found.values() for entry in entries]
        settings = " ".join(f"data.{split}={','.join(entries)}" for split, entries in found.items())
        raise CorpusError(f"{folder}: {', '.join(names)} are splits, not classes of one split; name each: {settings}")


def is_class_tree(folder: Path) -> bool:
    """Return whether this is a folder of folders, without a table anywhere inside."""
    if not folder.is_dir() or all(is_unlabelled(entry.name) for entry in _class_folders(folder)):
        return False
    return not any(_is_table(path) for path in _visible_paths(folder))


def _is_table(path: str) -> bool:
    return path.lower().removesuffix(".gz").endswith(RECORD_SUFFIXES)


def _class_folders(folder: Path) -> list[Path]:
    return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _documents(folder: Path) -> Iterator[tuple[Path, str]]:
    for class_folder in _class_folders(folder):
        documents = sorted(filter(os.path.isfile, _visible_paths(class_folder)), key=_parts)
        yield from ((Path(document), class_folder.name) for document in documents)


def _parts(path: str) -> list[str]:
    """Return what paths are sorted by: the folders and the name, as `Path` is."""
    return path.split("/")
