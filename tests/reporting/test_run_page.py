"""The page shows a run as it is: whole, half done or odd, and loads nothing from elsewhere."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from kd_dist.config.paths import REPOSITORY
from kd_dist.config.sections.evaluation import ReportOptions
from kd_dist.config.stages import ReportStage
from kd_dist.errors import UserError
from kd_dist.reporting.page import VOID
from kd_dist.reporting.run_page import run, write_report

ODD = '<script>alert("1")</script> & 中文'
ODD_TERM = '<b class="x"> & 损失'


class Page(HTMLParser):
    """Text and attributes of a page; every element is closed."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: list[str] = []
        self.references: list[str] = []
        self._open: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert not self._open
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.references += [value or "" for name, value in attrs if name.split(":")[-1] in ("src", "href", "srcset")]
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run in the middle: one training stage done, one that has not begun, and text that looks like markup."""
    directory, teacher = tmp_path / "runs" / "the_job" / "run-1", tmp_path / "teacher"
    (directory / "distill" / "export").mkdir(parents=True)
    teacher.mkdir()
    save_file({"a": np.zeros((100, 50), np.float16), "b": np.zeros(1000, np.float32)}, teacher / "model.safetensors")
    save_file({"a": np.zeros((10, 150), np.float32)}, directory / "distill" / "export" / "model.safetensors")
    stages = {
        "prepare": {"kind": "prepare", "data": {"corpus": [ODD]}},
        "distill": {
            "kind": "train",
            "teacher": {"path": str(teacher)},
            "student": {"config": "small"},
            "data": {"tokens": "@prepare/tokens"},
        },
        "later": {"kind": "train", "teacher": {"path": ODD}, "data": {"tokens": "@prepare/tokens"}},
        "report": {"kind": "report", "report": {"stages": ["@distill", "@later"]}},
    }
    write(directory / "job.json", {"name": ODD, "description": ODD, "stages": stages, "result": "distill"})
    write(directory / "environment.json", {"python": "3.11", "packages": {"torch": "9.9"}, "git": {"commit": "c" * 40}})
    write(directory / "prepare" / "COMPLETE", {"fingerprint": "x", "seconds": 61.0})
    write(directory / "distill" / "COMPLETE", {"fingerprint": "x", "seconds": 7300.0})
    write(
        directory / "prepare" / "tokens" / "statistics.json",
        {"files": [ODD], "rows": 12345, "pack": True, "length_percentiles": {"50": 77}},
    )
    write(
        directory / "results.json",
        [
            {"stage": "distill", "model": ODD, "split": "validation", "parameters": 1500, "loss": float("nan")},
            {"stage": "distill", "model": "teacher", "accuracy": 0.87654321},
        ],
    )
    with open(directory / "distill" / "metrics.jsonl", "w", encoding="utf-8") as file:
        for step in range(1, 301):
            row = {"global_step": step, "train/loss": 100 / step, "train/a": 60 / step, f"train/{ODD_TERM}": 40 / step}
            row |= {"optim/learning_rate": 1e-4, "speed/samples_per_second": 2000.0, "speed/padding_share": 0.25}
            row |= {"speed/teacher_share": 0.5, "train/weighted/a": 1.0}
            row |= {"train/loss": None} if step == 7 else {}
            row |= {"train/a": float("nan")} if step == 8 else {}
            file.write(json.dumps(row) + "\n")
        file.write(json.dumps({"global_step": 300, "evaluation/loss": 0.5}) + "\n" + '{"global_st')
    return directory


def test_the_page_is_whole_escaped_and_self_contained(run_dir: Path) -> None:
    run(ReportStage(page=ReportOptions(stages=[])), run_dir / "report", 0)
    source = (run_dir / "report" / "index.html").read_text(encoding="utf-8")
    page = Page(run_dir / "report" / "index.html")
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert all(reference.startswith("#") for reference in page.references)
    assert not re.search(r"@import|url\((?!#)", source)
    assert "<script>" not in source
    assert ODD_TERM not in source
    assert ODD_TERM in page.text
    assert page.text.count(ODD) >= 6  # title, heading, description, results, settings, files
    assert not [path for path in (run_dir / "report").iterdir() if path.name != "index.html"]


def test_the_page_shows_every_stage_and_number(run_dir: Path, tmp_path: Path) -> None:
    write_report(run_dir, tmp_path / "new" / "page.html")
    page = Page(tmp_path / "new" / "page.html")
    for shown in (
        "2 of 3 stages complete",
        "complete · 1 min 01 s",
        "complete · 2 h 01 min",
        "later waiting",
        "This stage has not logged anything yet.",
        "4.0×",  # 6000 parameters to 1500
        "100.0 → 0.3333",
        "25.0%",
        "50.0%",
        "2 h 02 min",
        "1 of 300 logged losses are not finite.",
        "12,345",
        "0.8765",
        "nan",
        "torch 9.9",
        "c" * 12,
        "Gradient norm not recorded",
    ):
        assert shown in page.text
    for name in ("prepare", "distill", "later", "report"):
        assert page.text.count(name) >= 2
    assert page.tags.count("svg") == 6  # the stages, and what `distill` has logged


def test_a_wide_loss_is_on_a_logarithmic_axis(run_dir: Path, tmp_path: Path) -> None:
    write_report(run_dir, tmp_path / "page.html")
    wide = Page(tmp_path / "page.html").texts
    assert {"1", "10", "100"} <= set(wide)


LABELS = ["财经", ODD, "体育"]


def score(model: str, accuracy: float, **more: Any) -> dict[str, Any]:
    """A row of an evaluate stage; every model but the teacher is four times as small and fast."""
    size = 4 if model == "teacher" else 1
    row = {"stage": "evaluate", "model": model, "split": "test", "rows": 200, "accuracy": accuracy}
    row |= {"macro_f1": accuracy - 0.01, "rows_cut": 3, "parameters": size * 10**6, "size_mb": size * 4.0}
    row |= {"operations_per_sample": size * 10**8, "latency_ms": size * 2.0, "samples_per_second": 400 / size}
    return row | {"device": "CPU, 2 threads"} | more


def details(accuracy: float) -> dict[str, Any]:
    classes = [{"label": label, "precision": 0.5, "recall": 0.25, "f1": 0.3333, "support": 100} for label in LABELS]
    return {"accuracy": accuracy, "per_class": classes, "confusion_matrix": [[90, 10, 0], [7, 43, 0], [0, 0, 50]]}


def data_report(rows: int, **more: Any) -> dict[str, Any]:
    empty = {"rows": 0, "labels": dict.fromkeys(LABELS, 0), "token_percentiles": {"50": 0, "100": 0}, "truncated": 0}
    some = {"rows": rows, "labels": dict(zip(LABELS, (rows - 30, 20, 10), strict=True)), "files": [ODD]}
    some |= {"token_percentiles": {"50": 17, "100": 96}, "truncated": 2, "skipped": {"empty text": 5}}
    leaks = {"train_rows": 13, "test_rows_in_validation": 0, "removed": True}
    report = {"task": "single_label", "train": some, "validation": some, "test": empty, "leaks": leaks}
    report |= {"duplicates_in_train": 11, "rare_labels": [], "largest_share": 0.7, "largest_to_smallest": 7.0}
    return report | {"samples": {ODD: [f"{ODD}\nsecond"]}} | more


@pytest.fixture
def scored_run(tmp_path: Path) -> Path:
    """A task distillation with everything that stages after training write."""
    directory = tmp_path / "runs" / "task" / "run-2"
    models = {"teacher": "@check/model", "student_alone": "@alone/export", "student": "@distill/export"}
    stages = {
        "prepare": {"kind": "labelled"},
        "augment": {"kind": "augment", "data": {"tokens": "@prepare/tokens"}, "resources": {"shards": 3}},
        "augmented": {"kind": "augmented", "data": {"tokens": "@prepare/tokens", "shards": "@augment/shards"}},
        "check": {"kind": "evaluate", "data": {"tokens": "@prepare/tokens"}, "guards": {"teacher": "warn"}},
        "distill": {"kind": "train", "data": {"tokens": "@augmented/tokens"}, "selection": {"metric": "auto"}},
        "alone": {"kind": "train", "data": {"tokens": "@augmented/tokens"}},
        "evaluate": {"kind": "evaluate", "evaluate": {"models": models}, "data": {"tokens": "@prepare/tokens"}},
        "export": {"kind": "export", "model": {"path": "@distill/export"}},
    }
    job = {"name": "task", "stages": stages, "result": "export", "notes": [f"no augmentation: {ODD}"]}
    write(directory / "job.json", job)
    write_results(directory, score("teacher", 0.9), score("student_alone", 0.8), score("student", 0.85))
    write(
        directory / "evaluate" / "evaluation.json",
        {"split": "test", "rows": 200, "labels": LABELS, "models": {"student": details(0.85)}},
    )
    guard = {"metric": "accuracy", "value": 0.9, "lower_bound": 0.87, "baseline": 0.4, "baseline_label": ODD}
    write(directory / "check" / "evaluation.json", {"guard": guard | {"rows": 150, "passed": True}})
    write(
        directory / "export" / "onnx_check.json",
        {"max_difference": 2e-6, "tolerance": 1e-4, "size_mb": 4.1, "latency_tokens": 19}
        | {"difference_by_shape": {"1 x 3": 2e-6}, "latency_ms": {"torch": 3.0, "onnxruntime": 1.5}},
    )
    write(directory / "prepare" / "tokens" / "data_report.json", data_report(100))
    tally = {"rows": 100, "words": 500, "replaceable": 400, "tried": 300, "equal": 40, "refused": 8, "leaked": 2}
    write(directory / "augmented" / "tokens" / "data_report.json", data_report(350, augmentation=tally))
    rows = [{"text": text, "row": 0, "copy": copy} for copy, text in enumerate(("股市今天大涨", "股市昨天大涨"))]
    (directory / "augment" / "shards").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), directory / "augment" / "shards" / "block_00000000.parquet")
    write(directory / "augment" / "shard_00001.COMPLETE", {})
    (directory / "distill").mkdir()
    with open(directory / "distill" / "metrics.jsonl", "w", encoding="utf-8") as file:
        for step, accuracy in ((10, 0.5), (20, 0.86), (30, 0.84)):
            file.write(json.dumps({"global_step": step, "train/loss": 1 / step, "train/soft": 1 / step}) + "\n")
            scores = {"evaluation/loss": 0.5, "evaluation/accuracy": accuracy, "evaluation/macro_f1": accuracy / 2}
            file.write(json.dumps({"global_step": step, **scores}) + "\n")
    return directory


def write_results(run_dir: Path, *rows: dict[str, Any]) -> None:
    write(run_dir / "results.json", rows)


def text_of(run_dir: Path) -> str:
    write_report(run_dir, run_dir / "page.html")
    return Page(run_dir / "page.html").text


def test_models_stand_side_by_side(scored_run: Path) -> None:
    text = text_of(scored_run)
    for shown in (
        "Results test · 200 rows · × against the teacher",
        "Distillation gained +5.0 points over the same student without it: accuracy 0.8500 against 0.8000.",
        "teacher 0.9000 0.8900 100.0% 4 M 16.00",
        "student 0.8500 0.8400 94.4% 1 M 4.0× 4.000 4.0× 100 M 4.0× 2.000 4.0× 400.0 4.0×",
        "Accuracy and speed",
        "Measured on CPU, 2 threads",
        "Up to 3 texts are longer than a model can read",
    ):
        assert shown in text


def test_seeds_become_a_mean_with_their_spread(scored_run: Path) -> None:
    rows = [score(model, 0.8 + gain) for model, gain in (("teacher", 0.1), ("student_alone", 0.0), ("student", 0.05))]
    rows += [score("student_alone", 0.82, seed=43), score("student", 0.87, seed=43)]
    write_results(scored_run, *rows)
    text = text_of(scored_run)
    assert "student 2 0.8600 ± 0.0141" in text
    assert "accuracy 0.8600 against 0.8100. That is more than the spread over 2 seeds (± 2.0 points)." in text
    write_results(scored_run, *rows[:3], score("student_alone", 0.9, seed=43), score("student", 0.87, seed=43))
    assert "That is within the spread over 2 seeds (± 7.2 points) and may be chance." in text_of(scored_run)


def test_distillation_that_hurts_is_a_warning(scored_run: Path) -> None:
    write_results(scored_run, score("teacher", 0.9), score("student_alone", 0.85), score("student", 0.8))
    text = text_of(scored_run)
    assert "Distillation hurt: the student is 5.0 points worse than the same student trained without a teacher" in text
    assert 'class="verdict open"' in (scored_run / "page.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("metric", ["micro_f1", "spearman"])
def test_other_tasks_have_other_scores(scored_run: Path, metric: str) -> None:
    rows = [{"stage": "evaluate", "model": model, metric: 0.5} for model in ("teacher", "student_alone", "student")]
    write_results(scored_run, *rows)
    name = {"micro_f1": "micro F1", "spearman": "Spearman"}[metric]
    assert f"Distillation changed nothing: {name} 0.5000 against 0.5000." in text_of(scored_run)


def test_classes_and_the_teacher_and_onnx_are_told(scored_run: Path) -> None:
    text = text_of(scored_run)
    for shown in (
        "Confusion matrix of the student",
        f"财经 {ODD} 10 10.0%",
        "体育 0.5000 0.2500 0.3333 100",
        f"The teacher is fit to teach: accuracy 0.9000 on 150 rows, lower 95 % bound 0.8700; always answering “{ODD}”",
        "The ONNX file is right: logits differ from PyTorch's by at most 2.0e-06",
        "onnxruntime is faster 2.0×",
        f"no augmentation: {ODD}",
        "augment 1 of 3 shards",
    ):
        assert shown in text


def test_a_teacher_that_knows_nothing_is_a_warning(scored_run: Path) -> None:
    guard = {"metric": "spearman", "value": 0.1, "lower_bound": -0.1, "baseline": 0.0, "baseline_label": None}
    write(scored_run / "check" / "evaluation.json", {"guard": guard | {"rows": 50, "passed": False}})
    text = text_of(scored_run)
    assert "The teacher has nothing to teach: Spearman 0.1000 on 50 rows" in text
    assert "The run went on" in text


def test_the_data_is_shown_as_it_was_and_as_it_became(scored_run: Path) -> None:
    text = text_of(scored_run)
    for shown in (
        "leaked training rows, removed 13",
        "repeated training rows, kept 11",
        "skipped: empty text 10",
        "train 100 17 96 2",
        "财经 70.0% 70 70",
        f"{ODD} second",
        "copies tried 300",
        "kept 250 (83.3%)",
        "words with candidates 80.0%",
    ):
        assert shown in text
    assert "<mark>昨</mark>" in (scored_run / "page.html").read_text(encoding="utf-8")


def test_the_kept_step_is_marked(scored_run: Path) -> None:
    assert "best so far: step 20, accuracy 0.8600" in text_of(scored_run)
    write(scored_run / "distill" / "COMPLETE", {"seconds": 1.0})
    assert "kept: step 20, accuracy 0.8600" in text_of(scored_run)


def test_what_stages_have_not_written_is_left_out(scored_run: Path) -> None:
    for name in ("prepare/tokens/data_report", "augmented/tokens/data_report", "export/onnx_check"):
        (scored_run / f"{name}.json").unlink()
    (scored_run / "augment" / "shards" / "block_00000000.parquet").write_bytes(b"damaged")
    (scored_run / "evaluate" / "evaluation.json").unlink()
    (scored_run / "check" / "evaluation.json").unlink()
    write_results(scored_run, {"stage": "evaluate", "model": "teacher", "accuracy": float("nan")})
    text = text_of(scored_run)
    assert "Data ·" not in text
    assert "Class by class" not in text


def test_a_run_that_has_just_been_submitted(tmp_path: Path) -> None:
    directory = tmp_path / "job" / "run"
    write(directory / "job.json", {"name": "job", "stages": {"train": {"kind": "train"}}, "result": "train"})
    write_report(directory, tmp_path / "page.html")
    text = Page(tmp_path / "page.html").text
    for missing in ("0 of 1 stages complete", "No results yet.", "No model has been exported yet.", "Not recorded."):
        assert missing in text


SPEEDS = {0.0: (0.9, 3.0, 1.0), 0.5: (0.875, 1.75, 2.0), 1.0: (0.6, 1.0, 3.5)}


def exit_score(accuracy: float, layers: float, saved: float, **more: Any) -> dict[str, Any]:
    """A row of a model with early exit; half as much of what it saves is time."""
    row = score("fast", accuracy, mean_layers=layers, quality_kept=accuracy / 0.9)
    row |= {"operations_per_sample": round(4e8 / saved), "operations_padded": round(9e8 / saved)}
    row |= {"latency_ms": 8 / saved, "samples_per_second": 50 * saved, "speedup_realised": 0.5}
    return row | {"operations_ratio": saved, "latency_ratio": saved, "throughput_ratio": saved / 2} | more


@pytest.fixture
def exit_run(tmp_path: Path) -> Path:
    """A model with early exit beside its backbone and a student, at three speeds and its own thresholds."""
    directory = tmp_path / "runs" / "fastbert" / "run-3"
    stages = {
        "calibration": {"kind": "calibrate", "calibrate": {"quality_budget": 0.01, "patience": None}},
        "evaluate": {"kind": "evaluate", "evaluate": {"models": {"teacher": "@check/model"}}},
    }
    write(directory / "job.json", {"name": "fastbert", "stages": stages, "result": "calibration"})
    teacher = score("teacher", 0.9, operations_padded=9 * 10**8, quality_kept=1.0, speedup_realised=1.0)
    at_speeds = [exit_score(*found, speed=speed) for speed, found in SPEEDS.items()]
    write_results(directory, teacher, exit_score(0.89, 2.0, 1.6), *at_speeds, score("student", 0.8))
    left = {"fast": [50, 100, 50], "fast at speed 0": [0, 0, 200], "fast at speed 0.5": [101, 48, 51]}
    models = {name: {**details(0.9), "exit_layers": rows} for name, rows in left.items()}
    models["fast at speed 0"]["speed"], models["fast at speed 0.5"]["speed"] = 0.0, 0.5
    evaluation = {"split": "test", "rows": 200, "labels": LABELS, "models": {"teacher": details(0.9), **models}}
    write(directory / "evaluate" / "evaluation.json", evaluation)
    write(directory / "calibration" / "calibration.json", calibration_of([0.25, 0.25]))
    return directory


def calibration_of(thresholds: list[float], **rule: Any) -> dict[str, Any]:
    rule = {"thresholds": thresholds, "measure": "entropy", "top_k": 5, "patience": None} | rule
    chosen = {"rule": rule, "quality": 0.8712, "speedup": 1.75, "mean_layers": 1.9}
    full = {"rule": rule | {"thresholds": [0.0, 0.0]}, "quality": 0.8765, "speedup": 1.0, "mean_layers": 3.0}
    odd = {"rule": rule, "quality": float("nan"), "speedup": 2.0, "mean_layers": 1.0}
    return {"rows": 150, "metric": "accuracy", "chosen": chosen, "outcomes": [full, chosen, odd]}


def test_speeds_stand_beside_the_backbone_and_the_student(exit_run: Path) -> None:
    text = text_of(exit_run)
    for shown in (
        "Early exit speed by speed · × against the teacher",
        "teacher — 0.9000 0.8900 100.0% — 400 M 900 M 8.000 100.0 100.0%",
        "student — 0.8000 0.7900 — — 100 M 4.0× — 2.000 4.0× 400.0 4.0× —",
        "fast own thresholds 0.8900 0.8800 98.9% 2.00 250 M 1.6× 562 M 1.6× 5.000 1.6× 80.00 0.80× 50.0%",
        "fast 0 0.9000 0.8900 100.0% 3.00 400 M 1.0× 900 M 1.0× 8.000 1.0× 50.00 0.50× 50.0%",
        "fast 0.5 0.8750 0.8650 97.2% 1.75 200 M 2.0× 450 M 2.0× 4.000 2.0× 100.0 1.0× 50.0%",
        "Accuracy and operations saved fast by speed teacher fast, own thresholds student",
        "Accuracy and throughput fast by speed",
        "times fewer operations than the teacher",
        "Where rows leave share of the rows by layer own thresholds 2.00 layers on the mean",
        "speed 0.5, 1: 101 rows (50.5%)",
    ):
        assert shown in text
    comparison = text[text.index("Results test") : text.index("Early exit")]
    assert "fast 0.8900 0.8800 98.9%" in comparison  # by itself: speeds are no seeds
    assert "seeds" not in comparison


def test_the_rule_of_a_calibration_is_told(exit_run: Path) -> None:
    text = text_of(exit_run)
    for shown in (
        "Thresholds · calibration on 150 validation rows",
        "A text leaves when the normalised entropy of the prediction is below 0.25, at whichever layer. "
        "Of the rules that lose at most 0.01 accuracy this is the fastest.",
        "accuracy 0.8712 accuracy with all layers 0.8765 fewer operations 1.8× mean layers 1.90 of 3",
        "choices chosen least allowed",
    ):
        assert shown in text
    for rule, settings, told in (
        (calibration_of([0.5, 0.25]), {"target_speedup": 2.0}, "below the threshold of the layer. Of the rules that"),
        (calibration_of([0.5, 0.25]), {"target_speedup": 2.0}, "layer 1 2 leave below 0.5 0.25"),
        (calibration_of([0.0, 0.0], patience=2), {"patience": 2}, "when 2 layers in a row give the same answer. So"),
        (calibration_of([0.0, 0.0]), {"quality_budget": 0.0}, "after the last layer: no threshold"),
    ):
        write(exit_run / "calibration" / "config.json", {"kind": "calibrate", "calibrate": settings})
        write(exit_run / "calibration" / "calibration.json", rule)
        assert told in text_of(exit_run)


def test_speeds_without_timing_are_compared_by_their_layers(exit_run: Path) -> None:
    measured = {"operations_per_sample", "operations_padded", "latency_ms", "samples_per_second", "speedup_realised"}
    rows = json.loads((exit_run / "results.json").read_text(encoding="utf-8"))
    kept = [{key: value for key, value in row.items() if key not in measured} for row in rows]
    kept[-2] |= {"accuracy": float("nan"), "macro_f1": None}
    write_results(exit_run, *kept)
    (exit_run / "calibration" / "calibration.json").unlink()
    text = text_of(exit_run)
    assert "fast 0.5 0.8750 0.8650 97.2% 1.75" in text
    assert "fast 1 — — 66.7% 1.00" in text
    assert "Accuracy and layers fast by speed fast, own thresholds" in text
    assert "Thresholds ·" not in text
    (exit_run / "evaluate" / "evaluation.json").unlink()
    assert "Where rows leave" not in text_of(exit_run)


def test_seeds_of_a_speed_become_a_mean(exit_run: Path) -> None:
    rows = [exit_score(accuracy, 2.0, 2.0, speed=0.5, seed=seed) for seed, accuracy in ((1, 0.8), (2, 0.9))]
    write_results(exit_run, score("teacher", 0.9), exit_score(0.89, 2.0, 1.6), *rows)
    text = text_of(exit_run)
    assert "fast 0.5 0.8500 ± 0.0707" in text
    assert "Fewer operations 1.6× 400 M → 250 M a text" in text  # a tile: branches make no model smaller


def test_without_early_exit_there_is_no_word_of_it(scored_run: Path) -> None:
    text = text_of(scored_run)
    assert "Early exit" not in text
    assert "Smaller 4.0×" in text


def test_damaged_metrics_are_told_and_stop_nothing(run_dir: Path, tmp_path: Path) -> None:
    (run_dir / "distill" / "metrics.jsonl").write_text("what\n{}\n")
    write_report(run_dir, tmp_path / "page.html")
    assert "metrics.jsonl:1: expected a JSON object" in Page(tmp_path / "page.html").text


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a run folder"):
        write_report(tmp_path, tmp_path / "page.html")


def test_the_command_line(run_dir: Path, tmp_path: Path) -> None:
    command = [sys.executable, str(REPOSITORY / "kd_dist" / "report.py"), str(run_dir)]
    output = tmp_path / "page.html"
    subprocess.run([*command, "--output", str(output)], check=True, cwd=tmp_path, capture_output=True)
    assert Page(output).text
    refused = subprocess.run([command[0], command[1], str(tmp_path)], cwd=tmp_path, capture_output=True, text=True)
    assert refused.returncode == 2
    assert refused.stderr.startswith("error: ")
    assert "Traceback" not in refused.stderr
