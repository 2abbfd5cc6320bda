"""Read files of word vectors: word2vec as text or binary, and text without a header, as GloVe has it.

Shapes: V words, E width of a vector.
"""

import bz2
import gzip
import itertools
import lzma
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple, TypeAlias, TypeVar, cast

from kd_dist.errors import RunError

if TYPE_CHECKING:  # a submission looks at the beginning of a file, and should not wait for numpy
    import numpy as np

MAX_WORDS = 200_000  # words that are read of a file, frequent ones first; the published code reads 100,000

SAMPLE_LINES, SAMPLE_BYTES = 100, 1 << 16  # lines that tell how a file is laid out, and the most of each

NUMBERS_SHOWN = 10

T = TypeVar("T")

OPENERS: dict[bytes, Callable[[Path], object]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ": lzma.open,
}
"""How to unpack a file, by its first bytes."""

Numbers: TypeAlias = "list[bytes] | np.ndarray"

Entries = Iterator[tuple[int, bytes, Numbers]]  # number of the line, or of the word in a binary file; word; vector


class Layout(NamedTuple):
    """How a file is laid out: the width of its vectors, the words that its first line announces, text or binary."""

    width: int
    announced: int | None
    is_binary: bool


class WordVectorFile(NamedTuple):
    """What was read of a file: words (V), their vectors (V, E), and what a user should know of it."""

    words: list[str]
    vectors_VE: "np.ndarray"
    notes: list[str]


def check_word_vectors(path: Path, option: str) -> None:
    """Look at the beginning of a file.

    Args:
        path: The file.
        option: The setting that names it, for messages.

    Raises:
        RunError: there is no such file, or it does not begin like one of word vectors.
    """
    _explained(path, option, _layout)


def read_word_vectors(path: Path, option: str, keep: Callable[[str], bool] = lambda _: True) -> WordVectorFile:
    """Read the first words of a file, plain or packed by gzip, bzip2 or xz.

    A line is read from its end, because the width of the vectors is known and a word may hold spaces, or be one. Lines
    that are not a word and its vector are left out and counted. Of a word that comes again, the first vector counts.

    Args:
        path: The file.
        option: The setting that names it, for messages.
        keep: Says which words are read; the others are not among the first.

    Raises:
        RunError: there is no such file, it cannot be unpacked, or less than half of its lines are words with vectors.
    """
    vectors, notes = _explained(path, option, lambda path: _read(path, keep))
    return WordVectorFile(*vectors, [f"{option}={path}: {note}" for note in notes])


def _explained(path: Path, option: str, read: Callable[[Path], T]) -> T:
    """Return what `read` reads, and turn what it raises over the content of the file into a RunError."""
    if not path.is_file():
        raise RunError(f"{option}={path}: no such file; give word2vec or GloVe, plain or packed by gzip, bzip2 or xz")
    try:
        return read(path)
    except (ValueError, EOFError, zlib.error, lzma.LZMAError, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # not about the content: bz2 and gzip say OSError, without a number, of damage
        raise RunError(
            f"{option}={path} is not a word2vec file ({error}): expected a line `words width` and then a "
            "word with its vector, as text or binary; the first line may be missing in text"
        ) from error


def _open(path: Path) -> IO[bytes]:
    with open(path, "rb") as stream:
        beginning = stream.read(8)
    opener = next((opener for first, opener in OPENERS.items() if beginning.startswith(first)), None)
    return cast(IO[bytes], opener(path)) if opener else open(path, "rb")


def _layout(path: Path) -> Layout:
    """Raise ValueError unless the file begins like one of word vectors."""
    with _open(path) as stream:
        sample = list(itertools.islice(iter(lambda: stream.readline(SAMPLE_BYTES), b""), SAMPLE_LINES))
    if header := re.fullmatch(rb"\s*(\d+)\s+(\d+)\s*", sample[0] if sample else b""):
        announced, width = int(header[1]), int(header[2])
        found = _usual_width(sample[1:])
        if found and found != width:
            raise ValueError(f"its first line announces {width} numbers for a word, its lines have {found}")
        return Layout(width, announced, is_binary=not found)
    width = _usual_width(sample)
    if width < 2:
        raise ValueError(f"it begins with {b''.join(sample)[:40]!r}")
    return Layout(width, None, is_binary=False)


def _usual_width(lines: list[bytes]) -> int:
    """Return how many numbers most lines end with."""
    (width, _), *_ = Counter(map(_numbers_at_the_end, lines)).most_common(1) or [(0, 0)]
    return width


def _numbers_at_the_end(line: bytes) -> int:
    return sum(1 for _ in itertools.takewhile(_is_number, reversed(line.split()[1:])))


def _is_number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True


def _read(path: Path, keep: Callable[[str], bool]) -> tuple[tuple[list[str], "np.ndarray"], list[str]]:
    import numpy as np

    layout = _layout(path)
    vectors: dict[str, np.ndarray] = {}
    bad: dict[int, str] = {}
    seen = 0
    with _open(path) as stream:
        for number, raw, numbers in (_binary_entries if layout.is_binary else _text_entries)(stream, layout):
            if len(vectors) == MAX_WORDS:
                break
            seen += 1
            try:
                word = _text(raw)
                if keep(word):
                    vectors.setdefault(word, _vector(numbers, layout.width))
            except ValueError as error:
                bad[number] = str(error)
    if seen <= 2 * len(bad):
        raise ValueError(next((f"line {number}: {why}" for number, why in bad.items()), "no words"))
    stacked_VE = np.stack(list(vectors.values())) if vectors else np.empty((0, layout.width), np.float32)
    return (list(vectors), stacked_VE), list(_notes(layout, seen, list(bad)))


def _text_entries(stream: IO[bytes], layout: Layout) -> Entries:
    """Yield the words of a text file; of a line that is none, what it has in place of a word and numbers."""
    for number, line in enumerate(stream, start=1):
        if line.strip() and not (number == 1 and layout.announced is not None):
            fields = line.rsplit(None, layout.width)
            if len(fields) == layout.width and line[:1].isspace():
                fields = [b" ", *fields]
            yield number, fields[0], fields[1:]


def _binary_entries(stream: IO[bytes], layout: Layout) -> Entries:
    """Yield the words of a binary file. Raises EOFError when it is shorter than it announces."""
    import numpy as np

    assert layout.announced is not None
    stream.readline()
    for number in range(1, layout.announced + 1):
        word = bytearray()
        while (byte := stream.read(1)) not in (b" ", b""):
            word += byte
        packed = stream.read(4 * layout.width)
        if len(packed) < 4 * layout.width:
            raise EOFError(f"it ends after {number - 1:,} of the {layout.announced:,} words that it announces")
        yield number, bytes(word.lstrip(b"\n")), np.frombuffer(packed, "<f4")


def _text(word: bytes) -> str:
    """Return a word. Raises ValueError when it is none."""
    if b"\r" in word:
        raise ValueError("a line that ends with a carriage return alone; write line feeds")
    return word.decode("utf-8")


def _vector(numbers: Numbers, width: int) -> "np.ndarray":
    """Return (E) the vector of a word. Raises ValueError when it is none."""
    import numpy as np

    vector = np.array(numbers, np.float32)
    if len(vector) != width:
        raise ValueError(f"{len(vector)} numbers, expected {width}")
    if not np.isfinite(vector).all():
        raise ValueError("a number that is not finite")
    return vector


def _notes(layout: Layout, seen: int, bad: list[int]) -> Iterator[str]:
    if bad:
        kind = "words" if layout.is_binary else "lines"
        shown = ", ".join(map(str, bad[:NUMBERS_SHOWN])) + " ..." * (len(bad) > NUMBERS_SHOWN)
        yield (
            f"{kind} left out because they are not a word in UTF-8 and {layout.width} numbers: {len(bad):,} ({shown})"
        )
    if seen < min(layout.announced or 0, MAX_WORDS):
        yield f"it holds {seen:,} of the {layout.announced:,} words that its first line announces"
