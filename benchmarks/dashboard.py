"""The panels of a job's W&B dashboard, drawn from what a run has logged; python docs/generate.py writes the picture."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from benchmarks.picture import STYLE, as_svg
from benchmarks.table import RESULTS
from kd_dist.config.jobs import find_job
from kd_dist.evaluation.pictures.drawing import LIGHT, format_tick, style_axes
from kd_dist.files import read_json
from kd_dist.reporting.curves import Line, draw_line, scale_axes
from kd_dist.runs.metrics import is_finite, read_metrics
from launch.panels import Panel, sections_of

Row = dict[str, Any]

COLUMNS, WIDTH, HEIGHT = 4, 2.9, 2.15  # inches of a panel with all that is around its axes
LEFT, RIGHT, ABOVE, BELOW = 0.52, 0.12, 0.6, 0.36


def draw() -> str:
    """Return the dashboard of the run in results/dashboard as SVG."""
    folder = RESULTS / "dashboard"
    rows, models = read_metrics(folder / "metrics.jsonl"), read_json(folder / "evaluation.json")["models"]
    return draw_panels(sections_of(find_job("fastbert")), rows, models)


def draw_panels(sections: Mapping[str, Sequence[Panel]], rows: list[Row], models: Mapping[str, Row]) -> str:
    """Return the panels of a dashboard as SVG; those for which a run has nothing, such as GPUs, are left out.

    Args:
        sections: The panels, by section.
        rows: Of metrics.jsonl.
        models: What an evaluation says of each model.
    """
    drawings = [
        (name if panel is panels[0] else "", panel.title, drawn)
        for name, panels in sections.items()
        for panel in panels
        if (drawn := _drawing(panel, rows, models))
    ]
    num_rows = -(-len(drawings) // COLUMNS)
    with matplotlib.rc_context(STYLE | {"font.size": 8}):
        figure = Figure(figsize=(COLUMNS * WIDTH, num_rows * HEIGHT), facecolor="white")
        for number, (section, title, drawn) in enumerate(drawings):
            row, column = divmod(number, COLUMNS)
            axes = figure.add_axes(_place(row, column, num_rows))
            drawn(axes)
            axes.set_title(title, loc="left", fontsize=8.5, color=LIGHT.ink)
            axes.annotate(
                section, (0, 1), (0, 20), "axes fraction", textcoords="offset points",
                fontsize=10, fontweight="bold", color=LIGHT.series[0],
            )  # fmt: skip
            style_axes(axes, LIGHT)
        return as_svg(figure)


def _place(row: int, column: int, num_rows: int) -> tuple[float, float, float, float]:
    """Return where the axes of a panel are, as shares of the figure."""
    width, height = COLUMNS * WIDTH, num_rows * HEIGHT
    left, floor = column * WIDTH + LEFT, (num_rows - row - 1) * HEIGHT + BELOW
    return left / width, floor / height, (WIDTH - LEFT - RIGHT) / width, (HEIGHT - ABOVE - BELOW) / height


def _drawing(panel: Panel, rows: list[Row], models: Mapping[str, Row]) -> Callable[[Any], None] | None:
    """Return what draws a panel into axes; None where nothing was logged for it."""
    if panel.form == "bars":
        split = [key.split("/") for key in panel.keys]
        known = {name: float(models[name][key]) for name, key in split if is_finite(models[name].get(key))}
        return (lambda axes: _draw_bars(axes, known)) if known else None
    if panel.form == "pictures":
        counts = next((model["exit_layers"] for model in models.values() if "exit_layers" in model), None)
        return (lambda axes: _draw_exits(axes, counts)) if counts and panel.keys == ["evaluation/exit_layers"] else None
    over = _minutes if panel.form == "time" else _steps
    lines = [_line(rows, key, number, over) for number, key in enumerate(panel.keys)]
    lines = [line for line in lines if len(line.values)]
    starts, kind = (_starts(rows), "from_zero") if panel.form == "time" else ([], "number")
    return (lambda axes: _draw_lines(axes, lines, starts, kind)) if lines else None


def _steps(row: Row, first: Row) -> float:
    return float(row["global_step"])


def _minutes(row: Row, first: Row) -> float:
    return float(row["time"] - first["time"]) / 60


def _line(rows: list[Row], key: str, colour: int, over: Callable[[Row, Row], float]) -> Line:
    points = [(over(row, rows[0]), row[key]) for row in rows if is_finite(row.get(key))]
    xs, ys = zip(*points, strict=True) if points else ((), ())
    return Line(key, np.array(xs, dtype=float), np.array(ys, dtype=float), colour, points=key.startswith("evaluation/"))


def _starts(rows: list[Row]) -> list[float]:
    """Return the minutes at which a later start of the stage logged its first row."""
    return [_minutes(row, rows[0]) for before, row in pairwise(rows) if row["starts"] > before["starts"]]


def _draw_lines(axes: Any, lines: list[Line], starts: list[float], kind: str) -> None:
    for minutes in starts:
        axes.axvline(minutes, color=LIGHT.wrong, linewidth=1, linestyle=(0, (3, 2)))
    for line in lines:
        draw_line(axes, line, LIGHT)
    scale_axes(axes, np.concatenate([line.values for line in lines]), kind)
    if len(lines) > 1:
        axes.legend(handles=_handles(lines), fontsize=7, frameon=False, labelcolor=LIGHT.muted)


def _handles(lines: list[Line]) -> list[Any]:
    return [
        Line2D(
            [], [], color=LIGHT.series[line.colour], marker="o" if line.points else "", markersize=3, label=line.label
        )
        for line in lines
    ]


def _draw_bars(axes: Any, values: Mapping[str, float]) -> None:
    names = list(values)[::-1]
    axes.barh(names, [values[name] for name in names], color=LIGHT.series[0], height=0.5)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(format_tick))


def _draw_exits(axes: Any, counts: Sequence[int]) -> None:
    axes.bar(range(1, len(counts) + 1), counts, color=LIGHT.series[0])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
