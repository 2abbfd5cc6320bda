"""Pictures of an evaluation."""

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from kd_dist.evaluation.speeds import AT_SPEED, OWN_THRESHOLDS
from kd_dist.runs.metrics import is_finite


def plot_confusion(path: Path, matrix_CC: np.ndarray, names: Sequence[str], title: str) -> None:
    """Draw rows of each true class by the class they were given; the colour is the share of the true class.

    Where no installed font can write the names, classes go by their numbers in `label2id`.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    font = font_for("".join([title, *names]))
    size = 2.2 + max(3.0, 0.3 * len(names))
    shares_CC = matrix_CC / np.maximum(matrix_CC.sum(axis=1, keepdims=True), 1)
    settings = {"text.parse_math": False} | ({"font.family": font} if font else {})  # `$` is a character of names
    with rc_context(settings):
        figure = Figure(figsize=(size, size), dpi=110, layout="constrained")
        axes = figure.add_subplot()
        axes.imshow(shares_CC, cmap="Blues", vmin=0, vmax=1)
        for (true, given), count in np.ndenumerate(matrix_CC):
            if count:
                colour = "white" if shares_CC[true, given] > 0.5 else "black"
                axes.text(given, true, f"{count}", ha="center", va="center", color=colour, fontsize=6)
        shown = names if font else [str(number) for number in range(len(names))]
        axes.set_xticks(range(len(names)), shown, rotation=90, fontsize=7)
        axes.set_yticks(range(len(names)), shown, fontsize=7)
        by_number = "" if font else " (by number: `labels` in evaluation.json)"
        axes.set(title=title if font else title.encode("ascii", "replace").decode(), xlabel=f"predicted{by_number}")
        axes.set_ylabel("label")
        figure.savefig(path)


def font_for(text: str) -> str | None:
    """An installed font that has every character of the text, matplotlib's own first; None if there is none."""
    from matplotlib.font_manager import fontManager
    from matplotlib.ft2font import FT2Font

    needed = {ord(character) for character in text if not character.isspace()}
    fonts = sorted(fontManager.ttflist, key=lambda font: font.name != "DejaVu Sans")
    # `Last Resort` has a box for every character.
    candidates = (font for font in fonts if not font.name.startswith("Last Resort"))
    return next((font.name for font in candidates if needed <= set(FT2Font(font.fname).get_charmap())), None)


NEAR = 0.035  # of the width or height of a plot: points that near share a name

Models = Mapping[str, Mapping[str, Any]]


def near_one_another(places: Sequence[tuple[float, float]]) -> list[range]:
    """Numbers of the places that fall together, of a way of places in parts of the plot's width and height."""
    found: list[range] = []
    for index, (x, y) in enumerate(places):
        first = places[found[-1].start] if found else (math.inf, math.inf)
        if math.dist((x, y), first) <= NEAR:
            found[-1] = range(found[-1].start, index + 1)
        else:
            found.append(range(index, index + 1))
    return found


def plot_speeds(directory: Path, models: Models, metric: str) -> list[Path]:
    """Draw speed_accuracy.png and exit_layers.png, and say where they are; none where no model has speeds."""
    if not any("speed" in model for model in models.values()):
        return []
    paths = [directory / "speed_accuracy.png", directory / "exit_layers.png"]
    plot_speed_accuracy(paths[0], models, metric)
    plot_exit_layers(paths[1], models)
    return paths


def plot_speed_accuracy(path: Path, models: Models, metric: str) -> None:
    """Draw the score against the operations saved and the throughput, or against the layers used if none is known."""
    from matplotlib.figure import Figure

    panels = {"operations_ratio": "times fewer operations", "samples_per_second": "texts/s, 32 at a time"}
    if not any(is_finite(model.get("operations_ratio")) for model in models.values()):
        panels = {"mean_layers": "layers used on the mean"}
    figure = Figure(figsize=(1.2 + 4.8 * len(panels), 4.2), dpi=110, layout="constrained")
    axes_of_panels = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (key, label) in zip(axes_of_panels, panels.items(), strict=True):
        _plot_against(axes, models, key, metric)
        axes.set_xlabel(label)
        axes.grid(color="0.9")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    axes_of_panels[0].set_ylabel(metric.replace("_", " "))
    axes_of_panels[0].legend(frameon=False, fontsize=9)
    figure.savefig(path)


def _plot_against(axes: Any, models: Models, key: str, metric: str) -> None:
    """A line through the speeds of each model, with the speeds beside it; a larger point for every other model."""
    known = {
        name: model for name, model in models.items() if is_finite(model.get(key)) and is_finite(model.get(metric))
    }
    ways: dict[str, list[Mapping[str, Any]]] = {}
    for name, model in known.items():
        if "speed" in model:
            ways.setdefault(name.partition(AT_SPEED)[0], []).append(model)
    for name, way in ways.items():
        way.sort(key=lambda model: model["speed"])
        x, y = [model[key] for model in way], [model[metric] for model in way]
        axes.plot(x, y, "o-", markersize=4, linewidth=1.4, label=f"{name} by speed")
    others = {name: model for name, model in known.items() if "speed" not in model}
    for marker, (name, model) in zip(itertools.cycle("sDo^vp"), others.items(), strict=False):
        shown = f"{name}, {OWN_THRESHOLDS}" if "mean_layers" in model else name
        axes.plot(model[key], model[metric], marker, markersize=9, markeredgecolor="white", label=shown)
    axes.margins(0.1)
    if key == "mean_layers":  # faster is to the right, as in the other panels
        axes.invert_xaxis()
    axes.autoscale_view()  # now, because names are placed by what falls together
    for way in ways.values():
        _name_speeds(axes, [(model[key], model[metric]) for model in way], [f"{model['speed']:g}" for model in way])


def _name_speeds(axes: Any, points: Sequence[tuple[float, float]], speeds: Sequence[str]) -> None:
    for group in near_one_another(places_in(axes, points)):
        name = span(speeds[group[0]], speeds[group[-1]])
        axes.annotate(name, points[group[-1]], (5, 6), textcoords="offset points", fontsize=8)


def span(first: str, last: str) -> str:
    """One name, or a first and a last one with a dash between them."""
    return first if first == last else f"{first}\N{EN DASH}{last}"


def rough_share(part: float) -> str:
    """Short enough to stand above a bar."""
    return "<1%" if part < 0.01 else f"{part:.0%}"


def places_in(axes: Any, points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points of matplotlib axes in parts of their width and height."""
    to_parts = axes.transData - axes.transAxes
    return [tuple(to_parts.transform(point).tolist()) for point in points]


def plot_exit_layers(path: Path, models: Models) -> None:
    """Draw, for each model with early exit and each speed, the share of rows that left at each layer."""
    from matplotlib.figure import Figure

    leaving = {name: model["exit_layers"] for name, model in models.items() if "exit_layers" in model}
    num_layers = max(map(len, leaving.values()))
    figure = Figure(figsize=(2.5 + 0.45 * num_layers, 1 + 0.8 * len(leaving)), dpi=110, layout="constrained")
    plots = figure.subplots(len(leaving), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, rows) in zip(plots, leaving.items(), strict=True):
        shares = [count / (sum(rows) or 1) for count in rows]
        bars = axes.bar(range(1, len(rows) + 1), shares, color="tab:green", width=0.8)
        axes.bar_label(bars, [rough_share(part) if part else "" for part in shares], fontsize=7, padding=1)
        shown = name.replace(AT_SPEED, "\nat speed ") if AT_SPEED in name else f"{name}\n{OWN_THRESHOLDS}"
        axes.set_ylabel(shown, rotation=0, ha="right", va="center", fontsize=8)
        axes.set(ylim=(0, 1.3), yticks=[], xticks=range(1, num_layers + 1))
        axes.spines[["top", "right", "left"]].set_visible(False)
    plots[-1].set_xlabel("layer at which rows leave")
    figure.savefig(path)
