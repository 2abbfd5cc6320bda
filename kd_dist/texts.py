"""Text files -> blocks: read, clean and de-duplicate the lines, and group those of one document.

One streaming pass in flat memory. Importing this module is cheap: pyarrow is imported when a table is read.
"""

import contextlib
import glob
import gzip
import itertools
import json
import os
import re
import unicodedata
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar, cast

import numpy as np
import xxhash

from kd_dist.errors import UserError

SUPPORTED_SUFFIXES = (".txt", ".jsonl", ".json", ".parquet", ".arrow")
TABLES_WITHOUT_NAMES = (".tsv", ".csv")
DESCRIPTIONS = ("manifest.json", "dataset_info.json", "state.json")  # of tables, which lie beside them
TEXTS = ("text", "text_pair")  # columns for people, which no model reads
MAX_BLOCK_LINES = 256
MAX_BLOCK_BYTES = 64 * 1024
MAX_GROUP_ITEMS = 4096  # a group is what is hashed or tokenised in one go: big enough to pay for the call,
MAX_GROUP_SIZE = 512 * 1024  # small enough that its tokens and offsets as Python objects stay under 100 MB

ARROW_FILE = b"ARROW1"  # how a file begins that is not a stream

Item = TypeVar("Item")
Records = Iterator[tuple[int, tuple[str, ...]]]  # line or record number from 1, texts


class CorpusError(UserError):
    """The text files or the tokenizer cannot be used; the message names the file, the line and the way out."""


# ------------------------------------------------------------------------------------------------------ files and lines


def find_files(patterns: Sequence[str], suffixes: Sequence[str] = SUPPORTED_SUFFIXES) -> list[Path]:
    """Return the files that plain paths, folders (searched recursively for `suffixes`) and globs name, each once.

    The patterns keep their order; what one pattern matches is sorted. In a folder, descriptions of tables and what is
    hidden are left alone. Raises CorpusError naming every pattern that matches nothing.
    """
    matches = {pattern: _match(pattern, suffixes) for pattern in patterns}
    if bad := [pattern for pattern, files in matches.items() if not files]:
        names = ", ".join(repr(pattern) for pattern in bad)
        raise CorpusError(
            f"no text file matches {names} (working directory: {Path.cwd()}); "
            f"give existing files, globs, or folders with {', '.join(suffixes)} files (plain or .gz)"
        )
    unique: dict[str, Path] = {}
    for file in itertools.chain.from_iterable(matches.values()):
        unique.setdefault(os.path.abspath(file), file)
    return list(unique.values())


def find_plain_texts(patterns: Sequence[str]) -> list[Path]:
    """`find_files` for texts without labels.

    Raises CorpusError for what `find_files` refuses, for tables that do not say which column is the text, and when all
    files are empty.
    """
    files = find_files(patterns)
    if tables := [file for file in files if kind(file) in TABLES_WITHOUT_NAMES]:
        raise CorpusError(
            f"{tables[0]}: a table does not say which of its columns is the text; give a txt file with a text in each "
            "line (of a pair both, a tab between them), json lines, parquet or Arrow"
        )
    if not any(map(_size_of_file, files)):
        raise CorpusError(f"{', '.join(patterns)}: there is no text in these files, all are empty")
    return files


def _size_of_file(path: Path) -> int:
    with damage_explained(path):
        return path.stat().st_size


def _match(pattern: str, suffixes: Sequence[str]) -> list[Path]:
    path = Path(pattern).expanduser()
    found = [path] if path.exists() else [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]
    return [file for entry in found for file in (_files_inside(entry, suffixes) if entry.is_dir() else [entry])]


def _files_inside(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    found = (file for file in visible_files(folder) if kind(file) in suffixes and file.is_file())
    return sorted(file for file in found if file.name not in DESCRIPTIONS)


def visible_files(folder: Path) -> Iterator[Path]:
    """The files below a folder but the hidden ones and those in hidden folders, which editors and notebooks leave."""
    for inside, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(inside, name) for name in names if not name.startswith("."))


def kind(path: Path) -> str:
    """Return the suffix that says how to read the file, without .gz."""
    return (path.with_suffix("") if path.suffix == ".gz" else path).suffix


def read_lines(path: Path, text_field: str = "text") -> Iterator[tuple[int, str | None]]:
    """Yield (line or record number from 1, text) of a .txt, .jsonl, .json (lines), .parquet or .arrow file, or its .gz.

    Any other suffix is read as plain text, where an empty line, "", is the border between two documents. In JSON
    lines, parquet and Arrow every record is a document, and (number, None) after it is the border. The file is never in
    memory as a whole. Raises CorpusError for text that is not UTF-8, a file that is damaged or gone, bad JSON, and a
    missing or non-text field.
    """
    is_text = kind(path) not in RECORD_READERS
    for number, (text,) in read_records(path, [text_field]):
        yield number, text
        if not is_text:
            yield number, None


def read_records(path: Path, fields: Sequence[str]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield (line or record number from 1, the texts of `fields`) of any file that `read_lines` reads.

    A line of plain text is one text; where two are asked for there is a tab between them. Raises what `read_lines`
    raises, and CorpusError for a line of plain text that is not blank and holds more or fewer texts.
    """
    with damage_explained(path):
        yield from RECORD_READERS.get(kind(path), _read_text)(path, fields)


@contextlib.contextmanager
def damage_explained(path: Path) -> Iterator[None]:
    """A file that cannot be unpacked, or is no longer there, becomes a CorpusError that says so."""
    try:
        yield
    except FileNotFoundError as error:
        raise CorpusError(
            f"{path} was there when the files were listed and is gone; put it back and start the same run again, or "
            "start another run (--run-id) with the files that are there"
        ) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise CorpusError(
            f"{path}: damaged or truncated gzip file ({error}); check it with `gzip -t` and copy it again"
        ) from error


def open_bytes(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path)) if path.suffix == ".gz" else open(path, "rb")


def _read_text(path: Path, fields: Sequence[str]) -> Records:
    if len(fields) == 1:
        yield from ((number, (line,)) for number, line in numbered_lines(path))
        return
    for number, line in numbered_lines(path):
        texts = tuple(line.split("\t"))
        if len(texts) != len(fields) and line.strip():
            raise CorpusError(
                f"{path}, line {number}: {len(texts)} texts with tabs between them, expected {len(fields)}, the texts "
                "of a pair; json lines and parquet hold them as fields"
            )
        yield number, texts


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (number from 1, line without its end) of a UTF-8 file, plain or .gz, with or without a byte-order mark."""
    with open_bytes(path) as stream:
        for number, raw in enumerate(stream, start=1):
            if number == 1:
                raw = raw.removeprefix(b"\xef\xbb\xbf")
            yield number, _decode(raw, path, number).rstrip("\r\n")


def _decode(raw: bytes, path: Path, number: int) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        column = len(raw[: error.start].decode("utf-8")) + 1
        encoding = "UTF-16" if raw.startswith((b"\xff\xfe", b"\xfe\xff")) else "GB18030"
        raise CorpusError(
            f"{path}, line {number}: not UTF-8 text (byte 0x{raw[error.start]:02x} at column {column}); "
            f"convert it with `iconv -f {encoding} -t UTF-8`"
        ) from error


def _read_json_lines(path: Path, fields: Sequence[str]) -> Records:
    for number, line in numbered_lines(path):
        if line.strip():
            yield number, _fields_of_json(line, fields, f"{path}, line {number}")


def _fields_of_json(line: str, fields: Sequence[str], where: str) -> tuple[str, ...]:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise CorpusError(f"{where}: not JSON ({error}); every line must be one whole JSON object") from error
    if not isinstance(record, dict):
        raise CorpusError(f"{where}: a JSON {type(record).__name__}; every line must be one whole JSON object")
    _check_fields(where, fields, list(record))
    return tuple(_text_of(record[field], field, where) for field in fields)


def _check_fields(where: str, fields: Sequence[str], found: list[str]) -> None:
    for field in fields:
        if field not in found:
            way_out = "the second text of a pair has this name" if field == TEXTS[1] else "set text_field to one"
            raise CorpusError(f"{where}: no field {field!r}; the fields are {', '.join(found) or 'none'}: {way_out}")


def _text_of(value: object, text_field: str, where: str) -> str:
    if value is None:  # usual in tables; counts as an empty line
        return ""
    if not isinstance(value, str):
        raise CorpusError(f"{where}: the field {text_field!r} holds {type(value).__name__}, expected text")
    return value


def _read_parquet(path: Path, fields: Sequence[str]) -> Records:
    import pyarrow.parquet as pq

    with open_bytes(path) as stream, table_damage_explained(path, "parquet"):
        # A small buffer and no pre-buffering: a row group may hold gigabytes.
        file = pq.ParquetFile(stream, buffer_size=1 << 20, pre_buffer=False, page_checksum_verification=True)
        _check_fields(f"{path}, line 1", fields, file.schema_arrow.names)
        batches = file.iter_batches(batch_size=1024, columns=list(fields), use_threads=False)
        yield from _records_of(batches, path, fields)


def _read_arrow(path: Path, fields: Sequence[str]) -> Records:
    """Both forms of Arrow's IPC format: the stream, which `datasets` writes, and the file."""
    import pyarrow as pa

    with open_bytes(path) as stream, table_damage_explained(path, "Arrow"):
        is_file = stream.read(len(ARROW_FILE)) == ARROW_FILE
        stream.seek(0)
        reader = pa.ipc.open_file(stream) if is_file else pa.ipc.open_stream(stream)
        _check_fields(f"{path}, line 1", fields, reader.schema.names)
        batches = map(reader.get_batch, range(reader.num_record_batches)) if is_file else reader
        yield from _records_of(batches, path, fields)


@contextlib.contextmanager
def table_damage_explained(path: Path, name: str) -> Iterator[None]:
    """A table that pyarrow cannot read becomes a CorpusError that says so; `name` is the format it should have."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as error:
        if isinstance(error, gzip.BadGzipFile) or getattr(error, "errno", None) is not None:
            raise  # not pyarrow's own: it says OSError, without a number, of damage inside a file
        raise CorpusError(f"{path}: not a readable {name} file ({error}); write it again") from error


def _records_of(batches: Iterable[Any], path: Path, fields: Sequence[str]) -> Records:
    rows = itertools.chain.from_iterable(zip(*map(batch.column, fields), strict=True) for batch in batches)
    for number, values in enumerate(rows, start=1):
        where = f"{path}, line {number}"
        named = zip(fields, values, strict=True)
        yield number, tuple(_text_of(_python_value(value, where), field, where) for field, value in named)


def _python_value(value: Any, where: str) -> object:
    try:
        return value.as_py()
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"{where}: not UTF-8 text (byte 0x{error.object[error.start]:02x}); write the text as UTF-8"
        ) from error


RECORD_READERS = {
    ".jsonl": _read_json_lines,
    ".json": _read_json_lines,
    ".parquet": _read_parquet,
    ".arrow": _read_arrow,
}


# ------------------------------------------------------------------------------------------ cleaning and de-duplication

# Unicode categories Cc (but for those that count as white space), Cf and Cs: invisible, and alone a surrogate is not
# even text. Written out because asking `unicodedata` for 1.1 million characters takes longer than the whole import.
INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e"
    "\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb\U000110bd\U000110cd"
    "\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f]"
)

_CLOSING = r"[”’」』》〉）)】\]\"']*"
_SENTENCE_END = re.compile(rf"(?:[。！？!?；;…]|\.{{3,}}|\.(?={_CLOSING}\s))+{_CLOSING}\s*")


def clean(text: str) -> str:
    """Return the text in Unicode NFKC, without control, zero-width and format characters, white space runs as one
    space, stripped.

    NFKC also folds full-width forms: "，！？；：" become ",!?;:" and "…" becomes "...".
    """
    return " ".join(unicodedata.normalize("NFKC", INVISIBLE.sub("", text)).split())


def split_sentences(text: str) -> list[str]:
    """Return the sentences; joined they are the text again.

    A sentence ends after 。！？!?；; … or three dots, with the closing quotes and white space that follow; a single
    "." ends it only before white space.
    """
    borders = [0, *(match.end() for match in _SENTENCE_END.finditer(text)), len(text)]
    return [text[start:end] for start, end in itertools.pairwise(borders) if start < end]


class SeenHashes:
    """Remembers texts by 64-bit hash: 8 bytes a text, 16 while two runs merge.

    The newest hashes are a small set; when it is full it becomes a sorted array (a run), and runs of similar size
    merge, so that n texts make about log2(n / 65,536) runs to search. Two different texts with one hash count as
    equal: at a billion texts the chance of even one such pair is about 3 %.
    """

    def __init__(self, newest_size: int = 65_536) -> None:
        self._newest_size = newest_size
        self._newest: set[int] = set()
        self._runs: list[np.ndarray] = []

    def unseen(self, texts: list[str]) -> list[bool]:
        """Return for every text whether it comes for the first time, earlier calls and this list included."""
        hashes = np.fromiter((xxhash.xxh64_intdigest(text.encode()) for text in texts), np.uint64, len(texts))
        old = np.zeros(len(texts), dtype=bool)
        for run in self._runs:
            positions = np.minimum(np.searchsorted(run, hashes), len(run) - 1)
            old |= run[positions] == hashes
        fresh = [not is_old and self._add(value) for is_old, value in zip(old.tolist(), hashes.tolist(), strict=True)]
        if len(self._newest) >= self._newest_size:
            self._settle()
        return fresh

    def _add(self, value: int) -> bool:
        if value in self._newest:
            return False
        self._newest.add(value)
        return True

    def _settle(self) -> None:
        self._runs.append(np.sort(np.fromiter(self._newest, np.uint64, len(self._newest))))
        self._newest.clear()
        while len(self._runs) > 1 and len(self._runs[-2]) < 2 * len(self._runs[-1]):
            merged = np.concatenate([self._runs.pop(), self._runs.pop()])
            merged.sort(kind="stable")  # timsort: two sorted runs merge in linear time
            self._runs.append(merged)


@dataclass
class TextStatistics:
    """What `blocks` has read so far; characters and documents count what was kept."""

    lines_read: int = 0
    lines_empty: int = 0
    lines_duplicate: int = 0
    lines_kept: int = 0
    characters: int = 0
    documents: int = 0


def blocks(
    files: Sequence[Path], text_field: str, statistics: TextStatistics, max_lines: int | None = None
) -> Iterator[list[str]]:
    """Yield blocks of cleaned lines that were not seen before, and count them in `statistics`.

    A block holds consecutive lines of one document: at most 256, and at most 64 KiB unless one line alone is longer.
    `max_lines` ends the reading after so many lines, borders between documents included.
    Raises what `read_lines` raises and, at the end, CorpusError when there was no text at all.
    """
    block: list[str] = []
    size = 0
    inside_document = False
    lines = itertools.islice(_clean_lines(files, text_field, statistics), max_lines)
    for text in _unseen_lines(itertools.chain(lines, [None]), statistics):  # the last document ends, cut or not
        length = 0 if text is None else len(text.encode())
        if block and (text is None or len(block) == MAX_BLOCK_LINES or size + length > MAX_BLOCK_BYTES):
            yield block
            block, size = [], 0
        if text is not None:
            statistics.documents += not inside_document
            block.append(text)
            size += length
        inside_document = text is not None
    if not statistics.lines_kept:
        names = ", ".join(map(str, files)) or "an empty list of files"
        raise CorpusError(f"no text in {names} ({statistics.lines_read} lines read, all empty)")


def _unseen_lines(lines: Iterable[str | None], statistics: TextStatistics) -> Iterator[str | None]:
    """Yield every kept line, and None at document borders."""
    seen = SeenHashes()
    for batch in grouped(lines, _size_of_line):
        unseen = iter(seen.unseen([text for text in batch if text is not None]))
        for text in batch:
            if text is None:
                yield None
            elif next(unseen):
                statistics.lines_kept += 1
                statistics.characters += len(text)
                yield text
            else:
                statistics.lines_duplicate += 1


def _clean_lines(files: Sequence[Path], text_field: str, statistics: TextStatistics) -> Iterator[str | None]:
    for file in files:
        for _, raw in read_lines(file, text_field):
            text = None
            if raw is not None:
                text = clean(raw) or None
                statistics.lines_read += 1
                statistics.lines_empty += text is None
            yield text
        yield None


def _size_of_line(text: str | None) -> int:
    return len(text) if text else 0


def grouped(items: Iterable[Item], size_of: Callable[[Item], int]) -> Iterator[list[Item]]:
    """Yield lists that are full as soon as they reach MAX_GROUP_ITEMS items or MAX_GROUP_SIZE."""
    group: list[Item] = []
    size = 0
    for item in items:
        group.append(item)
        size += size_of(item)
        if len(group) >= MAX_GROUP_ITEMS or size >= MAX_GROUP_SIZE:
            yield group
            group, size = [], 0
    if group:
        yield group
