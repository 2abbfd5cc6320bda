"""`--dry-run`: what a job would do. Nothing is written and nothing is submitted."""

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kd_dist.config.job import Job
from kd_dist.config.sections.resources import GpuResources, ShardResources, TaskResources
from kd_dist.config.seeds import SUFFIX, seed_of
from kd_dist.runs.completion import is_complete
from kd_dist.runs.layout import stages_to_rebuild
from launch.cluster import Cluster, Resources, asks_for_gpus
from launch.columns import columns, terminal_width, wrap
from launch.options import as_typed

HEADINGS = ["stage", "waits for", "nodes x GPUs", "cores", "time limit"]
WAITS_FOR = HEADINGS.index("waits for")


def print_plan(job: Job, defaults: Job, run_dir: Path, cluster: Cluster, verbose: bool = False) -> int:
    """Print the stages of a job, the settings that are not the defaults, and the sbatch file of one stage.

    Args:
        job: The job with the user's settings.
        defaults: The same job without any.
        run_dir: Where the run would be; complete stages of a run that is there are named.
        cluster: The profile; without SLURM there are no sbatch files.
        verbose: Show all settings and every sbatch file.
    """
    run_dir = run_dir.absolute()
    print(f"run: {run_dir}")
    print_notes(job)
    complete = _complete_stages(job, run_dir)
    print("\n" + "\n".join(_table(job, complete)))
    for heading, settings in _settings_that_differ(job, defaults).items():
        print("\n" + "\n".join([heading, *_setting_lines(settings)]))
    for name in job.stages if verbose else [_stage_to_show(job, complete)]:
        if verbose:
            print(f"\n=== settings of {name}\n{_all_settings(job.stages[name])}")
        if cluster.executor == "slurm":
            hint = "" if verbose or len(job.stages) == 1 else " (--verbose: of every stage, and all settings)"
            print(f"\n=== sbatch file of {name}{hint}\n{_sbatch_text(job, name, run_dir, cluster).rstrip()}")
    return 0


def print_notes(job: Job) -> None:
    """Print what the settings made of the job."""
    for note in job.notes:
        print(f"note: {note}", flush=True)


def _complete_stages(job: Job, run_dir: Path) -> list[str]:
    """Return the stages that a run which is there has completed, and that do not start over."""
    rebuilt = stages_to_rebuild(job, run_dir)
    begun = [name for name in job.stages if (run_dir / name / "inputs.json").exists() and name not in rebuilt]
    return [name for name in begun if is_complete(run_dir / name)]


def _table(job: Job, complete: list[str]) -> list[str]:
    rows = [HEADINGS]
    for name, inputs in job.edges().items():
        state = "complete, will be skipped" if name in complete else ", ".join(inputs) or "-"
        rows.append([name, state, *_requested(job.stages[name].resources)])
    return [line for lines in columns(rows, terminal_width(), wrapped=WAITS_FOR) for line in lines]


def _requested(resources: Resources) -> list[str]:
    """Return nodes x GPUs, CPU cores of a node, and the time limit."""
    if isinstance(resources, GpuResources):
        cores = resources.cpus_per_gpu * resources.gpus_per_node
        fewest = f"{resources.min_nodes}-" if resources.min_nodes else ""
        machines = f"{fewest}{resources.nodes} x {resources.gpus_per_node}"
        return [machines, str(cores), _duration(resources.timeout_minutes)]
    gpus = resources.gpus if isinstance(resources, TaskResources) else 0
    shards = f"{resources.shards} shards of " if isinstance(resources, ShardResources) and resources.shards > 1 else ""
    return [f"{shards}1 x {gpus}", str(resources.cpus), _duration(resources.timeout_minutes)]


def _duration(minutes: int) -> str:
    hours, rest = divmod(minutes, 60)
    return " ".join([f"{hours} h"] * (hours > 0) + [f"{rest} min"] * (rest > 0))


def _settings_that_differ(job: Job, defaults: Job) -> dict[str, dict[str, list[str]]]:
    """Return the settings that the user gave and those that follow, each once (`key=value`) with its stages."""
    given: dict[str, list[str]] = defaultdict(list)
    following: dict[str, list[str]] = defaultdict(list)
    for name, stage in job.stages.items():
        is_copy, copied = _is_copy(name, defaults), job.copied(name)
        default = defaults.stages.get(name.rpartition(SUFFIX)[0] if is_copy else copied)
        before = {} if default is None else _values(default)
        for key, value in _values(stage).items():
            is_inner_wire = is_copy and key in stage.wires()  # to another copy of the same seed
            if not is_inner_wire and before.get(key, ...) != value:
                is_given = bool(job.given.keys() & {key, f"{name}.{key}", f"{copied}.{key}"})
                (given if is_given else following)[f"{key}={as_typed(value)}"].append(name)
    if not given and not following:
        return {"every setting has its default": {}}
    found = {"settings that differ from the defaults:": given, "settings that follow:": following}
    return {heading: settings for heading, settings in found.items() if settings}


def _setting_lines(settings: dict[str, list[str]]) -> Iterator[str]:
    width = terminal_width()
    for text, names in settings.items():
        yield from wrap(f"{text}  in {', '.join(names)}", width, "  ")


def _is_copy(name: str, defaults: Job) -> bool:
    """Return whether --seeds made that stage out of another."""
    return name not in defaults.stages and seed_of(name) is not None


def _values(stage: Any) -> dict[str, Any]:
    """Return `section.key` and value of every setting of a stage."""
    sections = dict(stage.sections())
    return {key: getattr(sections[key.split(".")[0]], key.split(".")[1]) for key in stage.options()}


def _stage_to_show(job: Job, complete: list[str]) -> str:
    """Return the first stage with GPUs that would run, or else the first that would, or the last one."""
    left = [name for name in job.stages if name not in complete] or list(job.stages)[-1:]
    return next((name for name in left if asks_for_gpus(job.stages[name].resources)), left[0])


def _all_settings(stage: Any) -> str:
    return json.dumps(stage.model_dump(exclude={"kind"}, exclude_none=True), indent=2, ensure_ascii=False)


def _sbatch_text(job: Job, stage: str, run_dir: Path, cluster: Cluster) -> str:
    from launch.submit import sbatch_text  # submitit is only needed where there is a file to show

    waits_for = [f"<job id of {other}>" for other in job.edges()[stage]]
    return sbatch_text(job, stage, run_dir, cluster, run_dir / "code" / "<snapshot>", waits_for)
