"""The program of each rank, and how it ends when it is asked to stop."""

import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import submitit

from kd_dist.errors import USERS_MISTAKES, Preempted, exit_with_message, report
from kd_dist.runs.stage_runner import run_stage

PR_SET_PDEATHSIG = 1  # linux/prctl.h


class StageTask:
    """One stage, or one shard of it, as a callable for submitit; all else that a requeued run needs is on disk."""

    def __init__(self, stage_dir: Path, shard: int | None = None) -> None:
        self.stage_dir, self.shard = stage_dir, shard

    def __call__(self) -> None:
        # CUDA_VISIBLE_DEVICES stays as it is: the scheduler may have confined the task to its GPU.
        submitit.helpers.TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
        requeue = signal.getsignal(signal.SIGUSR2)
        signal.signal(signal.SIGUSR2, _in_this_process_only(requeue))
        restarts = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
        which = f"rank {os.environ['RANK']} of {os.environ['WORLD_SIZE']}"
        if self.shard is not None:
            which = f"shard {self.shard}"
        print(f"{which}, start {restarts + 1}", flush=True)
        try:
            run_stage(self.stage_dir, self.shard)
        except Preempted as stopped:
            _leave_to_slurm(stopped, requeue)
        except USERS_MISTAKES as error:
            sys.exit(report(error))
        _shut_down()

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Return what submitit runs when it has requeued the job."""
        return submitit.helpers.DelayedSubmission(StageTask(self.stage_dir, self.shard))


def _in_this_process_only(handler: Any) -> Any:
    """Restrict a signal handler to this process.

    SLURM signals every process of a step: forked workers inherit the handler, and each would requeue the job.
    """
    process = os.getpid()

    def handle(number: int, frame: Any) -> None:
        if os.getpid() == process:
            handler(number, frame)

    return handle


def _leave_to_slurm(stopped: Preempted, requeue: Any) -> NoReturn:
    """End this rank, whose state is saved: rank 0 requeues the job unless SLURM does so itself, then all wait.

    No rank may return or raise: submitit would store that as the job's result, and a later look would believe it.
    """
    rank = int(os.environ["RANK"])
    if rank == 0:
        print(stopped, file=sys.stderr, flush=True)
        if stopped.signal_number == signal.SIGUSR2 and not _slurm_requeues():
            requeue(stopped.signal_number, None)
    if stopped.signal_number == signal.SIGINT:  # a user wants the job to end
        sys.exit(128 + signal.SIGINT)
    while True:
        signal.pause()


def _slurm_requeues() -> bool:
    """Return whether SLURM itself requeues this job: it is being preempted in a partition that requeues."""
    job = _scontrol("job", submitit.JobEnvironment().job_id)  # SLURM_JOB_ID may stand for a whole array
    if job.get("PreemptTime", "None") == "None":
        return False
    return "REQUEUE" in _scontrol("partition", job["Partition"]).get("PreemptMode", "")


def _scontrol(kind: str, name: str) -> dict[str, str]:
    """Return what scontrol shows of a job or partition; nothing where it does not work, as on some compute nodes."""
    try:
        shown = subprocess.run(
            ["scontrol", "--oneliner", "show", kind, name], capture_output=True, text=True, check=True, timeout=60
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(part.split("=", 1) for part in shown.split() if "=" in part)


def _shut_down() -> None:
    """Leave the process group, if the stage joined one."""
    if "torch" in sys.modules:
        from kd_dist.training import distributed

        distributed.shut_down()


def main() -> None:
    """Run one rank here: `python -m launch.task STAGE_DIR [SHARD]`, with torch's variables in the environment."""
    if sys.platform == "linux":  # a launcher that is killed takes its ranks along: they get SIGTERM, save and stop
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    run_stage(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None)
    _shut_down()


if __name__ == "__main__":
    exit_with_message(main, is_rank=True)
