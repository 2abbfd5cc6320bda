"""`ensemble` averages teachers into one and measures it beside them."""

import json
from pathlib import Path

from tests.conftest import LabelledWorld
from tests.jobs.runs import run_job
from tests.loading import load_job


def test_every_member_is_measured_beside_the_ensemble_unless_models_are_named() -> None:
    models = load_job("ensemble", ["teachers.paths=A,B"]).stages["evaluation"].evaluate.models
    assert models == {"ensemble": "@ensemble/export", "teacher_1": "A", "teacher_2": "B"}
    named = load_job("ensemble", ["teachers.paths=A,B", "evaluation.evaluate.models=x:A"])
    assert named.stages["evaluation"].evaluate.models == {"x": "A"}


def test_the_job_goes_from_teachers_to_a_page(labelled: LabelledWorld, tmp_path: Path) -> None:
    settings = [f"data.{split}={labelled.files / split}.tsv" for split in ("train", "validation", "test")]
    settings += [f"teachers.paths={labelled.teacher},{labelled.other_teacher}", "data.max_length=48"]
    run_dir, done = run_job("ensemble", tmp_path, *settings)
    assert "You are using a model of type" not in done.stderr
    found = json.loads((run_dir / "results.json").read_text(encoding="utf-8"))
    assert {row["model"] for row in found} == {"ensemble", "teacher_1", "teacher_2"}
    assert (run_dir / "export" / "model.safetensors").exists()
    assert "teacher_2" in (run_dir / "report" / "index.html").read_text(encoding="utf-8")
