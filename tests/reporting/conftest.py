"""Runs to report on."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from tests.reporting.pages import (
    LABELS,
    ODD,
    ODD_TERM,
    SPEEDS,
    calibration_of,
    data_report,
    details,
    exit_score,
    score,
    write,
    write_results,
)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run in the middle: one training stage done, one that has not begun, and text that looks like markup."""
    directory, teacher = tmp_path / "runs" / "the_job" / "run-1", tmp_path / "teacher"
    (directory / "distill" / "export").mkdir(parents=True)
    teacher.mkdir()
    save_file({"a": np.zeros((100, 50), np.float16), "b": np.zeros(1000, np.float32)}, teacher / "model.safetensors")
    save_file({"a": np.zeros((10, 150), np.float32)}, directory / "distill" / "export" / "model.safetensors")
    stages = {
        "prepare": {"kind": "corpus", "data": {"corpus": [ODD]}},
        "distill": {
            "kind": "train",
            "teacher": {"path": str(teacher)},
            "student": {"config": "small"},
            "objective": {"name": "tinybert"},
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


@pytest.fixture
def scored_run(tmp_path: Path) -> Path:
    """A task distillation with everything that stages after training write."""
    directory = tmp_path / "runs" / "task" / "run-2"
    models = {"teacher": "@check/model", "student_alone": "@alone/export", "student": "@distill/export"}
    stages = {
        "prepare": {"kind": "labelled"},
        "augment": {
            "kind": "augment",
            "augment": {},
            "data": {"tokens": "@prepare/tokens"},
            "resources": {"shards": 3},
        },
        "augmented": {"kind": "augmented", "data": {"tokens": "@prepare/tokens", "shards": "@augment/shards"}},
        "check": {"kind": "evaluate", "data": {"tokens": "@prepare/tokens"}, "guards": {"teacher": "warn"}},
        "distill": {"kind": "train", "data": {"tokens": "@augmented/tokens"}, "selection": {"metric": "auto"}},
        "alone": {"kind": "train", "data": {"tokens": "@augmented/tokens"}},
        "evaluate": {"kind": "evaluate", "evaluate": {"models": models}, "data": {"tokens": "@prepare/tokens"}},
        "export": {"kind": "serve", "model": {"path": "@distill/export"}},
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
