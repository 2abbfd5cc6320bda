"""`ensemble` averages teachers into one and measures it beside them."""

import json
import subprocess
import sys
from pathlib import Path

from tests.conftest import LabelledWorld
from tests.loading import load_job
from tests.ranks import ROOT


def test_every_member_is_measured_beside_the_ensemble_unless_models_are_named() -> None:
    models = load_job("ensemble", ["teachers.paths=A,B"]).stages["evaluation"].evaluate.models
    assert models == {"ensemble": "@ensemble/export", "teacher_1": "A", "teacher_2": "B"}
    named = load_job("ensemble", ["teachers.paths=A,B", "evaluation.evaluate.models=x:A"])
    assert named.stages["evaluation"].evaluate.models == {"x": "A"}


def test_the_job_goes_from_teachers_to_a_page(labelled: LabelledWorld, tmp_path: Path) -> None:
    settings = [f"data.{split}={labelled.files / split}.tsv" for split in ("train", "validation", "test")]
    settings += [f"teachers.paths={labelled.teacher},{labelled.other_teacher}", "data.max_length=48"]
    command = [sys.executable, str(ROOT / "launch" / "slurm.py"), "--job", "ensemble", "--cluster", "local"]
    result = subprocess.run([*command, "--run-id", "a", *settings], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "You are using a model of type" not in result.stderr
    run_dir = tmp_path / "runs" / "ensemble" / "a"
    found = json.loads((run_dir / "results.json").read_text(encoding="utf-8"))
    assert {row["model"] for row in found} == {"ensemble", "teacher_1", "teacher_2"}
    assert (run_dir / "export" / "model.safetensors").exists()
    assert "teacher_2" in (run_dir / "report" / "index.html").read_text(encoding="utf-8")
