"""Early exit is shown speed by speed, and its thresholds with the reason for them."""

import json
from pathlib import Path

from tests.reporting.pages import (
    calibration_of,
    exit_score,
    score,
    text_of,
    write,
    write_results,
)


def test_speeds_stand_beside_the_backbone_and_the_student(exit_run: Path) -> None:
    text = text_of(exit_run)
    for shown in (
        "Early exit speed by speed · × against the teacher",
        "teacher — 0.9000 0.8900 100.0% — 400 M 900 M 8.000 100.0 100.0%",
        "student — 0.8000 0.7900 — — 100 M 4.0× — 2.000 4.0× 400.0 4.0× —",
        "fast own thresholds 0.8900 0.8800 98.9% 2.00 250 M 1.6× 562 M 1.6× 5.000 1.6× 80.00 0.80× 50.0%",
        "fast 0 0.9000 0.8900 100.0% 3.00 400 M 1.0× 900 M 1.0× 8.000 1.0× 50.00 0.50× 50.0%",
        "fast 0.5 0.8750 0.8650 97.2% 1.75 200 M 2.0× 450 M 2.0× 4.000 2.0× 100.0 1.0× 50.0%",
        "Accuracy and operations saved fast by speed teacher fast, own thresholds student",
        "Accuracy and throughput fast by speed",
        "times fewer operations than the teacher",
        "Where rows exit share of the rows by layer",
        "own thresholds 2.00 layers on average 25% 50% 25%",
        "speed 0.5, 1: 101 rows (50.5%)",
    ):
        assert shown in text
    comparison = text[text.index("Results test") : text.index("Early exit")]
    assert "fast 0.8900 0.8800 98.9%" in comparison  # by itself: speeds are no seeds
    assert "seeds" not in comparison


def test_the_rule_of_a_calibration_is_told(exit_run: Path) -> None:
    text = text_of(exit_run)
    for shown in (
        "Thresholds · calibration on 150 validation rows",
        "A text exits when the normalised entropy of the prediction is below 0.25, at whichever layer. "
        "Of the rules that lose at most 0.01 accuracy this is the fastest.",
        "accuracy 0.8712 accuracy with all layers 0.8765 fewer operations 1.8× mean layers 1.90 of 3",
        "candidates chosen least allowed",
    ):
        assert shown in text
    for rule, settings, told in (
        (calibration_of([0.5, 0.25]), {"target_speedup": 2.0}, "below the threshold of the layer. Of the rules that"),
        (calibration_of([0.5, 0.25]), {"target_speedup": 2.0}, "layer 1 2 exit below 0.5 0.25"),
        (
            calibration_of([0.0, 0.0], patience=2),
            {"patience": 2},
            "when 2 layers in a row predict the same. This is calibrate.patience",
        ),
        (calibration_of([0.0, 0.0]), {"quality_budget": 0.0}, "after the last layer: no threshold"),
    ):
        write(exit_run / "calibration" / "config.json", {"kind": "calibrate", "calibrate": settings})
        write(exit_run / "calibration" / "calibration.json", rule)
        assert told in text_of(exit_run)


def test_speeds_without_timing_are_compared_by_their_layers(exit_run: Path) -> None:
    measured = {"operations_per_sample", "operations_padded", "latency_ms", "samples_per_second", "speedup_realised"}
    rows = json.loads((exit_run / "results.json").read_text(encoding="utf-8"))
    kept = [{key: value for key, value in row.items() if key not in measured} for row in rows]
    kept[-2] |= {"accuracy": float("nan"), "macro_f1": None}
    write_results(exit_run, *kept)
    (exit_run / "calibration" / "calibration.json").unlink()
    text = text_of(exit_run)
    assert "fast 0.5 0.8750 0.8650 97.2% 1.75" in text
    assert "fast 1 — — 66.7% 1.00" in text
    assert "Accuracy and layers fast by speed fast, own thresholds" in text
    assert "Thresholds ·" not in text
    (exit_run / "evaluate" / "evaluation.json").unlink()
    assert "Where rows exit" not in text_of(exit_run)


def test_seeds_of_a_speed_become_a_mean(exit_run: Path) -> None:
    rows = [exit_score(accuracy, 2.0, 2.0, speed=0.5, seed=seed) for seed, accuracy in ((1, 0.8), (2, 0.9))]
    write_results(exit_run, score("teacher", 0.9), exit_score(0.89, 2.0, 1.6), *rows)
    text = text_of(exit_run)
    assert "fast 0.5 0.8500 ± 0.0707" in text
    assert "Fewer operations 1.6× 400 M → 250 M a text" in text  # a tile: branches make no model smaller


def test_without_early_exit_there_is_no_word_of_it(scored_run: Path) -> None:
    text = text_of(scored_run)
    assert "Early exit" not in text
    assert "Smaller 4.0×" in text
