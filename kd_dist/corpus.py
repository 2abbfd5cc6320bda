"""Text files -> tokenised Arrow, in flat memory.

One streaming pass reads, cleans and de-duplicates the lines and groups them in blocks of one document; then worker
processes tokenise the blocks, and a last pass deals the rows out to `train` and `validation`. What comes out does not
depend on the number of workers. Importing this module is cheap: the heavy libraries are imported where they are used.
"""

import contextlib
import errno
import functools
import glob
import gzip
import hashlib
import itertools
import json
import logging
import os
import re
import secrets
import shutil
import sys
import tempfile
import time
import unicodedata
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar, cast

import numpy as np
import xxhash

from kd_dist.errors import UserError

FORMAT_VERSION = 1  # raise it when the same options and files would give other rows: old caches are then left alone
MAX_BLOCK_LINES = 256
MAX_BLOCK_BYTES = 64 * 1024
MAX_UNIT_LINES = 4096  # a unit is what a worker tokenises in one go: big enough to pay for the call,
MAX_UNIT_BYTES = 512 * 1024  # small enough that its tokens and offsets as Python objects stay under 100 MB
SPLIT_ROWS = 10_000
SUPPORTED_SUFFIXES = (".txt", ".jsonl", ".json", ".parquet")
SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
TOKENIZER_FILES = ("tokenizer*", "vocab*", "*.model", "merges.txt", "special_tokens_map.json", "added_tokens.json")
TOKENIZER_CLASS_FILES = ("config.json", "*.py")  # the class comes from config.json when tokenizer_config.json is silent

Item = TypeVar("Item")


class CorpusError(UserError):
    """The text files or the tokenizer cannot be used; the message names the file, the line and the way out."""


# ---------------------------------------------------------------------------------------------------- files and lines


def find_files(patterns: Sequence[str]) -> list[Path]:
    """Return the files that plain paths, folders (searched recursively) and globs name, each once.

    The patterns keep their order; what one pattern matches is sorted. Raises CorpusError naming every pattern that
    matches nothing.
    """
    matches = {pattern: _match(pattern) for pattern in patterns}
    if bad := [pattern for pattern, files in matches.items() if not files]:
        names = ", ".join(repr(pattern) for pattern in bad)
        raise CorpusError(
            f"no text file matches {names} (working directory: {Path.cwd()}); "
            f"give existing files, globs, or folders with {', '.join(SUPPORTED_SUFFIXES)} files (plain or .gz)"
        )
    unique: dict[str, Path] = {}
    for file in itertools.chain.from_iterable(matches.values()):
        unique.setdefault(os.path.abspath(file), file)
    return list(unique.values())


def _match(pattern: str) -> list[Path]:
    path = Path(pattern).expanduser()
    found = [path] if path.exists() else [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]
    return [file for entry in found for file in (_files_inside(entry) if entry.is_dir() else [entry])]


def _files_inside(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if _kind(file) in SUPPORTED_SUFFIXES and file.is_file())


def _kind(path: Path) -> str:
    """Return the suffix that says how to read the file, without .gz."""
    return (path.with_suffix("") if path.suffix == ".gz" else path).suffix


def read_lines(path: Path, text_field: str = "text") -> Iterator[tuple[int, str | None]]:
    """Yield (line or record number from 1, text) of a .txt, .jsonl, .json (lines) or .parquet file, plain or .gz.

    Any other suffix is read as plain text, where an empty line, "", is the border between two documents. In JSON
    lines and parquet every record is a document, and (number, None) after it is the border. The file is never in
    memory as a whole. Raises CorpusError for text that is not UTF-8, damaged gzip or parquet, bad JSON, and a missing
    or non-text field.
    """
    readers = {".jsonl": _read_json_lines, ".json": _read_json_lines, ".parquet": _read_parquet}
    reader = readers.get(_kind(Path(path)), _read_text)
    try:
        yield from reader(Path(path), text_field)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise CorpusError(
            f"{path}: damaged or truncated gzip file ({error}); check it with `gzip -t` and copy it again"
        ) from error


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path)) if path.suffix == ".gz" else open(path, "rb")


def _read_text(path: Path, text_field: str) -> Iterator[tuple[int, str]]:
    with _open(path) as stream:
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


def _read_json_lines(path: Path, text_field: str) -> Iterator[tuple[int, str | None]]:
    for number, line in _read_text(path, text_field):
        if line.strip():
            yield number, _field_of_json(line, text_field, f"{path}, line {number}")
            yield number, None


def _field_of_json(line: str, text_field: str, where: str) -> str:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise CorpusError(f"{where}: not JSON ({error}); every line must be one whole JSON object") from error
    if not isinstance(record, dict):
        raise CorpusError(f"{where}: a JSON {type(record).__name__}; every line must be one whole JSON object")
    if text_field not in record:
        raise CorpusError(_missing_field(where, text_field, list(record)))
    return _text_of(record[text_field], text_field, where)


def _missing_field(where: str, text_field: str, fields: list[str]) -> str:
    return f"{where}: no field {text_field!r}; the fields are {', '.join(fields) or 'none'}: set text_field to one"


def _text_of(value: object, text_field: str, where: str) -> str:
    if value is None:  # usual in tables; counts as an empty line
        return ""
    if not isinstance(value, str):
        raise CorpusError(f"{where}: the field {text_field!r} holds {type(value).__name__}, expected text")
    return value


def _read_parquet(path: Path, text_field: str) -> Iterator[tuple[int, str | None]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with _open(path) as stream:
        try:
            # A small buffer and no pre-buffering: a row group may hold gigabytes.
            file = pq.ParquetFile(stream, buffer_size=1 << 20, pre_buffer=False)
            if text_field not in file.schema_arrow.names:
                raise CorpusError(_missing_field(f"{path}, line 1", text_field, file.schema_arrow.names))
            batches = file.iter_batches(batch_size=1024, columns=[text_field], use_threads=False)
            values = itertools.chain.from_iterable(batch.column(0) for batch in batches)
            for number, value in enumerate(values, start=1):
                yield number, _text_of(_python_value(value, path, number), text_field, f"{path}, line {number}")
                yield number, None
        except pa.ArrowInvalid as error:
            raise CorpusError(f"{path}: not a readable parquet file ({error}); write it again") from error


def _python_value(value: Any, path: Path, number: int) -> object:
    try:
        return value.as_py()
    except UnicodeDecodeError as error:
        raise CorpusError(
            f"{path}, line {number}: not UTF-8 text (byte 0x{error.object[error.start]:02x}); write the text as UTF-8"
        ) from error


# ---------------------------------------------------------------------------------------- cleaning and de-duplication

# Unicode categories Cc (but for those that count as white space), Cf and Cs: invisible, and alone a surrogate is not
# even text. Written out because asking `unicodedata` for 1.1 million characters takes longer than the whole import.
_INVISIBLE = re.compile(
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
    return " ".join(unicodedata.normalize("NFKC", _INVISIBLE.sub("", text)).split())


def split_sentences(text: str) -> list[str]:
    """Return the sentences; joined they are the text again.

    A sentence ends after 。！？!?；; … or three dots, with the closing quotes and white space that follow; a single
    "." ends it only before white space.
    """
    borders = [0, *_sentence_ends(text)]
    return [text[start:end] for start, end in itertools.pairwise(borders)]


def _sentence_ends(text: str) -> list[int]:
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    return ends if not text or (ends and ends[-1] == len(text)) else [*ends, len(text)]


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


def blocks(files: Sequence[Path], text_field: str, statistics: TextStatistics) -> Iterator[list[str]]:
    """Yield blocks of cleaned lines that were not seen before, and count them in `statistics`.

    A block holds consecutive lines of one document: at most 256, and at most 64 KiB unless one line alone is longer.
    """
    block: list[str] = []
    size = 0
    inside_document = False
    for text in _unseen_lines(files, text_field, statistics):
        length = 0 if text is None else len(text.encode())
        if block and (text is None or len(block) == MAX_BLOCK_LINES or size + length > MAX_BLOCK_BYTES):
            yield block
            block, size = [], 0
        if text is not None:
            statistics.documents += not inside_document
            block.append(text)
            size += length
        inside_document = text is not None


def _unseen_lines(files: Sequence[Path], text_field: str, statistics: TextStatistics) -> Iterator[str | None]:
    """Yield every kept line, and None at document borders."""
    seen = SeenHashes()
    for batch in _grouped(_clean_lines(files, text_field, statistics), MAX_UNIT_LINES, MAX_UNIT_BYTES, _size_of_line):
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


def _grouped(
    items: Iterable[Item], max_count: int, max_size: int, size_of: Callable[[Item], int]
) -> Iterator[list[Item]]:
    """Yield lists that are full as soon as they reach `max_count` items or `max_size`."""
    group: list[Item] = []
    size = 0
    for item in items:
        group.append(item)
        size += size_of(item)
        if len(group) >= max_count or size >= max_size:
            yield group
            group, size = [], 0
    if group:
        yield group


# ------------------------------------------------------------------------------------------------------- tokenisation


class _Line(NamedTuple):
    """A tokenised line without special tokens."""

    ids: list[int]
    sentence_lengths: list[int]  # tokens in each sentence
    begins_word: list[bool]  # per token; empty when nobody asked


def tokenise_block(
    lines: list[str], tokenizer: Any, max_length: int, pack: bool, word_starts: bool
) -> list[dict[str, Any]]:
    """Return the rows of one block: {"input_ids": [...], "truncated": bool} and, if asked, "word_starts".

    Every row carries the tokenizer's special tokens and at most `max_length` tokens with them. With `pack` the
    sentences of the block fill the rows greedily, in order; one that is longer than a row is cut; no token is lost.
    Without it a line is a row, cut at `max_length` (`truncated` says so). A line is tokenised whole, so the tokens are
    those the model sees when it is used; sentences only say where it may be cut. `word_starts` is true at special
    tokens and at the first token of each jieba word. Lines that have no token give no row.
    """
    return _tokenise_unit([lines], tokenizer, max_length, pack, word_starts)


def _tokenise_unit(
    unit: list[list[str]], tokenizer: Any, max_length: int, pack: bool, word_starts: bool
) -> list[dict[str, Any]]:
    """`tokenise_block` for several blocks: one call of the tokenizer, but no row across two blocks."""
    prefix, suffix = _special_tokens(tokenizer)
    budget = _budget(tokenizer, max_length)
    encoded = _encode([line for block in unit for line in block], tokenizer, word_starts)
    rows = []
    for block in unit:
        lines = list(itertools.islice(encoded, len(block)))
        bodies = _packed(lines, budget) if pack else _one_per_line(lines, budget)
        for ids, begins_word, truncated in bodies:
            row: dict[str, Any] = {"input_ids": prefix + ids + suffix, "truncated": truncated}
            if word_starts:
                row["word_starts"] = [True] * len(prefix) + begins_word + [True] * len(suffix)
            rows.append(row)
    return rows


def _budget(tokenizer: Any, max_length: int) -> int:
    num_special = sum(map(len, _special_tokens(tokenizer)))
    if max_length <= num_special:
        raise CorpusError(f"max_length={max_length} leaves no room beside {num_special} special tokens")
    return max_length - num_special


def _special_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Return the ids that the tokenizer puts before and after a text.

    Fast tokenizers of transformers 5 have no `build_inputs_with_special_tokens`; the post-processor marks its own.
    """
    probe = tokenizer("a", return_special_tokens_mask=True)
    ids, mask = probe["input_ids"], probe["special_tokens_mask"]
    num_before = len(list(itertools.takewhile(bool, mask)))
    num_after = len(list(itertools.takewhile(bool, reversed(mask))))
    return ids[:num_before], ids[len(ids) - num_after :]


def _encode(lines: list[str], tokenizer: Any, word_starts: bool) -> Iterator[_Line]:
    # The Rust tokenizer itself: the transformers call around it builds lists of everything and takes twice the time.
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    for line, encoding in zip(lines, backend.encode_batch(lines, add_special_tokens=False), strict=True):
        ids, ends = encoding.ids, _sentence_ends(line)
        if len(ends) == 1 and not word_starts:
            yield _Line(ids, [len(ids)], [])
            continue
        first_characters = np.maximum.accumulate(np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)[:, 0])
        # A token belongs to the sentence in which it begins.
        borders = [0, *np.searchsorted(first_characters, ends[:-1]).tolist(), len(ids)]
        sentence_lengths = [end - start for start, end in itertools.pairwise(borders)]
        yield _Line(ids, sentence_lengths, _begins_word(line, first_characters).tolist() if word_starts else [])


def _begins_word(line: str, first_characters: np.ndarray) -> np.ndarray:
    """Return which tokens begin a jieba word; of several tokens in one character (byte pieces) only the first can."""
    at_border = np.zeros(len(line) + 1, dtype=bool)
    at_border[np.cumsum([0, *map(len, _word_cutter().cut(line))])] = True
    return at_border[first_characters] & (np.diff(first_characters, prepend=-1) > 0)


@functools.cache
def _word_cutter() -> Any:
    import jieba

    # jieba caches its dictionary in the shared /tmp under one name for everybody: another user's file would be in the
    # way, or be loaded. When the folder cannot be made jieba goes on without a cache.
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kd_dist"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    jieba.dt.tmp_dir = str(folder)
    jieba.setLogLevel(logging.WARNING)
    return jieba.dt


def _one_per_line(lines: list[_Line], budget: int) -> Iterator[tuple[list[int], list[bool], bool]]:
    for line in lines:
        if line.ids:
            yield line.ids[:budget], line.begins_word[:budget], len(line.ids) > budget


def _packed(lines: list[_Line], budget: int) -> Iterator[tuple[list[int], list[bool], bool]]:
    ids = list(itertools.chain.from_iterable(line.ids for line in lines))
    begins_word = list(itertools.chain.from_iterable(line.begins_word for line in lines))
    start = 0
    for length in _row_lengths((length for line in lines for length in line.sentence_lengths), budget):
        yield ids[start : start + length], begins_word[start : start + length], False
        start += length


def _row_lengths(sentence_lengths: Iterable[int], budget: int) -> Iterator[int]:
    """Yield the tokens of each row when sentences are packed greedily into rows of at most `budget` tokens."""
    filled = 0
    for length in sentence_lengths:
        if filled + length > budget:
            if filled:
                yield filled
            num_full, length = divmod(length, budget)
            yield from itertools.repeat(budget, num_full)
            filled = 0
        filled += length
    if filled:
        yield filled


def _load_tokenizer(tokenizer_path: str) -> Any:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(tokenizer_path)
    except (OSError, ValueError) as error:
        raise CorpusError(f"no tokenizer can be loaded from {tokenizer_path}: {error}") from error
    if not tokenizer.is_fast:
        raise CorpusError(f"{tokenizer_path}: a slow tokenizer without offsets; convert it to a tokenizer.json")
    return tokenizer


_worker_tokenizer = functools.lru_cache(maxsize=1)(_load_tokenizer)


# -------------------------------------------------------------------------------------------------------- preparation


def prepare(
    *,
    files: list[Path],
    tokenizer_path: str,
    output_dir: Path,
    max_length: int,
    pack: bool,
    text_field: str,
    word_starts: bool,
    validation_fraction: float,
    num_workers: int,
) -> dict[str, Any]:
    """Write the tokenised corpus to `output_dir`, which must not exist, and return its statistics.

    `train/` and `validation/` are Hugging Face datasets (memory-mapped Arrow) with `input_ids` (list of int32) and, if
    asked, `word_starts` (list of bool); `train_lengths.npy` and `validation_lengths.npy` hold the length of every row,
    `tokenizer/` the tokenizer, `statistics.json` what is returned. Every round(1 / validation_fraction)-th row goes to
    validation (at least one if there are two rows; none when the fraction is 0). `num_workers` processes tokenise (0:
    one per available core); the result does not depend on it. Nothing appears under the final name before it is
    complete, and nothing is left behind on failure.

    Raises CorpusError for what `read_lines` refuses, a tokenizer that does not load, an existing `output_dir`, a
    `max_length` without room and files without any text; OSError (disk full) passes through.
    """
    started = time.monotonic()
    if output_dir.exists():
        raise CorpusError(f"{output_dir} exists already; remove it or choose another folder")
    tokenizer = _load_tokenizer(tokenizer_path)
    _budget(tokenizer, max_length)  # refuses a bad max_length now, not after an hour of reading
    options = {"max_length": max_length, "pack": pack, "word_starts": word_starts}
    with _temporary_sibling(output_dir) as temporary, _quiet():
        work, output = temporary / "work", temporary / "output"
        work.mkdir()
        output.mkdir()
        counts = _write_units(files, text_field, work / "units.arrow")
        rows = _tokenise(work, {"tokenizer_path": tokenizer_path, **options}, _num_processes(num_workers))
        statistics: dict[str, Any] = {"files": [str(file) for file in files], **asdict(counts), **options}
        if not len(rows):
            raise CorpusError(f"{tokenizer_path}: the tokenizer finds no token in {', '.join(map(str, files))}")
        statistics |= _write_splits(rows, work, output, max_length, validation_fraction)
        tokenizer.save_pretrained(output / "tokenizer")
        statistics |= {"vocabulary_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
        statistics["seconds"] = round(time.monotonic() - started, 3)
        (output / "statistics.json").write_text(json.dumps(statistics, ensure_ascii=False, indent=2), encoding="utf-8")
        os.rename(output, output_dir)
    return statistics


def _num_processes(num_workers: int) -> int:
    return num_workers or len(os.sched_getaffinity(0))


@contextlib.contextmanager
def _temporary_sibling(output_dir: Path) -> Iterator[Path]:
    """A folder beside `output_dir` (so that a rename is atomic), gone afterwards whatever happens."""
    output_dir.parent.mkdir(parents=True, exist_ok=True)
    # The process id alone is not unique: nodes share the folder, and a container restarts with the same ids.
    temporary = Path(tempfile.mkdtemp(prefix=f".{output_dir.name}.tmp-{os.getpid()}-", dir=output_dir.parent))
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """No progress bars into log files; no threads inside the tokenizer, whose processes fill the cores already."""
    import datasets

    bars_were_off = datasets.are_progress_bars_disabled()
    before = os.environ.get("TOKENIZERS_PARALLELISM")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not bars_were_off:
            datasets.enable_progress_bars()
        if before is None:
            del os.environ["TOKENIZERS_PARALLELISM"]
        else:
            os.environ["TOKENIZERS_PARALLELISM"] = before


def _write_units(files: Sequence[Path], text_field: str, path: Path) -> TextStatistics:
    """Write the blocks as Arrow; a row is a unit: blocks that one call tokenises."""
    import pyarrow as pa

    statistics = TextStatistics()
    schema = pa.schema([("blocks", pa.list_(pa.list_(pa.string())))])
    units = _grouped(blocks(files, text_field, statistics), MAX_UNIT_LINES, MAX_UNIT_BYTES, _size_of_block)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        for unit in units:
            writer.write_batch(pa.record_batch([pa.array([unit], schema.field(0).type)], schema=schema))
    _require_text(files, statistics)
    return statistics


def _size_of_block(block: list[str]) -> int:
    return sum(len(line.encode()) for line in block)


def _tokenise(work: Path, options: dict[str, Any], num_processes: int) -> Any:
    """Tokenise the units of `work` in parallel; return the dataset of rows, memory-mapped from `work`."""
    import datasets

    columns = {"input_ids": datasets.List(datasets.Value("int32")), "truncated": datasets.Value("bool")}
    if options["word_starts"]:
        columns["word_starts"] = datasets.List(datasets.Value("bool"))
    units = datasets.Dataset.from_file(str(work / "units.arrow"))
    with _interruption_as_itself():
        rows = units.map(
            functools.partial(_tokenise_batch, **options),
            batched=True,
            batch_size=1,
            num_proc=min(num_processes, len(units)),
            remove_columns=["blocks"],
            features=datasets.Features(columns),
            cache_file_name=str(work / "rows.arrow"),
            new_fingerprint="rows",  # otherwise the function is pickled and hashed for a cache that is not used
            load_from_cache_file=False,
            desc="tokenising",
        )
    (work / "units.arrow").unlink()
    return rows


@contextlib.contextmanager
def _interruption_as_itself() -> Iterator[None]:
    """`Dataset.map`, interrupted, asks its workers for results first, and their time-out hides the interruption."""
    import multiprocess  # type: ignore[import-untyped]

    try:
        yield
    except multiprocess.TimeoutError as error:
        raise (error.__context__ or error) from None


def _tokenise_batch(batch: dict[str, Any], tokenizer_path: str, **options: Any) -> dict[str, list]:
    tokenizer = _worker_tokenizer(tokenizer_path)
    rows = [row for unit in batch["blocks"] for row in _tokenise_unit(unit, tokenizer, **options)]
    columns = ["input_ids", "truncated"] + ["word_starts"] * options["word_starts"]
    return {column: [row[column] for row in rows] for column in columns}


def _write_splits(rows: Any, work: Path, output: Path, max_length: int, validation_fraction: float) -> dict[str, Any]:
    """Deal the rows out to train and validation; return what the rows add to the statistics."""
    import pyarrow.compute as pc

    every = _validation_period(len(rows), validation_fraction)
    train = _write_split(rows, "train", work, output, max_length, every)
    validation = _write_split(rows, "validation", work, output, max_length, every)
    histogram = train + validation
    return {
        "rows": len(rows),
        "train_rows": int(train.sum()),
        "validation_rows": int(validation.sum()),
        "truncated_rows": pc.sum(rows.data.column("truncated")).as_py(),
        "tokens": int(histogram @ np.arange(max_length + 1)),
        "length_percentiles": _percentiles(histogram),
    }


def _validation_period(num_rows: int, validation_fraction: float) -> int:
    """Return n: every n-th row is for validation, never all of them; n beyond the last row means none is."""
    if not validation_fraction or num_rows < 2:
        return num_rows + 1
    return min(max(2, round(1 / validation_fraction)), num_rows)


def _write_split(rows: Any, split: str, work: Path, output: Path, max_length: int, every: int) -> np.ndarray:
    """Write the rows of one split and their lengths; return how many rows have each length, 0 to `max_length`."""
    import datasets
    import pyarrow as pa
    import pyarrow.compute as pc

    num_validation = len(rows) // every
    size = num_validation if split == "validation" else len(rows) - num_validation
    lengths = np.lib.format.open_memmap(
        output / f"{split}_lengths.npy", mode="w+", dtype=np.min_scalar_type(max(max_length, 256)), shape=(size,)
    )
    schema = rows.features.arrow_schema
    schema = schema.remove(schema.get_field_index("truncated"))
    path, written = work / f"{split}.arrow", 0
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        for table in _rows_of_split(rows, split, every):
            writer.write_table(table.select(schema.names))
            lengths[written : written + len(table)] = pc.list_value_length(table.column("input_ids")).to_numpy()
            written += len(table)
    datasets.Dataset.from_file(str(path)).save_to_disk(output / split, **({} if size else {"num_shards": 1}))
    path.unlink()
    return _histogram(lengths, max_length)


def _rows_of_split(rows: Any, split: str, every: int) -> Iterator[Any]:
    """Yield Arrow tables; a filter over slices, because a list of row numbers would be as long as the corpus."""
    import pyarrow as pa

    arrow = rows.with_format("arrow")
    for start in range(0, len(rows), SPLIT_ROWS):
        table = arrow[start : start + SPLIT_ROWS]
        for_validation = np.arange(start, start + len(table)) % every == every - 1
        yield table.filter(pa.array(for_validation == (split == "validation")))


def _histogram(lengths: np.ndarray, max_length: int) -> np.ndarray:
    parts = (lengths[start : start + (1 << 20)] for start in range(0, len(lengths), 1 << 20))
    return sum((np.bincount(part, minlength=max_length + 1) for part in parts), np.zeros(max_length + 1, np.int64))


def _percentiles(histogram: np.ndarray) -> dict[str, int]:
    """Return the row lengths that 5, 25, 50, 75, 95 and 100 % of the rows do not exceed."""
    cumulative = np.cumsum(histogram)
    return {str(p): int(np.searchsorted(cumulative, cumulative[-1] * p / 100)) for p in (5, 25, 50, 75, 95, 100)}


# -------------------------------------------------------------------------------------------------------------- cache


def fingerprint(*, files: Sequence[Path], tokenizer_path: str, **options: Any) -> str:
    """Return a short name for what `prepare` makes of these files, tokenizer and options.

    Files count with name, size and modification time, wherever they lie; a tokenizer folder with the bytes of its
    tokenizer files, a hub name as such. `num_workers` changes nothing in the result and does not count.
    """
    identities = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    options = {key: value for key, value in options.items() if key != "num_workers"}
    parts = [FORMAT_VERSION, identities, _tokenizer_identity(tokenizer_path), options]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _tokenizer_identity(tokenizer_path: str) -> str | list[tuple[str, str]]:
    folder = Path(tokenizer_path)
    if not folder.is_dir():
        return tokenizer_path
    files = {file for pattern in TOKENIZER_FILES + TOKENIZER_CLASS_FILES for file in folder.glob(pattern)}
    return [(file.name, hashlib.sha256(file.read_bytes()).hexdigest()) for file in sorted(files) if file.is_file()]


def cached_prepare(cache_dir: Path, link: Path, **arguments: Any) -> dict[str, Any]:
    """Run `prepare(**arguments)` into `cache_dir/<fingerprint>` unless that exists; point the symbolic `link` at it.

    The link is relative and is replaced atomically. Returns the statistics, with "cached": true when nothing had to
    be built. Raises what `prepare` raises, and CorpusError when `link` is a folder or file of its own.
    """
    if link.exists() and not link.is_symlink():
        raise CorpusError(f"{link} is not a link to a prepared corpus; move it away or choose another place")
    target = cache_dir / fingerprint(**arguments)
    cached = target.exists()
    if not cached:
        _build(target, arguments)
    statistics = json.loads((target / "statistics.json").read_text(encoding="utf-8"))
    _replace_link(link, target)
    return {**statistics, "cached": cached}


def _build(target: Path, arguments: dict[str, Any]) -> None:
    try:
        prepare(output_dir=target, **arguments)
    except OSError as error:
        # Another process built the same corpus in the meantime: its copy is as good.
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY) or not (target / "statistics.json").exists():
            raise


def _replace_link(link: Path, target: Path) -> None:
    link.parent.mkdir(parents=True, exist_ok=True)
    temporary = link.parent / f".{link.name}.tmp-{secrets.token_hex(4)}"
    temporary.symlink_to(os.path.relpath(target.resolve(), link.parent.resolve()))
    os.replace(temporary, link)


# ---------------------------------------------------------------------------------------------------------- tokenizer


def train_tokenizer(files: Sequence[Path], output_dir: Path, vocabulary_size: int, text_field: str) -> None:
    """Train a lower-casing BERT WordPiece tokenizer on the cleaned text and save it for `AutoTokenizer`.

    For machines without a model hub. Every Chinese character is a piece of its own; [PAD] [UNK] [CLS] [SEP] [MASK]
    are 0 to 4. The same text gives the same vocabulary, never larger than asked, smaller when the text has no more to
    give. Reads the files twice: for the characters, then for the words. Raises CorpusError when
    there is no text or no room for more than the special tokens.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import BertTokenizer

    room = vocabulary_size - len(SPECIAL_TOKENS)
    if room < 1:
        raise CorpusError(
            f"vocabulary_size={vocabulary_size} leaves no room beside {len(SPECIAL_TOKENS)} special tokens"
        )
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    alphabet = _alphabet(files, text_field, tokenizer, room)
    characters = [piece for piece in alphabet if len(piece) == 1]
    # The trainer breaks ties by hash order; fixed ids for the whole alphabet make the result repeatable.
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocabulary_size,
        special_tokens=SPECIAL_TOKENS + alphabet,
        initial_alphabet=characters,
        limit_alphabet=len(characters),
        show_progress=False,
    )
    lines = itertools.chain.from_iterable(blocks(files, text_field, TextStatistics()))
    tokenizer.train_from_iterator(lines, trainer)
    BertTokenizer(vocab=tokenizer.get_vocab(), model_max_length=512).save_pretrained(output_dir)


def _alphabet(files: Sequence[Path], text_field: str, tokenizer: Any, room: int) -> list[str]:
    """Return the most frequent characters, and with each that can continue a word its "##" form; at most `room`."""
    statistics = TextStatistics()
    counts: Counter[str] = Counter()
    for block in blocks(files, text_field, statistics):
        counts.update(tokenizer.normalizer.normalize_str("".join(block)))
    _require_text(files, statistics)
    alphabet: list[str] = []
    for character in sorted(filter(str.strip, counts), key=lambda character: (-counts[character], character)):
        joined = tokenizer.normalizer.normalize_str(f"a{character}")
        continues = len(tokenizer.pre_tokenizer.pre_tokenize_str(joined)) == 1
        pieces = [character, f"##{character}"] if continues else [character]
        if len(alphabet) + len(pieces) > room:
            break
        alphabet += pieces
    return alphabet


def _require_text(files: Sequence[Path], statistics: TextStatistics) -> None:
    if not statistics.lines_kept:
        names = ", ".join(map(str, files)) or "an empty list of files"
        raise CorpusError(f"no text in {names} ({statistics.lines_read} lines read, all empty)")
