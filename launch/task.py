"""The program of each rank, and how it ends when it is asked to stop."""

import os
import random
import signal
import sys
from pathlib import Path
from typing import Any, NoReturn

import submitit
from submitit.core.utils import UncompletedJobError

from kd_dist.config.sections.resources import ShardResources
from kd_dist.errors import USERS_MISTAKES, Preempted, RunError, exit_with_message, report
from kd_dist.runs.layout import read_stage
from kd_dist.runs.offspring import end_with
from kd_dist.runs.stage_runner import run_stage
from kd_dist.runs.tries import Tries
from launch import requeue
from launch.cluster import LAUNCHER


class StageTask:
    """One stage, or one shard of it, as a callable for submitit; all else that a requeued run needs is on disk."""

    def __init__(self, stage_dir: Path, shard: int | None = None) -> None:
        self.stage_dir, self.shard = stage_dir, shard

    def __call__(self) -> None:
        job = submitit.JobEnvironment()
        restarts = int(os.environ.get("SLURM_RESTART_COUNT", "0"))
        os.environ.setdefault("MASTER_PORT", str(master_port(job.job_id, restarts)))
        # CUDA_VISIBLE_DEVICES stays as it is: the scheduler may have confined the task to its GPU.
        submitit.helpers.TorchDistributedEnvironment().export(set_cuda_visible_devices=False, overwrite=True)
        by_submitit, process = signal.getsignal(signal.SIGUSR2), os.getpid()

        def warned(number: int, frame: Any) -> None:
            # SLURM signals every process of a step: forked workers inherit the handler, and each would requeue the job.
            if os.getpid() == process:
                self._requeue(by_submitit)

        signal.signal(signal.SIGUSR2, warned)
        which = f"rank {os.environ['RANK']} of {os.environ['WORLD_SIZE']}"
        if self.shard is not None:
            which = f"shard {self.shard}"
        print(f"{which}, start {restarts + 1}", flush=True)
        try:
            run_stage(self.stage_dir, self.shard)
        except Preempted as stopped:
            self._leave_to_slurm(stopped, by_submitit)
        except USERS_MISTAKES as error:
            sys.exit(report(error))
        _shut_down()

    def checkpoint(self) -> submitit.helpers.DelayedSubmission:
        """Return what submitit runs when it has requeued the job."""
        return submitit.helpers.DelayedSubmission(StageTask(self.stage_dir, self.shard))

    def _leave_to_slurm(self, stopped: Preempted, by_submitit: Any) -> NoReturn:
        """End this rank, whose state is saved: rank 0 has the job requeued, then all wait.

        No rank may return or raise: submitit would store that as the job's result, and a later look would believe it.
        """
        if os.environ["RANK"] == "0":
            print(stopped, file=sys.stderr, flush=True)
            if stopped.signal_number == signal.SIGUSR2:
                self._requeue(by_submitit)
        if stopped.signal_number == signal.SIGINT:  # a user wants the job to end
            Tries(self.stage_dir, self.shard).note("final")
            sys.exit(128 + signal.SIGINT)
        while True:
            signal.pause()

    def _requeue(self, by_submitit: Any) -> None:
        """Requeue this job by submitit's handler, which ends the process; return on other ranks, or if SLURM does it.

        At its time limit a job goes on only if this try has kept something: another one would get no further.
        """
        if os.environ["RANK"] != "0" or requeue.slurm_requeues(job := requeue.job_facts()):
            return
        tries = Tries(self.stage_dir, self.shard)
        try:
            if requeue.is_at_time_limit(job) and not tries.has_progressed():
                raise RunError(self._too_short())
            by_submitit(signal.SIGUSR2, None)
        except (RunError, UncompletedJobError) as error:
            tries.note("final")
            sys.exit(report(error if isinstance(error, RunError) else RunError(f"{self.stage_dir.name}: {error}")))

    def _too_short(self) -> str:
        stage, name = read_stage(self.stage_dir), self.stage_dir.name
        kept = "saved nothing before it" if stage.keeps else "keeps nothing of a try that is cut short"
        more = f", or less work by {name}.resources.shards" if isinstance(stage.resources, ShardResources) else ""
        return (
            f"stage {name} is at its time limit and {kept}, so that another try would get no further: give it more "
            f"time by {name}.resources.timeout_minutes (now {stage.resources.timeout_minutes}){more}"
        )


def master_port(job_id: str, restarts: int) -> int:
    """Return the port where the ranks of a job meet: below the ports that systems give away, and another each restart.

    Something that is left of the try before may still hold the port of that one.
    """
    first, number = 20_000, 12_768
    return first + (random.Random(job_id).randrange(number) + restarts) % number


def _shut_down() -> None:
    """Leave the process group, if the stage joined one."""
    if "torch" in sys.modules:
        from kd_dist.training import distributed

        distributed.shut_down()


def main() -> None:
    """Run one rank here: `python -m launch.task STAGE_DIR [SHARD]`, with torch's variables in the environment."""
    # A launcher that is killed takes its ranks along: they get SIGTERM, save and stop.
    end_with(int(os.environ.get(LAUNCHER, os.getppid())), signal.SIGTERM)
    run_stage(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else None)
    _shut_down()


if __name__ == "__main__":
    exit_with_message(main, is_rank=True)
