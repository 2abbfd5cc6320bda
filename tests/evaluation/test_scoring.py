"""Models are scored by the names of their labels, measured side by side, and a bad teacher goes no further."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset
from matplotlib.image import imread
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from kd_dist.config.paths import REPOSITORY
from kd_dist.config.sections.data import PlainTokenData
from kd_dist.config.sections.evaluation import Evaluate, Guards
from kd_dist.config.stages import EvaluateStage
from kd_dist.data.cleaning import clean
from kd_dist.data.examples import Examples
from kd_dist.data.preprocessing import Preprocessing
from kd_dist.errors import RunError, UserError, exit_with_message
from kd_dist.evaluate import main, named_models
from kd_dist.evaluation.guard import judge
from kd_dist.evaluation.pictures import font_for, near_one_another, plot_confusion, plot_speeds
from kd_dist.evaluation.scoring import Scored, at_speeds, distillation_hurts
from kd_dist.evaluation.speeds import model_and_seed
from kd_dist.files import write_json
from kd_dist.models.classifier import load_classifier
from kd_dist.models.early_exit import FastBertForSequenceClassification
from tests.models.test_classifier import LABELS, save_classifier
from tests.models.test_early_exit import NUM_LAYERS, save_fastbert
from tests.stages import run_entry

LABEL2ID = {name: index for index, name in enumerate(LABELS)}


@pytest.fixture(scope="module")
def texts(tiny) -> list[str]:
    lines = map(clean, tiny.corpus.read_text(encoding="utf-8").split("\n"))
    return [line[:30] for line in lines if len(line) > 10][:90]


@pytest.fixture(scope="module")
def teacher(tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wide weights, so that it does not give one label to all texts."""
    return save_classifier(tmp_path_factory.mktemp("models") / "teacher", tiny.tokenizer, initializer_range=1.0)


@pytest.fixture(scope="module")
def predicted(texts: list[str], teacher: Path) -> np.ndarray:
    """(N, C) logits of the teacher, by transformers alone."""
    model = AutoModelForSequenceClassification.from_pretrained(teacher).eval()
    tokenizer = AutoTokenizer.from_pretrained(teacher)
    with torch.inference_mode():
        return np.concatenate([model(**tokenizer(text, return_tensors="pt")).logits.numpy() for text in texts])


def write_tokens(
    folder: Path, texts: list[str], labels: Any, *, task: str = "single_label", label2id: Any = LABEL2ID, test: int = 90
) -> Path:
    sizes = {"validation": len(texts), "test": test}
    for split, size in sizes.items():
        columns = {"input_ids": [[2, 3]] * size, "labels": list(labels)[:size], "text": texts[:size]}
        Dataset.from_dict(columns).save_to_disk(str(folder / split))
    write_json(folder / "label2id.json", label2id)
    write_json(folder / "statistics.json", {"task": task, **{f"{split}_rows": sizes[split] for split in sizes}})
    Preprocessing(max_length=32).save(folder)
    return folder


def stage_at(folder: Path, models: dict[str, Path], tokens: Path, *, guard: str | None = None, **options: Any) -> Path:
    stage = EvaluateStage(
        evaluate=Evaluate(models={name: str(path) for name, path in models.items()}, **options),
        data=PlainTokenData(tokens=str(tokens)),
        guards=Guards(teacher=guard) if guard else None,
    )
    folder.mkdir(parents=True)
    write_json(folder / "config.json", stage.model_dump())
    return folder


def evaluation_of(stage_dir: Path) -> dict[str, Any]:
    return json.loads((stage_dir / "evaluation.json").read_text(encoding="utf-8"))


def test_a_stage_from_models_to_results(tiny, texts, teacher, predicted, tmp_path, capsys) -> None:
    labels = predicted.argmax(axis=1)
    student = save_classifier(tmp_path / "student", tiny.tokenizer, num_hidden_layers=1)
    tokens = write_tokens(tmp_path / "tokens", texts, labels)
    models = {"teacher": teacher, "student@43": student, "student@44": student}
    stage_dir = stage_at(tmp_path / "run" / "score", models, tokens, guard="refuse")
    run_entry(stage_dir)

    results = json.loads((tmp_path / "run" / "results.json").read_text(encoding="utf-8"))
    assert [row.get("seed") for row in results] == [None, 43, 44]
    rows = {row["model"]: row for row in results}
    assert rows["teacher"]["accuracy"] == 1.0
    assert rows["teacher"]["split"] == "test"
    assert rows["teacher"]["quality_kept"] == rows["teacher"]["latency_ratio"] == 1.0
    assert rows["student"]["parameters"] < rows["teacher"]["parameters"]
    assert rows["student"]["operations_ratio"] > 1.5
    assert rows["student"]["latency_ms"] <= rows["student"]["latency_p95_ms"]

    written = evaluation_of(stage_dir)
    assert written["guard"]["passed"]
    assert np.array(written["models"]["teacher"]["confusion_matrix"]).trace() == len(texts)
    assert [one["label"] for one in written["models"]["teacher"]["per_class"]] == LABELS
    table = pq.read_table(stage_dir / "predictions_teacher.parquet")
    assert table["predicted"].to_pylist() == [LABELS[label] for label in labels]
    assert imread(stage_dir / "confusion_student@43.png").size
    assert os.readlink(stage_dir / "model").startswith("..")
    assert (stage_dir / "model").resolve() == teacher.resolve()
    assert "1.0000" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["fast", "fast@43"])
def test_a_model_with_early_exit_has_a_row_for_every_speed(name, tiny, texts, teacher, predicted, tmp_path) -> None:
    model = FastBertForSequenceClassification.from_classifier(load_classifier(teacher).model, branch_width=16)
    model.save_pretrained(tmp_path / "fast")
    AutoTokenizer.from_pretrained(tiny.tokenizer).save_pretrained(tmp_path / "fast")
    tokens = write_tokens(tmp_path / "tokens", texts, predicted.argmax(axis=1))
    models = {"teacher": teacher, name: tmp_path / "fast"}
    stage_dir = stage_at(tmp_path / "run" / "score", models, tokens, speed=False, speeds=[0, 1])
    run_entry(stage_dir)
    run_entry(stage_dir)  # rows take the place of the same model at the same speed

    results = json.loads((tmp_path / "run" / "results.json").read_text(encoding="utf-8"))
    assert [row["model"] for row in results] == ["teacher", "fast", "fast", "fast"]
    assert [row.get("speed") for row in results] == [None, None, 0.0, 1.0]
    assert [row["mean_layers"] for row in results[2:]] == [2.0, 1.0]
    assert results[2]["accuracy"] == results[0]["accuracy"] == 1.0
    exits = {shown: one["exit_layers"] for shown, one in evaluation_of(stage_dir)["models"].items() if "speed" in one}
    assert exits == {f"{name} at speed 0": [0, len(texts)], f"{name} at speed 1": [len(texts), 0]}
    assert imread(stage_dir / "speed_accuracy.png").size
    assert imread(stage_dir / "exit_layers.png").size


def test_operations_are_those_of_the_formula(texts, teacher, predicted, tmp_path) -> None:
    tokens = write_tokens(tmp_path / "tokens", texts[:1], predicted.argmax(axis=1)[:1], test=1)
    stage_dir = stage_at(tmp_path / "run" / "score", {"teacher": teacher}, tokens)
    run_entry(stage_dir)
    length = len(AutoTokenizer.from_pretrained(teacher)(texts[0])["input_ids"])
    width, inner, layers = 16, 32, 2
    a_layer = 4 * length * width**2 + 2 * length * width * inner + 2 * length**2 * width
    expected = layers * a_layer + width**2 + width * len(LABELS)
    assert evaluation_of(stage_dir)["models"]["teacher"]["operations_per_sample"] == expected


def test_permuted_labels_score_the_same(texts, teacher, predicted, tmp_path) -> None:
    permuted = {name: 2 - index for name, index in LABEL2ID.items()}
    tokens = write_tokens(tmp_path / "tokens", texts, 2 - predicted.argmax(axis=1), label2id=permuted)
    stage_dir = stage_at(tmp_path / "run" / "score", {"teacher": teacher}, tokens, speed=False)
    run_entry(stage_dir)
    assert evaluation_of(stage_dir)["models"]["teacher"]["accuracy"] == 1.0


def test_validation_stands_in_for_missing_test_rows(texts, teacher, predicted, tmp_path, capsys) -> None:
    tokens = write_tokens(tmp_path / "tokens", texts, predicted.argmax(axis=1), test=0)
    stage_dir = stage_at(tmp_path / "run" / "score", {"teacher": teacher}, tokens, speed=False)
    run_entry(stage_dir)
    assert evaluation_of(stage_dir)["split"] == "validation"
    assert "validation rows" in capsys.readouterr().out


def test_no_rows_at_all(teacher, tmp_path) -> None:
    tokens = write_tokens(tmp_path / "tokens", [], [], test=0)
    with pytest.raises(RunError, match="no validation rows"):
        run_entry(stage_at(tmp_path / "run" / "score", {"teacher": teacher}, tokens))


def test_other_labels_are_refused_with_the_name_of_the_model(texts, teacher, tmp_path) -> None:
    label2id = {"体育": 0, "财经": 1, "娱乐": 2}
    tokens = write_tokens(tmp_path / "tokens", texts, [0] * 90, label2id=label2id)
    with pytest.raises(UserError, match="^teacher .*does not know '娱乐'; the data does not have '旅游'"):
        run_entry(stage_at(tmp_path / "run" / "score", {"teacher": teacher}, tokens))


def test_a_bad_teacher_goes_no_further(texts, teacher, predicted, tmp_path, capsys) -> None:
    wrong = (predicted.argmax(axis=1) + 1) % 3
    tokens = write_tokens(tmp_path / "tokens", texts, wrong)
    stage_dir = stage_at(tmp_path / "run" / "refuse", {"teacher": teacher}, tokens, guard="refuse", speed=False)
    with pytest.raises(RunError, match=r"accuracy is 0.0000 on 90 rows.*guards.teacher=warn"):
        run_entry(stage_dir)
    assert not (stage_dir / "model").exists()
    assert not evaluation_of(stage_dir)["guard"]["passed"]

    stage_dir = stage_at(tmp_path / "run" / "warn", {"teacher": teacher}, tokens, guard="warn", speed=False)
    run_entry(stage_dir)
    assert "warning: the teacher's accuracy is 0.0000" in capsys.readouterr().out
    assert (stage_dir / "model").exists()


def test_the_teacher_is_judged_on_the_tokens_it_will_be_fed(texts, teacher, tmp_path) -> None:
    own = tmp_path / "teacher"
    shutil.copytree(teacher, own)
    Preprocessing(max_length=32).save(own)
    tokens = write_tokens(tmp_path / "tokens", texts, [0, 1, 2] * 30)
    Preprocessing(max_length=8).save(tokens)
    models = {"teacher": own, "other": teacher}
    stage_dir = stage_at(tmp_path / "run" / "guarded", models, tokens, guard="warn", speed=False)
    run_entry(stage_dir)
    fed, other = evaluation_of(stage_dir)["models"].values()
    tokenizer = AutoTokenizer.from_pretrained(teacher)
    assert fed["rows_cut"] == sum(len(tokenizer(text)["input_ids"]) > 8 for text in texts) > 0
    assert fed["confusion_matrix"] == other["confusion_matrix"]
    stage_dir = stage_at(tmp_path / "run" / "compared", models, tokens, speed=False)
    run_entry(stage_dir)
    assert evaluation_of(stage_dir)["models"]["teacher"]["rows_cut"] < fed["rows_cut"]  # as it was trained


HINTS = {"sport": ["体育", "足球"]}


@pytest.mark.parametrize(
    ("own", "prepared", "message"),
    [
        ({"segment": "word"}, {}, "segment word where it learnt, segment none in the rows .*set data.segment=word"),
        ({"hint_words": HINTS}, {}, "hint words sport: 体育 足球 .* hint words none .*set data.hint_words=FILE"),
        ({}, {"hint_words": HINTS}, "hint words none .* hint words sport: 体育 足球 .*set data.hint_words=none"),
        ({"pairs": True}, {}, "pairs where it learnt, single texts .*set data.columns=label,text,text_pair"),
    ],
)
def test_a_teacher_of_other_tokens_is_refused(own, prepared, message, texts, teacher, tmp_path) -> None:
    shutil.copytree(teacher, tmp_path / "teacher")
    Preprocessing(max_length=16, **own).save(tmp_path / "teacher")
    tokens = write_tokens(tmp_path / "tokens", texts, [0, 1, 2] * 30)
    Preprocessing(max_length=32, **prepared).save(tokens)
    stage_dir = stage_at(tmp_path / "run" / "score", {"teacher": tmp_path / "teacher"}, tokens, guard="warn")
    with pytest.raises(UserError, match=f"the teacher .*was trained on other tokens .*{message}") as refused:
        run_entry(stage_dir)
    assert refused.value.exit_status == 2
    assert not (stage_dir / "model").exists()


def judged(task: Any, labels: np.ndarray, value: float, label2id: dict[str, int]) -> dict[str, Any]:
    metric = {"single_label": "accuracy", "multi_label": "micro_f1", "regression": "spearman"}[task]
    scored = Scored(None, [], np.empty(0), None, {metric: value})  # type: ignore[arg-type]
    return judge(scored, Examples("test", task, label2id, [], None, labels))


def test_the_guard_asks_for_more_than_the_largest_class() -> None:
    labels = np.array([0] * 60 + [1] * 40)
    found = judged("single_label", labels, 0.65, {"a": 0, "b": 1})
    assert (found["baseline"], found["baseline_label"], found["passed"]) == (0.6, "a", False)  # 0.65 may be luck
    assert judged("single_label", labels, 0.75, {"a": 0, "b": 1})["passed"]


def test_the_guard_of_the_other_tasks() -> None:
    labels = np.array([[1, 0], [1, 1], [1, 0], [0, 0]])
    found = judged("multi_label", labels, 0.8, {"a": 0, "b": 1})
    assert found["baseline"] == pytest.approx(2 * 3 / (4 + 4))  # 3 hits in 4 answers, 3 of 4 labels found
    assert found["passed"]
    assert not judged("regression", np.zeros(10), 0.3, {})["passed"]
    assert judged("regression", np.zeros(100), 0.3, {})["passed"]


def test_distillation_that_hurts() -> None:
    rows = {"teacher": 0.9, "student@1": 0.8, "student@2": 0.7, "student_alone@1": 0.76, "student_alone@2": 0.76}
    assert distillation_hurts({name: {"accuracy": value} for name, value in rows.items()}, "accuracy")
    rows |= {"student@2": 0.75, "student at speed 1": 0.1}
    assert distillation_hurts({name: {"accuracy": value} for name, value in rows.items()}, "accuracy") is False
    assert (
        distillation_hurts({"teacher": {}, "student": {"accuracy": 1.0}} | {"teacher": {"accuracy": 1.0}}, "accuracy")
        is None
    )


def logits_of(model: Path, texts: list[str]) -> np.ndarray:
    """(N, C) by transformers alone."""
    loaded = AutoModelForSequenceClassification.from_pretrained(model).eval()
    tokenizer = AutoTokenizer.from_pretrained(model)
    cut = {"return_tensors": "pt", "truncation": True, "max_length": 32}
    with torch.inference_mode():
        return np.concatenate([loaded(**tokenizer(text, **cut)).logits.numpy() for text in texts])


def test_several_labels(tiny, texts, tmp_path) -> None:
    options: dict[str, Any] = {"problem_type": "multi_label_classification", "initializer_range": 1.0}
    model = save_classifier(tmp_path / "model", tiny.tokenizer, **options)
    given = logits_of(model, texts) > 0
    labels = given.copy()
    labels[::2] = False  # what is given to these rows is wrong
    labels[1, :] = ~given[1, :]
    hits, wrong, missed = (labels & given).sum(), (given & ~labels).sum(), (labels & ~given).sum()
    assert min(hits, wrong, missed) > 0
    tokens = write_tokens(tmp_path / "tokens", texts, labels.astype(float).tolist(), task="multi_label")
    stage_dir = stage_at(tmp_path / "run" / "score", {"model": model}, tokens, guard="warn", speed=False)
    run_entry(stage_dir)

    written = evaluation_of(stage_dir)["models"]["model"]
    assert written["rows"] == 90
    assert written["micro_f1"] == pytest.approx(2 * hits / (2 * hits + wrong + missed))
    assert written["accuracy"] == pytest.approx((labels == given).all(axis=1).mean())
    table = pq.read_table(stage_dir / "predictions_model.parquet").to_pydict()
    assert table["predicted"] == [[name for name, has in zip(LABELS, row, strict=True) if has] for row in given]
    assert table["label"] == [[name for name, has in zip(LABELS, row, strict=True) if has] for row in labels]
    assert [len(row) for row in table["probability"]] == given.sum(axis=1).tolist()
    assert all(probability > 0.5 for row in table["probability"] for probability in row)


def test_numbers(tiny, texts, tmp_path) -> None:
    options = {"problem_type": "regression", "id2label": {0: "LABEL_0"}, "label2id": {"LABEL_0": 0}}
    model = save_classifier(tmp_path / "model", tiny.tokenizer, initializer_range=1.0, **options)
    given = logits_of(model, texts)[:, 0]
    labels = -2 * given.astype(float) + 1  # the order is reversed, and a line is a line
    tokens = write_tokens(tmp_path / "tokens", texts, labels, task="regression", label2id={})
    stage_dir = stage_at(tmp_path / "run" / "score", {"model": model}, tokens, guard="warn", speed=False)
    run_entry(stage_dir)
    written = evaluation_of(stage_dir)["models"]["model"]
    assert (written["spearman"], written["pearson"]) == pytest.approx((-1, -1), abs=1e-3)
    assert written["mean_squared_error"] == pytest.approx(((given - labels) ** 2).mean(), rel=1e-3)
    table = pq.read_table(stage_dir / "predictions_model.parquet").to_pydict()
    assert table["predicted"] == pytest.approx(given.tolist(), abs=1e-4)
    assert table["label"] == pytest.approx(labels.tolist())


@pytest.mark.parametrize("num_classes", [2, 65])
def test_confusion_of_few_and_many_classes(num_classes: int, tmp_path: Path) -> None:
    matrix = np.diag(np.arange(num_classes) * 100) + np.eye(num_classes, k=1, dtype=int)
    plot_confusion(tmp_path / "plot.png", matrix, [f"类别{number}" for number in range(num_classes)], "学生")
    height, width, _ = imread(tmp_path / "plot.png").shape
    assert min(height, width) > 25 * num_classes


def test_names_of_classes_that_look_like_formulas(tmp_path: Path) -> None:
    plot_confusion(tmp_path / "plot.png", np.eye(2, dtype=int), [r"$\x$", "$x^2$"], r"$\y$")
    assert imread(tmp_path / "plot.png").size


def at_speed(accuracy: float, layers: float, **more: Any) -> dict[str, Any]:
    return {"accuracy": accuracy, "mean_layers": layers, "exit_layers": [30, 20, 50], **more}


@pytest.mark.parametrize("is_measured", [True, False])
def test_pictures_of_speeds(is_measured: bool, tmp_path: Path) -> None:
    models = {
        "teacher": {"accuracy": 0.9, "operations_ratio": 1.0, "samples_per_second": 100.0},
        "fast": at_speed(0.9, 2.5, operations_ratio=1.5, samples_per_second=140.0),
        "fast at speed 0": at_speed(0.9, 3.0, speed=0.0, operations_ratio=1.0, samples_per_second=99.0),
        "fast at speed 0.1": at_speed(float("nan"), 3.0, speed=0.1, operations_ratio=None),
        "fast at speed 1": at_speed(0.5, 1.0, speed=1.0, operations_ratio=2.9, samples_per_second=250.0),
    }
    if not is_measured:
        for model in models.values():
            model.pop("operations_ratio")
    wide, tall = (imread(path).shape for path in plot_speeds(tmp_path, models, "accuracy"))
    assert (wide[1] > 2 * wide[0]) == is_measured  # throughput beside the operations
    assert tall[0] > 300
    assert {path.name for path in tmp_path.iterdir()} == {"speed_accuracy.png", "exit_layers.png"}


def test_without_speeds_there_are_no_pictures_of_them(tmp_path: Path) -> None:
    assert plot_speeds(tmp_path, {"teacher": {"accuracy": 0.9}, "fast": at_speed(0.9, 2.5)}, "accuracy") == []
    assert not list(tmp_path.iterdir())


def test_names_of_models() -> None:
    assert model_and_seed("fast@43 at speed 0.5") == {"model": "fast", "seed": 43}
    assert model_and_seed("fast at speed 0.5") == {"model": "fast"}
    assert model_and_seed("a@b") == {"model": "a@b"}


def test_places_that_fall_together_share_a_name() -> None:
    places = [(0.1, 0.9), (0.11, 0.9), (0.12, 0.9), (0.15, 0.9), (0.9, 0.1)]
    assert near_one_another(places) == [range(3), range(3, 4), range(4, 5)]
    assert near_one_another([]) == []


def test_results_are_shown_in_wandb(texts, teacher, predicted, tmp_path, monkeypatch) -> None:
    shown: list[Any] = []
    monkeypatch.setattr("kd_dist.evaluation.stage.log_results", lambda *given: shown.extend(given))
    tokens = write_tokens(tmp_path / "tokens", texts, predicted.argmax(axis=1))
    stage_dir = stage_at(tmp_path / "run" / "score", {"teacher": teacher}, tokens, speed=False)
    run_entry(stage_dir)
    directory, tracking, config, rows, pictures = shown
    assert (directory, tracking.project, config["kind"], pictures) == (stage_dir, "kd_dist", "evaluate", [])
    assert rows["teacher"]["accuracy"] == 1.0


def test_fonts_are_chosen_by_what_they_can_write() -> None:
    assert font_for("abc é") == "DejaVu Sans"
    assert font_for("\U0010fffd") is None


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


def test_numbers_on_the_command_line(tiny, tmp_path, monkeypatch, capsys) -> None:
    model = save_classifier(tmp_path / "model", tiny.tokenizer, id2label={0: "LABEL_0"}, label2id={"LABEL_0": 0})
    file, output = tmp_path / "test.tsv", tmp_path / "output"
    file.write_text("1.5\t一条新闻\nnan\t另一条\n3\t三\n", encoding="utf-8")
    assert evaluate(monkeypatch, model, file) == 2
    assert f"error: {file}, line 2: 'nan' is not a finite number; --bad-rows skip" in capsys.readouterr().err
    assert evaluate(monkeypatch, model, file, "--bad-rows", "skip", "--output", str(output)) == 0
    assert capsys.readouterr().err == "left out: 1 x not a number\n"
    assert pq.read_table(output / "predictions_model.parquet")["label"].to_pylist() == [1.5, 3.0]


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


# ----------------------------------------------------------------------------------------------------------- early exit


@pytest.fixture(scope="module")
def fast(tiny, texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with branches whose own thresholds let all rows leave at the second layer."""
    directory = tmp_path_factory.mktemp("fast") / "export"
    save_fastbert(directory, tiny.tokenizer, texts[:20])
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    write_json(directory / "config.json", config | {"thresholds": [0.0, 1.0, 0.0]})
    return directory


def test_only_models_with_branches_have_speeds(teacher, fast) -> None:
    models = {"teacher": load_classifier(teacher), "fast": load_classifier(fast)}
    named = at_speeds(models, [0, 0.5])
    assert list(named) == ["teacher", "fast", "fast at speed 0", "fast at speed 0.5"]
    assert [one.speed for one in named.values()] == [None, None, 0, 0.5]
    assert named["fast"].exit_rule == models["fast"].exit_rule
    assert named["fast at speed 0.5"].exit_rule.thresholds == (0.5, 0.5, 0.5)
    assert list(at_speeds(models, [])) == ["teacher", "fast"]


def test_speeds_need_a_model_with_branches(teacher, tmp_path, monkeypatch) -> None:
    with pytest.raises(UserError, match="has no branches to leave early by"):
        command(monkeypatch, tmp_path, "--model", str(teacher), "--speeds", "0.5")


def test_the_plain_model_stands_before_one_with_branches(fast) -> None:
    first, second, *_ = at_speeds({"fast": load_classifier(fast)}, [0.5]).items()
    assert (first[0], second[0]) == ("all layers", "fast")
    assert first[1].exit_rule is None
    assert first[1].model is second[1].model.backbone


def test_a_stage_at_several_speeds(tiny, texts, predicted, fast, tmp_path, capsys) -> None:
    plain = tmp_path / "plain"
    load_classifier(fast).model.backbone.save_pretrained(plain)
    AutoTokenizer.from_pretrained(fast).save_pretrained(plain)
    Preprocessing(max_length=32).save(plain)
    tokens = write_tokens(tmp_path / "tokens", texts, predicted.argmax(axis=1))
    speeds = [0, 0.3, 0.6, 1]
    stage_dir = stage_at(tmp_path / "run" / "score", {"plain": plain, "fast": fast}, tokens, speeds=speeds)
    run_entry(stage_dir)
    models = evaluation_of(stage_dir)["models"]
    steps = [models[f"fast at speed {speed:g}"] for speed in speeds]
    assert [one["speed"] for one in steps] == speeds
    assert all(sum(one["exit_layers"]) == len(texts) for one in [models["fast"], *steps])
    assert models["fast"]["exit_layers"] == [0, len(texts), 0, 0]
    assert (steps[0]["mean_layers"], steps[-1]["mean_layers"]) == (NUM_LAYERS, 1)
    for name in ("accuracy", "macro_f1", "operations_per_sample", "operations_padded"):
        assert steps[0][name] == models["plain"][name]
    assert "speed" not in models["fast"]
    assert "mean_layers" not in models["plain"]
    for name in ("mean_layers", "operations_per_sample", "operations_padded"):
        values = [one[name] for one in steps]
        assert values[1:] == sorted(values[1:], reverse=True)
    assert pq.read_table(stage_dir / "predictions_fast.parquet")["exit_layer"].to_pylist() == [2] * len(texts)
    assert "exit_layer" not in pq.read_table(stage_dir / "predictions_plain.parquet").column_names
    assert not list(stage_dir.glob("predictions_fast at speed*"))
    results = json.loads((tmp_path / "run" / "results.json").read_text(encoding="utf-8"))
    assert [row.get("speed") for row in results] == [None, None, *speeds]
    assert "layers" in capsys.readouterr().out


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
