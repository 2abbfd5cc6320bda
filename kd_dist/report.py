"""A run as one self-contained page: no scripts, nothing loaded from elsewhere.

python kd_dist/report.py RUN_DIR [--output FILE]

What a run does not have (yet) is shown as missing; a report never fails because a run is not finished.
"""

import sys
from pathlib import Path

if not __package__:  # started as a script: its own folder must not shadow installed modules
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse
import html
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from kd_dist.errors import RunError, UserError, exit_with_message
from kd_dist.runs import write_text
from kd_dist.stages import WIRE
from kd_dist.tracking import read_metrics

Row = dict[str, Any]
MISSING = "—"


def run(stage_dir: Path) -> None:
    """The report stage: write `stage_dir`/index.html about the run that the stage belongs to."""
    write_report(stage_dir.parent, stage_dir / "index.html")


def write_report(run_dir: Path, output: Path) -> None:
    """Write the page about `run_dir` to the file `output`; it is there as a whole or not at all.

    Raises:
        UserError: `run_dir` is not a run folder, or one of its JSON files is damaged.
    """
    page = _page(_read_run(run_dir))
    output.parent.mkdir(parents=True, exist_ok=True)
    write_text(output, page)


# ---------------------------------------------------------------------------------------------------- reading the run


@dataclass
class _StageOfRun:
    name: str
    directory: Path
    kind: str
    wired_to: list[str]
    config: dict[str, Any]
    metrics: list[Row]
    damage: str | None
    seconds: float | None

    def state(self) -> str:
        if self.seconds is not None:
            return "complete"
        if self.kind == "report":
            return "this page"
        started = self.metrics or any((self.directory / name).exists() for name in ("tokens", "checkpoints", "export"))
        return "not finished" if started else "waiting"

    def series(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps and values of a metric where it is a finite number."""
        points = [(row["global_step"], row[key]) for row in self.metrics if _is_finite(row.get(key))]
        steps, values = zip(*points, strict=True) if points else ((), ())
        return np.array(steps, dtype=float), np.array(values, dtype=float)

    def terms(self) -> list[str]:
        """Names of the loss terms: `attention` of `train/attention`."""
        keys = dict.fromkeys(key for row in self.metrics for key in row)
        found = [key.split("/")[1] for key in keys if re.fullmatch(r"(train|evaluation)/[^/]+", key)]
        return [name for name in dict.fromkeys(found) if name != "loss"]


@dataclass
class _Run:
    directory: Path
    job: dict[str, Any]
    stages: list[_StageOfRun]
    results: list[Row]
    environment: dict[str, Any]

    def training(self) -> list[_StageOfRun]:
        return [stage for stage in self.stages if stage.kind == "train" or stage.metrics]

    def result_stage(self) -> _StageOfRun | None:
        """The training stage that the tiles speak of: the one that gives the result, else the last."""
        candidates = self.training()
        named = [stage for stage in candidates if stage.name == self.job.get("result")]
        return (named or candidates)[-1] if candidates else None

    def state(self) -> str:
        work = [stage for stage in self.stages if stage.kind != "report"]
        done = sum(stage.seconds is not None for stage in work)
        return "complete" if done == len(work) else f"{done} of {len(work)} stages complete"


def _read_run(run_dir: Path) -> _Run:
    run_dir = run_dir.absolute()
    job = _read_json(run_dir / "job.json")
    if job is None:
        raise UserError(f"{run_dir} is not a run folder: it has no job.json")
    return _Run(
        directory=run_dir,
        job=job,
        stages=[_read_stage(run_dir / name, settings) for name, settings in job["stages"].items()],
        results=_read_json(run_dir / "results.json") or [],
        environment=_read_json(run_dir / "environment.json") or {},
    )


def _read_stage(directory: Path, settings: dict[str, Any]) -> _StageOfRun:
    complete = _read_json(directory / "COMPLETE")
    metrics, damage = _read_metrics(directory / "metrics.jsonl")
    return _StageOfRun(
        name=directory.name,
        directory=directory,
        kind=settings.get("kind", ""),
        wired_to=list(dict.fromkeys(_wired(settings))),
        config=_read_json(directory / "config.json") or settings,
        metrics=metrics,
        damage=damage,
        seconds=None if complete is None else complete["seconds"],
    )


def _read_metrics(path: Path) -> tuple[list[Row], str | None]:
    if not path.exists():
        return [], None
    try:
        return read_metrics(path), None
    except RunError as error:
        return [], str(error)


def _read_json(path: Path) -> Any:
    """None where there is no such file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from error


def _wired(value: Any) -> Iterator[str]:
    """Names of the stages that the settings refer to."""
    if isinstance(value, str) and value.startswith(WIRE):
        yield value.removeprefix(WIRE).split("/")[0]
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _wired(item)


def _parameters_in(directory: Path) -> int | None:
    """Number of weights in the safetensors files of a model folder, by their headers; None without such files."""
    total = None
    for path in sorted(directory.glob("model*.safetensors")):
        try:
            with safe_open(path, framework="numpy") as file:
                shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118 - not a mapping
        except (SafetensorError, OSError):
            return None
        total = (total or 0) + sum(math.prod(shape) for shape in shapes)
    return total


def _teacher_directory(stage: _StageOfRun) -> Path | None:
    """Where the stage's teacher lies, be it a folder or a model of the hub that has been fetched."""
    name = (stage.config.get("teacher") or {}).get("path")
    if not name:
        return None
    if Path(name).is_dir():
        return Path(name)
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(name, "model.safetensors")
    except HFValidationError:  # a path that is not there any more
        return None
    return Path(found).parent if isinstance(found, str) else None


# -------------------------------------------------------------------------------------------------------------- markup


class _Html(str):
    """Text that is markup already; everything else is escaped on its way into an element."""

    __slots__ = ()


VOID = {"meta", "br"}


def _el(tag: str, *children: Any, **attributes: Any) -> _Html:
    """An element; trailing underscores of attribute names fall away and inner ones become hyphens."""
    named = "".join(f' {key.rstrip("_").replace("_", "-")}="{_escaped(value)}"' for key, value in attributes.items())
    if tag in VOID:
        return _Html(f"<{tag}{named}>")
    return _Html(f"<{tag}{named}>{_join(children)}</{tag}>")


def _escaped(value: Any) -> str:
    return value if isinstance(value, _Html) else html.escape(str(value))


def _join(children: Iterable[Any]) -> _Html:
    return _Html("".join(_escaped(child) for child in children))


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> _Html:
    """Columns that hold a number anywhere stand on the right."""
    sides = ["number" if any(map(_is_number, column)) else "text" for column in zip(*rows, strict=True)]
    cells = [_el("th", name, scope="col", class_=side) for name, side in zip(head, sides, strict=True)]
    body = [
        _el("tr", *(_el("td", _cell(value), class_=side) for value, side in zip(row, sides, strict=True)))
        for row in rows
    ]
    return _el("div", _el("table", _el("thead", _el("tr", *cells)), _el("tbody", *body)), class_="scroll", tabindex=0)


def _section(title: str, *children: Any, note: str = "") -> _Html:
    heading = _el("h2", title, _el("small", note) if note else "")
    return _el("section", heading, *children)


def _missing(text: str) -> _Html:
    return _el("p", text, class_="missing")


# ------------------------------------------------------------------------------------------------------------- numbers


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_finite(value: Any) -> bool:
    return _is_number(value) and math.isfinite(value)


def _cell(value: Any) -> Any:
    """A value of a table, for reading."""
    if isinstance(value, _Html):
        return value
    if value is None:
        return MISSING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return _number(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _number(value: float) -> str:
    """Four significant digits."""
    if not math.isfinite(value):
        return str(value)
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:#.4g}" if value == 0 or abs(value) >= 1e-3 else f"{value:.3e}"


def _count(value: float) -> str:
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.3g}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours} h {minute:02} min" if hours else f"{minute} min {second:02} s"


def _share(value: float) -> str:
    return f"{value:.1%}"


# ------------------------------------------------------------------------------------------------------------- figures

# matplotlib draws with these stand-ins, which become the page's colours, light or dark.
SERIES = [f"#0a0b{number:02x}" for number in range(1, 9)]
INK, GRID, PAPER = "#0a0c01", "#0a0c02", "#0a0c03"
PAGE_COLOURS = {colour: f"var(--series-{i})" for i, colour in enumerate(SERIES, start=1)} | {
    INK: "var(--muted)",
    GRID: "var(--line)",
    PAPER: "var(--card)",
}
LOG_DECADES = 1.5
SMOOTH_FROM_POINTS = 100
MAX_SMOOTH_POINTS = 400  # more than the plot has room for


@dataclass
class _Line:
    label: str  # empty: not in the legend
    steps: np.ndarray
    values: np.ndarray
    colour: int = 0
    points: bool = False


def _figure(title: str, lines: Sequence[_Line], unit: str = "", kind: str = "number") -> _Html:
    """A plot with its heading and legend, or its heading and the word that there is nothing to plot."""
    lines = [line for line in lines if len(line.values)]
    if not lines:
        return _el("figure", _el("figcaption", _el("b", title)), _missing("not recorded"))
    entries = [_legend_entry(line) for line in lines if line.label] if len(lines) > 1 else []
    caption = _el(
        "figcaption", _el("b", title), _el("span", unit, class_="unit"), _el("div", *entries, class_="legend")
    )
    return _el("figure", caption, _svg(title, lines, kind))


def _legend_entry(line: _Line) -> _Html:
    colour = f"background:var(--series-{line.colour + 1})"
    return _el("span", _el("i", class_="dot" if line.points else "dash", style=colour), line.label)


def _svg(title: str, lines: Sequence[_Line], kind: str) -> _Html:
    import matplotlib
    from matplotlib.figure import Figure

    style = {"svg.fonttype": "none", "svg.hashsalt": title, "text.parse_math": False, "font.size": 9.5}
    style |= {"path.simplify_threshold": 0.6}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(340 / 72, 190 / 72), facecolor="none")
        axes = figure.add_axes((0.125, 0.125, 0.855, 0.835), facecolor="none")
        for line in lines:
            _draw(axes, line)
        _dress(axes, np.concatenate([line.values for line in lines]), kind)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return _for_the_page(buffer.getvalue(), title)


def _draw(axes: Any, line: _Line) -> None:
    colour = SERIES[line.colour % len(SERIES)]
    if line.points or len(line.values) == 1:
        axes.plot(line.steps, line.values, color=colour, linewidth=0.8, alpha=0.5)
        axes.plot(line.steps, line.values, "o", color=colour, markersize=4.5, markeredgecolor=PAPER)
    elif len(line.values) < SMOOTH_FROM_POINTS:
        axes.plot(line.steps, line.values, color=colour, linewidth=1.6)
    else:
        axes.plot(line.steps, line.values, color=colour, linewidth=0.6, alpha=0.35)
        every = -(-len(line.values) // MAX_SMOOTH_POINTS)
        axes.plot(line.steps[::every], _smooth(line.values)[::every], color=colour, linewidth=1.6)


def _smooth(values: np.ndarray) -> np.ndarray:
    """Centred moving average over a fortieth of the points; the window shrinks at the ends, so that they stay put."""
    index = np.arange(len(values))
    half = np.minimum(np.minimum(index, index[::-1]), max(1, len(values) // 80))
    total = np.concatenate([[0.0], np.cumsum(values)])
    return (total[index + half + 1] - total[index - half]) / (2 * half + 1)


def _dress(axes: Any, values: np.ndarray, kind: str) -> None:
    from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullLocator, PercentFormatter

    formats = {
        "number": FuncFormatter(_tick),
        "count": EngFormatter(sep=""),
        "from_zero": FuncFormatter(_tick),
        "share": PercentFormatter(1, decimals=None),
    }
    low, high = values.min(), values.max()
    if kind == "number" and low > 0 and high / low > 10**LOG_DECADES:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high / low < 1e3 else (1,), numticks=8))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        if kind != "number":
            axes.set_ylim(0, high * 1.1 or 1)
    axes.yaxis.set_major_formatter(formats[kind])
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10], integer=True))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.tick_params(colors=INK, length=0, pad=4)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(GRID)


def _tick(value: float, _position: int | None = None) -> str:
    return re.sub(r"e([-+])0?", lambda sign: "e-" if sign[1] == "-" else "e", f"{value:.6g}")


def _for_the_page(svg: str, title: str) -> _Html:
    """Without prolog, style sheet and the ids that every figure repeats, and in the page's colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d)\d+", r"\1", path[0]), svg)  # a tenth of a point is enough
    svg = re.sub("|".join(PAGE_COLOURS), lambda match: PAGE_COLOURS[match[0]], svg)
    return _Html(svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(title)} over steps" ', 1))


# ------------------------------------------------------------------------------------------------------------- diagram

BOX_WIDTH, BOX_HEIGHT, GAP_X, GAP_Y = 190, 62, 40, 20


def _diagram(run: _Run) -> _Html:
    """The stages from left to right, each behind those that feed it."""
    place = _places(run.stages)
    width = (max(x for x, _ in place.values()) + 1) * (BOX_WIDTH + GAP_X) - GAP_X + 4
    height = (max(y for _, y in place.values()) + 1) * (BOX_HEIGHT + GAP_Y) - GAP_Y + 4
    edges = [_edge(place[o], place[s.name]) for s in run.stages for o in s.wired_to if o in place]
    boxes = [_box(stage, place[stage.name]) for stage in run.stages]
    svg = _el(
        "svg", *edges, *boxes, width=width, height=height, viewBox=f"-2 -2 {width} {height}", role="img",
        aria_label="stages of the job", class_="diagram",
    )  # fmt: skip
    return _el("div", svg, class_="scroll", tabindex=0)


def _places(stages: Sequence[_StageOfRun]) -> dict[str, tuple[int, int]]:
    """Column and row of each stage; the job lists a stage after those that feed it."""
    place: dict[str, tuple[int, int]] = {}
    for stage in stages:
        column = max((place[other][0] + 1 for other in stage.wired_to if other in place), default=0)
        place[stage.name] = (column, sum(x == column for x, _ in place.values()))
    return place


def _corner(place: tuple[int, int]) -> tuple[int, int]:
    return place[0] * (BOX_WIDTH + GAP_X), place[1] * (BOX_HEIGHT + GAP_Y)


def _edge(start: tuple[int, int], end: tuple[int, int]) -> _Html:
    x1, y1 = _corner(start)[0] + BOX_WIDTH, _corner(start)[1] + BOX_HEIGHT // 2
    x2, y2 = _corner(end)[0] - 2, _corner(end)[1] + BOX_HEIGHT // 2
    bend = (x2 - x1) // 2
    curve = f"M{x1},{y1} C{x1 + bend},{y1} {x2 - bend},{y2} {x2},{y2}"
    return _join([_el("path", d=curve, class_="edge"), _el("path", d=f"M{x2 - 6},{y2 - 4} l6,4 l-6,4", class_="edge")])


def _box(stage: _StageOfRun, place: tuple[int, int]) -> _Html:
    x, y = _corner(place)
    state = stage.state()
    below = state if stage.seconds is None else f"{state} · {_duration(stage.seconds)}"
    name = stage.name if len(stage.name) <= 18 else f"{stage.name[:17]}…"
    return _el(
        "g",
        _el("title", f"{stage.name}: {below}"),
        _el("rect", x=x, y=y, width=BOX_WIDTH, height=BOX_HEIGHT, rx=10, class_="box"),
        _el("circle", cx=x + 20, cy=y + 23, r=5, class_=f"state {_class_of(state)}"),
        _el("text", name, x=x + 34, y=y + 28, class_="name"),
        _el("text", below, x=x + 34, y=y + 47, class_="below"),
    )


def _class_of(state: str) -> str:
    return {"complete": "good", "waiting": "idle", "this page": "idle"}.get(state, "open")


# ------------------------------------------------------------------------------------------------------------ sections


def _page(run: _Run) -> str:
    name, run_id = run.job.get("name", run.directory.parent.name), run.directory.name
    head = _el(
        "head",
        _el("meta", charset="utf-8"),
        _el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        _el("meta", name="color-scheme", content="light dark"),
        _el("title", f"{name} · {run_id}"),
        _el("style", _Html(STYLE)),
    )
    body = _el(
        "main",
        _header(run, name, run_id),
        _tiles(run),
        _section("Stages", _diagram(run)) if run.stages else "",
        *(_training(stage) for stage in run.training()),
        _results(run),
        _sizes(run),
        *(_statistics(stage) for stage in run.stages if stage.kind == "prepare"),
        _section("Configuration", *(_configuration(stage) for stage in run.stages), note="as resolved for this run"),
        _environment(run),
    )
    return "<!doctype html>\n" + _el("html", head, _el("body", body), lang="en") + "\n"


def _header(run: _Run, name: str, run_id: str) -> _Html:
    state = run.state()
    return _el(
        "header",
        _el("p", "kd_dist run", class_="kicker"),
        _el("h1", name, _el("span", state, class_=f"badge {_class_of(state)}")),
        _el("p", run.job.get("description", "")),
        _el("p", _el("code", run_id), f" · written {datetime.now():%Y-%m-%d %H:%M}", class_="muted"),
    )


def _tiles(run: _Run) -> _Html:
    stage = run.result_stage()
    tiles = [] if stage is None else [*_size_tiles(run, stage), *_loss_tiles(stage), *_speed_tiles(stage)]
    seconds = [stage.seconds for stage in run.stages if stage.seconds is not None]
    tiles.append(_tile("Total time", _duration(sum(seconds)) if seconds else MISSING, "of the complete stages"))
    return _el("div", *tiles, class_="tiles")


def _tile(title: str, value: str, note: str) -> _Html:
    return _el("div", _el("span", title), _el("strong", value), _el("small", note), class_="tile")


def _size_tiles(run: _Run, stage: _StageOfRun) -> list[_Html]:
    teacher_directory = _teacher_directory(stage)
    teacher = None if teacher_directory is None else _parameters_in(teacher_directory)
    student = _parameters_in(stage.directory / "export")
    if student is None:
        student = next((row["parameters"] for row in run.results if _fits(row, stage)), None)
    tiles = [_tile("Model", _count(student) if student else MISSING, "parameters of the export")]
    if stage.config.get("teacher"):
        tiles = [_tile("Student", _count(student) if student else MISSING, "parameters")]
        tiles.append(_tile("Teacher", _count(teacher) if teacher else MISSING, "parameters"))
        ratio = f"{teacher / student:.1f}×" if teacher and student else MISSING
        tiles.append(_tile("Compression", ratio, "teacher ÷ student"))
    return tiles


def _fits(row: Row, stage: _StageOfRun) -> bool:
    return row.get("stage") == stage.name and _is_finite(row.get("parameters"))


def _loss_tiles(stage: _StageOfRun) -> list[_Html]:
    tiles = []
    for title, key in (("Training loss", "train/loss"), ("Held-out loss", "evaluation/loss")):
        _, values = stage.series(key)
        shown = f"{_number(values[0])} → {_number(values[-1])}" if len(values) else MISSING
        tiles.append(_tile(title, shown, "first → last"))
    return tiles


def _speed_tiles(stage: _StageOfRun) -> list[_Html]:
    tiles = []
    for title, key, shown, note in (
        ("Speed", "speed/samples_per_second", _count, "samples/s, median"),
        ("Padding", "speed/padding_share", _share, "of the tokens, median"),
        ("Teacher's share", "speed/teacher_share", _share, "of the time, median"),
    ):
        _, values = stage.series(key)
        if key != "speed/teacher_share" or stage.config.get("teacher"):
            tiles.append(_tile(title, shown(median(values.tolist())) if len(values) else MISSING, note))
    return tiles


def _training(stage: _StageOfRun) -> _Html:
    if not stage.metrics:
        text = stage.damage or "This stage has not logged anything yet."
        return _section(stage.name, _missing(text), note="training")
    rows = [row for row in stage.metrics if "train/loss" in row]
    refused = sum(not _is_finite(row["train/loss"]) for row in rows)
    warning = _missing(f"{refused:,} of {len(rows):,} logged losses are not finite.") if refused else ""
    note = f"training · {stage.metrics[-1]['global_step']:,} steps"
    return _section(stage.name, warning, _el("div", *_figures(stage), class_="figures"), note=note)


def _figures(stage: _StageOfRun) -> list[_Html]:
    loss = [
        _Line("training", *stage.series("train/loss")),
        _Line("held out", *stage.series("evaluation/loss"), colour=1, points=True),
    ]
    figures = [_figure("Loss", loss, "weighted sum")]
    if len(stage.terms()) > 1:
        figures.append(_figure("Loss terms", _term_lines(stage), "unweighted; points: held out"))
    shares = [
        _Line("padding", *stage.series("speed/padding_share")),
        _Line("teacher", *stage.series("speed/teacher_share"), colour=1),
        _Line("GPU in use", *stage.series("speed/gpu_utilization"), colour=2),
    ]
    return [
        *figures,
        _figure("Learning rate", [_Line("learning rate", *stage.series("optim/learning_rate"))], kind="from_zero"),
        _figure("Gradient norm", [_Line("gradient norm", *stage.series("optim/gradient_norm"))]),
        _figure("Speed", [_Line("speed", *stage.series("speed/samples_per_second"))], "samples/s", "count"),
        _figure("Shares", shares, "of tokens (padding) or time", "share"),
    ]


def _term_lines(stage: _StageOfRun) -> list[_Line]:
    lines = []
    for number, name in enumerate(stage.terms()):
        colour = number % len(SERIES)
        lines.append(_Line(name, *stage.series(f"train/{name}"), colour=colour))
        lines.append(_Line("", *stage.series(f"evaluation/{name}"), colour=colour, points=True))
    return lines


def _results(run: _Run) -> _Html:
    if not run.results:
        return _section("Results", _missing("No results yet."))
    columns = list(dict.fromkeys(key for row in run.results for key in row))
    rows = [[row.get(column) for column in columns] for row in run.results]
    return _section("Results", _table([column.replace("_", " ") for column in columns], rows))


def _sizes(run: _Run) -> _Html:
    places: dict[str, Path] = {}
    for stage in run.stages:
        if directory := _teacher_directory(stage):
            places[f"teacher: {(stage.config['teacher'])['path']}"] = directory
        if (stage.directory / "export").is_dir():
            places[f"{stage.name}/export"] = stage.directory / "export"
    if not places:
        return _section("Sizes", _missing("No model has been exported yet."))
    rows = [[name, *_size_row(directory)] for name, directory in places.items()]
    return _section("Sizes", _table(["model", "parameters", "weights, MB", "whole folder, MB"], rows))


def _size_row(directory: Path) -> list[Any]:
    files = [path for path in directory.rglob("*") if path.is_file()]
    weights = sum(path.stat().st_size for path in files if path.suffix == ".safetensors")
    return [_parameters_in(directory), weights / 1e6, sum(path.stat().st_size for path in files) / 1e6]


def _statistics(stage: _StageOfRun) -> _Html:
    title = f"Data · {stage.name}"
    statistics = _read_json(stage.directory / "tokens" / "statistics.json")
    if statistics is None:
        return _section(title, _missing("No data has been prepared yet."))
    files = statistics.get("files") or []
    facts = {key: value for key, value in statistics.items() if not isinstance(value, dict | list)}
    nested = {key: value for key, value in statistics.items() if isinstance(value, dict)}
    shown = [_facts({key.replace("_", " "): value for key, value in facts.items()})]
    for key, value in nested.items():
        shown.append(_el("h3", key.replace("_", " ")))
        shown.append(_table(list(map(str, value)), [list(value.values())]))
    shown.append(_folded(f"{len(files):,} files", _el("ul", *(_el("li", file) for file in files))))
    return _section(title, *shown)


def _facts(facts: dict[str, Any]) -> _Html:
    return _el(
        "dl", *(_el("div", _el("dt", key), _el("dd", _cell(value))) for key, value in facts.items()), class_="facts"
    )


def _folded(summary: str, *content: Any) -> _Html:
    return _el("details", _el("summary", summary), *content)


def _configuration(stage: _StageOfRun) -> _Html:
    rows = []
    for section, value in stage.config.items():
        if isinstance(value, dict):
            rows += [[_el("code", f"{section}.{key}"), _el("code", _setting(item))] for key, item in value.items()]
        else:
            rows.append([_el("code", section), _el("code", _setting(value))])
    return _folded(stage.name, _table(["setting", "value"], rows))


def _setting(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _environment(run: _Run) -> _Html:
    if not run.environment:
        return _section("Environment", _missing("Not recorded."))
    git = run.environment.get("git") or {}
    commit = f"{git['commit'][:12]}{', modified' if git.get('modified') else ''}" if git.get("commit") else None
    top = {key: value for key, value in run.environment.items() if not isinstance(value, dict)}
    return _section("Environment", _facts({**top, "code": commit, **(run.environment.get("packages") or {})}))


STYLE = """
:root{--paper:#f6f7f9;--card:#fff;--ink:#16191d;--muted:#606a76;--line:#e2e5ea;--good:#0a7f4f;--open:#b45309;
--good-soft:#dff5ea;--open-soft:#fdefd8;--series-1:#2563eb;--series-2:#d9730d;--series-3:#0d9668;--series-4:#9333ea;
--series-5:#dc2650;--series-6:#0891b2;--series-7:#7c6f0a;--series-8:#64748b}
@media screen and (prefers-color-scheme:dark){:root{--paper:#101216;--card:#191c22;--ink:#e8eaee;--muted:#98a2b0;
--line:#2c313a;--good:#4ade9b;--open:#fbb454;--good-soft:#12352a;--open-soft:#3a2a12;--series-1:#6ba2ff;
--series-2:#ff9f4a;--series-3:#3ecf98;--series-4:#c084fc;--series-5:#fb6f8d;--series-6:#38c6e4;--series-7:#d3c34a;
--series-8:#9aa8bd}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,
"Helvetica Neue","PingFang SC","Hiragino Sans GB","Microsoft YaHei","Noto Sans CJK SC","Source Han Sans SC",
"WenQuanYi Micro Hei",sans-serif;font-variant-numeric:tabular-nums;-webkit-text-size-adjust:100%}
main{max-width:1180px;margin:0 auto;padding:40px 20px 72px}
header{margin-bottom:28px}
header p{margin:4px 0}
.kicker{font-size:12px;letter-spacing:.08em;text-transform:uppercase;color:var(--muted)}
h1{margin:2px 0 6px;font-size:32px;line-height:1.2;letter-spacing:-.02em;display:flex;flex-wrap:wrap;gap:6px 14px;
align-items:center;overflow-wrap:anywhere}
.badge{font-size:13px;font-weight:600;letter-spacing:0;padding:3px 11px;border-radius:99px}
.badge.good{color:var(--good);background:var(--good-soft)}
.badge.open{color:var(--open);background:var(--open-soft)}
.muted,h2 small,.unit,small{color:var(--muted)}
section{margin-top:44px}
h2{font-size:20px;letter-spacing:-.01em;margin:0 0 14px;overflow-wrap:anywhere}
h2 small{font-size:13px;font-weight:400;letter-spacing:0;margin-left:10px}
h3{font-size:14px;margin:18px 0 8px;font-weight:600}
h3::first-letter,dt::first-letter{text-transform:uppercase}
code{font:.92em ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
.tiles{display:flex;flex-wrap:wrap;gap:12px}
.tile,figure,details,.scroll,.facts,.missing{background:var(--card);border:1px solid var(--line);border-radius:12px}
.tile{flex:1 1 200px;padding:14px 16px;display:flex;flex-direction:column;gap:1px;min-width:0}
.tile span{font-size:13px;color:var(--muted)}
.tile strong{font-size:21px;font-weight:650;letter-spacing:-.02em;line-height:1.35}
.tile small{font-size:12px}
.figures{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,330px),1fr));gap:14px}
figure{margin:0;padding:14px 14px 8px;min-width:0;break-inside:avoid;display:flex;flex-direction:column}
figcaption{margin-bottom:8px;line-height:1.4}
.unit{font-size:12px;margin-left:8px}
.legend{display:flex;flex-wrap:wrap;gap:0 14px;font-size:12px;color:var(--muted)}
.legend i{display:inline-block;margin-right:6px;vertical-align:middle}
.dash{width:14px;height:3px;border-radius:2px}
.dot{width:8px;height:8px;border-radius:50%}
figure svg{display:block;width:100%;height:auto;margin-top:auto;stroke-linejoin:round}
figure svg text{font-family:inherit!important}
.scroll{overflow-x:auto}
.diagram{display:block;margin:18px}
.box{fill:var(--paper);stroke:var(--line)}
.edge{fill:none;stroke:var(--muted);stroke-width:1.4}
.state.good{fill:var(--good)}
.state.open{fill:var(--open)}
.state.idle{fill:none;stroke:var(--muted);stroke-width:1.6}
.name{font-size:14px;font-weight:600;fill:var(--ink)}
.below{font-size:12px;fill:var(--muted)}
table{border-collapse:collapse;width:100%;font-size:14px}
th,td{padding:8px 14px;text-align:left;white-space:nowrap;border-bottom:1px solid var(--line)}
tbody tr:last-child td{border-bottom:0}
th{font-size:12px;font-weight:600;color:var(--muted)}
td.number,th.number{text-align:right}
.missing{padding:14px 16px;margin:0 0 14px;color:var(--muted);border-style:dashed;overflow-wrap:anywhere}
figure .missing{border:0;padding:24px 0;margin:auto}
details{margin-top:10px;overflow:hidden}
summary{cursor:pointer;padding:10px 16px;font-weight:600;overflow-wrap:anywhere}
details .scroll{border:0;border-top:1px solid var(--line);border-radius:0}
details td{white-space:normal;overflow-wrap:anywhere;padding:5px 16px}
details th:first-child{width:36%}
details ul{margin:0;padding:0 16px 12px 34px;overflow-wrap:anywhere}
.facts{margin:0;padding:6px 16px;display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,240px),1fr));
column-gap:32px}
.facts div{display:flex;justify-content:space-between;gap:14px;padding:6px 0;min-width:0}
.facts dt{color:var(--muted)}
.facts dd{margin:0;text-align:right;overflow-wrap:anywhere}
@media(max-width:560px){main{padding:24px 14px 48px}h1{font-size:26px}section{margin-top:34px}
.tiles{gap:8px}.tile{flex-basis:150px;padding:11px 13px}.tile strong{font-size:18px}}
@media print{:root{--paper:#fff}body{font-size:12px}main{max-width:none;padding:0}
.tile,figure,tr,.facts div{break-inside:avoid}h2{break-after:avoid}.scroll{overflow:visible}
details::details-content{content-visibility:visible;height:auto}}
"""


def main() -> int:
    parser = argparse.ArgumentParser(prog="report.py", description="Write a run as one self-contained page.")
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="runs/<job>/<run_id>")
    parser.add_argument("--output", type=Path, metavar="FILE", help="the page (default: RUN_DIR/report.html)")
    options = parser.parse_args()
    output = options.output or options.run_dir / "report.html"
    write_report(options.run_dir, output)
    print(output)
    return 0


if __name__ == "__main__":
    exit_with_message(main)
