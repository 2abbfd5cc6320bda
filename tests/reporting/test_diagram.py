"""Stages are drawn behind those that feed them, and an edge that others imply is left out."""

from pathlib import Path

import pytest

from kd_dist.reporting.diagram import _direct_edges, _places, class_of, diagram
from kd_dist.reporting.record import StageRecord


def stage(name: str, *wired_to: str, seconds: float | None = None) -> StageRecord:
    settings = {"kind": "train"}
    return StageRecord(
        name, Path("nowhere"), settings, settings, list(wired_to), metrics=[], damage=None, seconds=seconds
    )


STAGES = [
    stage("corpus"),
    stage("labelled"),
    stage("train", "corpus"),
    stage("evaluate", "train", "labelled", "corpus"),
]


def test_a_stage_stands_behind_those_that_feed_it() -> None:
    assert _places(STAGES) == {"corpus": (0, 0), "labelled": (0, 1), "train": (1, 0), "evaluate": (2, 0)}


def test_edges_that_others_imply_are_left_out() -> None:
    assert list(_direct_edges(STAGES)) == [("corpus", "train"), ("train", "evaluate"), ("labelled", "evaluate")]


def test_a_stage_says_how_far_it_is() -> None:
    shown = diagram([stage("corpus", seconds=61.0), stage("a_stage_with_a_very_long_name")])
    assert "corpus: complete, complete · 1 min 01 s" in shown
    assert ">a_stage_with_a_…<" in shown
    assert "a_stage_with_a_very_long_name: waiting, waiting" in shown


@pytest.mark.parametrize(
    ("state", "shown"), [("complete", "good"), ("waiting", "idle"), ("this page", "idle"), ("1 of 2", "open")]
)
def test_states_have_colours(state: str, shown: str) -> None:
    assert class_of(state) == shown
