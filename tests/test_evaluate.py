"""The evaluate command: models side by side on a file of labelled rows."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from kd_dist.config.paths import REPOSITORY
from kd_dist.errors import UserError, exit_with_message
from kd_dist.evaluate import main, named_models
from tests.conftest import TinyWorld
from tests.evaluation.labelled_tokens import evaluation_of, logits_of, sample_texts, save_early_exit, save_teacher
from tests.models.random_models import LABELS, save_classifier


@pytest.fixture(scope="module")
def texts(tiny: TinyWorld) -> list[str]:
    return sample_texts(tiny)


@pytest.fixture(scope="module")
def teacher(tiny: TinyWorld, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_teacher(tmp_path_factory.mktemp("models") / "teacher", tiny)


@pytest.fixture(scope="module")
def predicted(texts: list[str], teacher: Path) -> np.ndarray:
    """(N, C) logits of the teacher."""
    return logits_of(teacher, texts)


@pytest.fixture(scope="module")
def fast(tiny: TinyWorld, texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_early_exit(tmp_path_factory.mktemp("fast") / "export", tiny, texts)


def test_the_command_line(texts, teacher, predicted, tmp_path) -> None:
    file = tmp_path / "test.tsv"
    rows = [f"{LABELS[label]}\t{text}" for label, text in zip(predicted.argmax(axis=1), texts, strict=True)]
    file.write_text("\n".join(rows), encoding="utf-8")
    script = [sys.executable, str(REPOSITORY / "kd_dist" / "evaluate.py"), "--output", str(tmp_path / "output")]
    options = ["--model", f"a={teacher}", "--model", f"b={teacher}", "--data", str(file), "--no-speed"]
    done = subprocess.run([*script, *options], capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert "1.0000" in done.stdout
    assert evaluation_of(tmp_path / "output")["models"]["b"]["accuracy"] == 1.0


@pytest.mark.parametrize(
    ("model", "rows", "message"),
    [
        ("", "娱乐\t一条新闻", r"line 1: '娱乐' is none of the 3 labels of the model \(体育, 财经, 旅游\)"),
        ("", "", "no labelled row"),
        ("nowhere", "体育\t一条新闻", "nowhere does not exist"),
    ],
)
def test_mistakes_on_the_command_line(model, rows, message, teacher, tmp_path, monkeypatch) -> None:
    (tmp_path / "test.tsv").write_text(rows, encoding="utf-8")
    arguments = ["--model", str(teacher / model), "--data", str(tmp_path / "test.tsv"), "--no-speed"]
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *arguments])
    with pytest.raises(UserError, match=message) as refused:
        main()
    assert refused.value.exit_status == 2


def test_two_models_of_one_name() -> None:
    with pytest.raises(UserError, match="two models are called 'x'"):
        named_models(["x=a", "x=b"])
    assert named_models(["runs/finetune/a/export", "b=c"]) == {"a": "runs/finetune/a/export", "b": "c"}


def test_a_path_may_hold_the_sign_that_ends_a_name() -> None:
    assert named_models(["runs/lr=3/export", "a=runs/lr=4/export"]) == {
        "lr=3": "runs/lr=3/export",
        "a": "runs/lr=4/export",
    }


def evaluate(monkeypatch, model: Path, file: Path, *options: str) -> int:
    arguments = ["evaluate.py", "--model", f"model={model}", "--data", str(file), "--no-speed", *options]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit) as ended:
        exit_with_message(main)
    return int(ended.value.code or 0)


def test_bad_rows_are_skipped_and_counted(teacher, tmp_path, monkeypatch, capsys) -> None:
    file, output = tmp_path / "test.tsv", tmp_path / "output"
    file.write_text("体育\t一条新闻\n娱乐\t另一条\n财经\n\t二\n财经\t三\n音乐\t四\n", encoding="utf-8")
    assert evaluate(monkeypatch, teacher, file, "--bad-rows", "skip", "--output", str(output)) == 0
    expected = "left out: 2 x unknown label, 1 x missing column, 1 x no single label\n"
    assert capsys.readouterr().err == expected
    assert evaluation_of(output)["rows"] == 2
    file.write_text("娱乐\t一条新闻\n", encoding="utf-8")
    assert evaluate(monkeypatch, teacher, file, "--bad-rows", "skip") == 2
    assert "error: no row of test.tsv is left to score (left out: 1 x unknown label)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ("娱乐\t一", [], "of the model (体育, 财经, 旅游); --bad-rows skip leaves such rows out and counts them"),
        ("体育\t一\n体育", [], "line 2: 1 columns, expected 2; --bad-rows skip leaves"),
        ("label\tbody\n体育\t一", [], "name it in --columns (text:NAME), or set --header no"),
        ("体育\t一", ["--columns", "text"], "--columns text names no `label`"),
        (
            "体育\t一",
            ["--columns", "label,text:body", "--header", "no"],
            "--columns names columns, which --header no rules",
        ),
        ("体育\t一\t二", [], "(put - in --columns for each that is not used)"),
        ("体育;一\n财经;二", [], "separated by semicolons, expected tabs; set --separator ';'"),
        ("体育\t一", ["--separator", '"'], "--separator: neither quotes nor line ends can separate columns"),
        ("体育\t一", ["--label-separator", ""], "--label-separator: at least one character"),
    ],
)
def test_mistakes_name_the_options_of_the_command(
    rows, options, message, teacher, tmp_path, monkeypatch, capsys
) -> None:
    (tmp_path / "test.tsv").write_text(rows, encoding="utf-8")
    assert evaluate(monkeypatch, teacher, tmp_path / "test.tsv", *options) == 2
    shown = capsys.readouterr().err
    assert message in shown
    assert "data." not in shown


@pytest.mark.parametrize(("separator", "typed"), [("||", "||"), ("\t", r"\t")])
def test_a_separator_on_the_command_line(separator, typed, teacher, tmp_path, monkeypatch) -> None:
    file, output = tmp_path / "test.txt", tmp_path / "output"
    file.write_text(f"体育{separator}一\r财经{separator}二\r", encoding="utf-8", newline="")
    assert evaluate(monkeypatch, teacher, file, "--separator", typed, "--output", str(output)) == 0
    assert evaluation_of(output)["rows"] == 2


def test_numbers_on_the_command_line(tiny, tmp_path, monkeypatch, capsys) -> None:
    model = save_classifier(tmp_path / "model", tiny.tokenizer, id2label={0: "LABEL_0"}, label2id={"LABEL_0": 0})
    file, output = tmp_path / "test.tsv", tmp_path / "output"
    file.write_text("1.5\t一条新闻\nnan\t另一条\n3\t三\n", encoding="utf-8")
    assert evaluate(monkeypatch, model, file) == 2
    assert f"error: {file}, line 2: 'nan' is not a finite number; --bad-rows skip" in capsys.readouterr().err
    assert evaluate(monkeypatch, model, file, "--bad-rows", "skip", "--output", str(output)) == 0
    assert capsys.readouterr().err == "left out: 1 x not a number\n"
    assert pq.read_table(output / "predictions_model.parquet")["label"].to_pylist() == [1.5, 3.0]


def test_a_column_for_each_label_on_the_command_line(tiny, tmp_path, monkeypatch) -> None:
    settings: dict[str, Any] = {"problem_type": "multi_label_classification"}
    model = save_classifier(tmp_path / "model", tiny.tokenizer, **settings)
    file, output = tmp_path / "test.csv", tmp_path / "output"
    file.write_text("comment,财经,体育,旅游\n一,1,0,1\n二,0,0,0\n", encoding="utf-8")
    columns = ["--columns", "text:comment,labels:*"]
    assert evaluate(monkeypatch, model, file, *columns, "--output", str(output)) == 0
    table = pq.read_table(output / "predictions_model.parquet")
    assert [set(labels) for labels in table["label"].to_pylist()] == [{"财经", "旅游"}, set()]


def test_splits_and_columns_in_another_order_on_the_command_line(teacher, tmp_path, monkeypatch, capsys) -> None:
    for split in ("train", "test"):
        (tmp_path / "rows" / split / "体育").mkdir(parents=True)
        (tmp_path / "rows" / split / "体育" / "1.txt").write_text("一", encoding="utf-8")
    assert evaluate(monkeypatch, teacher, tmp_path / "rows") == 2
    assert f"name each: --data {tmp_path}/rows/train --data {tmp_path}/rows/test" in capsys.readouterr().err
    file = tmp_path / "test.tsv"
    file.write_text("".join(f"新闻{row}\t{LABELS[row % 3]}\n" for row in range(12)), encoding="utf-8")
    assert evaluate(monkeypatch, teacher, file, "--bad-rows", "skip") == 2
    assert "set --columns text,label" in capsys.readouterr().err


def test_numbers_of_labels_without_names(tiny, tmp_path, monkeypatch) -> None:
    names = ["LABEL_0", "LABEL_1", "LABEL_2"]
    options: dict[str, Any] = {"id2label": dict(enumerate(names)), "label2id": {n: i for i, n in enumerate(names)}}
    model = save_classifier(tmp_path / "model", tiny.tokenizer, **options)
    (tmp_path / "test.tsv").write_text("2\t一条新闻\nLABEL_0\t二\n", encoding="utf-8")
    assert evaluate(monkeypatch, model, tmp_path / "test.tsv", "--output", str(tmp_path / "output")) == 0
    table = pq.read_table(tmp_path / "output" / "predictions_model.parquet")
    assert table["label"].to_pylist() == ["LABEL_2", "LABEL_0"]


@pytest.mark.parametrize("inside", ["", "deeper"])
def test_an_output_that_is_a_file(inside: str, teacher, tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "test.tsv").write_text("体育\t一条新闻\n", encoding="utf-8")
    (tmp_path / "file").touch()
    output = tmp_path / "file" / inside
    monkeypatch.setattr("kd_dist.evaluate.score_all", lambda *_, **__: pytest.fail("nothing is scored before"))
    assert evaluate(monkeypatch, teacher, tmp_path / "test.tsv", "--output", str(output)) == 2
    assert f"error: --output {output}: " in capsys.readouterr().err


def test_speeds_need_a_model_with_branches(teacher, tmp_path, monkeypatch) -> None:
    with pytest.raises(UserError, match="has no branches to exit early by"):
        command(monkeypatch, tmp_path, "--model", str(teacher), "--speeds", "0.5")


def command(monkeypatch, tmp_path: Path, *arguments: str) -> None:
    (tmp_path / "test.tsv").write_text("体育\t一条新闻\n财经\t另一条\n", encoding="utf-8")
    options = ["--data", str(tmp_path / "test.tsv"), "--no-speed", *arguments]
    monkeypatch.setattr(sys, "argv", ["evaluate.py", *options])
    main()


def test_speeds_on_the_command_line(teacher, fast, tmp_path, monkeypatch) -> None:
    models = ["--model", f"teacher={teacher}", "--model", f"fast={fast}"]
    command(monkeypatch, tmp_path, *models, "--speeds", "0,1", "--output", str(tmp_path / "output"))
    models = evaluation_of(tmp_path / "output")["models"]
    assert list(models) == ["teacher", "fast", "fast at speed 0", "fast at speed 1"]
    assert models["fast at speed 1"]["exit_layers"] == [2, 0, 0, 0]


@pytest.mark.parametrize("speeds", ["0,2", "0,nan", "fast"])
def test_what_is_no_speed_is_refused(speeds: str, fast, tmp_path, monkeypatch) -> None:
    with pytest.raises(UserError, match=r"--speeds \w+: a speed is a number from 0 \(all layers\) to 1") as refused:
        command(monkeypatch, tmp_path, "--model", str(fast), "--speeds", speeds)
    assert refused.value.exit_status == 2
