"""`textgcn` goes from labelled files to a served classifier."""

import json
from pathlib import Path

from kd_dist.config.seeds import with_seeds
from tests.conftest import LabelledWorld
from tests.jobs.runs import check_predictions, run_job
from tests.loading import load_job


def test_seeds_repeat_the_training_alone() -> None:
    job = with_seeds(load_job("textgcn", []), 2)
    assert job.stages["textgcn_seed43"].train.seed == 43
    assert job.stages["textgcn_seed43"].data == job.stages["textgcn"].data
    assert job.stages["evaluation"].evaluate.models["textgcn@43"] == "@textgcn_seed43/export"


def test_the_job_goes_from_files_to_a_served_classifier(labelled: LabelledWorld, tmp_path: Path) -> None:
    settings = [f"data.{split}={labelled.files / split}.tsv" for split in ("train", "validation", "test")]
    settings += ["data.max_length=48", "train.epochs=30", "network.hidden_size=8"]
    run_dir, done = run_job("textgcn", tmp_path, *settings)
    assert "Warning" not in done.stderr
    rows = json.loads((run_dir / "results.json").read_text(encoding="utf-8"))
    assert [(row["stage"], row["split"]) for row in rows] == [
        ("textgcn", "validation"), ("textgcn", "test"), ("evaluation", "test")
    ]  # fmt: skip
    of_new, of_nodes = rows[2], rows[1]
    assert {"latency_ms", "samples_per_second", "operations_per_sample", "macro_f1"} <= of_new.keys()
    assert of_new["parameters"] == of_nodes["parameters"]
    assert "textgcn" in (run_dir / "report" / "index.html").read_text(encoding="utf-8")
    assert (run_dir / "export" / "onnx" / "model.onnx").exists()
    check_predictions(run_dir / "export")
