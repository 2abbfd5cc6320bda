"""The data is shown as it was and as it became."""

from pathlib import Path

from kd_dist.reporting.data import _marked
from tests.reporting.pages import (
    ODD,
    text_of,
)


def test_the_data_is_shown_as_it_was_and_as_it_became(scored_run: Path) -> None:
    text = text_of(scored_run)
    for shown in (
        "leaked training rows, removed 13",
        "duplicate training rows, kept 11",
        "skipped: empty text 10",
        "train 100 17 96 2",
        "财经 70.0% 70 70",
        f"{ODD} second",
        "copies tried 300",
        "kept 250 (83.3%)",
        "words with candidates 80.0%",
    ):
        assert shown in text
    assert "<mark>昨</mark>" in (scored_run / "page.html").read_text(encoding="utf-8")


def test_only_what_is_new_in_a_copy_is_marked() -> None:
    assert "".join(map(str, _marked("股市今天大涨", "股市昨天大涨"))) == "股市<mark>昨</mark>天大涨"
    assert "".join(map(str, _marked("abc", "ac"))) == "ac"
