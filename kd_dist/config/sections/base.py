"""The base of every section of settings, and how values are read from the command line."""

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict


def optional(value: Any) -> Any:
    """`none` and `null` on the command line mean no value."""
    return None if isinstance(value, str) and value.lower() in ("none", "null", "") else value


def listed(value: Any) -> Any:
    """`3,6,9,12`, `[3,6,9,12]` and a single item are all lists on the command line."""
    if isinstance(value, str) and value.lower() not in ("none", "null"):
        return [part.strip().strip("'\"") for part in value.strip("[]").split(",") if part.strip()]
    return optional(value)


def mapped(value: Any) -> Any:
    """`a:x,b:y` is a map on the command line."""
    if isinstance(value, str):
        return dict(part.split(":", 1) if ":" in part else (part, "") for part in listed(value) or [])
    return value


Words = Annotated[list[str], BeforeValidator(listed)]

Name = Annotated[str | None, BeforeValidator(optional)]


class Section(BaseModel):
    """A frozen part of a stage that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    PATHS: ClassVar[tuple[str, ...]] = ()
    """Keys that hold local paths, which are made absolute and belong to the input files of a stage."""
    MODELS: ClassVar[tuple[str, ...]] = ()
    """Keys that hold a model folder or the name of a model on the hub."""

    def named(self, keys: tuple[str, ...]) -> list[tuple[str, str]]:
        """(key, value) of every string that stands under these keys, lists and maps included."""
        found = []
        for key in keys:
            value = getattr(self, key)
            items = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else [value]
            found += [(key, item) for item in items if item]
        return found

    def with_changed(self, keys: tuple[str, ...], change: Callable[[str, str], str]) -> Self:
        """The counterpart of `named`: this section with `change(key, value)` in place of every such string."""

        def changed(key: str, value: Any) -> Any:
            if isinstance(value, dict):
                return {name: changed(key, item) for name, item in value.items()}
            if isinstance(value, list):
                return [changed(key, item) for item in value]
            return change(key, value) if value and isinstance(value, str) else value

        return self.model_copy(update={key: changed(key, getattr(self, key)) for key in keys})
