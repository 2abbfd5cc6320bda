"""Everything that has an aim, measured on this machine and written to one table beside the aims: `make bench`.

    python benchmarks/bench.py --work build/bench

Each row is a script of its own, run in a process of its own, whose figures are medians of at least five rounds in which
both sides take turns. The table is benchmarks/RESULTS.md.
"""

import sys
from pathlib import Path

if not __package__:  # started as a script: its own folder must not shadow installed modules
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.measuring import positive
from benchmarks.table import table as markdown
from benchmarks.world import World
from kd_dist.config.paths import REPOSITORY
from kd_dist.errors import RunError, exit_with_message
from kd_dist.files import read_json, write_text

BENCHMARKS = REPOSITORY / "benchmarks"

RESULTS = BENCHMARKS / "RESULTS.md"

RECORDED = REPOSITORY / "results"

TITLES_A_SECOND = 25_000  # on one GPU; a rank's data path is to be three times as fast

LAUNCHES = "the host, which takes longer to launch the 1,300 kernels of a step than the GPU takes for titles"

OF_GPU = {
    "early exit, batches of 256": "launches of kernels by the host, since each layer's groups of rows are small",
    "step, titles": LAUNCHES,
    "step, 128 tokens": "casts of autocast (16% of the GPU's time) and the products of the losses in fp32 (11%)",
    "step, 512 tokens": "launches by the host, which the profiler makes slower still",
    "training, titles: sequences": LAUNCHES,
    "training, 128 tokens: sequences": "casts of autocast (16% of the GPU's time), the losses in fp32 (11%)",
    "training, 512 tokens: sequences": "0.5%: launches by the host",
}
"""What is recorded of a GPU, by the beginning of its name, and what takes the rest where it is missed."""

LEFT_OUT = ("the teacher in int8", "the teacher compiled", "the student compiled")

HEADINGS = ("measure", "figure", "aim", "met, or what takes the rest")


@dataclass(frozen=True)
class Aim:
    """A bound of a figure.

    Attributes:
        bound: What it is compared with.
        unit: Behind the number.
        is_least: Whether the figure is to be at least that; otherwise it is to be below it.
    """

    bound: float
    unit: str = ""
    is_least: bool = True

    def is_met(self, figure: float) -> bool:
        """Return whether a figure is as good as it should be."""
        return figure >= self.bound if self.is_least else figure <= self.bound

    def __str__(self) -> str:
        return f"{'>=' if self.is_least else '<='} {self.bound:g}{self.unit}"


@dataclass(frozen=True)
class Figure:
    """A row of the table.

    Attributes:
        measure: What was measured.
        value: The figure.
        aim: What it is to be; None where it is for information.
        rest: What takes the rest where the aim is missed.
    """

    measure: str
    value: float
    aim: Aim | None
    rest: str

    def cells(self) -> list[str]:
        """Return the cells of the row."""
        unit = self.aim.unit if self.aim else ""
        shown = f"{self.value:,.0f}" if self.value >= 1000 else f"{self.value:.2f}"
        verdict = "" if self.aim is None else "met" if self.aim.is_met(self.value) else self.rest
        return [self.measure, f"{shown}{unit}", str(self.aim or ""), verdict]


@dataclass(frozen=True)
class Script:
    """A script, what it is called with, and how its figures are read from what it writes.

    Attributes:
        name: Of the file in benchmarks/.
        inputs: What of the world it reads, by the option that names it.
        figures: Yields its rows of the table.
        more: Further arguments.
        has_rounds: Whether it times rounds, whose number it is given.
    """

    name: str
    inputs: Mapping[str, str]
    figures: Callable[[Mapping[str, Any]], Iterator[Figure]]
    more: tuple[str, ...] = ()
    has_rounds: bool = True

    def arguments(self, world: World, rounds: int) -> list[str]:
        """Return the arguments that it is called with."""
        pairs = [(f"--{option}", str(getattr(world, name))) for option, name in self.inputs.items()]
        pairs += [("--rounds", str(rounds))] if self.has_rounds else []
        return [*(word for pair in pairs for word in pair), *self.more]


def _of_steps(result: Mapping[str, Any]) -> Iterator[Figure]:
    lengths = {"titles": "titles", "text128": "128 tokens", "text512": "512 tokens"}
    for name, case in result["cases"].items():
        share = case["share_of_the_floor"]
        rest = f"the losses, their projections and queries and keys: {1 - share:.0%} of the step"
        yield Figure(f"distillation step, share of its floor: {lengths[name]}", share, Aim(0.9), rest)


def _of_exits(result: Mapping[str, Any]) -> Iterator[Figure]:
    for size, one in result["sizes"].items():
        what = f"early exit, time saved over operations saved: batch {size}"
        rest = "branches, whose small matrices are slow for their operations, decisions, and smaller groups of rows"
        yield Figure(what, one["share"], Aim(0.9), rest)


def _of_int8(result: Mapping[str, Any]) -> Iterator[Figure]:
    rest = "operators that int8 does not speed up, and starting them one by one"
    what = "4 x 312 student, onnxruntime int8 at batch 1"
    yield Figure(f"{what}: against its teacher in torch, fp32", result["faster"], Aim(12, "x"), rest)
    lost = "weights of 8 bits, by tensor and without data"
    yield Figure(f"{what}: points of accuracy lost", result["points_lost"], Aim(0.2, "", is_least=False), lost)


def _of_outputs(result: Mapping[str, Any]) -> Iterator[Figure]:
    rest = "reading and collating rows, their keys, and writing"
    yield Figure("teacher outputs, share of the teacher's forward pass", result["share"], Aim(0.9), rest)


def _of_augmentation(result: Mapping[str, Any]) -> Iterator[Figure]:
    faster, share = result["ratio"]["of_medians"], result["share_of_the_forward_pass"]
    rest = "the model, which computes as much for a word in either form"
    yield Figure("augmentation, against a forward pass a word", faster, Aim(15, "x"), rest)
    others = f"splitting, choosing and copying words: {1 - share:.0%}"
    yield Figure("augmentation, share of the masked-LM's forward pass", share, Aim(0.8), others)


def _of_ranks(result: Mapping[str, Any]) -> Iterator[Figure]:
    rest = "the exchange of gradients, and memory that two cores share"
    yield Figure("2 ranks x 1 thread against 1 x 1", result["faster"], Aim(1.85, "x"), rest)


def _of_students(result: Mapping[str, Any]) -> Iterator[Figure]:
    number, rest = result["students"], "rows and counts of each student, and caches that the students share"
    what = f"step of {number} students of one teacher, of its pass and {number} students' steps"
    yield Figure(what, result["over_the_bound"], Aim(1.1, "", is_least=False), rest)


def _of_dry_run(result: Mapping[str, Any]) -> Iterator[Figure]:
    rest = "imports, and checks of files"
    yield Figure("dry run on a login node, seconds", result["longest"], Aim(0.7, " s", is_least=False), rest)


def _of_preparation(result: Mapping[str, Any]) -> Iterator[Figure]:
    rest = "the start of the processes, and reading, cleaning and hashing whole texts, as dear as tokenizing what fits"
    forms = {"whole_texts": "on whole texts", "what_fits": "on what fits a row"}
    for name, form in forms.items():
        what = f"preparation of labelled rows, share of the tokenizer's speed {form}"
        yield Figure(what, result["share_of_tokenizer"][name], Aim(0.8), rest)


def _of_data_path(result: Mapping[str, Any]) -> Iterator[Figure]:
    aim, what = Aim(3 * TITLES_A_SECOND), f"{result['mean_length']:.0f} tokens: plan, collate"
    what = f"one rank's data path, sequences a second of {what}{', pin' if result['pinned'] else ''}"
    yield Figure(what, result["sequences_per_second"], aim, "one thread, which collates in Python")
    rest = "the disk, whose pages are read one after another"
    yield Figure(f"{what}; files not in the page cache", result["cold_sequences_per_second"], aim, rest)


def _of_cheaper_steps(result: Mapping[str, Any]) -> Iterator[Figure]:
    for name, case in result["cases"].items():
        length = {"titles": "titles", "text128": "128 tokens"}[name]
        lost, errors = case["difference_of_the_loss"], case["errors_of_the_teacher"]
        aims = {"attention in bf16": Aim(1.3, "x"), "all in fp32": None, "only the teacher in bf16": None}
        for form, aim in aims.items():
            what = f"distillation step as precision=auto takes it, {length}: faster than with {form}; "
            what += f"losses within {lost['as it is taken']:.1%} of fp32's"
            yield Figure(what, 1 / case["faster"][form], aim, "products of matrices, in bf16 already")
        for form in (name for name in case["faster"] if name in LEFT_OUT):
            states, attention = (f"{errors[form][of]:.1%}" for of in ("hidden_states", "attention"))
            what = f"left out, {length}: {form}, against the step as it is taken; the teacher's hidden states are off "
            what += f"by {states} (1% allowed), its attention by {attention}"
            yield Figure(what, case["faster"][form], None, "")
        what = f"share of padding in batches sorted by length, {length}: no arithmetic for it would save that"
        yield Figure(what, case["padding_share"], None, "")


def _of_host_waits(result: Mapping[str, Any]) -> Iterator[Figure]:
    waits = result["waits"].values()
    what, methods = "times that the host waits for the device", f"the most of {len(waits)} methods"
    for place, where, most in (("micro_batch", "a micro-batch", 0), ("step", "an optimizer step", 1)):
        rest = "values that are read while the device computes"
        aim = Aim(most, is_least=False)
        yield Figure(f"{what} in {where}, {methods}", max(one[place] for one in waits), aim, rest)


def _of_outputs_memory(result: Mapping[str, Any]) -> Iterator[Figure]:
    rows, (small, large) = result["rows"], result["own_memory_mb"]
    what = f"teacher outputs, memory of a shard: {4 * rows:,} rows ({large:,.0f} MB) over {rows:,} ({small:,.0f} MB)"
    yield Figure(what, result["growth"], Aim(1.2, "x", is_least=False), "what is kept for each row")


def recorded() -> Iterator[Figure]:
    """Yield what was measured elsewhere and is kept in results/: on a GPU, and the memory of large preparations."""
    first, last = (read_json(RECORDED / "gpu" / f"{name}.json") for name in ("first", "last"))
    before = {row["measure"]: row["figure"] for row in first["rows"]}
    for row in last["rows"]:
        if row["aim"] is not None and row["measure"].startswith(tuple(OF_GPU)):
            start = before.get(row["measure"])
            what = f"{last['machine']['device']}, {row['measure']}" + (f" (at first {start:,.4g})" if start else "")
            rest = next(rest for begin, rest in OF_GPU.items() if row["measure"].startswith(begin))
            yield Figure(what, row["figure"], Aim(row["aim"], is_least=row["more_is_better"]), rest)
    for path in sorted(RECORDED.glob("preparation_*.json")):
        one = read_json(path)
        what = f"preparation of {one['documents']:,} documents ({one['gb']:.1f} GB, {one['form']}), peak memory"
        what += f": [{path.name}](../results/{path.name})"
        yield Figure(what, one["peak_gb"], Aim(2, " GB", is_least=False), "the workers, which hold a block each")


SCRIPTS = (
    Script("distillation_step.py", {"teacher": "encoder", "titles": "titles", "text": "news"}, _of_steps),
    Script("exit_speed.py", {"model": "teacher", "tokens": "tokens"}, _of_exits),
    Script("int8.py", {"student": "student", "teacher": "teacher", "tokens": "tokens"}, _of_int8),
    Script("outputs_speed.py", {"teacher": "teacher", "tokens": "tokens"}, _of_outputs),
    Script("augmentation.py", {"titles": "titles"}, _of_augmentation, ("--random-model", "--rows", "8")),
    Script("ranks.py", {"student": "student", "tokens": "tokens"}, _of_ranks),
    Script("students.py", {"teacher": "encoder", "titles": "titles"}, _of_students),
    Script("dry_run.py", {}, _of_dry_run),
    Script("cheaper_steps.py", {"teacher": "encoder", "titles": "titles", "text": "news"}, _of_cheaper_steps),
    Script("host_waits.py", {"teacher": "teacher", "tokens": "tokens"}, _of_host_waits, has_rounds=False),
    Script("outputs_memory.py", {}, _of_outputs_memory, has_rounds=False),
    Script("data_path.py", {}, _of_data_path),
    Script("preparation.py", {}, _of_preparation, ("--documents", "20000", "--form", "csv")),
)


def run_scripts(
    scripts: Sequence[Script], world: World, work: Path, rounds: int
) -> tuple[list[Figure], dict[str, Any]]:
    """Run scripts, and return the rows of the table and the machine that they name.

    Raises:
        RunError: A script failed, and has printed why.
    """
    figures: list[Figure] = []
    for script in scripts:
        output = work / f"{Path(script.name).stem}.json"
        _run(script.name, *script.arguments(world, rounds), "--output", str(output))
        result = read_json(output)
        figures += list(script.figures(result))
    return figures, result["machine"]


def _run(name: str, *arguments: str) -> None:
    started = time.monotonic()
    print(f"=== {name}", flush=True)
    if subprocess.run([sys.executable, BENCHMARKS / name, *arguments], cwd=REPOSITORY).returncode:
        raise RunError(f"benchmarks/{name} failed, see above; the table is as it was")
    print(f"=== {name}: {time.monotonic() - started:.0f} s", flush=True)


def page(figures: Sequence[Figure], machine: Mapping[str, Any], minutes: float, rounds: int) -> str:
    """Return the table as a page of Markdown."""
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    met = [figure.aim.is_met(figure.value) for figure in figures if figure.aim]
    lines = [
        "# What has an aim, measured",
        "",
        f"`make bench` wrote this page on {date.today()}, in {minutes:.0f} minutes; its figures are not typed. Medians "
        f"of {rounds} rounds, both sides in turn; {machine['cores']} cores ({machine['processor']}), {versions}. "
        f"{sum(met)} of {len(met)} aims are met.",
        "",
        *markdown("|".join(HEADINGS), [figure.cells() for figure in figures]),
        "",
        "What wants a GPU was measured by `benchmarks/gpu.py` ([first.json](../results/gpu/first.json), "
        "[last.json](../results/gpu/last.json)): [on a GPU](../docs/results.md#on-a-gpu).",
        "",
    ]
    return "\n".join(lines)


def show(figures: Sequence[Figure]) -> None:
    table = Table(*HEADINGS)
    for figure in figures:
        table.add_row(*figure.cells())
    Console(width=None if sys.stdout.isatty() else 160).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures everything that has an aim, and writes one table.")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="what is kept from run to run")
    parser.add_argument("--rounds", type=positive, default=5, metavar="N", help="timed rounds (default: 5)")
    parser.add_argument("--page", type=Path, default=RESULTS, metavar="FILE.md", help="default: benchmarks/RESULTS.md")
    options = parser.parse_args()
    started, work = time.monotonic(), options.work.absolute()
    _run("world.py", str(work))
    figures, machine = run_scripts(SCRIPTS, World(work / "bench" / "world"), work, options.rounds)
    figures += recorded()
    show(figures)
    write_text(options.page, page(figures, machine, (time.monotonic() - started) / 60, options.rounds))
    print(f"wrote {options.page}")


if __name__ == "__main__":
    exit_with_message(main)
