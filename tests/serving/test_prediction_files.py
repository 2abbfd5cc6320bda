"""Every format gives back the records that were written, and a file appears only when it is complete."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow.parquet as pq
import pytest

from kd_dist.data.readers import read_records, read_texts
from kd_dist.serving.prediction_files import open_output

RECORDS = [
    {"text": 'a "b", c', "label": "体育", "probability": 0.98765},
    {"text": "two\tcells\nand lines", "label": "财经", "probability": 0.5},
]


def model(task: str, exit_rule: Any = None) -> Any:
    """What the writer asks of a classifier."""
    return SimpleNamespace(task=task, exit_rule=exit_rule)


def written(file: Path, records: list[dict[str, Any]], classifier: Any) -> Path:
    columns = [name for name in records[0] if name.startswith("text")]
    with open_output(file, columns, classifier) as write:
        write(records[:1])
        write(records[1:])
    return file


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet", ".CSV"])
def test_what_is_written_can_be_read(suffix: str, tmp_path: Path) -> None:
    file = written(tmp_path / f"out{suffix}", RECORDS, model("single_label"))
    found = [record.values for record in read_records(file, ["text", "label", "probability"], "")]
    assert [row["label"] for row in found] == ["体育", "财经"]
    assert [float(row["probability"]) for row in found] == pytest.approx([0.9877, 0.5], abs=1e-4)
    texts = [str(record["text"]) if suffix != ".tsv" else " ".join(str(record["text"]).split()) for record in RECORDS]
    assert [row["text"] for row in found] == texts


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n", "\v", "\f", "\x1c", "\x85", "\u2028", "\t"])
def test_a_text_or_label_of_several_lines_is_one_record(end: str, tmp_path: Path) -> None:
    records = [{"text": f"a{end}b", "label": f"c{end}d", "probability": 0.5} for _ in range(3)]
    lines = written(tmp_path / "out.txt", records, model("single_label")).read_text(encoding="utf-8")
    assert lines.splitlines() == ["c d\t0.5000"] * 3
    lines = written(tmp_path / "out.tsv", records, model("single_label")).read_text(encoding="utf-8")
    assert lines.splitlines()[1:] == ["a b\tc d\t0.5000"] * 3
    file = written(tmp_path / "out.csv", records, model("single_label"))
    found = [values for _, values in read_records(file, ["text", "label"], "")]
    kept = "\n" if end in ("\r", "\r\n") else end
    assert found == [{"text": f"a{kept}b", "label": f"c{kept}d"}] * 3


def test_lines_of_text_hold_the_results_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = "体育\t0.9877\n财经\t0.5000\n"
    assert written(tmp_path / "out.txt", RECORDS, model("single_label")).read_text(encoding="utf-8") == expected
    with open_output(None, ["text"], model("single_label")) as write:
        write(RECORDS)
    assert capsys.readouterr().out == expected


def test_several_labels_and_the_exit_layer(tmp_path: Path) -> None:
    records = [
        {"text": "a", "text_pair": "b", "label": ["x", "y"], "probability": [0.9, 0.6], "exit_layer": 3},
        {"text": "c", "text_pair": "d", "label": [], "probability": [], "exit_layer": 12},
    ]
    classifier = model("multi_label", exit_rule=object())
    lines = written(tmp_path / "out.csv", records, classifier).read_text(encoding="utf-8").splitlines()
    assert lines == ["text,text_pair,label,probability,exit_layer", "a,b,x|y,0.9000|0.6000,3", "c,d,,,12"]
    assert pq.read_table(written(tmp_path / "out.parquet", records, classifier)).to_pylist() == records
    lines = written(tmp_path / "out.jsonl", records, classifier).read_text(encoding="utf-8").splitlines()
    assert list(map(json.loads, lines)) == records


def test_numbers_have_no_probability(tmp_path: Path) -> None:
    records = [{"text": "a", "label": 2.5}, {"text": "b", "label": -1.0}]
    assert written(tmp_path / "out.txt", records, model("regression")).read_text() == "2.5000\n-1.0000\n"
    assert pq.read_table(written(tmp_path / "out.parquet", records, model("regression"))).to_pylist() == records


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_failure_leaves_the_older_file(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"out{suffix}"
    file.write_text("old")

    def interrupted() -> None:
        with open_output(file, ["text"], model("single_label")) as write:
            write(RECORDS)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert file.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_an_output_is_an_input_of_the_same_texts(tmp_path: Path) -> None:
    file = written(tmp_path / "out.jsonl", RECORDS, model("single_label"))
    assert list(read_texts(file, ["text"], "")) == [(record["text"],) for record in RECORDS]
