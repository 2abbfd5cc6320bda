"""The stages of a run on this machine, one after another, without a scheduler."""

import itertools
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from kd_dist.config.job import Job
from kd_dist.config.sections.resources import ShardResources
from kd_dist.errors import RunError
from kd_dist.runs.completion import is_complete, shards_to_run
from kd_dist.training.ports import free_port
from launch.cluster import Cluster, Resources, rank_environment

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)
SECONDS_TO_FOLLOW = 20


class Process(NamedTuple):
    """What sets one process of a stage apart: its log, its arguments and its environment."""

    name: str
    arguments: list[str]
    environment: dict[str, str]


class Ranks:
    """The processes of one stage: the ranks of one world, or its shards, each a world of its own.

    `at_once` of the `processes` run at a time. The number of a process's place becomes its LOCAL_RANK; the first place
    writes to the terminal, the others to log/<name>.txt.
    """

    def __init__(self, stage_dir: Path, processes: list[Process], at_once: int, cluster: Cluster, code: Path) -> None:
        self._stage_dir = stage_dir
        self._waiting = list(processes)
        self._places: list[subprocess.Popen[bytes] | None] = [None] * at_once
        self._shared = {
            **os.environ,
            **rank_environment(cluster),
            "PYTHONPATH": str(code),
            "MASTER_ADDR": "127.0.0.1",
            "LOCAL_WORLD_SIZE": str(at_once),
        }

    def run(self, received: list[int]) -> int:
        """The first exit status that is not 0. The others get some time to follow a failed one, then are ended.

        Signals that appear in `received` are handed on; after one, and after a failure, nothing more is started.
        """
        first_failure, failed_at, handed_on = 0, 0.0, 0
        while True:
            while handed_on < len(received):
                self._send(received[handed_on])
                handed_on += 1
            if first_failure or handed_on:
                self._waiting.clear()
            self._fill_places()
            statuses = [process.poll() for process in self._started()]
            if not first_failure and any(statuses):
                first_failure, failed_at = next(status for status in statuses if status), time.monotonic()
            if None not in statuses and not self._waiting:
                return first_failure
            if first_failure and time.monotonic() - failed_at > SECONDS_TO_FOLLOW:
                self._send(signal.SIGKILL)
            time.sleep(0.05)

    def _started(self) -> list[subprocess.Popen[bytes]]:
        return [process for process in self._places if process is not None]

    def _send(self, number: int) -> None:
        for process in self._started():
            if process.poll() is None:
                process.send_signal(number)

    def _fill_places(self) -> None:
        for place, process in enumerate(self._places):
            if self._waiting and (process is None or process.poll() == 0):
                self._places[place] = self._start(place, self._waiting.pop(0))

    def _start(self, place: int, process: Process) -> subprocess.Popen[bytes]:
        log = open(self._stage_dir / "log" / f"{process.name}.txt", "ab") if place else None  # noqa: SIM115
        try:
            return subprocess.Popen(
                [sys.executable, "-m", "launch.task", str(self._stage_dir), *process.arguments],
                env=self._shared | process.environment | {"LOCAL_RANK": str(place)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT if log else None,
                start_new_session=True,  # a Ctrl-C reaches them once, from here
            )
        finally:
            if log:
                log.close()


def run(job: Job, run_dir: Path, cluster: Cluster, code: Path) -> int:
    """Run every stage that is not complete; a signal to this process is handed on to the ranks, which save and stop.

    Returns the exit status: 0, or that of the rank that stopped or failed.
    """
    received: list[int] = []
    previous = {number: signal.signal(number, lambda number, _: received.append(number)) for number in FORWARDED}
    try:
        for name, stage in job.stages.items():
            if is_complete(run_dir / name):
                print(f"{name}: complete, skipped", flush=True)
                continue
            status = _processes(run_dir / name, stage.resources, cluster, code).run(received)
            if status or received:
                return _explain(status, received, name, run_dir)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    print(f"done: {run_dir}", flush=True)
    return 0


def _processes(stage_dir: Path, resources: Resources, cluster: Cluster, code: Path) -> Ranks:
    """What runs a stage, after a line about it."""
    if isinstance(resources, ShardResources):
        processes = _shards(stage_dir, resources.shards)
        at_once = min(num_gpus() if resources.gpus else 1, len(processes)) or 1
        print(f"{stage_dir.name}: started on {_counted(len(processes), 'shard')}, {at_once} at a time", flush=True)
    else:
        processes = _world(resources.world_size())
        at_once = len(processes)
        print(f"{stage_dir.name}: started on {_counted(at_once, 'rank')}", flush=True)
    return Ranks(stage_dir, processes, at_once, cluster, code)


def _world(size: int) -> list[Process]:
    shared = {"WORLD_SIZE": str(size), "MASTER_PORT": str(free_port())}
    return [Process(f"rank_{rank}", [], shared | {"RANK": str(rank)}) for rank in range(size)]


def _shards(stage_dir: Path, shards: int) -> list[Process]:
    return [
        Process(f"shard_{shard:05d}", [str(shard)], _world(1)[0].environment)
        for shard in shards_to_run(stage_dir, shards)
    ]


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number > 1)}"


def num_gpus() -> int:
    """GPUs that CUDA_VISIBLE_DEVICES leaves to this process; asked without torch, whose import takes seconds."""
    import pynvml

    try:
        pynvml.nvmlInit()
        there = pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError:
        return 0
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return there
    names = itertools.takewhile(lambda name: name.strip() not in ("", "-1", "NoDevFiles"), visible.split(","))
    return min(there, len(list(names)))


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
