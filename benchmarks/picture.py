"""The picture of the first page, how fast each classifier is, and how much of its teacher's score it keeps; and that of
exits with different backbones.

python docs/generate.py writes them; every point comes from results/.
"""

import io
from statistics import mean
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator, PercentFormatter

from benchmarks.table import DATA, RESULTS, evaluated, exit_files, student_exit_rows
from kd_dist.config.tasks import METRICS
from kd_dist.evaluation.comparison import Comparison, group_rows
from kd_dist.evaluation.pictures.by_speed import speed_tradeoffs
from kd_dist.evaluation.pictures.drawing import LIGHT
from kd_dist.evaluation.pictures.tradeoff import Curve, Tradeoff, tradeoff_figure
from kd_dist.files import read_json

STYLE = {"svg.fonttype": "none", "svg.hashsalt": "kd_dist", "font.family": "sans-serif", "font.size": 10}
BLUE, ORANGE, GREEN, GREY = "#2563a8", "#d97706", "#15803d", "#6b7280"


def draw() -> str:
    """Return the picture as SVG; the same results give the same bytes."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 3.6), facecolor="white", layout="constrained")
        panels = figure.subplots(1, len(DATA), sharey=True)
        for axes, (name, title) in zip(panels, DATA.items(), strict=True):
            _draw_panel(axes, name)
            axes.set_title(title)
            axes.set_xlabel("times as many texts per second as the teacher")
        panels[0].set_ylabel("score, share of the teacher's")
        panels[0].legend(loc="lower left", frameon=False)
        return as_svg(figure)


def draw_exits() -> str:
    """Return the picture of the score on test rows and the operations saved, with each kind of backbone, as SVG.

    A curve is the mean over seeds; its points are rules with one threshold that validation rows have chosen.
    """
    panels = [_exits_panel(read_json(file)["models"], file.parent.name) for file in exit_files()]
    with matplotlib.rc_context(STYLE):
        return as_svg(tradeoff_figure(panels, "score on test rows", LIGHT))


def draw_student_exits() -> str:
    """Return the picture of a teacher and a student with exits, by operations and by wall-clock, as SVG."""
    models, at_speeds = group_rows(student_exit_rows())
    panels = speed_tradeoffs(Comparison(models, at_speeds, METRICS["single_label"]))
    with matplotlib.rc_context(STYLE):
        return as_svg(tradeoff_figure(panels, "accuracy on test rows", LIGHT))


def _exits_panel(models: list[dict[str, Any]], name: str) -> Tradeoff:
    curves = []
    for colour, backbone in enumerate(dict.fromkeys(model["backbone"] for model in models)):
        rules = [model["rules"]["one threshold"] for model in models if model["backbone"] == backbone]
        points = [[rule["all_layers"] for rule in rules]]
        points += [[rule["targets"][target] for rule in rules] for target in rules[0]["targets"]]
        xs, ys = ([mean(one[key] for one in point) for point in points] for key in ("fewer_operations", "test"))
        curves.append(Curve(backbone, xs, ys, [""] * len(xs), colour))
    teacher = mean(model["teacher"]["test"] for model in models)
    title = name.removeprefix("exits_")
    return Tradeoff(title, curves, [], f"times fewer operations ({title})", ("fine-tuned, all layers", teacher))


def as_svg(figure: Figure) -> str:
    """Return a figure as SVG; the same figure gives the same bytes."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


def _draw_panel(axes: Any, name: str) -> None:
    rows = evaluated(RESULTS / name) + evaluated(RESULTS / f"fastbert_{name}")
    early_exit = [row for row in rows if row["model"] == "fastbert"]
    speeds = sorted((row for row in early_exit if "speed" in row), key=lambda row: row["speed"])
    axes.plot(*_points(speeds), "o-", color=BLUE, markersize=4, label="early exit, speed 0 to 1")
    calibrated = [row for row in early_exit if "speed" not in row]
    axes.plot(*_points(calibrated), "*", color=ORANGE, markersize=14, label="early exit, calibrated")
    for model, marker, color, label in (
        ("student", "s", GREEN, "distilled student"),
        ("student_alone", "^", GREY, "student without distillation"),
        ("teacher", "D", "black", "teacher"),
    ):
        row = next(row for row in rows if row["model"] == model)
        axes.plot(*_points([row]), marker, color=color, markersize=7, label=label)
    axes.set_xscale("log")
    axes.set_xticks([1, 2, 4, 8], [f"{factor}x" for factor in (1, 2, 4, 8)])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.grid(color="#e5e7eb")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _points(rows: list[dict[str, Any]]) -> tuple[list[float], list[float]]:
    return [row["throughput_ratio"] for row in rows], [row["quality_kept"] for row in rows]
