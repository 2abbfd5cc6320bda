"""The stages of a run on this machine, one after another, without a scheduler."""

import itertools
import os
import signal
import sys
from pathlib import Path

from kd_dist.config.job import Job
from kd_dist.config.sections.resources import ShardResources
from kd_dist.errors import RunError
from kd_dist.runs import machine
from kd_dist.runs.completion import is_complete, shards_to_run, unfinished_shards
from kd_dist.runs.tries import Tries
from kd_dist.training.ports import free_port
from launch.cluster import Cluster, Resources
from launch.launcher import forget_end, note_end, note_stage, noted
from launch.ranks import Process, Ranks

FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)


def run(job: Job, run_dir: Path, cluster: Cluster, code: Path, command: str) -> int:
    """Run every stage that is not complete; a signal to this process is handed on to the ranks, which save and stop.

    Args:
        job: The job whose run folder is `run_dir`.
        run_dir: The folder of the run.
        cluster: The profile, for the environment of the ranks.
        code: The snapshot that they run.
        command: The command line that continues the run, for messages.

    Returns:
        The exit status: 0, or that of the rank that stopped or failed.
    """
    received: list[int] = []
    previous = {number: signal.signal(number, lambda number, _: received.append(number)) for number in FORWARDED}
    for name in job.stages:
        forget_end(run_dir / name)
    try:
        with noted(run_dir):
            for name, stage in job.stages.items():
                if is_complete(run_dir / name):
                    print(f"{name}: complete, skipped", flush=True)
                    continue
                note_stage(run_dir / name)
                status = _run_stage(run_dir / name, stage.resources, cluster, code, received)
                if status or received:
                    return _explain(status, received, job, run_dir / name, command)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    print(f"done: {run_dir}", flush=True)
    return 0


def _run_stage(stage_dir: Path, resources: Resources, cluster: Cluster, code: Path, received: list[int]) -> int:
    """Run a stage, again where it crashes after it kept something; return the exit status of its last try."""
    tries = Tries(stage_dir)
    tries.begin()
    while True:
        status = _processes(stage_dir, resources, cluster, code).run(received)
        if not status or received:
            return status
        again, text = tries.verdict(cluster.max_restarts)
        if text:
            print(text, file=sys.stderr, flush=True)
        if not again:
            return status


def _processes(stage_dir: Path, resources: Resources, cluster: Cluster, code: Path) -> Ranks:
    """Return what runs a stage, after a line about it."""
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
    """Return the number of GPUs that CUDA_VISIBLE_DEVICES leaves to this process, without torch's slow import."""
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


def gpu_here() -> machine.Gpu | None:
    """Return the first GPU of this machine, if CUDA_VISIBLE_DEVICES leaves any."""
    return machine.gpu() if num_gpus() else None


def _explain(status: int, received: list[int], job: Job, stage_dir: Path, command: str) -> int:
    """Report why a stage ended early, what is saved, and which command goes on; return the exit status.

    Raises:
        RunError: A rank was killed.
    """
    log = stage_dir / "log"
    again = f"{_saved(job, stage_dir)}; this command goes on from there:\n  {command}"
    if received:
        name = signal.Signals(received[0]).name
        print(f"stopped by {name}: {again}", file=sys.stderr, flush=True)
        note_end(stage_dir, 128 + received[0], name)
        return 128 + received[0]
    if status < 0:
        note_end(stage_dir, status)
        killed_by = signal.Signals(-status).name
        raise RunError(f"stage {stage_dir.name}: a rank was ended by {killed_by}; look into {log}\n{again}")
    print(f"stage {stage_dir.name} failed; see above and {log}\n{again}", file=sys.stderr, flush=True)
    note_end(stage_dir, status)  # last, for it fails on a full disk
    return status


def _saved(job: Job, stage_dir: Path) -> str:
    """Return what is kept of a stage that has not ended, and which stages are complete."""
    resources = job.stages[stage_dir.name].resources
    steps = [int(marker.parent.name.removeprefix("step_")) for marker in stage_dir.glob("checkpoints/step_*/COMPLETE")]
    if is_complete(stage_dir):
        text = f"stage {stage_dir.name} is complete"
    elif isinstance(resources, ShardResources):
        finished = resources.shards - len(unfinished_shards(stage_dir, resources.shards))
        text = f"stage {stage_dir.name} has saved {finished} of {_counted(resources.shards, 'shard')}"
    elif steps:
        text = f"stage {stage_dir.name} is saved at step {max(steps):,}"
    else:
        text = f"stage {stage_dir.name} has saved nothing yet"
    before = [name for name in job.stages if name != stage_dir.name and is_complete(stage_dir.parent / name)]
    return f"{text}; complete before it: {', '.join(before)}" if before else text
