"""Submit stages to SLURM through submitit."""

import shlex
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from submitit.core.utils import FailedJobError
from submitit.slurm.slurm import SlurmExecutor, _make_sbatch_string

from kd_dist.config.job import Job
from kd_dist.config.sections.resources import ShardResources
from kd_dist.config.stages import TrainStage
from kd_dist.errors import UserError
from kd_dist.files import write_json
from kd_dist.runs.completion import is_complete, shards_to_run
from kd_dist.runs.tries import Tries
from launch.cluster import Cluster, Resources, python_of_a_rank, slurm_parameters
from launch.elastic import on_what_is_free
from launch.launcher import forget_end
from launch.scheduler import cancel_jobs, submitted_jobs
from launch.task import StageTask


def require_slurm() -> None:
    """Raise a UserError where nothing can be submitted."""
    if not shutil.which("sbatch"):
        raise UserError(
            "there is no SLURM here (no sbatch): use --cluster local for this machine, or --dry-run to look"
        )


def submit(job: Job, run_dir: Path, cluster: Cluster, code: Path) -> dict[str, str]:
    """Submit every stage that is not complete; return stage -> job id, which submission.json keeps.

    Raises:
        UserError: There is no SLURM here, or it refuses a stage.
    """
    require_slurm()
    submitted: dict[str, str] = {}
    with _whole_or_nothing(submitted):
        for name, inputs in job.edges().items():
            if is_complete(run_dir / name):
                print(f"{name}: complete, skipped")
                continue
            waits_for = list(dict.fromkeys(submitted[other] for other in inputs if other in submitted))
            if first := next((other for other in job.companions(name) if other in submitted), None):
                submitted[name], more = submitted[first], f", together with {first}"
            else:
                submitted[name] = _submit_stage(job, name, run_dir, cluster, code, waits_for)
                more = f", after {', '.join(waits_for)}" if waits_for else ""
            write_json(run_dir / "submission.json", {**submitted_jobs(run_dir), **submitted})
            print(f"{name}: job {submitted[name]}{more}")
    return submitted


@contextmanager
def _whole_or_nothing(submitted: dict[str, str]) -> Iterator[None]:
    """Withdraw what was submitted if the rest of the run cannot be: its first stages alone would be of no use."""
    try:
        yield
    except BaseException:
        if submitted:
            print(f"withdrawing what was submitted: {', '.join(submitted.values())}", file=sys.stderr, flush=True)
            cancel_jobs(list(submitted.values()))
        raise


def _submit_stage(job: Job, name: str, run_dir: Path, cluster: Cluster, code: Path, waits_for: list[str]) -> str:
    """Submit a stage and return its job id.

    Raises:
        UserError: SLURM refuses it.
    """
    executor = SlurmExecutor(run_dir / name / "log", max_num_timeout=cluster.max_requeues, python=python_of_a_rank())
    executor.update_parameters(**_parameters(job, name, run_dir, cluster, code, waits_for))
    tasks = _tasks(run_dir / name, job.stages[name].resources)
    forget_end(run_dir / name)
    Tries(run_dir / name).begin()
    try:
        # More than one task become an array, whose elements are preempted and requeued on their own.
        return executor.submit_array(tasks)[0].job_id.partition("_")[0]
    except FailedJobError as error:
        raise UserError(
            f"stage {name} was refused by SLURM: {str(error).strip()}\nthe cluster profile and resources.* decide what "
            "is asked for; nothing of the run is left in the queue"
        ) from error


def _tasks(stage_dir: Path, resources: Resources) -> list[StageTask]:
    """Return the stage as one task, or as one for each shard that has not finished."""
    if not isinstance(resources, ShardResources):
        return [StageTask(stage_dir)]
    begun = (stage_dir / "inputs.json").exists()
    shards = shards_to_run(stage_dir, resources.shards) if begun else range(resources.shards)
    return [StageTask(stage_dir, shard) for shard in shards]


def _parameters(
    job: Job, stage: str, run_dir: Path, cluster: Cluster, code: Path, waits_for: list[str]
) -> dict[str, Any]:
    settings = job.stages[stage]
    name = f"{job.name}/{run_dir.name}/{stage}"
    log = run_dir / stage / "log"
    parameters = slurm_parameters(
        cluster, name=name, resources=settings.resources, code=code, log=log, dependencies=waits_for
    )
    if isinstance(settings, TrainStage) and settings.resources.min_nodes is not None:
        return on_what_is_free(parameters, settings.node_counts())
    return parameters


def sbatch_text(job: Job, stage: str, run_dir: Path, cluster: Cluster, code: Path, waits_for: list[str]) -> str:
    """Return what SlurmExecutor writes for a stage, without the SLURM that its constructor asks for."""
    folder = run_dir / stage / "log"
    command = f"{python_of_a_rank()} -u -m submitit.core._submit {shlex.quote(str(folder))}"
    parameters = _parameters(job, stage, run_dir, cluster, code, waits_for)
    tasks = len(_tasks(run_dir / stage, job.stages[stage].resources))
    return _make_sbatch_string(command=command, folder=folder, map_count=tasks if tasks > 1 else None, **parameters)
