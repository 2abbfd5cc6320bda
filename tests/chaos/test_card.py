"""The two large cases on a real SLURM: FastBERT's branches over 100,000 texts, and TinyBERT with its arrays."""

import signal
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from tests.chaos.compare import differences
from tests.chaos.jobs import World, settings_of
from tests.chaos.slurm_runs import PATIENCE_S, SlurmRun
from tests.slurm.cluster import PrivateCluster, eventually

pytestmark = pytest.mark.chaos
ROWS = 100_000


@pytest.fixture
def texts(world: World, tmp_path: Path) -> Path:
    """100,000 texts in two shards of parquet, as augmentation writes them: the same ones again, with a number."""
    lines = [line for line in world.tiny.corpus.read_text(encoding="utf-8").splitlines() if line]
    rows = [f"{number} {lines[number % len(lines)][:40]}" for number in range(ROWS)]
    (tmp_path / "texts").mkdir()
    for shard in range(2):
        table = pyarrow.table({"text": rows[shard::2]})
        pyarrow.parquet.write_table(table, tmp_path / "texts" / f"shard_{shard}.parquet")
    return tmp_path / "texts"


def test_branches_over_100_000_texts_survive_a_preemption_and_a_kill_on_two_nodes(
    slurm: PrivateCluster, world: World, texts: Path, tmp_path: Path
) -> None:
    slurm.run(["scontrol", "update", "PartitionName=main", "GraceTime=5"])
    settings = [f"data.unlabelled={texts}/*.parquet", f"model.path={world.labelled.teacher}", "train.steps=150"]
    settings += ["objective.branch_width=16", "train.global_batch_size=16", "train.micro_batch_size=4"]
    settings += ["resources.nodes=2", "resources.gpus_per_node=2", "cadence.save_every_n_steps=40"]
    settings += ["cadence.log_every_n_steps=1", "cadence.evaluate_every_n_steps=70"]
    run = SlurmRun(slurm, tmp_path / "branches", "fastbert_stage1", settings)
    undisturbed = run.finish_undisturbed()
    jobs = run.submit()
    run.at_step("self_distill", 15)
    high = slurm.submit_high(1, nodes=2)
    assert run.ended(high) == "COMPLETED"
    run.at_start("self_distill", 2)
    run.at_step("self_distill", 60)
    run.signal_rank(3, jobs["self_distill"], signal.SIGKILL)
    run.finish(jobs)
    assert slurm.show_job(jobs["self_distill"])["Restarts"] == "2"
    assert run.log("self_distill").count("resumed at step") == 2
    assert "100,000 texts" in run.log("unlabelled")
    assert differences(undisturbed, run.folder / "runs") == []


def test_tinybert_with_its_arrays_survives_kills(slurm: PrivateCluster, world: World, tmp_path: Path) -> None:
    settings = [*settings_of("tinybert", world), "layers.train.steps=120"]
    run = SlurmRun(slurm, tmp_path / "tinybert", "tinybert", settings)
    undisturbed = run.finish_undisturbed()
    jobs = run.submit()
    kill_element(run, "augmentation", jobs)
    assert {stage: run.ended(job) for stage, job in jobs.items()}["report"] == "CANCELLED"
    jobs = run.submit()
    kill_element(run, "outputs", jobs)
    run.at_step("layers", 40)
    slurm.run(["scancel", "--signal=KILL", "--full", jobs["layers"]])
    states = {stage: run.ended(job) for stage, job in jobs.items()}
    assert states["layers"] == states["report"] == "CANCELLED"
    run.finish(run.submit())
    assert "resumed at step" in run.log("layers")
    assert differences(undisturbed, run.folder / "runs") == []


def kill_element(run: SlurmRun, stage: str, jobs: dict[str, str]) -> None:
    """Kill the second element of an array once it has begun."""
    element = f"{jobs[stage]}_1"
    assert eventually(lambda: "shard 1, start 1" in run.log(stage), PATIENCE_S), run.log(stage)
    run.slurm.run(["scancel", "--signal=KILL", "--full", element])
    assert run.ended(element) == "CANCELLED"
