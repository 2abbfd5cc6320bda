"""The page shows the drawings of an evaluation, with legends and tooltips."""

import numpy as np

from kd_dist.evaluation.comparison import Look
from kd_dist.evaluation.confusion import Confusion
from kd_dist.evaluation.pictures.exit_layers import Histogram
from kd_dist.evaluation.pictures.tradeoff import Curve, Point, Tradeoff
from kd_dist.reporting.pictures import confusion_matrix, exit_layers, marker, tradeoff


def test_a_tradeoff_has_a_legend() -> None:
    curve, point = (
        Curve("fast by speed", [1.0, 2.0], [0.9, 0.8], ["0", "1"], 2),
        Point("teacher", 1.0, 0.9, 0.0, 1, "s"),
    )
    shown = tradeoff(Tradeoff("Accuracy and speed", [curve], [point], "texts/s", ("least allowed", 0.85)))
    for part in ("Accuracy and speed", "fast by speed", "sign square", "rule level", ">texts/s<"):
        assert part in shown
    assert "not measured" in tradeoff(Tradeoff("Accuracy and speed", [], [], "texts/s"))


def test_exit_layers_have_tooltips() -> None:
    shown = exit_layers("Where rows exit", "share", [Histogram("speed 0.5", "1.25 layers on average", [150, 50])])
    assert "<title>speed 0.5, 2: 50 rows (25.0%)</title>" in shown
    assert "1.25 layers on average" in shown


def test_names_of_classes_are_written_whatever_fonts_are_installed() -> None:
    matrix = np.array([[9, 1], [0, 5]])
    confusion = Confusion(np.arange(2), matrix, matrix.sum(axis=1))
    shown = confusion_matrix("Confusion matrix", confusion, ["财经", "\U0010fffd <b>"])
    assert "<title>财经 → \U0010fffd &lt;b&gt;: 1 (10.0%)</title>" in shown
    assert "by number" not in shown


def test_marks_of_models() -> None:
    assert marker(Look(0, "o")) == '<i class="sign" style="--c:var(--series-1)"></i>'
    assert marker(Look(7, "o", hollow=True)) == '<i class="sign hollow" style="--c:var(--series-8)"></i>'
    assert "sign diamond" in marker(Look(2, "D"))
