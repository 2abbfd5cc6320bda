"""An evaluate stage scores models by the names of their labels, and a bad teacher goes no further."""

import json
import os
import shutil
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from matplotlib.image import imread
from transformers import AutoTokenizer

from kd_dist.data.preprocessing import Preprocessing
from kd_dist.errors import RunError, UserError
from kd_dist.models.classifier import load_classifier
from kd_dist.models.early_exit import FastBertForSequenceClassification
from tests.evaluation.labelled_tokens import LABEL2ID, evaluation_of, logits_of, stage_at, write_tokens
from tests.models.random_models import LABELS, NUM_LAYERS, save_classifier
from tests.stages import run_entry


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
    fields = {name: (one["model"], one.get("seed"), one.get("speed")) for name, one in written["models"].items()}
    assert fields == {
        "teacher": ("teacher", None, None),
        "student@43": ("student", 43, None),
        "student@44": ("student", 44, None),
    }
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
    models = evaluation_of(stage_dir)["models"]
    fields = [(one["model"], one.get("seed"), one.get("speed")) for one in list(models.values())[1:]]
    assert fields == [("fast", results[1].get("seed"), speed) for speed in (None, 0.0, 1.0)]
    exits = {shown: one["exit_layers"] for shown, one in models.items() if "speed" in one}
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
        ({"segment": "word"}, {}, "segment word in its training, segment none in the rows .*set data.segment=word"),
        ({"hint_words": HINTS}, {}, "hint words sport: 体育 足球 .* hint words none .*set data.hint_words=FILE"),
        ({}, {"hint_words": HINTS}, "hint words none .* hint words sport: 体育 足球 .*set data.hint_words=none"),
        ({"pairs": True}, {}, "pairs in its training, single texts .*set data.columns=label,text,text_pair"),
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


def test_results_are_shown_in_wandb(texts, teacher, predicted, tmp_path, monkeypatch) -> None:
    shown: list[Any] = []
    monkeypatch.setattr("kd_dist.evaluation.stage.log_results", lambda *given: shown.extend(given))
    tokens = write_tokens(tmp_path / "tokens", texts, predicted.argmax(axis=1))
    stage_dir = stage_at(tmp_path / "run" / "score", {"teacher": teacher}, tokens, speed=False)
    run_entry(stage_dir)
    directory, tracking, config, rows, pictures = shown
    assert (directory, tracking.project, config["kind"], pictures) == (stage_dir, "kd_dist", "evaluate", [])
    assert rows["teacher"]["accuracy"] == 1.0


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
