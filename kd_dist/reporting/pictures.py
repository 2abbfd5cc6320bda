"""The drawings of an evaluation as figures of the page."""

from collections.abc import Sequence

from kd_dist.evaluation.comparison import Look
from kd_dist.evaluation.confusion import Confusion
from kd_dist.evaluation.pictures.confusion import confusion_figure
from kd_dist.evaluation.pictures.exit_layers import Histogram, exit_layers_figure
from kd_dist.evaluation.pictures.tradeoff import Tradeoff, draw_tradeoff
from kd_dist.reporting.page import Html, el, missing
from kd_dist.reporting.svg import PAGE, draw_svg, figure_svg, swatch

MARKERS = {"s": " square", "D": " diamond"}

MIN_READABLE_WIDTH = 720  # a wider drawing is scaled down to this, and scrolls from there on


def tradeoff(plot: Tradeoff) -> Html:
    """Return a plot of what is given up for speed, with its legend."""
    if not plot.curves and not plot.points:
        return el("figure", el("figcaption", el("b", plot.title)), missing("not measured"))
    entries = [el("span", swatch("dash", curve.colour), curve.label) for curve in plot.curves]
    entries += [
        el("span", marker(Look(point.colour, point.marker, point.hollow)), point.label) for point in plot.points
    ]
    if plot.floor:
        entries.append(el("span", el("i", class_="rule level"), plot.floor[0]))
    caption = el("figcaption", el("b", plot.title), el("div", *entries, class_="legend"))
    svg = draw_svg(plot.title, (400, 256), lambda axes: draw_tradeoff(axes, plot, PAGE), has_x_label=True)
    return el("figure", caption, svg)


def exit_layers(title: str, unit: str, histograms: Sequence[Histogram]) -> Html:
    """Return histograms of the layers at which rows exit."""
    figure = exit_layers_figure(histograms, PAGE)
    width = 72 * figure.get_figwidth()
    style = f"min-width:{min(width, MIN_READABLE_WIDTH):.0f}px;max-width:{width * 1.2:.0f}px"
    caption = el("figcaption", el("b", title), el("span", unit, class_="unit"))
    return el("figure", caption, el("div", figure_svg(title, figure, style), class_="wide-drawing", tabindex=0))


def confusion_matrix(title: str, confusion: Confusion, names: Sequence[str]) -> Html:
    """Return a confusion matrix; `names` are those of all classes."""
    figure = confusion_figure(confusion, names, PAGE)
    width = 72 * figure.get_figwidth()
    style = f"min-width:{min(width, MIN_READABLE_WIDTH):.0f}px;max-width:{width * 1.1:.0f}px"
    return el("figure", figure_svg(title, figure, style), class_="confusion", tabindex=0)


def marker(look: Look) -> Html:
    """Return the mark of a model, for legends and tables."""
    shape = MARKERS.get(look.marker, "") + (" hollow" if look.hollow else "")
    return el("i", class_=f"sign{shape}", style=f"--c:var(--series-{look.colour + 1})")
