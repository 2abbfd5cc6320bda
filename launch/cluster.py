"""Cluster profiles, and the parameters of submitit's executor that follow from a profile and a stage."""

import re
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from kd_dist.config.access_keys import refuse_access_keys, refuse_secret_variables
from kd_dist.config.overrides import join_problems
from kd_dist.config.paths import REPOSITORY
from kd_dist.config.sections.resources import CpuResources, GpuResources, TaskResources
from kd_dist.config.yaml_files import read_yaml
from kd_dist.errors import UserError, nearest

PROFILES = REPOSITORY / "configs" / "clusters"
SECONDS_TO_SAVE = 300

WARNED_AT = "KD_DIST_WARNED_AT"
"""The variable with the time, in seconds since 1970, from which on a warning is one of the time limit."""

LAUNCHER = "KD_DIST_LAUNCHER"
"""The variable with the process id of the launcher that started a rank on this machine."""

Resources = CpuResources | TaskResources | GpuResources


def _empty_if_none(value: Any) -> Any:
    """Read a YAML key without a value as an empty list."""
    return [] if value is None else value


def _on_one_line(value: Any) -> Any:
    """Refuse a text that would not stay where it is put: SLURM and bash read what follows a line break by itself."""
    if isinstance(value, str) and not value.isprintable():
        raise ValueError("a line break or another character that cannot be printed is not allowed here")
    return value


def _is_variable(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError("no name of an environment variable")
    return name


Line = Annotated[str, AfterValidator(_on_one_line)]

SbatchValue = Annotated[str | int | bool, AfterValidator(_on_one_line)]

VariableName = Annotated[str, AfterValidator(_is_variable)]

SbatchOptions = dict[Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")], SbatchValue]


class Cluster(BaseModel):
    """Facts about a site; every key has a default."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    executor: Literal["slurm", "local"] = Field(default="slurm", description="local: no scheduler, this machine")
    partition: Line | None = Field(default=None, description="partition of the stages with GPUs")
    cpu_partition: Line | None = Field(default=None, description="partition of the stages without GPUs")
    account: Line | None = Field(default=None, description="account that is charged")
    cpu_account: Line | None = Field(default=None, description="account of the stages without GPUs, if it is another")
    qos: Line | None = Field(default=None, description="quality of service")
    cpu_qos: Line | None = Field(default=None, description="quality of service of the stages without GPUs")
    constraint: Line | None = Field(default=None, description="node features of the stages with GPUs")
    exclude: Line | None = Field(default=None, description="nodes that no job may get, such as `node13,node[20-22]`")
    gres: str | None = Field(
        default=None,
        pattern=r"^gpu:[A-Za-z0-9_.-]+$",
        description="kind of GPU to ask for, as `gpu:a100`; the number follows from the stage",
    )
    mem_per_gpu: str | None = Field(
        default=None,
        pattern=r"^\d+[KMGT]?$",
        description="memory per GPU, as `60G`, where resources.memory_gb is not set",
    )
    request_gpus: bool = Field(default=True, description="false: a cluster without GPUs, every rank is a CPU rank")
    max_cpus_per_node: int | None = Field(default=None, ge=1, description="no job asks for more CPU cores of a node")
    seconds_to_save: int = Field(default=SECONDS_TO_SAVE, ge=10, description="from the warning to the time limit")
    max_requeues: int = Field(default=100, ge=0, description="how often a run that reaches its time limit is requeued")
    max_restarts: int = Field(
        default=3, ge=0, description="how often a stage that hung, or crashed with something new kept, is started again"
    )
    bandwidth_gbit: float = Field(
        default=100.0, gt=0, description="bandwidth of the network between nodes in Gbit/s, for --plan"
    )
    gpus_of_a_node: int = Field(default=8, ge=1, description="GPUs that a node has, for --plan")
    gpu_memory_gb: float | None = Field(
        default=None, gt=0, description="memory of a GPU, for --plan; none: that of the GPU that was calibrated on"
    )
    price_per_gpu_hour: float | None = Field(default=None, ge=0, description="what a GPU costs for an hour, for --plan")
    currency: Line = Field(default="", description="of the price, such as `EUR`")
    mail_user: Line | None = Field(default=None, description="who gets SLURM's mails")
    mail_type: Line | None = Field(default=None, description="about what, such as `FAIL,TIME_LIMIT`")
    runs_dir: str | None = Field(default=None, description="where runs are kept (a folder that all nodes see)")
    wandb_mode: Literal["online", "offline", "disabled"] | None = Field(
        default=None, description="none: online if logged in to W&B, else offline"
    )
    setup: Annotated[list[str], BeforeValidator(_empty_if_none)] = Field(
        default=[], description="shell lines to run first, such as `module load cuda`"
    )
    environment: dict[VariableName, Line] = Field(default={}, description="environment variables of every rank")
    sbatch: SbatchOptions = Field(default={}, description="any further sbatch option; true: without a value")
    gpu_sbatch: SbatchOptions = Field(default={}, description="those of the stages with GPUs alone")
    cpu_sbatch: SbatchOptions = Field(default={}, description="those of the stages without GPUs alone")


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
    content = read_yaml(path, str(path), may_be_empty=True)
    refuse_access_keys(content.items(), f"{path}: ")
    try:
        cluster = Cluster.model_validate(content)
    except ValidationError as error:
        raise UserError(join_problems([_explain(path, item) for item in error.errors()])) from error
    refuse_secret_variables(cluster.environment, cluster.setup, str(path))
    return cluster


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
    log: Path,
    dependencies: list[str],
) -> dict[str, Any]:
    """Return the parameters that submitit writes into the sbatch file of one stage.

    Args:
        cluster: The profile.
        name: The name of the job in the queue.
        resources: What the stage asks for.
        code: The snapshot that the job runs.
        log: The folder of its logs, where submitit keeps what it runs.
        dependencies: Ids of the jobs that must have succeeded before.
    """
    warning = min(cluster.seconds_to_save, resources.timeout_minutes * 30)
    on_gpus = asks_for_gpus(resources)
    more = {**cluster.sbatch, **(cluster.gpu_sbatch if on_gpus else cluster.cpu_sbatch)}
    parameters: dict[str, Any] = {
        "job_name": name,
        "time": resources.timeout_minutes,
        "signal_delay_s": warning,
        "account": cluster.account if on_gpus else cluster.cpu_account or cluster.account,
        "qos": cluster.qos if on_gpus else cluster.cpu_qos or cluster.qos,
        "exclude": cluster.exclude,
        "mail_user": cluster.mail_user,
        "mail_type": cluster.mail_type,
        "mem": f"{resources.memory_gb}GB" if resources.memory_gb else None,
        "dependency": "afterok:" + ":".join(dependencies) if dependencies else None,
        # A rank that fails must end the others, which wait for it in a collective.
        "srun_args": ["--kill-on-bad-exit=1"],
        # A stage whose predecessor failed is cancelled instead of waiting forever.
        "additional_parameters": {"requeue": True, "kill_on_invalid_dep": "yes", **_without_false(more)},
        "setup": [
            *_setup(cluster, code, cluster.request_gpus and on_gpus),
            *_recovery(cluster, resources, warning, log),
        ],
        "stderr_to_stdout": True,
        **_shape(cluster, resources),
    }
    return {key: value for key, value in parameters.items() if value is not None}


def _without_false(options: SbatchOptions) -> SbatchOptions:
    """Return options without those that are false, such as one that `sbatch` sets and `cpu_sbatch` takes back."""
    return {name: value for name, value in options.items() if value is not False}


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
    return shape | _gpus(cluster, resources, tasks) | {"partition": cluster.partition, "constraint": cluster.constraint}


def _gpus(cluster: Cluster, resources: Resources, number: int) -> dict[str, Any]:
    """Return the request for GPUs of a node, of the kind that the profile names, and for the memory that goes along."""
    if not cluster.request_gpus:
        return {}
    gpus = {"gres": f"{cluster.gres}:{number}"} if cluster.gres else {"gpus_per_node": number}
    return gpus if resources.memory_gb else gpus | {"mem_per_gpu": cluster.mem_per_gpu}


def _setup(cluster: Cluster, code: Path, needs_gpus: bool) -> list[str]:
    required = {"KD_DIST_NEEDS_GPUS": "1"} if needs_gpus else {}
    variables = {**required, **rank_environment(cluster)}
    return [
        "set -e",  # or a failing line below would be ignored
        *cluster.setup,
        f"export PYTHONPATH={shlex.quote(str(code))}${{PYTHONPATH:+:$PYTHONPATH}}",  # modules add their packages to it
        *(f"export {key}={shlex.quote(value)}" for key, value in variables.items()),
        "export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK",
    ]


def _recovery(cluster: Cluster, resources: Resources, warning: int, log: Path) -> list[str]:
    """Return lines that note when a warning is about the time limit, and that look at a failure of the ranks."""
    # SLURM warns up to a minute early, and the time limit includes a prolog.
    seconds = resources.timeout_minutes * 60 - warning - 120
    restart = shlex.join([sys.executable, "-m", "launch.requeue", str(log), str(cluster.max_restarts)])
    return [
        f"export {WARNED_AT}=$(($(date +%s) + {seconds}))",
        f"trap {shlex.quote(restart)} ERR",  # an EXIT trap may be the site's
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
