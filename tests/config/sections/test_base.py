"""How values are read from the command line, and how sections find and change their strings."""

import pytest

from kd_dist.config.sections.base import listed, mapped
from kd_dist.config.sections.evaluation import Evaluate
from tests.loading import load_job


@pytest.mark.parametrize(
    ("text", "value"),
    [("3,6,9,12", [3, 6, 9, 12]), ("[3, 6, 9, 12]", [3, 6, 9, 12]), ("3", [3]), ("none", None), ("null", None)],
)
def test_lists_on_the_command_line(text: str, value: list[int] | None) -> None:
    assert load_job("tinybert_general", [f"objective.layer_map={text}"]).stages["distill"].objective.layer_map == value


@pytest.mark.parametrize(("text", "value"), [("none", None), ("300", 300)])
def test_optional_numbers_on_the_command_line(text: str, value: int | None) -> None:
    assert load_job("demo", [f"distill.train.steps={text}"]).stages["distill"].train.steps == value


@pytest.mark.parametrize(
    ("text", "value"),
    [("a:x,b:y:z", {"a": "x", "b": "y:z"}), ("none", {}), ({"a": "x"}, {"a": "x"})],
)
def test_maps_on_the_command_line(text: object, value: dict[str, str]) -> None:
    assert mapped(text) == value


@pytest.mark.parametrize("text", ["a", "a:x,b", "a:x,a:y"])
def test_a_map_that_lacks_a_value_or_has_a_name_twice_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected name:value, each name once"):
        mapped(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("part_[0-9]", ["part_[0-9]"]),
        ("[ab]*.txt", ["[ab]*.txt"]),
        ("[ab]*[cd]", ["[ab]*[cd]"]),
        ("['a', \"b\"]", ["a", "b"]),
        ("it's,b\"", ["it's", 'b"']),
    ],
)
def test_globs_and_quotes_in_names_stay(text: str, value: list[str]) -> None:
    assert listed(text) == value


def test_strings_in_lists_and_maps_are_found_and_changed_alike() -> None:
    section = Evaluate(models={"a": "x", "b": "y"})
    assert section.named(("models", "split")) == [("models", "x"), ("models", "y"), ("split", "test")]
    changed = section.with_changed(("models",), lambda key, value: f"{key}/{value}")
    assert (changed.models, section.models) == ({"a": "models/x", "b": "models/y"}, {"a": "x", "b": "y"})
