"""The printed table has a row for every model, and columns for what was measured."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from kd_dist.data.examples import Examples
from kd_dist.evaluation.model_key import ModelKey
from kd_dist.evaluation.tables import print_table

EXAMPLES = Examples("test", "single_label", {"x": 0, "y": 1}, ["a"] * 1234, None, np.zeros(1234, dtype=int))
ROW = {"accuracy": 0.87654, "macro_f1": 0.5, "parameters": 12_345_678, "size_mb": 49.4}
SPEED = {"latency_ms": 1.234, "latency_p95_ms": 2.345, "samples_per_second": 1234.5, "throughput_ratio": 2.5}
SPEED |= {"operations_per_sample": 369_400_000, "operations_ratio": 1.5}


def printed(capsys: Any, rows: dict[ModelKey, dict[str, Any]]) -> list[str]:
    classifier = SimpleNamespace(num_layers=12)
    scored: Any = {
        key: SimpleNamespace(row=row, classifier=classifier, layers_N=np.array([1]) if "mean_layers" in row else None)
        for key, row in rows.items()
    }
    print_table(EXAMPLES, scored)
    return capsys.readouterr().out.splitlines()


def test_scores_and_sizes(capsys) -> None:
    lines = printed(capsys, {ModelKey("teacher"): ROW, ModelKey("fast", 43): ROW})
    assert "test: 1,234 rows" in lines[0]
    for name in ("teacher", "fast@43"):
        line = next(line for line in lines if name in line)
        assert all(shown in line for shown in ("0.8765", "0.5000", "12,345,678", "49.4"))
    assert not any("latency" in line or "layers" in line for line in lines)


def test_speed_and_exits(capsys) -> None:
    lines = printed(
        capsys, {ModelKey("teacher"): ROW | SPEED, ModelKey("fast", speed=0.5): ROW | SPEED | {"mean_layers": 3.5}}
    )
    teacher, fast = (next(line for line in lines if name in line) for name in ("teacher", "fast at speed 0.5"))
    assert "12.00" in teacher  # without early exit all layers are used
    assert "3.50" in fast
    for shown in ("369.4 M", "1.50x", "1.23", "2.35", "1,234.5", "2.50x"):
        assert shown in teacher
