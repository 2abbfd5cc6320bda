"""YAML files are read as they were meant or refused in one message: never run, never cut, never endless."""

import re
from pathlib import Path

import pytest

from kd_dist.config.yaml_files import read_yaml
from kd_dist.errors import UserError


def written(folder: Path, text: str) -> Path:
    (folder / "settings.yaml").write_text(text, encoding="utf-8")
    return folder / "settings.yaml"


def test_aliases_and_merges_are_read(tmp_path: Path) -> None:
    path = written(tmp_path, "a: &a {x: 1, y: 2}\nb: *a\nc: {<<: *a, x: 3}\n")
    assert read_yaml(path, "it") == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 2}, "c": {"x": 3, "y": 2}}


LAUGHS = "\n".join([f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)])

REFUSED = {
    "train: {steps: 3}\ntrain: {epochs: 2}": "`train` is there twice",
    "a: !!python/object/apply:os.system ['touch PWNED']": "could not determine a constructor",
    "a: &a {b: *a}": "do its aliases hold themselves?",
    f"a0: &a0 [x, x]\n{LAUGHS}": "do its aliases hold themselves?",
    "[" * 5000: "is not valid YAML",
    "a: !!int x": "is not valid YAML",
    "a: 2024-99-99": "is not valid YAML: month must be in 1..12",
    "a: !!bool maybe": "is not valid YAML",
    "a: !!timestamp never": "is not valid YAML",
    "- a": "expected `key: value` lines, found list",
    "": "expected `key: value` lines, found NoneType",
}


@pytest.mark.parametrize(("text", "said"), REFUSED.items(), ids=range(len(REFUSED)))
def test_what_cannot_be_read_safely_is_refused(
    tmp_path: Path, text: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=re.escape(said)) as caught:
        read_yaml(written(tmp_path, text), "--config settings.yaml")
    assert str(caught.value).startswith("--config settings.yaml")
    assert not (tmp_path / "PWNED").exists()


def test_an_empty_file_may_be_meant(tmp_path: Path) -> None:
    assert read_yaml(written(tmp_path, "# nothing\n"), "it", may_be_empty=True) == {}
