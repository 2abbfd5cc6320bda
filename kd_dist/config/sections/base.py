"""The base class of settings sections, and the parsing of command-line values."""

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict


def optional(value: Any) -> Any:
    """Parse an optional value: `none` and `null` mean no value."""
    return None if isinstance(value, str) and value.lower() in ("none", "null", "") else value


def listed(value: Any) -> Any:
    """Parse a list: `3,6,9,12`, `[3,6,9,12]` or a single item."""
    if isinstance(value, str) and value.lower() not in ("none", "null"):
        return [_unquoted(part.strip()) for part in _unbracketed(value.strip()).split(",") if part.strip()]
    return optional(value)


def _unbracketed(text: str) -> str:
    """Remove brackets around a list; those of a glob (`part_[0-9]`, `[ab]*[cd]`) stay."""
    is_list = text[:1] == "[" and text.find("]") == len(text) - 1
    return text[1:-1] if is_list else text


def _unquoted(text: str) -> str:
    is_quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1] if is_quoted else text


def mapped(value: Any) -> Any:
    """Parse a map: `a:x,b:y`."""
    if not isinstance(value, str):
        return value
    pairs = [part.partition(":") for part in listed(value) or []]
    names = [name for name, _, _ in pairs]
    if len(set(names)) < len(names) or not all(sign for _, sign, _ in pairs):
        raise ValueError("expected name:value, each name once, separated by commas")
    return {name: item for name, _, item in pairs}


Words = Annotated[list[str], BeforeValidator(listed)]

WordsOrNone = Annotated[list[str], BeforeValidator(lambda value: [] if (found := listed(value)) is None else found)]

Name = Annotated[str | None, BeforeValidator(optional)]


class Section(BaseModel):
    """A group of settings of a stage: immutable, with a type and a description for each key, and no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    PATHS: ClassVar[tuple[str, ...]] = ()
    """Keys that hold local paths. They are made absolute, and the files are inputs of the stage."""
    MODELS: ClassVar[tuple[str, ...]] = ()
    """Keys that hold a model folder or the name of a model on the hub."""

    def named(self, keys: tuple[str, ...]) -> list[tuple[str, str]]:
        """Return the (key, value) of every string under these keys, in lists and maps too."""
        found = []
        for key in keys:
            value = getattr(self, key)
            items = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else [value]
            found += [(key, item) for item in items if item]
        return found

    def with_changed(self, keys: tuple[str, ...], change: Callable[[str, str], str]) -> Self:
        """Return the section with every string that `named` finds replaced by `change(key, value)`."""

        def changed(key: str, value: Any) -> Any:
            if isinstance(value, dict):
                return {name: changed(key, item) for name, item in value.items()}
            if isinstance(value, list):
                return [changed(key, item) for item in value]
            return change(key, value) if value and isinstance(value, str) else value

        return self.model_copy(update={key: changed(key, getattr(self, key)) for key in keys})
