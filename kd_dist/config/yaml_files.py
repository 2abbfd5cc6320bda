"""Read YAML files of settings: nothing in them is run, nothing is lost, and none takes for ever."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kd_dist.errors import UserError

MAX_VALUES = 100_000


def read_yaml(path: Path, name: str, may_be_empty: bool = False) -> Mapping[Any, Any]:
    """Read a YAML or JSON file of `key: value` lines.

    Args:
        path: The file.
        name: What the file is called in messages.
        may_be_empty: Whether a file without any is meant.

    Raises:
        UserError: The file cannot be read, is no YAML, has a key twice, or is not a mapping.
    """
    import yaml  # imported here because it slows down every start on a login node

    class Loader(yaml.SafeLoader):
        """PyYAML's safe loader, which refuses a key that occurs twice instead of losing the first."""

        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            own = [key.value for key, _ in getattr(node, "value", []) if isinstance(key, yaml.ScalarNode)]
            twice = sorted({key for key in own if own.count(key) > 1})
            if twice:
                raise yaml.constructor.ConstructorError(None, None, f"`{twice[0]}` is there twice", node.start_mark)
            return super().construct_mapping(node, deep)

    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader)  # noqa: S506 - it is a safe one
    except OSError as error:
        raise UserError(f"{name}: {error.strerror}") from error
    # The others than YAMLError are what its constructors raise for `!!int x`, a 99th of May, or a thousand brackets.
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, TypeError, RecursionError) as error:
        raise UserError(f"{name} is not valid YAML: {error}") from error
    content = {} if content is None and may_be_empty else content
    if not isinstance(content, Mapping):
        raise UserError(f"{name}: expected `key: value` lines, found {type(content).__name__}")
    _refuse_endless(content, name)
    return content


def _refuse_endless(content: Any, name: str) -> None:
    """Raise a UserError where aliases (`*name`) make a short file stand for endlessly many values."""
    left, seen = [content], 0
    while left:
        value = left.pop()
        seen += 1
        if seen > MAX_VALUES:
            raise UserError(f"{name} stands for more than {MAX_VALUES:,} values: do its aliases hold themselves?")
        left += value.values() if isinstance(value, Mapping) else value if isinstance(value, list | set | tuple) else ()
