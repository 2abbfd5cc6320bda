"""The stages of a run on this machine, one after another, without a scheduler."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

from kd_dist.errors import RunError
from kd_dist.ports import free_port
from kd_dist.runs import is_complete
from kd_dist.stages import Job
from launch.cluster import Cluster, rank_environment

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)
SECONDS_TO_FOLLOW = 20


class Ranks:
    """The processes of one stage: rank 0 writes to the terminal, the others to log/rank_N.txt."""

    def __init__(self, stage_dir: Path, world_size: int, cluster: Cluster, code: Path) -> None:
        shared = {
            **os.environ,
            **rank_environment(cluster),
            "PYTHONPATH": str(code),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(free_port()),
            "WORLD_SIZE": str(world_size),
            "LOCAL_WORLD_SIZE": str(world_size),
        }
        self._logs = [open(stage_dir / "log" / f"rank_{rank}.txt", "ab") for rank in range(1, world_size)]  # noqa: SIM115
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-m", "launch.task", str(stage_dir)],
                env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdin=subprocess.DEVNULL,
                stdout=None if rank == 0 else self._logs[rank - 1],
                stderr=None if rank == 0 else subprocess.STDOUT,
                start_new_session=True,  # a Ctrl-C reaches them once, from here
            )
            for rank in range(world_size)
        ]

    def send(self, number: int) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(number)

    def wait(self) -> int:
        """The first exit status that is not 0. The other ranks get some time to follow a failed one, then are ended."""
        first_failure, failed_at = 0, 0.0
        while True:
            statuses = [process.poll() for process in self.processes]  # all of them: any() would stop at a running one
            if not first_failure and any(statuses):
                first_failure, failed_at = next(status for status in statuses if status), time.monotonic()
            if None not in statuses:
                break
            if first_failure and time.monotonic() - failed_at > SECONDS_TO_FOLLOW:
                self.send(signal.SIGKILL)
            time.sleep(0.05)
        for log in self._logs:
            log.close()
        return first_failure


def run(job: Job, run_dir: Path, cluster: Cluster, code: Path) -> int:
    """Run every stage that is not complete; a signal to this process is handed on to the ranks, which save and stop.

    Returns the exit status: 0, or that of the rank that stopped or failed.
    """
    received: list[int] = []
    ranks: Ranks | None = None

    def forward(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if ranks is not None:
            ranks.send(number)

    previous = {number: signal.signal(number, forward) for number in FORWARDED}
    try:
        for name, stage in job.stages.items():
            if is_complete(run_dir / name):
                print(f"{name}: complete, skipped", flush=True)
                continue
            print(f"{name}: started on {_ranks(stage.resources.world_size())}", flush=True)
            ranks = Ranks(run_dir / name, stage.resources.world_size(), cluster, code)
            if received:  # while they were being started
                ranks.send(received[-1])
            status = ranks.wait()
            if status or received:
                return _explain(status, received, name, run_dir)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    print(f"done: {run_dir}", flush=True)
    return 0


def _ranks(number: int) -> str:
    return "1 rank" if number == 1 else f"{number} ranks"


def _explain(status: int, received: list[int], stage: str, run_dir: Path) -> int:
    again = f"the same command with --run-id {run_dir.name} goes on from there"
    if received:
        print(f"stopped by {signal.Signals(received[0]).name}; {again}", file=sys.stderr)
        return 128 + received[0]
    if status < 0:
        name = signal.Signals(-status).name
        raise RunError(f"stage {stage}: a rank was ended by {name}; look into {run_dir / stage / 'log'}; {again}")
    print(f"stage {stage} failed; see above and {run_dir / stage / 'log'}; {again}", file=sys.stderr)
    return status
