"""What SLURM and its administrators do to jobs: a run survives all of it in a row, or says why it cannot."""

import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.chaos.compare import differences
from tests.chaos.jobs import World, settings_of
from tests.chaos.slurm_runs import SlurmRun
from tests.launch.launching import program
from tests.slurm.cluster import PrivateCluster, eventually

pytestmark = pytest.mark.chaos
STAGE = "distill"


class Events:
    """What happens to the job of a training stage; each one is called at some step of it."""

    def __init__(self, run: SlurmRun, job: str) -> None:
        self.run, self.slurm, self.job = run, run.slurm, job

    def is_warned_of_its_time_limit(self) -> None:
        self.slurm.run(["scancel", "--signal=USR2", self.job])

    def is_requeued_by_an_administrator(self) -> None:
        self.slurm.run(["scontrol", "requeue", self.job])

    def loses_its_node_for_maintenance(self) -> None:
        node = self._node()
        self._set(node, "DRAIN")
        self.slurm.run(["scontrol", "requeue", self.job])
        self._starts_elsewhere_than(node)
        self._set(node, "RESUME")

    def loses_its_node(self) -> None:
        node = self._node()
        self._set(node, "DOWN")
        self._starts_elsewhere_than(node)
        if not eventually(lambda: "down" not in self._state(node), timeout=10):  # it may come back by itself
            self._set(node, "RESUME")

    def loses_the_daemon_of_its_node(self) -> None:
        """Where nobody reaches it, the rank goes on beside the one that SLURM starts on another node."""
        node, starts = self._node(), int(self.slurm.show_job(self.job)["Restarts"]) + 1
        self.run.signal_rank(0, self.job, signal.SIGSTOP)  # or it would end before SLURM gives its node up
        with self.slurm.without(f"slurmd.{node}"):
            self._starts_elsewhere_than(node)
            self.run.at_start(STAGE, starts + 1)
            self.run.signal_rank(0, self.job, signal.SIGCONT)

    def is_preempted_without_a_warning(self) -> None:
        """A site without `preempt_send_user_signal` and without a grace time ends jobs with SIGTERM."""
        conf = self.slurm.conf.read_text(encoding="utf-8")
        self._configure(re.sub("(?m)^SlurmctldParameters=.*$", "", conf).replace("GraceTime=20", "GraceTime=0"))
        assert self.run.ended(self.slurm.submit_high(1, nodes=2)) == "COMPLETED"
        self._configure(conf)

    def loses_the_controller_for_a_while(self) -> None:
        self.run.signal_rank(0, self.job, signal.SIGSTOP)  # or it would be done before the controller is back
        with self.slurm.without("slurmctld"):
            assert eventually(lambda: "DOWN" in self._ping(), timeout=60)
        assert eventually(lambda: "UP" in self._ping(), timeout=60)
        self.run.signal_rank(0, self.job, signal.SIGCONT)

    def _configure(self, conf: str) -> None:
        self.slurm.conf.write_text(conf, encoding="utf-8")
        self.slurm.run(["scontrol", "reconfigure"])

    def _ping(self) -> str:
        done = subprocess.run(["scontrol", "ping"], env=self.slurm.env, capture_output=True, text=True, timeout=60)
        return done.stdout

    def _node(self) -> str:
        return self.slurm.show_job(self.job)["BatchHost"]

    def _state(self, node: str) -> str:
        return self.slurm.run(["sinfo", "--noheader", f"--nodes={node}", "--partition=main", "--format=%t"]).strip()

    def _set(self, node: str, state: str) -> None:
        reason = [] if state == "RESUME" else ["Reason=test"]
        self.slurm.run(["scontrol", "update", f"NodeName={node}", f"State={state}", *reason])

    def _starts_elsewhere_than(self, node: str) -> None:
        moved = lambda: self.slurm.show_job(self.job).get("BatchHost", node) != node  # noqa: E731
        assert eventually(moved, timeout=300), self.slurm.show_job(self.job)


def general(slurm: PrivateCluster, world: World, folder: Path, *more: str) -> SlurmRun:
    settings = [*settings_of("tinybert_general", world), "train.steps=600", "cadence.save_every_n_steps=50"]
    settings += ["cadence.evaluate_every_n_steps=300", *more]
    return SlurmRun(slurm, folder, "tinybert_general", settings)


def test_a_run_survives_all_that_slurm_does_to_it(slurm: PrivateCluster, world: World, tmp_path: Path) -> None:
    # Of three minutes, every one is among the last: a warning is one of the time limit, which is then lifted.
    run = general(slurm, world, tmp_path / "events", "distill.resources.timeout_minutes=3")
    undisturbed = run.finish_undisturbed()
    jobs = run.submit_without_limit()
    events = Events(run, jobs[STAGE])
    run.at_step(STAGE, 2)
    events.loses_the_controller_for_a_while()
    happening: list[Callable[[], None]] = [
        events.is_warned_of_its_time_limit,
        events.is_warned_of_its_time_limit,
        events.is_requeued_by_an_administrator,
        events.is_preempted_without_a_warning,
        events.loses_its_node_for_maintenance,
        events.loses_its_node,
        events.loses_the_daemon_of_its_node,
    ]
    for restarts, event in enumerate(happening):
        run.at_start(STAGE, restarts + 1)
        run.at_step(STAGE, 10 + 20 * restarts)
        event()
    run.at_start(STAGE, len(happening) + 1)
    run.finish(jobs)
    assert slurm.show_job(jobs[STAGE])["Restarts"] == str(len(happening))
    assert differences(undisturbed, run.folder / "runs") == []


def test_a_cancelled_stage_is_shown_as_the_cause_also_without_accounting(
    slurm: PrivateCluster, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = general(slurm, world, tmp_path / "cancelled")
    jobs = run.submit()
    slurm.run(["scancel", jobs["corpus"]])
    assert [run.ended(job) for job in jobs.values()] == ["CANCELLED"] * len(jobs)
    (tmp_path / "bin").mkdir()
    program(tmp_path / "bin", "sacct", "echo 'Slurm accounting storage is disabled' >&2; exit 1")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    shown = run.command("--status", str(run.run_dir))
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.count("CANCELLED") == len(jobs)


def test_a_run_that_slurm_refuses_leaves_nothing_in_the_queue(
    slurm: PrivateCluster, world: World, tmp_path: Path
) -> None:
    run = general(slurm, world, tmp_path / "refused", "distill.resources.nodes=4")
    before = slurm.run(["squeue", "--noheader", "--format=%i"])
    refused = run.command("--job", run.job, "--run-id", "a", *run.settings)
    assert refused.returncode == 2, refused.stdout
    assert "stage distill was refused by SLURM: " in refused.stderr
    assert "Traceback" not in refused.stderr
    assert slurm.run(["squeue", "--noheader", "--format=%i"]) == before
