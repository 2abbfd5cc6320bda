"""A cluster profile, and what it makes of a stage: the parameters of a submitit executor."""

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


def _nothing_is_empty(value: Any) -> Any:
    """A key without a value in YAML."""
    return [] if value is None else value


class Cluster(BaseModel):
    """Facts about a site. Every key can be left out."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    executor: Literal["slurm", "local"] = Field(default="slurm", description="local: no scheduler, this machine")
    partition: str | None = Field(default=None, description="partition of the stages with GPUs")
    cpu_partition: str | None = Field(default=None, description="partition of the stages without GPUs")
    account: str | None = Field(default=None, description="account that is charged")
    qos: str | None = Field(default=None, description="quality of service")
    constraint: str | None = Field(default=None, description="node features of the stages with GPUs")
    request_gpus: bool = Field(default=True, description="false: a cluster without GPUs, every rank is a CPU rank")
    max_cpus_per_node: int | None = Field(default=None, ge=1, description="no job asks for more CPU cores of a node")
    seconds_to_save: int = Field(default=SECONDS_TO_SAVE, ge=10, description="warning before the time limit")
    max_requeues: int = Field(default=100, ge=0, description="how often a run that meets its time limit goes on")
    runs_dir: str | None = Field(default=None, description="where runs are kept (a folder that all nodes see)")
    wandb_mode: Literal["online", "offline", "disabled"] | None = Field(
        default=None, description="none: online where somebody is logged in, else offline"
    )
    setup: Annotated[list[str], BeforeValidator(_nothing_is_empty)] = Field(
        default=[], description="shell lines before the start, such as `module load cuda`"
    )
    environment: dict[str, str] = Field(default={}, description="environment variables of every rank")
    sbatch: dict[str, str | int | bool] = Field(default={}, description="any further sbatch option")


def load_cluster(name: str) -> Cluster:
    """The profile of that name in configs/clusters, or the YAML file at that path.

    Raises:
        UserError: no such profile, an unknown key (with the nearest one), or a value of the wrong type.
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
        raise UserError(join_problems([_explained(path, item) for item in error.errors()])) from error


def _explained(path: Path, item: Any) -> str:
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
    """What submitit writes into the sbatch file of one stage.

    `code` is the snapshot that the job runs; `dependencies` are the job ids that must have ended well.
    """
    parameters: dict[str, Any] = {
        "job_name": name,
        "time": resources.timeout_minutes,
        "signal_delay_s": min(cluster.seconds_to_save, resources.timeout_minutes * 30),
        "account": cluster.account,
        "qos": cluster.qos,
        "mem": f"{resources.memory_gb}GB" if resources.memory_gb else None,
        "dependency": "afterok:" + ":".join(dependencies) if dependencies else None,
        # One rank that fails must end the others, which wait for it in a collective.
        "srun_args": ["--kill-on-bad-exit=1"],
        # A stage whose predecessor failed is cancelled, instead of waiting for ever.
        "additional_parameters": {"requeue": True, "kill_on_invalid_dep": "yes", **cluster.sbatch},
        "setup": _setup(cluster, code, needs_gpus=cluster.request_gpus and asks_for_gpus(resources)),
        "stderr_to_stdout": True,
        **_shape(cluster, resources),
    }
    return {key: value for key, value in parameters.items() if value is not None}


def asks_for_gpus(resources: Resources) -> bool:
    """Whether the stage is to run on GPUs, where the cluster has any."""
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
        "set -e",  # or a failing line below would be passed over
        *cluster.setup,
        *(f"export {key}={shlex.quote(value)}" for key, value in variables.items()),
        "export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK",
    ]


def rank_environment(cluster: Cluster) -> dict[str, str]:
    """Environment variables of every rank, whatever starts it."""
    wandb = {"WANDB_MODE": cluster.wandb_mode} if cluster.wandb_mode else {}
    # PYTHONSAFEPATH: `python -m` would put the working folder, often the repository, before the snapshot.
    return {"PYTHONSAFEPATH": "1", "TOKENIZERS_PARALLELISM": "true", **wandb, **cluster.environment}


def python_of_a_rank() -> str:
    """A warning that comes while Python still imports must not kill it; submitit installs its handlers later."""
    return f"env --ignore-signal=USR2 {shlex.quote(sys.executable)}"
