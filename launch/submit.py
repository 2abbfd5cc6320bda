"""Stages to SLURM through submitit: what would be submitted, and the submission itself."""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

from submitit.core.utils import FailedJobError
from submitit.slurm.slurm import SlurmExecutor, _make_sbatch_string

from kd_dist.config.job import Job
from kd_dist.config.paths import REPOSITORY
from kd_dist.config.sections.resources import GpuResources, ShardResources, TaskResources
from kd_dist.errors import UserError
from kd_dist.files import read_json, temporary_folder, write_json
from kd_dist.runs.completion import is_complete, shards_to_run
from kd_dist.runs.environment import git_state
from kd_dist.runs.layout import stages_to_rebuild
from launch.cluster import Cluster, Resources, python_of_a_rank, slurm_parameters
from launch.status import live_jobs
from launch.task import StageTask

CODE = ("kd_dist", "jobs", "launch", "configs")


def snapshot(run_dir: Path) -> Path:
    """Copy the code that the run executes, so that a requeued job never runs edited files.

    The copy is named by its content: an unchanged tree is copied once.
    """
    files = sorted(
        path for folder in CODE for path in (REPOSITORY / folder).rglob("*") if path.suffix in (".py", ".json", ".yaml")
    )
    digest = hashlib.sha256()
    for path in files:
        digest.update(str(path.relative_to(REPOSITORY)).encode() + b"\0" + path.read_bytes())
    code = run_dir / "code" / digest.hexdigest()[:12]
    if code.exists():
        return code
    with temporary_folder(code) as temporary:
        for path in files:
            target = temporary / path.relative_to(REPOSITORY)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        write_json(temporary / "GIT_STATE.json", git_state())
        os.rename(temporary, code)
    return code


def require_idle(run_dir: Path) -> None:
    """Raise a UserError while SLURM holds stages of this run: two writers would spoil it."""
    if running := live_jobs(run_dir):
        raise UserError(f"run {run_dir.name} is still queued or running: {running}; scancel it first, or let it go on")


def require_slurm() -> None:
    """Raise a UserError where nothing can be submitted."""
    if not shutil.which("sbatch"):
        raise UserError(
            "there is no SLURM here (no sbatch): use --cluster local for this machine, or --dry-run to look"
        )


def submit(job: Job, run_dir: Path, cluster: Cluster, code: Path) -> dict[str, str]:
    """Submit every stage that is not complete; returns stage -> job id and keeps that in submission.json.

    Raises:
        UserError: there is no SLURM here, or it refuses a stage.
    """
    require_slurm()
    submitted: dict[str, str] = {}
    for name, inputs in job.edges().items():
        if is_complete(run_dir / name):
            print(f"{name}: complete, skipped")
            continue
        waits_for = [submitted[other] for other in inputs if other in submitted]
        executor = SlurmExecutor(
            run_dir / name / "log", max_num_timeout=cluster.max_requeues, python=python_of_a_rank()
        )
        executor.update_parameters(**_parameters(job, name, run_dir, cluster, code, waits_for))
        try:
            # More than one task become an array, whose elements are preempted and requeued on their own.
            jobs = executor.submit_array(_tasks(run_dir / name, job.stages[name].resources))
            submitted[name] = jobs[0].job_id.partition("_")[0]
        except FailedJobError as error:
            raise UserError(
                f"stage {name} was refused by SLURM: {str(error).strip()}\n{_already(submitted)}"
            ) from error
        write_json(run_dir / "submission.json", {**_earlier(run_dir), **submitted})
        print(f"{name}: job {submitted[name]}" + (f", after {', '.join(waits_for)}" if waits_for else ""))
    return submitted


def _tasks(stage_dir: Path, resources: Resources) -> list[StageTask]:
    """The stage as one task, or as one for each shard that has not finished."""
    if not isinstance(resources, ShardResources):
        return [StageTask(stage_dir)]
    begun = (stage_dir / "inputs.json").exists()
    shards = shards_to_run(stage_dir, resources.shards) if begun else range(resources.shards)
    return [StageTask(stage_dir, shard) for shard in shards]


def _already(submitted: dict[str, str]) -> str:
    check = "the cluster profile and resources.* decide what is asked for"
    if not submitted:
        return f"nothing was submitted; {check}"
    return f"{check}; submitted before it: {', '.join(submitted.values())} (scancel them, or let them run)"


def _earlier(run_dir: Path) -> dict[str, str]:
    path = run_dir / "submission.json"
    return read_json(path) if path.exists() else {}


def _parameters(
    job: Job, stage: str, run_dir: Path, cluster: Cluster, code: Path, waits_for: list[str]
) -> dict[str, Any]:
    resources = job.stages[stage].resources
    name = f"{job.name}/{run_dir.name}/{stage}"
    return slurm_parameters(cluster, name=name, resources=resources, code=code, dependencies=waits_for)


def print_notes(job: Job) -> None:
    """What the settings made of the job."""
    for note in job.notes:
        print(f"note: {note}", flush=True)


def print_plan(job: Job, run_dir: Path, cluster: Cluster) -> int:
    """The stages, their settings and resources, and the sbatch file of each. Writes and submits nothing."""
    run_dir = run_dir.absolute()
    print(f"run: {run_dir}")
    print_notes(job)
    anew = stages_to_rebuild(job, run_dir)
    for name, inputs in job.edges().items():
        stage = job.stages[name]
        state = f"after {', '.join(inputs)}" if inputs else "at once"
        if (run_dir / name / "inputs.json").exists() and name not in anew and is_complete(run_dir / name):
            state = "complete, will be skipped"
        print(f"\n=== {name}: {state}; {_described(stage.resources)}")
        print(json.dumps(stage.model_dump(exclude={"kind"}, exclude_none=True), indent=2, ensure_ascii=False))
        if cluster.executor == "slurm":
            waits_for = [f"<job id of {other}>" for other in inputs]
            code = run_dir / "code" / "<snapshot>"
            print(f"\n--- sbatch file of {name}\n{_sbatch_text(job, name, run_dir, cluster, code, waits_for)}", end="")
    return 0


def _described(resources: Resources) -> str:
    if isinstance(resources, GpuResources):
        nodes = f"{resources.nodes} node{'s' * (resources.nodes > 1)} x {resources.gpus_per_node}"
        return f"{nodes} = {resources.world_size()} ranks, {resources.timeout_minutes} minutes"
    gpu = "1 GPU, " if isinstance(resources, TaskResources) and resources.gpus else ""
    shards = f"{resources.shards} shards of " if isinstance(resources, ShardResources) and resources.shards > 1 else ""
    return f"{shards}{gpu}{resources.cpus} CPU cores, {resources.timeout_minutes} minutes"


def _sbatch_text(job: Job, stage: str, run_dir: Path, cluster: Cluster, code: Path, waits_for: list[str]) -> str:
    """What SlurmExecutor writes, without the SLURM that its constructor asks for."""
    folder = run_dir / stage / "log"
    command = f"{python_of_a_rank()} -u -m submitit.core._submit {folder}"
    parameters = _parameters(job, stage, run_dir, cluster, code, waits_for)
    tasks = len(_tasks(run_dir / stage, job.stages[stage].resources))
    return _make_sbatch_string(command=command, folder=folder, map_count=tasks if tasks > 1 else None, **parameters)
