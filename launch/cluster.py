"""Cluster profiles, and the parameters of submitit's executor that follow from a profile and a stage."""

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from kd_dist.config.overrides import join_problems
from kd_dist.config.paths import REPOSITORY
from kd_dist.config.sections.resources import CpuResources, GpuResources, TaskResources
from kd_dist.errors import UserError, nearest

PROFILES = REPOSITORY / "configs" / "clusters"
SECONDS_TO_SAVE = 300

Resources = CpuResources | TaskResources | GpuResources


def _empty_if_none(value: Any) -> Any:
    """Read a YAML key without a value as an empty list."""
    return [] if value is None else value


class Cluster(BaseModel):
    """Facts about a site; every key has a default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    executor: Literal["slurm", "local"] = Field(default="slurm", description="local: no scheduler, this machine")
    partition: str | None = Field(default=None, description="partition of the stages with GPUs")
    cpu_partition: str | None = Field(default=None, description="partition of the stages without GPUs")
    account: str | None = Field(default=None, description="account that is charged")
    qos: str | None = Field(default=None, description="quality of service")
    constraint: str | None = Field(default=None, description="node features of the stages with GPUs")
    request_gpus: bool = Field(default=True, description="false: a cluster without GPUs, every rank is a CPU rank")
    max_cpus_per_node: int | None = Field(default=None, ge=1, description="no job asks for more CPU cores of a node")
    seconds_to_save: int = Field(default=SECONDS_TO_SAVE, ge=10, description="from the warning to the time limit")
    max_requeues: int = Field(default=100, ge=0, description="how often a run that reaches its time limit is requeued")
    runs_dir: str | None = Field(default=None, description="where runs are kept (a folder that all nodes see)")
    wandb_mode: Literal["online", "offline", "disabled"] | None = Field(
        default=None, description="none: online if logged in to W&B, else offline"
    )
    setup: Annotated[list[str], BeforeValidator(_empty_if_none)] = Field(
        default=[], description="shell lines to run first, such as `module load cuda`"
    )
    environment: dict[str, str] = Field(default={}, description="environment variables of every rank")
    sbatch: dict[str, str | int | bool] = Field(default={}, description="any further sbatch option")


def load_cluster(name: str) -> Cluster:
    """Read a profile.

    Args:
        name: The name of a file in configs/clusters, or the path of a YAML file.

    Raises:
        UserError: No such profile, an unknown key (the message names the nearest one), or a value of the wrong type.
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else PROFILES / f"{name}.yaml"
    names = [file.stem for file in sorted(PROFILES.glob("*.yaml"))]
    if not path.is_file():
        raise UserError(f"--cluster {name}: no such profile{nearest(name, names)}; shipped are: {', '.join(names)}")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{path}: expected `key: value` lines, found {type(content).__name__}")
    try:
        return Cluster.model_validate(content)
    except ValidationError as error:
        raise UserError(join_problems([_explain(path, item) for item in error.errors()])) from error


def _explain(path: Path, item: Any) -> str:
    key = ".".join(str(part) for part in item["loc"])
    if item["type"] == "extra_forbidden":
        return f"{path}: unknown key `{key}`{nearest(key, Cluster.model_fields)}"
    return f"{path}: {key}: {item['msg']}, but got {item['input']!r}"


def slurm_parameters(
    cluster: Cluster,
    *,
    name: str,
    resources: Resources,
    code: Path,
    dependencies: list[str],
) -> dict[str, Any]:
    """Return the parameters that submitit writes into the sbatch file of one stage.

    Args:
        cluster: The profile.
        name: The name of the job in the queue.
        resources: What the stage asks for.
        code: The snapshot that the job runs.
        dependencies: Ids of the jobs that must have succeeded before.
    """
    parameters: dict[str, Any] = {
        "job_name": name,
        "time": resources.timeout_minutes,
        "signal_delay_s": min(cluster.seconds_to_save, resources.timeout_minutes * 30),
        "account": cluster.account,
        "qos": cluster.qos,
        "mem": f"{resources.memory_gb}GB" if resources.memory_gb else None,
        "dependency": "afterok:" + ":".join(dependencies) if dependencies else None,
        # A rank that fails must end the others, which wait for it in a collective.
        "srun_args": ["--kill-on-bad-exit=1"],
        # A stage whose predecessor failed is cancelled instead of waiting forever.
        "additional_parameters": {"requeue": True, "kill_on_invalid_dep": "yes", **cluster.sbatch},
        "setup": _setup(cluster, code, needs_gpus=cluster.request_gpus and asks_for_gpus(resources)),
        "stderr_to_stdout": True,
        **_shape(cluster, resources),
    }
    return {key: value for key, value in parameters.items() if value is not None}


def asks_for_gpus(resources: Resources) -> bool:
    """Return whether the stage runs on GPUs, if the cluster has any."""
    return isinstance(resources, GpuResources) or (isinstance(resources, TaskResources) and resources.gpus > 0)


def _shape(cluster: Cluster, resources: Resources) -> dict[str, Any]:
    tasks = resources.gpus_per_node if isinstance(resources, GpuResources) else 1
    cpus = resources.cpus_per_gpu if isinstance(resources, GpuResources) else resources.cpus
    if cluster.max_cpus_per_node:
        cpus = max(1, min(cpus, cluster.max_cpus_per_node // tasks))
    shape = {
        "nodes": resources.nodes if isinstance(resources, GpuResources) else 1,
        "ntasks_per_node": tasks,
        "cpus_per_task": cpus,
    }
    if not asks_for_gpus(resources):
        return shape | {"partition": cluster.cpu_partition or cluster.partition}
    gpus = {"gpus_per_node": tasks} if cluster.request_gpus else {}
    return shape | gpus | {"partition": cluster.partition, "constraint": cluster.constraint}


def _setup(cluster: Cluster, code: Path, needs_gpus: bool) -> list[str]:
    required = {"KD_DIST_NEEDS_GPUS": "1"} if needs_gpus else {}
    variables = {"PYTHONPATH": str(code), **required, **rank_environment(cluster)}
    return [
        "set -e",  # or a failing line below would be ignored
        *cluster.setup,
        *(f"export {key}={shlex.quote(value)}" for key, value in variables.items()),
        "export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK",
    ]


def rank_environment(cluster: Cluster) -> dict[str, str]:
    """Return the environment variables of every rank, however it is started."""
    wandb = {"WANDB_MODE": cluster.wandb_mode} if cluster.wandb_mode else {}
    # PYTHONSAFEPATH: `python -m` would put the working folder, often the repository, before the snapshot.
    return {"PYTHONSAFEPATH": "1", "TOKENIZERS_PARALLELISM": "true", **wandb, **cluster.environment}


def python_of_a_rank() -> str:
    """Return the Python command of a rank, which ignores SIGUSR2 until submitit has installed its handler.

    A warning before the time limit would kill a process that is still importing.
    """
    return f"env --ignore-signal=USR2 {shlex.quote(sys.executable)}"
