"""Markup escapes what it is given, and numbers are short."""

import pytest

from kd_dist.evaluation.pictures.drawing import LIGHT
from kd_dist.reporting.page import STYLE, Amount, Html, cell, count, document, duration, el, number, share, table, times


def test_texts_are_escaped_and_markup_is_not() -> None:
    assert el("p", "a < b", Html("<b>c</b>"), class_="x", aria_label='"') == (
        '<p class="x" aria-label="&quot;">a &lt; b<b>c</b></p>'
    )


def test_elements_without_content_are_not_closed() -> None:
    assert el("meta", charset="utf-8") == '<meta charset="utf-8">'


def test_columns_of_numbers_are_aligned_to_the_right() -> None:
    shown = table(["name", "rows", "share"], [["a", 1, Amount("50%")], ["b", None, None]])
    assert shown.count('class="number"') == 6
    assert shown.count('class="text"') == 3
    assert '<td class="number">—</td>' in shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "—"), (True, "yes"), (1234567, "1,234,567"), (0.123456, "0.1235"), ("a", "a"), ([1, "中"], '[1, "中"]')],
)
def test_values_of_a_table(value: object, shown: str) -> None:
    assert cell(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(12345.6, "12,346"), (1.0, "1.000"), (0.0, "0.000"), (0.000123456, "1.235e-04"), (float("nan"), "nan")],
)
def test_numbers_have_four_digits(value: float, shown: str) -> None:
    assert number(value) == shown


def test_counts_shares_ratios_and_times() -> None:
    assert [count(value) for value in (12.0, 3.69e8, 1.5e9, 2500)] == ["12", "369 M", "1.5 B", "2.5 k"]
    assert share(0.1234) == "12.3%"
    assert [times(value) for value in (0.5, 0.96, 4.43, 123.4)] == ["0.50×", "1.0×", "4.4×", "123×"]
    assert [duration(value) for value in (7.25, 59, 61, 7300)] == ["7.2 s", "59 s", "1 min 01 s", "2 h 01 min"]


def test_the_light_colours_are_those_of_the_pictures() -> None:
    for colour in (*LIGHT.series, LIGHT.ink, LIGHT.muted, LIGHT.grid, LIGHT.paper, LIGHT.wrong):
        assert f":{colour}" in STYLE[: STYLE.index("@media")]
    assert STYLE.count("--series-8:") == 2  # light and dark


def test_a_document_has_its_style_and_title() -> None:
    page = document("a < b", el("p", "text"))
    assert page.startswith("<!doctype html>\n")
    assert "<title>a &lt; b</title>" in page
    assert STYLE in page
