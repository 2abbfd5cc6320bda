"""Drawings take the colours of the page and nothing that two of them could share."""

import re
import warnings

from matplotlib.figure import Figure

from kd_dist.evaluation.pictures.drawing import TOOLTIP
from kd_dist.reporting.svg import PAGE, draw_svg, figure_svg, swatch


def figure() -> Figure:
    drawn = Figure(figsize=(2, 1), facecolor=PAGE.paper)
    axes = drawn.add_axes((0, 0, 1, 1))
    axes.plot([0, 1], [0, 1], color=PAGE.series[2])
    axes.bar([0], [1], color=PAGE.wrong)[0].set_gid(f'{TOOLTIP}<a> & "b": 50%')
    axes.text(0, 0, "中文 <b>", color=PAGE.ink)
    return drawn


def test_stand_ins_become_the_colours_of_the_page() -> None:
    svg = figure_svg("title", figure())
    for colour in ("var(--series-3)", "var(--open)", "var(--ink)"):
        assert colour in svg
    assert not re.search("#0a0[bc]", svg)


def test_tooltips_are_titles() -> None:
    assert '<title>&lt;a&gt; &amp; "b": 50%</title>' in figure_svg("title", figure())


def test_what_figures_repeat_is_removed() -> None:
    svg = figure_svg('a "title"', figure(), style="max-width:100px")
    assert svg.startswith('<svg role="img" aria-label="a &quot;title&quot;" style="max-width:100px" ')
    assert "<style" not in svg
    assert '<g id="' not in svg


def test_fonts_are_a_matter_of_the_browser() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "中文 &lt;b&gt;" in figure_svg("title", figure())


def test_the_same_drawing_is_the_same_svg() -> None:
    plots = [draw_svg("title", (200, 100), lambda axes: axes.plot([0, 1], [1, 2])) for _ in range(2)]
    assert plots[0] == plots[1]


def test_a_swatch_has_a_colour_of_the_series() -> None:
    assert swatch("dash", 0) == '<i class="dash" style="background:var(--series-1)"></i>'
