"""The whole way from labelled texts to an exported student on a real SLURM; a killed stage, and a second submission."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification, AutoTokenizer

from kd_dist.tracking import read_metrics
from tests.conftest import LabelledWorld, TinyWorld
from tests.ranks import ROOT
from tests.slurm.cluster import PrivateCluster, eventually

pytestmark = pytest.mark.slurm
ENDED = ["COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"]
STAGES = [
    "prepare",
    "finetune",
    "corpus",
    "general",
    "augmentation",
    "augmented",
    "check",
    "outputs",
    "layers",
    "distill",
    "alone",
    "evaluation",
    "serving",
    "report",
]


class Pipeline:
    """What a user types, twice."""

    def __init__(self, slurm: PrivateCluster, tiny: TinyWorld, labelled: LabelledWorld, root: Path) -> None:
        self.slurm, self.root = slurm, root
        self.run_dir = root / "runs" / "tinybert" / "a"
        self.profile = root / "site.yaml"
        self.profile.write_text(
            "partition: main\nrequest_gpus: false\nmax_cpus_per_node: 1\nwandb_mode: offline\n"
            "environment: {OMP_NUM_THREADS: '1'}\n"
        )
        self.settings = [
            *(f"data.{split}={labelled.files / split}.tsv" for split in ("train", "validation", "test")),
            f"teacher.path={with_language_model_head(tiny, root / 'teacher')}",
            f"student.config={tiny.student}",
            "data.max_length=48",
            "augment.copies=2",
            "augmentation.resources.shards=2",
            "outputs.resources.shards=2",
            "train.global_batch_size=8",
            "train.micro_batch_size=4",
            "train.steps=6",
            "layers.train.steps=150",  # long enough to be killed half-way
            "cadence.save_every_n_steps=5",
            "cadence.log_every_n_steps=1",
            "cadence.evaluate_every_n_steps=3",
            "resources.timeout_minutes=30",
            "guards.teacher=warn",  # six steps teach nobody anything
        ]

    def submit(self) -> tuple[dict[str, str], str]:
        """Stage -> job id of what was submitted, and what the launcher said."""
        run = ["--job", "tinybert", "--cluster", str(self.profile), "--run-id", "a", "--runs-dir", "runs"]
        script = [sys.executable, str(ROOT / "launch" / "slurm.py"), *run, *self.settings]
        result = subprocess.run(script, capture_output=True, text=True, cwd=self.root)
        assert result.returncode == 0, result.stderr
        jobs = json.loads((self.run_dir / "submission.json").read_text())
        return {name: job for name, job in jobs.items() if f"{name}: job {job}" in result.stdout}, result.stdout

    def ended(self, stage: str, job: str) -> str:
        return self.slurm.wait_for(job, ENDED, timeout=900)["JobState"]

    def log(self, stage: str) -> str:
        return "\n".join(path.read_text() for path in sorted((self.run_dir / stage / "log").glob("*.out")))

    def completions(self) -> dict[str, int]:
        """When each complete stage was completed."""
        return {path.parent.name: path.stat().st_mtime_ns for path in self.run_dir.glob("*/COMPLETE")}


def with_language_model_head(tiny: TinyWorld, directory: Path) -> Path:
    AutoModelForMaskedLM.from_pretrained(tiny.teacher).save_pretrained(directory)
    AutoTokenizer.from_pretrained(tiny.tokenizer).save_pretrained(directory)
    return directory


def test_a_killed_stage_goes_on_and_finished_ones_are_not_run_again(
    slurm: PrivateCluster, tiny: TinyWorld, labelled: LabelledWorld, tmp_path: Path
) -> None:
    pipeline = Pipeline(slurm, tiny, labelled, tmp_path)
    jobs, _ = pipeline.submit()
    assert list(jobs) == STAGES
    metrics = pipeline.run_dir / "layers" / "metrics.jsonl"
    assert eventually(
        lambda: metrics.exists() and any(row["global_step"] >= 10 for row in read_metrics(metrics)), timeout=900
    ), pipeline.log("layers")
    slurm.run(["scancel", "--signal=KILL", jobs["layers"]])
    states = {stage: pipeline.ended(stage, job) for stage, job in jobs.items()}
    behind = ["layers", "distill", "evaluation", "serving", "report"]
    assert [stage for stage, state in states.items() if state != "COMPLETED"] == behind
    before = pipeline.completions()
    assert sorted(before) == sorted(set(STAGES) - set(behind))

    jobs, said = pipeline.submit()
    assert list(jobs) == behind
    assert all(f"{stage}: complete, skipped" in said for stage in before)
    assert [pipeline.ended(stage, job) for stage, job in jobs.items()] == ["COMPLETED"] * 5, pipeline.log("layers")
    assert "resumed at step" in pipeline.log("layers")
    after = pipeline.completions()
    assert {stage: after[stage] for stage in before} == before
    assert set(after) == set(STAGES)
    model = AutoModelForSequenceClassification.from_pretrained(pipeline.run_dir / "export")
    assert model.config.id2label == {0: "finance", 1: "sport"}
    rows = json.loads((pipeline.run_dir / "results.json").read_text())
    assert {row["model"] for row in rows if row["stage"] == "evaluation"} == {"teacher", "student_alone", "student"}
