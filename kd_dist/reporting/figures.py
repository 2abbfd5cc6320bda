"""Drawings as SVG in the colours of the page: curves, scatters, bars, a confusion matrix, the stage graph."""

import html
import io
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kd_dist.reporting.page import Html, duration, el, join, missing, share
from kd_dist.reporting.record import StageRecord
from kd_dist.speeds import near_one_another, places_in, rough_share, span

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


def _svg(title: str, size: tuple[int, int], draw: Callable[[Any], None], x_label: str = "") -> Html:
    """What `draw` draws into matplotlib axes of `size` points."""
    import matplotlib
    from matplotlib.figure import Figure

    style = {"svg.fonttype": "none", "svg.hashsalt": title, "text.parse_math": False, "font.size": 9.5}
    style |= {"path.simplify_threshold": 0.6}
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(size[0] / 72, size[1] / 72), facecolor="none")
        left, below = 42 / size[0], (40 if x_label else 24) / size[1]
        axes = figure.add_axes((left, below, 1 - left - 7 / size[0], 1 - below - 8 / size[1]), facecolor="none")
        draw(axes)
        axes.set_xlabel(x_label, color=INK, labelpad=5)
        _dress(axes)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    return _for_the_page(buffer.getvalue(), title)


def _dress(axes: Any) -> None:
    axes.tick_params(colors=INK, length=0, pad=4)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(GRID)


def _for_the_page(svg: str, title: str) -> Html:
    """Without prolog, style sheet and the ids that every figure repeats, and in the page's colours."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<style.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*"', "<g", svg)
    svg = re.sub(r' d="[^"]*"', lambda path: re.sub(r"(\.\d)\d+", r"\1", path[0]), svg)  # a tenth of a point is enough
    svg = re.sub("|".join(PAGE_COLOURS), lambda match: PAGE_COLOURS[match[0]], svg)
    return Html(svg.replace("<svg ", f'<svg role="img" aria-label="{html.escape(title)}" ', 1))


def _tick(value: float, _position: int | None = None) -> str:
    return re.sub(r"e([-+])0?", lambda sign: "e-" if sign[1] == "-" else "e", f"{value:.6g}")


# -------------------------------------------------------------------------------------------------------------- curves


@dataclass
class Line:
    label: str  # empty: not in the legend
    steps: np.ndarray
    values: np.ndarray
    colour: int = 0
    points: bool = False


@dataclass
class Mark:
    """A step that is pointed out."""

    label: str
    step: int


def curves(title: str, lines: Sequence[Line], unit: str = "", kind: str = "number", mark: Mark | None = None) -> Html:
    """A plot over steps with its heading and legend, or its heading and the word that there is nothing to plot."""
    lines = [line for line in lines if len(line.values)]
    if not lines:
        return el("figure", el("figcaption", el("b", title)), missing("not recorded"))
    entries = [_legend_entry(line) for line in lines if line.label] if len(lines) > 1 else []
    if mark:
        entries.append(el("span", el("i", class_="rule"), mark.label))
    caption = el("figcaption", el("b", title), el("span", unit, class_="unit"), el("div", *entries, class_="legend"))

    def draw(axes: Any) -> None:
        if mark:
            axes.axvline(mark.step, color=INK, linewidth=1, linestyle=(0, (3, 2)))
        for line in lines:
            _draw(axes, line)
        _scale(axes, np.concatenate([line.values for line in lines]), kind)

    return el("figure", caption, _svg(f"{title} over steps", (340, 190), draw))


def _legend_entry(line: Line) -> Html:
    return el("span", _swatch("dot" if line.points else "dash", line.colour), line.label)


def _swatch(shape: str, colour: int) -> Html:
    return el("i", class_=shape, style=f"background:var(--series-{colour + 1})")


def _draw(axes: Any, line: Line) -> None:
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


def _scale(axes: Any, values: np.ndarray, kind: str) -> None:
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


# ------------------------------------------------------------------------------------------------------------- scatter


SCATTER_HEIGHT, NAME_HEIGHT = 208, 13  # of the axes and of a name beside a point


@dataclass
class Point:
    label: str
    x: float
    y: float
    spread: float = 0.0  # of y, upwards and downwards
    colour: int = 0
    marker: str = "o"
    hollow: bool = False


def scatter(title: str, points: Sequence[Point], unit: str) -> Html:
    """Points with their names beside them over a logarithmic x; up and to the right is better."""
    if not points:
        return el("figure", el("figcaption", el("b", title)), missing("not measured"))
    caption = el("figcaption", el("b", title), el("span", unit, class_="unit"))
    return el("figure", caption, _svg(title, (400, 240), lambda axes: _draw_points(axes, points)))


def sign_of(colour: int, marker: str = "o", hollow: bool = False) -> Html:
    """The mark of a point, for legends and tables."""
    shape = {"s": " square", "D": " diamond"}.get(marker, "") + (" hollow" if hollow else "")
    return el("i", class_=f"sign{shape}", style=f"--c:var(--series-{colour + 1})")


def _draw_points(axes: Any, points: Sequence[Point]) -> None:
    from matplotlib.ticker import EngFormatter, FuncFormatter, LogLocator, MaxNLocator, NullLocator

    x, y = np.array([point.x for point in points]), np.array([point.y for point in points])
    margin = max(0.2 * (y.max() - y.min()), 2 * max(point.spread for point in points), 1e-3)
    axes.set_xscale("log")
    axes.set_xlim(x.min() / 1.6, x.max() * 1.6)
    axes.set_ylim(y.min() - margin, y.max() + margin)
    to_the_right = [len(points) == 1 or point.x < np.sqrt(x.min() * x.max()) for point in points]
    unit = SCATTER_HEIGHT / (y.max() - y.min() + 2 * margin)
    for point, is_left, shift in zip(points, to_the_right, _shifts(y * unit, to_the_right), strict=True):
        _draw_point(axes, point)
        axes.annotate(
            point.label, (point.x, point.y), (10 if is_left else -10, shift),
            textcoords="offset points", ha="left" if is_left else "right", va="center", color=INK,
        )  # fmt: skip
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if x.max() / x.min() < 200 else (1,)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.yaxis.set_major_formatter(FuncFormatter(_tick))


def _draw_point(axes: Any, point: Point) -> None:
    colour = SERIES[point.colour]
    face, edge = (PAPER, colour) if point.hollow else (colour, PAPER)
    if point.spread:
        axes.errorbar(point.x, point.y, yerr=point.spread, color=colour, linewidth=1.2, capsize=3)
    axes.plot(point.x, point.y, point.marker, color=face, markeredgecolor=edge, markeredgewidth=1.6, markersize=8)


def _shifts(heights: np.ndarray, sides: Sequence[bool]) -> np.ndarray:
    """Points up or down that keep names on the same side clear of one another."""
    shifts = np.zeros(len(heights))
    for side in set(sides):
        members = [index for index in np.argsort(heights, kind="stable") if sides[index] == side]
        places: list[float] = []
        for index in members:
            places.append(max(heights[index], places[-1] + NAME_HEIGHT if places else heights[index]))
        pushed = np.array(places) - heights[members]
        shifts[members] = pushed - pushed.max() / 2 if len(members) > 1 else pushed
    return shifts


# ----------------------------------------------------------------------------------------------------------- trade-off


@dataclass
class Way:
    """What a setting does to a model, as a line; `names` of its points, empty where a point has none."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    names: Sequence[str]
    colour: int = 0


def tradeoff(
    title: str,
    ways: Sequence[Way],
    points: Sequence[Point],
    x_label: str,
    floor: tuple[str, float] | None = None,
    *,
    fewer_is_better: bool = False,
) -> Html:
    """Ways through models from slow to fast, and points beside them; up and to the right is better.

    `floor` is a value of y that is pointed out. Where fewer of x is better, x falls from left to right.
    """
    if not ways and not points:
        return el("figure", el("figcaption", el("b", title)), missing("not measured"))
    entries = [el("span", _swatch("dash", way.colour), way.label) for way in ways]
    entries += [el("span", sign_of(point.colour, point.marker, point.hollow), point.label) for point in points]
    if floor:
        entries.append(el("span", el("i", class_="rule level"), floor[0]))
    caption = el("figcaption", el("b", title), el("div", *entries, class_="legend"))

    def draw(axes: Any) -> None:
        _frame(axes, ways, points, [floor[1]] if floor else [], fewer_is_better)
        if floor:
            axes.axhline(floor[1], color=INK, linewidth=1, linestyle=(0, (3, 2)))
        for way in ways:
            _draw_way(axes, way)
        for point in points:
            _draw_point(axes, point)

    return el("figure", caption, _svg(title, (400, 256), draw, x_label))


def _frame(
    axes: Any, ways: Sequence[Way], points: Sequence[Point], levels: Sequence[float], fewer_is_better: bool
) -> None:
    from matplotlib.ticker import EngFormatter, FuncFormatter, MaxNLocator

    x = np.array([*(x for way in ways for x in way.x), *(point.x for point in points)])
    y = np.array([*(y for way in ways for y in way.y), *(point.y for point in points), *levels])
    for limits, values, least in ((axes.set_xlim, x, 0.05 * x.max()), (axes.set_ylim, y, 1e-3)):
        margin = max(0.1 * (values.max() - values.min()), least)
        limits(values.min() - margin, values.max() + margin)
    if fewer_is_better:
        axes.invert_xaxis()
    for axis, shown in ((axes.xaxis, EngFormatter(sep="")), (axes.yaxis, FuncFormatter(_tick))):
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        axis.set_major_formatter(shown)


def _draw_way(axes: Any, way: Way) -> None:
    """Names stand above and to the right, where a line that falls leaves room; near points share one."""
    colour = SERIES[way.colour]
    axes.plot(way.x, way.y, color=colour, linewidth=1.6)
    named = [index for index, name in enumerate(way.names) if name]
    points = [(way.x[index], way.y[index]) for index in named]
    for x, y in points:
        axes.plot(x, y, "o", color=colour, markersize=6, markeredgecolor=PAPER)
    for group in near_one_another(places_in(axes, points)):
        name = span(way.names[named[group[0]]], way.names[named[group[-1]]])
        axes.annotate(name, points[group[-1]], (5, 7), textcoords="offset points", color=INK)


# ---------------------------------------------------------------------------------------------------- bars row by row

ALL_BARS_WIDTH, BARS_HEIGHT, BARS_NAME = 750, 64, 164


def bars(title: str, unit: str, rows: Sequence[tuple[str, str, Sequence[int]]], columns: str, colour: int = 0) -> Html:
    """A histogram for each row, one below the other: its name, a word below that, and counts."""
    num_columns = max(len(counts) for *_, counts in rows)
    bar_width = max(34, min(62, ALL_BARS_WIDTH // num_columns))
    width, foot = BARS_NAME + bar_width * num_columns, BARS_HEIGHT * len(rows)
    drawn = [_row_of_bars(BARS_HEIGHT * (index + 1), bar_width, *row) for index, row in enumerate(rows)]
    drawn += [_word(number + 1, BARS_NAME + bar_width * (number + 0.5), foot + 17) for number in range(num_columns)]
    drawn.append(_word(columns, (BARS_NAME + width) / 2, foot + 36))
    svg = el(
        "svg", *drawn, viewBox=f"0 0 {width} {foot + 40}", role="img", aria_label=title,
        style=f"--c:var(--series-{colour + 1});min-width:{min(width, 720)}px;max-width:{width * 1.2:.0f}px",
    )  # fmt: skip
    caption = el("figcaption", el("b", title), el("span", unit, class_="unit"))
    return el("figure", caption, el("div", svg, class_="histograms", tabindex=0))


def _row_of_bars(floor: int, bar_width: int, name: str, below: str, counts: Sequence[int]) -> Html:
    drawn = [
        el("text", name, x=0, y=floor - 18, class_="name"),
        el("text", below, x=0, y=floor - 3, class_="below"),
        el("path", d=f"M{BARS_NAME},{floor} h{bar_width * len(counts)}", class_="floor"),
    ]
    for number, rows in enumerate(counts):
        if not rows:
            continue
        part = rows / sum(counts)
        x, height = BARS_NAME + bar_width * number, (BARS_HEIGHT - 20) * part
        told = el("title", f"{name}, {number + 1}: {rows:,} rows ({share(part)})")
        drawn.append(el("rect", told, x=x + 4, y=f"{floor - height:.1f}", width=bar_width - 8, height=f"{height:.1f}"))
        drawn.append(_word(rough_share(part), x + bar_width / 2, floor - height - 4))
    return el("g", *drawn)


def _word(text: Any, x: float, y: float) -> Html:
    return el("text", text, x=f"{x:g}", y=f"{y:.1f}", text_anchor="middle", class_="below")


# ---------------------------------------------------------------------------------------------------- confusion matrix

NAME_WIDTH = 18  # letters of a class name that are shown; wide ones count twice


def confusion(title: str, matrix: Sequence[Sequence[int]], names: Sequence[str]) -> Html:
    """Rows of each true class by the class they were given; the colour is the share of the true class."""
    names = [_cut(name) for name in names]
    size = max(9, min(32, 560 // len(names)))
    letter = min(12, size - 1)
    room = round(max(map(_width, names)) * letter * 0.58) + 10
    side = room + size * len(names)
    labels = [_names_of(index, name, room, size, letter) for index, name in enumerate(names)]
    cells = _cells(matrix, names, room, size)
    box = f"0 0 {side + 4} {side + 4}"
    svg = el("svg", *labels, *cells, viewBox=box, role="img", aria_label=title, style=f"max-width:{side * 1.1:.0f}px")
    return el("figure", svg, class_="confusion")


def _names_of(index: int, name: str, room: int, size: int, letter: int) -> Html:
    """The name of a class before its row and, upright, above its column."""
    middle, end = room + (index + 0.5) * size, room - 6
    beside = el("text", name, x=end, y=f"{middle:g}", text_anchor="end", dominant_baseline="central", font_size=letter)
    above = el(
        "text", name, transform=f"translate({middle:g},{end}) rotate(-90)", dominant_baseline="central",
        font_size=letter,
    )  # fmt: skip
    return join([beside, above])


def _cells(matrix: Sequence[Sequence[int]], names: Sequence[str], room: int, size: int) -> Iterator[Html]:
    numbers = size >= 18
    for true, row in enumerate(matrix):
        for given, rows in enumerate(row):
            part = rows / (sum(row) or 1)
            if not rows:
                continue
            x, y = room + given * size, room + true * size
            told = el("title", f"{names[true]} → {names[given]}: {rows:,} ({share(part)})")
            rect = el(
                "rect", told, x=x, y=y, width=size - 1, height=size - 1, rx=2, class_="right" if true == given else
                "wrong", fill_opacity=f"{0.06 + 0.94 * part:.2f}",
            )  # fmt: skip
            text = el(
                "text", f"{rows}", x=f"{x + size / 2 - 0.5:g}", y=f"{y + size / 2:g}", text_anchor="middle",
                dominant_baseline="central", font_size=10 if rows < 1000 else 8, class_="on" if part > 0.5 else "",
            )  # fmt: skip
            yield join([rect, text if numbers else ""])


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def _cut(name: str) -> str:
    if _width(name) <= NAME_WIDTH:
        return name
    while _width(name) >= NAME_WIDTH:
        name = name[:-1]
    return f"{name}…"


# ------------------------------------------------------------------------------------------------------------- diagram

BOX_WIDTH, BOX_HEIGHT, GAP_X, GAP_Y = 172, 58, 34, 16
SMALLEST_WIDTH = 1000  # of a drawing that is scaled to fit; from there on it scrolls
Place = tuple[int, int]


def diagram(stages: Sequence[StageRecord]) -> Html:
    """The stages from left to right, each behind those that feed it."""
    place = _places(stages)
    width = (max(x for x, _ in place.values()) + 1) * (BOX_WIDTH + GAP_X) - GAP_X + 4
    height = (max(y for _, y in place.values()) + 1) * (BOX_HEIGHT + GAP_Y) - GAP_Y + 4
    edges = [_edge(place[start], place[end]) for start, end in _direct_edges(stages)]
    boxes = [_box(stage, place[stage.name]) for stage in stages]
    svg = el(
        "svg", *edges, *boxes, width=width, height=height, viewBox=f"-2 -2 {width} {height}", role="img",
        aria_label="stages of the job", class_="diagram", style=f"min-width:{min(width, SMALLEST_WIDTH)}px",
    )  # fmt: skip
    return el("div", svg, class_="scroll", tabindex=0)


def _places(stages: Sequence[StageRecord]) -> dict[str, Place]:
    """Column and row of each stage; the job lists a stage after those that feed it."""
    place: dict[str, Place] = {}
    for stage in stages:
        column = max((place[other][0] + 1 for other in stage.wired_to if other in place), default=0)
        place[stage.name] = (column, sum(x == column for x, _ in place.values()))
    return place


def _direct_edges(stages: Sequence[StageRecord]) -> Iterator[tuple[str, str]]:
    """Without those that a longer way through other stages already tells."""
    before: dict[str, set[str]] = {}
    for stage in stages:
        known = [other for other in stage.wired_to if other in before]
        before[stage.name] = set(known).union(*(before[other] for other in known))
        yield from ((other, stage.name) for other in known if not any(other in before[via] for via in known))


def _corner(place: Place) -> Place:
    return place[0] * (BOX_WIDTH + GAP_X), place[1] * (BOX_HEIGHT + GAP_Y)


def _edge(start: Place, end: Place) -> Html:
    x1, y1 = _corner(start)[0] + BOX_WIDTH, _corner(start)[1] + BOX_HEIGHT // 2
    x2, y2 = _corner(end)[0] - 2, _corner(end)[1] + BOX_HEIGHT // 2
    bend = GAP_X // 2
    curve = f"M{x1},{y1} C{x1 + bend},{y1} {x2 - bend},{y2} {x2},{y2}"
    return join([el("path", d=curve, class_="edge"), el("path", d=f"M{x2 - 6},{y2 - 4} l6,4 l-6,4", class_="edge")])


def _box(stage: StageRecord, place: Place) -> Html:
    x, y = _corner(place)
    state, below = stage.state(), _progress(stage)
    name = stage.name if len(stage.name) <= 16 else f"{stage.name[:15]}…"
    return el(
        "g",
        el("title", f"{stage.name}: {state}, {below}"),
        el("rect", x=x, y=y, width=BOX_WIDTH, height=BOX_HEIGHT, rx=10, class_="box"),
        el("circle", cx=x + 18, cy=y + 21, r=5, class_=f"state {class_of(state)}"),
        el("text", name, x=x + 30, y=y + 26, class_="name"),
        el("text", below, x=x + 14, y=y + 45, class_="below"),
    )


def _progress(stage: StageRecord) -> str:
    state, shards = stage.state(), stage.shards()
    if stage.seconds is None:
        return f"{shards[0]} of {shards[1]} shards" if shards else state
    return f"{shards[1]} shards · {duration(stage.seconds)}" if shards else f"{state} · {duration(stage.seconds)}"


def class_of(state: str) -> str:
    return {"complete": "good", "waiting": "idle", "this page": "idle"}.get(state, "open")
