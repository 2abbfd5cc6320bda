"""Put jobs back into SLURM's queue: those that are warned of a preemption or a time limit, and those that crashed.

`python -m launch.requeue LOG_FOLDER MAX_RESTARTS` is what the batch script of a job calls when its ranks have failed:
it outlives them, whether they raised, were killed, or hung.
"""

import os
import subprocess
import sys
import time

import submitit
from submitit.core.utils import DelayedSubmission, JobPaths

from kd_dist.runs.tries import Tries
from launch.cluster import WARNED_AT


def job_facts() -> dict[str, str]:
    """Return what SLURM knows of this job; nothing where it does not answer, as on some compute nodes."""
    return _scontrol("job", submitit.JobEnvironment().job_id)  # SLURM_JOB_ID may stand for a whole array


def slurm_requeues(job: dict[str, str]) -> bool:
    """Return whether SLURM itself requeues a job: it is being preempted in a partition that requeues."""
    return is_preempted(job) and "REQUEUE" in _scontrol("partition", job["Partition"]).get("PreemptMode", "")


def is_preempted(job: dict[str, str]) -> bool:
    return job.get("PreemptTime", "None") != "None"


def is_at_time_limit(job: dict[str, str]) -> bool:
    """Return whether a warning that came now is about the time limit."""
    return not is_preempted(job) and time.time() >= float(os.environ[WARNED_AT])


def _scontrol(kind: str, name: str) -> dict[str, str]:
    try:
        shown = subprocess.run(
            ["scontrol", "--oneliner", "show", kind, name], capture_output=True, text=True, check=True, timeout=60
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    return dict(part.split("=", 1) for part in shown.split() if "=" in part)


def main() -> None:
    """Requeue this job, whose ranks have failed, if another try is worth its while."""
    state = job_facts().get("JobState")
    if state is None:
        print("SLURM does not answer on this node, so that the job is not started again", file=sys.stderr)
    if state != "RUNNING":  # cancelled, at its time limit, or in the queue again
        return
    job = submitit.JobEnvironment().job_id
    task = DelayedSubmission.load(JobPaths(sys.argv[1], job, 0).submitted_pickle).function
    again, text = Tries(task.stage_dir, task.shard).verdict(int(sys.argv[2]))
    if text:
        print(text, file=sys.stderr, flush=True)
    if again:
        subprocess.run(["scontrol", "requeue", job], check=True, timeout=60)


if __name__ == "__main__":
    main()
