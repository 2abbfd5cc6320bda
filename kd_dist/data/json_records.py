"""Read JSON lines, and files that are one JSON list, without holding a file in memory."""

import io
import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from kd_dist.data.lines import BYTE_ORDER_MARK, numbered_lines, open_input
from kd_dist.data.records import Record
from kd_dist.errors import CorpusError

CHUNK_CHARACTERS = 1 << 16

_DECODER = json.JSONDecoder()

_NO_SPACE = re.compile(r"[^ \t\r\n]")

_SURROGATE = re.compile("[\ud800-\udfff]")


def read_json_records(path: Path) -> Iterator[Record]:
    """Yield the objects of a file of JSON lines or of one list; blank lines between objects do not count.

    Raises:
        CorpusError: what `numbered_lines` raises, text that is not JSON, and anything that is not an object.
    """
    items = _list_items(path) if _is_list(path) else _line_items(path)
    for place, item in items:
        if not isinstance(item, dict):
            raise CorpusError(f"{path}, {place}: a JSON {type(item).__name__}, expected an object with named fields")
        yield Record(place, item)


def _is_list(path: Path) -> bool:
    with open_input(path) as stream:
        beginning = stream.read(len(BYTE_ORDER_MARK)).removeprefix(BYTE_ORDER_MARK)
        while not beginning.strip() and (more := stream.read(CHUNK_CHARACTERS)):
            beginning = more
    return beginning.lstrip().startswith(b"[")


def _line_items(path: Path) -> Iterator[tuple[str, Any]]:
    for number, line in numbered_lines(path):
        if line.strip():
            try:
                yield f"line {number}", _whole_characters(json.loads(line), line)
            except (ValueError, RecursionError) as error:
                raise _not_json(path, number, error) from error


def _whole_characters(value: Any, source: str) -> Any:
    """Leave halves of surrogate pairs, which nothing can write, out of a value that was read from `source`."""
    return _without_surrogates(value) if "\\ud" in source or "\\uD" in source else value


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return _SURROGATE.sub("", value)
    if isinstance(value, list):
        return list(map(_without_surrogates, value))
    if isinstance(value, dict):
        return {_without_surrogates(key): _without_surrogates(item) for key, item in value.items()}
    return value


def _not_json(path: Path, line: int, error: Exception) -> CorpusError:
    return CorpusError(f"{path}, line {line}: not JSON ({error}); expected one object a line, or one list")


def _list_items(path: Path) -> Iterator[tuple[str, Any]]:
    with open_input(path) as stream, io.TextIOWrapper(stream, encoding="utf-8-sig") as characters:
        text = _Text(characters)
        try:
            yield from ((f"record {number}", item) for number, item in enumerate(text.items(), start=1))
        except UnicodeDecodeError:
            for _ in numbered_lines(path):  # raises, with the place
                pass
            raise
        except (ValueError, RecursionError) as error:
            raise _not_json(path, text.line, error) from error


class _Text:
    """The text of a JSON list, read as far as it is needed. `line` is that of the item at which it stands."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream
        self._text = ""
        self._position = 0
        self.line = 1

    def items(self) -> Iterator[Any]:
        """Yield the items of the list. Raises ValueError when it is not one, or something follows it."""
        self._take("[")
        for number in itertools.count():
            if self._symbol() == "]":
                break
            if number:
                self._take(",")
                self._symbol()
            yield self._item()
        self._take("]")
        if rest := self._symbol():
            raise ValueError(f"{rest!r} after the end of the list")

    def _take(self, expected: str) -> None:
        if (found := self._symbol()) != expected:
            raise ValueError(f"{found!r} in place of {expected!r}" if found else f"it ends without {expected!r}")
        self._position += 1

    def _symbol(self) -> str:
        """Skip white space; return the next character, or nothing at the end."""
        while (found := _NO_SPACE.search(self._text, self._position)) is None:
            self._move(len(self._text))
            if not self._read_on():
                return ""
        self._move(found.start())
        return found[0]

    def _item(self) -> Any:
        while True:
            try:
                item, end = _DECODER.raw_decode(self._text, self._position)
            except json.JSONDecodeError as error:
                if not self._read_on():
                    raise ValueError(error.msg) from error
            else:
                item = _whole_characters(item, self._text[self._position : end])
                self._move(end)
                return item

    def _move(self, position: int) -> None:
        self.line += self._text.count("\n", self._position, position)
        self._position = position

    def _read_on(self) -> bool:
        """Read more; as much again as is there, so that a long item is not parsed often. False at the end."""
        rest = self._text[self._position :]
        more = self._stream.read(max(CHUNK_CHARACTERS, len(rest)))
        self._text, self._position = rest + more, 0
        return bool(more)
