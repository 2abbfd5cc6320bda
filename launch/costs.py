"""`--plan`: what a job would cost, as it is asked for and on other numbers of GPUs. Nothing is submitted."""

import os
import sys
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table

from kd_dist.config.job import Job
from kd_dist.config.sections.resources import GpuResources
from kd_dist.config.stages import TrainStage
from kd_dist.errors import UserError
from kd_dist.planning.costs import Cost, Costs
from kd_dist.planning.places import INSIDE_GBIT, Place, Site
from kd_dist.planning.rows import RowCounts, rows_given
from kd_dist.planning.step_times import ASSUMED, StepTimes, step_times
from kd_dist.runs import machine
from launch.cluster import Cluster
from launch.local import gpu_here

GPUS = (1, 2, 4, 8, 16, 32, 64)


def print_costs(job: Job, rows: Sequence[str], cluster: Cluster) -> int:
    """Print what the stages of a job cost, and its training stages on other numbers of GPUs.

    Args:
        job: The job, with absolute paths.
        rows: `STAGE=N`, the rows of stages that the user says.
        cluster: The profile, for the facts about GPUs and the network.

    Raises:
        UserError: The rows of a stage are unknown.
    """
    counts = RowCounts(job, rows_given(rows, RowCounts(job, {}).makers()))
    if unknown := counts.unknown():
        ways_out = " ".join(f"--rows {name}=N" for name in unknown)
        raise UserError(f"--plan: nobody can know yet how many rows {', '.join(unknown)} will make: add {ways_out}")
    costs = Costs(job, counts, _site(job, cluster))
    asked = {name: cost for name in job.stages if (cost := costs.of(name)) is not None}
    console = Console(width=None if sys.stdout.isatty() else 140)
    console.print(_stages(costs, asked, cluster))
    if any(Place.of(stage, costs.site, 2).ranks == 2 for stage in job.stages.values()):
        console.print(_by_ranks(costs, cluster))
    for line in (*_warnings(costs, asked), *_notes(costs)):
        print(line)
    return 0


def _site(job: Job, cluster: Cluster) -> Site:
    """Return the machines of a profile, with the calibrations of their GPUs and processors."""
    is_local = cluster.executor == "local"
    cores = len(os.sched_getaffinity(0)) if is_local else None
    here = gpu_here() if is_local else None
    gpu = here.name if here else (cluster.gres or "").removeprefix("gpu:")
    has_gpus = here is not None if is_local else cluster.request_gpus
    asked = next((stage.resources for stage in job.stages.values() if isinstance(stage, TrainStage)), GpuResources())
    threads = asked.cpus_per_gpu if cores is None else max(1, cores // asked.world_size())
    times = {
        "gpu": step_times("gpu", gpu),
        "cpu": step_times("cpu", machine.processor() if is_local else None, threads),
    }
    memory_gb = cluster.gpu_memory_gb or (here.memory_gb if here else (times["gpu"].device or {}).get("memory_gb"))
    return Site(has_gpus, cores, cluster.gpus_of_a_node, cluster.bandwidth_gbit, memory_gb, times)


def _stages(costs: Costs, asked: dict[str, Cost], cluster: Cluster) -> Table:
    table = _table(
        f"{costs.job.name}, with the resources that it asks for",
        costs,
        cluster,
        "stage",
        "rows",
        "steps",
        "ranks",
        "time",
        "memory",
        "disk",
    )
    for name, cost in asked.items():
        table.add_row(
            name,
            _number(cost.rows),
            _number(cost.steps),
            f"{cost.place.ranks} {'GPU' if cost.place.on_gpus else 'CPU'}",
            _duration(cost.hours),
            "" if cost.memory_gb is None else _size(cost.memory_gb),
            _size(cost.disk_gb),
            *_charged(cost.gpu_hours(), costs, cluster),
        )
    table.add_section()
    disk_gb, gpu_hours = sum(cost.disk_gb for cost in asked.values()), sum(cost.gpu_hours() for cost in asked.values())
    more = _charged(gpu_hours, costs, cluster)
    table.add_row("all", "", "", "", _duration(costs.hours(asked)), "", _size(disk_gb), *more)
    return table


def _by_ranks(costs: Costs, cluster: Cluster) -> Table:
    """Return time, memory and price of the whole job by the number of GPUs, or of CPU ranks, of its stages."""
    what = "GPUs" if costs.site.has_gpus else "CPU ranks"
    table = _table(f"time by the number of {what}", costs, cluster, what, *costs.trained(), "all", "memory")
    for ranks in GPUS:
        if costs.site.has_gpus or ranks <= (costs.site.cores or max(GPUS)):
            table.add_row(str(ranks), *_on(costs, ranks, cluster))
    return table


def _on(costs: Costs, ranks: int, cluster: Cluster) -> list[str]:
    """Return the cells of a row for so many ranks."""
    found = {name: costs.of(name, ranks) for name in costs.job.stages}
    known = {name: cost for name, cost in found.items() if cost is not None}
    cells = [
        _duration(known[name].hours) + "*" * _is_smaller(costs, name, ranks) if name in known else "-"
        for name in costs.trained()
    ]
    if len(known) < len(found):
        return [*cells, "-", "-", *["-" for _ in _charged(0.0, costs, cluster)]]
    memory = max((cost.memory_gb or 0.0 for cost in known.values()), default=0.0)
    gpu_hours = sum(cost.gpu_hours() for cost in known.values())
    return [*cells, _duration(costs.hours(known)), _size(memory), *_charged(gpu_hours, costs, cluster)]


def _is_smaller(costs: Costs, name: str, ranks: int) -> bool:
    """Return whether the micro-batches of a stage must be smaller to be divided among so many ranks."""
    return bool(costs.trained()[name].train.problems(name, ranks)) and costs.as_run(name, ranks) is not None


def _table(title: str, costs: Costs, cluster: Cluster, first: str, *others: str) -> Table:
    table = Table(title=title)
    table.add_column(first)
    money = [] if cluster.price_per_gpu_hour is None else [cluster.currency or "price"]
    for name in (*others, *(["GPU-hours", *money] if costs.site.has_gpus else [])):
        table.add_column(name, justify="right")
    return table


def _charged(gpu_hours: float, costs: Costs, cluster: Cluster) -> list[str]:
    """Return the cells of GPU-hours and money; none where there are no GPUs, or no price."""
    price = cluster.price_per_gpu_hour
    cells = [f"{gpu_hours:,.2f}", *([] if price is None else [f"{gpu_hours * price:,.2f}"])]
    return cells if costs.site.has_gpus else []


def _warnings(costs: Costs, asked: dict[str, Cost]) -> Iterator[str]:
    """Yield a line for each training stage that needs more memory than a GPU has, with what would fit."""
    limit = costs.site.memory_gb
    for name in costs.trained():
        cost = asked[name]
        if limit is None or not cost.place.on_gpus or (cost.memory_gb or 0.0) <= limit:
            continue
        way_out = f"{name}.engine.activation_checkpointing=true, or a smaller data.max_length"
        if (train := costs.fitting(name, limit)) is not None:
            passes = train.accumulation_steps(cost.place.ranks)
            way_out = f"{name}.train.micro_batch_size={train.micro_batch_size} (each rank accumulates {passes} a step)"
        yield f"warning: {name} needs {_size(cost.memory_gb or 0.0)}, and a GPU has {_size(limit)}: set {way_out}"


def _notes(costs: Costs) -> Iterator[str]:
    """Yield what the figures rest on."""
    site = costs.site
    yield _origin(costs, site.times["gpu" if site.has_gpus else "cpu"])
    if any(_is_smaller(costs, name, ranks) for name in costs.trained() for ranks in GPUS):
        yield "*: with a smaller train.micro_batch_size, or a step could not be divided; -: it cannot be divided"
    if unknown := costs.not_estimated():
        yield f"not estimated, minutes as a rule: {', '.join(unknown)}"
    if costs.works.stood_in:
        yield f"taken for a BERT-base, as their config.json is not here: {', '.join(sorted(costs.works.stood_in))}"
    if site.has_gpus:
        yield f"network: {INSIDE_GBIT} Gbit/s within a node of {site.gpus_of_a_node} GPUs, {site.gbit:g} between nodes"
    yield "without queues; rows are counted before duplicates and leaks are removed, and no training ends early"


def _origin(costs: Costs, times: StepTimes) -> str:
    """Say where the seconds of steps come from."""
    where, rates = ("a GPU", 1e12) if times.kind == "gpu" else ("a core", 1e9)
    if times.device is None:
        fp32, bf16 = (f"{ASSUMED[times.kind, is_bf16] / rates:g}" for is_bf16 in (False, True))
        unit = "trillion" if times.kind == "gpu" else "billion"
        return (
            f"times are estimates: operations at {fp32} {unit} multiply-adds a second on {where} ({bf16} in bf16); the "
            "same command with --calibrate in place of --plan, on such a machine, measures them"
        )
    threads = f", {times.device['threads']} threads" if times.kind == "cpu" else ""
    works = {name: costs.work(name, stage) for name in costs.trained() if (stage := costs.as_run(name)) is not None}
    scaled = [name for name, work in works.items() if not times.is_exact(work)]
    more = f"; by operations from other models or batches: {', '.join(scaled)} (--calibrate measures)" if scaled else ""
    return f"times measured on {times.device['name']}{threads}, {times.measured_at}{more}"


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _duration(hours: float | None) -> str:
    """Write a time in the unit that suits it."""
    if hours is None:
        return "-"
    if hours < 1 / 60:
        return f"{hours * 3600:.0f} s"
    return f"{hours * 60:.1f} min" if hours < 1 else f"{hours:,.1f} h"


def _size(gigabytes: float) -> str:
    if gigabytes >= 1:
        return f"{gigabytes:,.1f} GB"
    return f"{gigabytes * 1024:,.0f} MB" if gigabytes else ""
