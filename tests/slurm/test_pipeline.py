"""The whole way from labelled texts to an exported student on a real SLURM; a killed stage, and a second submission."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from transformers import AutoModelForMaskedLM, AutoModelForSequenceClassification, AutoTokenizer

from kd_dist.models.classifier import load_classifier
from kd_dist.runs.metrics import read_metrics
from tests.conftest import LabelledWorld, TinyWorld
from tests.jobs.test_rnn import check_run
from tests.models.recurrent_models import write_recurrent_config
from tests.ranks import ROOT
from tests.slurm.cluster import PrivateCluster, eventually

pytestmark = pytest.mark.slurm
ENDED = ["COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL"]
STAGES = [
    "labelled",
    "finetune",
    "corpus",
    "general",
    "augmentation",
    "augmented",
    "unlabelled",
    "perturbed",
    "check",
    "outputs",
    "layers",
    "distill",
    "alone",
    "evaluation",
    "serving",
    "report",
]


FASTBERT_STAGES = ["labelled", "unlabelled", "finetune", "check", "self_distill", "calibration", "evaluation", "report"]


class Pipeline:
    """What a user types, twice."""

    def __init__(
        self, slurm: PrivateCluster, labelled: LabelledWorld, root: Path, job: str, settings: Sequence[str]
    ) -> None:
        self.slurm, self.root, self.job = slurm, root, job
        self.run_dir = root / "runs" / job / "a"
        self.profile = root / "site.yaml"
        self.profile.write_text(
            "partition: main\nrequest_gpus: false\nmax_cpus_per_node: 1\nwandb_mode: offline\n"
            "environment: {OMP_NUM_THREADS: '1'}\n"
        )
        self.settings = [
            *(f"data.{split}={labelled.files / split}.tsv" for split in ("train", "validation", "test")),
            *settings,
            "data.max_length=48",
            "train.global_batch_size=8",
            "train.micro_batch_size=4",
            "cadence.save_every_n_steps=5",
            "cadence.log_every_n_steps=1",
            "cadence.evaluate_every_n_steps=3",
            "resources.timeout_minutes=30",
            "guards.teacher=warn",  # six steps teach nobody anything
        ]

    def submit(self) -> tuple[dict[str, str], str]:
        """Stage -> job id of what was submitted, and what the launcher said."""
        run = ["--job", self.job, "--cluster", str(self.profile), "--run-id", "a", "--runs-dir", "runs"]
        script = [sys.executable, str(ROOT / "launch" / "slurm.py"), *run, *self.settings]
        result = subprocess.run(script, capture_output=True, text=True, cwd=self.root)
        assert result.returncode == 0, result.stderr
        jobs = json.loads((self.run_dir / "submission.json").read_text())
        return {name: job for name, job in jobs.items() if f"{name}: job {job}" in result.stdout}, result.stdout

    def kill_half_way(self, stage: str, job: str) -> None:
        metrics = self.run_dir / stage / "metrics.jsonl"
        assert eventually(
            lambda: metrics.exists() and any(row["global_step"] >= 10 for row in read_metrics(metrics)), timeout=900
        ), self.log(stage)
        self.slurm.run(["scancel", "--signal=KILL", job])

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


def check_that_it_goes_on(pipeline: Pipeline, stages: list[str], killed: str, behind: list[str]) -> None:
    """Kill a stage half-way, submit again: only that stage and those behind it are run."""
    jobs, _ = pipeline.submit()
    assert list(jobs) == stages
    pipeline.kill_half_way(killed, jobs[killed])
    states = {stage: pipeline.ended(stage, job) for stage, job in jobs.items()}
    assert [stage for stage, state in states.items() if state != "COMPLETED"] == [killed, *behind]
    before = pipeline.completions()
    assert sorted(before) == sorted(set(stages) - {killed, *behind})

    jobs, said = pipeline.submit()
    assert list(jobs) == [killed, *behind]
    assert all(f"{stage}: complete, skipped" in said for stage in before)
    assert {pipeline.ended(stage, job) for stage, job in jobs.items()} == {"COMPLETED"}, pipeline.log(killed)
    assert "resumed at step" in pipeline.log(killed)
    after = pipeline.completions()
    assert {stage: after[stage] for stage in before} == before
    assert set(after) == set(stages)


def test_tinybert_goes_on_after_a_killed_stage(
    slurm: PrivateCluster, tiny: TinyWorld, labelled: LabelledWorld, tmp_path: Path
) -> None:
    settings = [
        f"teacher.path={with_language_model_head(tiny, tmp_path / 'teacher')}",
        f"student.config={tiny.student}",
        f"data.corpus={tiny.corpus}",
        f"data.unlabelled={tiny.corpus}",
        "augment.copies=2",
        "augmentation.resources.shards=2",
        "outputs.resources.shards=2",
        "train.steps=6",
        "layers.train.steps=150",  # long enough to be killed half-way
    ]
    pipeline = Pipeline(slurm, labelled, tmp_path, "tinybert", settings)
    check_that_it_goes_on(pipeline, STAGES, "layers", ["distill", "evaluation", "serving", "report"])
    model = AutoModelForSequenceClassification.from_pretrained(pipeline.run_dir / "export")
    assert model.config.id2label == {0: "finance", 1: "sport"}
    rows = json.loads((pipeline.run_dir / "results.json").read_text())
    assert {row["model"] for row in rows if row["stage"] == "evaluation"} == {"teacher", "student_alone", "student"}


def test_fastbert_goes_on_after_a_killed_stage(
    slurm: PrivateCluster, tiny: TinyWorld, labelled: LabelledWorld, tmp_path: Path
) -> None:
    settings = [
        f"teacher.path={tiny.teacher}",
        f"data.unlabelled={tiny.corpus}",
        "train.steps=6",
        "self_distill.train.steps=150",  # long enough to be killed half-way
        "self_distill.resources.nodes=2",
        "objective.branch_width=16",
        "evaluate.speeds=0,0.5,1",
        "evaluate.speed=false",
    ]
    pipeline = Pipeline(slurm, labelled, tmp_path, "fastbert", settings)
    check_that_it_goes_on(pipeline, FASTBERT_STAGES, "self_distill", ["calibration", "evaluation", "report"])
    classifier = load_classifier(pipeline.run_dir / "export")
    assert classifier.exit_rule is not None
    rows = json.loads((pipeline.run_dir / "results.json").read_text())
    speeds = [row.get("speed") for row in rows if row["stage"] == "evaluation" and row["model"] == "fastbert"]
    assert speeds == [None, 0, 0.5, 1]


@pytest.mark.chaos  # a minute for what tests/jobs/test_rnn.py shows without a cluster
def test_rnn_goes_from_texts_to_a_served_student_of_words_beside_one_of_sentences(
    slurm: PrivateCluster, labelled: LabelledWorld, tmp_path: Path
) -> None:
    settings = [
        f"teacher.path={labelled.teacher}",
        f"student.config={write_recurrent_config(tmp_path)}",
        "distill.student.input=words",
        "alone.student.input=sentence",
        "perturb.copies=0",
        "train.steps=4",
    ]
    pipeline = Pipeline(slurm, labelled, tmp_path, "rnn", settings)
    jobs, _ = pipeline.submit()
    assert {stage: pipeline.ended(stage, job) for stage, job in jobs.items()} == dict.fromkeys(jobs, "COMPLETED")
    assert {"words", "outputs", "distill", "alone"} <= jobs.keys()
    check_run(pipeline.run_dir)
