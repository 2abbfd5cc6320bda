"""Exported splits are files that give the same rows again."""

import csv
from pathlib import Path

from tests.conftest import TinyWorld
from tests.data.files import write_lines
from tests.data.labelled_files import content, numbered, run_stage


def table(file: Path) -> list[list[str]]:
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.reader(stream))


def texts_and_labels(tokens: Path) -> dict[str, list[tuple]]:
    from datasets import load_from_disk

    found = {split: load_from_disk(str(tokens / split)) for split in ("train", "validation", "test")}
    return {split: list(zip(rows["text"][:], rows["labels"][:], strict=True)) for split, rows in found.items()}


def test_the_files_give_the_same_rows_again(tmp_path: Path, tiny: TinyWorld):
    train = write_lines(tmp_path / "a.tsv", [*numbered("x", 20), *numbered("y", 20), ("x", 'a,b "c"')])
    first = run_stage(tmp_path / "first", tiny, train=train, export_splits=True)
    texts = tmp_path / "first" / "texts"
    files = {"train.csv", "valid.csv", "test.csv", "label2id.json", "train.txt"}
    assert {path.name for path in texts.iterdir()} == files
    assert table(texts / "valid.csv")[0] == ["label", "text"]
    assert [row[1] for row in table(texts / "train.csv")[1:]] == (texts / "train.txt").read_text().splitlines()
    assert content(texts, "label2id") == content(first, "label2id") == {"x": 0, "y": 1}
    given = {"train": "train.csv", "validation": "valid.csv", "test": "test.csv"}
    again = run_stage(tmp_path / "again", tiny, **{split: str(texts / file) for split, file in given.items()})
    assert texts_and_labels(again) == texts_and_labels(first)
    assert {path.name for path in (tmp_path / "again" / "texts").iterdir()} == {"train.txt"}  # unless asked for


def test_pairs_and_several_labels(tmp_path: Path, tiny: TinyWorld):
    lines = [f"{'b|a' if number % 2 else ''},文{number},{number}字" for number in range(20)]
    train, validation = write_lines(tmp_path / "a.csv", lines), write_lines(tmp_path / "b.csv", ["a,一,二"])
    settings = {"columns": "label,text,text_pair", "task": "multi_label", "export_splits": True}
    run_stage(tmp_path / "data", tiny, train=train, validation=validation, **settings)
    rows = table(tmp_path / "data" / "texts" / "train.csv")
    assert rows[:3] == [["label", "text", "text_pair"], ["", "文0", "0字"], ["b|a", "文1", "1字"]]
    assert table(tmp_path / "data" / "texts" / "test.csv") == [["label", "text", "text_pair"]]
