"""The private SLURM cluster itself: the ground on which the other tests of this folder stand."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import PrivateCluster, eventually

pytestmark = pytest.mark.slurm

REPOSITORY = Path(__file__).parents[2]


def processes_in(namespace: str) -> list[str]:
    found = []
    for link in Path("/proc").glob("[0-9]*/ns/pid"):
        try:
            if os.readlink(link) == namespace:
                found.append(link.parts[2])
        except OSError:  # ended meanwhile
            continue
    return found


def mounts_of(root: Path) -> list[str]:
    return [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if root.name in line]


def test_all_nodes_are_idle_with_their_gpus(slurm: PrivateCluster) -> None:
    nodes = slurm.run(["sinfo", "--noheader", "--Node", "--partition=main", "--format=%N %t %G"]).splitlines()
    assert nodes == ["node1 idle gpu:8", "node2 idle gpu:8"]


def test_job_on_two_nodes_runs_on_both_hosts(slurm: PrivateCluster, tmp_path: Path) -> None:
    output = tmp_path / "out"
    size = ["--nodes=2", "--ntasks-per-node=1", "--gpus-per-node=8", "--cpus-per-task=4", "--mem=480GB"]
    job = slurm.submit(*size, f"--output={output}", "--wrap=srun sh -c 'echo \"$(hostname) $CUDA_VISIBLE_DEVICES\"'")
    slurm.wait_for(job, "COMPLETED", timeout=20)
    assert sorted(output.read_text().splitlines()) == ["node1 0,1,2,3,4,5,6,7", "node2 0,1,2,3,4,5,6,7"]
    assert eventually(lambda: [row["State"] for row in slurm.sacct(job)] == ["COMPLETED"])


@pytest.fixture
def short_grace(slurm: PrivateCluster) -> Iterator[None]:
    """Spares a test most of the 20 s that a preempted job may keep its nodes."""
    set_grace = ["scontrol", "update", "PartitionName=main"]
    slurm.run([*set_grace, "GraceTime=2"])
    yield
    slurm.run([*set_grace, f"GraceTime={slurm.grace_s}"])


@pytest.mark.usefixtures("short_grace")
def test_preempted_job_is_requeued_and_counts_its_restart(slurm: PrivateCluster, tmp_path: Path) -> None:
    output = tmp_path / "out"
    script = tmp_path / "job.sh"
    script.write_text(
        '#!/bin/sh\necho "restarts ${SLURM_RESTART_COUNT:-0}"\n[ -n "$SLURM_RESTART_COUNT" ] || sleep 300\n'
    )
    job = slurm.submit("--nodes=2", "--requeue", "--open-mode=append", f"--output={output}", script)
    slurm.wait_for(job, "RUNNING", timeout=20)
    high = slurm.submit_high(seconds=1, nodes=2)
    # The warning signal goes to job steps. This job has none, so it keeps the nodes for the whole grace time.
    slurm.wait_for(high, "COMPLETED", timeout=45)
    assert slurm.wait_for(job, "COMPLETED", timeout=30)["Restarts"] == "1"
    # SLURM adds lines of its own about the end of the first run.
    assert re.findall("^restarts .*$", output.read_text(), re.MULTILINE) == ["restarts 0", "restarts 1"]
    history = [("PREEMPTED", "0"), ("COMPLETED", "1")]
    assert eventually(lambda: [(r["State"], r["Restarts"]) for r in slurm.sacct(job, duplicates=True)] == history)


@pytest.mark.usefixtures("slurm_installed")
def test_nothing_is_left_after_the_exit() -> None:
    with PrivateCluster() as cluster:
        namespace, root = cluster.namespace(), cluster.root
        cluster.wait_for(cluster.submit("--output=/dev/null", "--wrap=setsid sleep 300"), "RUNNING", timeout=20)
        assert len(processes_in(namespace)) > 5
    assert not processes_in(namespace)
    assert not mounts_of(root)
    assert not root.exists()


@pytest.mark.usefixtures("slurm_installed")
def test_nothing_is_left_after_the_owner_is_killed() -> None:
    code = (
        "import time; from tests.slurm.cluster import PrivateCluster\n"
        "with PrivateCluster() as c: print(c.namespace(), c.root, flush=True); time.sleep(300)"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        namespace, root = owner.stdout.readline().split()
        assert processes_in(namespace)
        owner.send_signal(signal.SIGKILL)
    assert eventually(lambda: not processes_in(namespace))
    assert not mounts_of(Path(root))
    assert not Path(root).exists()
