"""The table that an evaluation prints."""

import sys
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from kd_dist.config.tasks import METRICS
from kd_dist.data.examples import Examples
from kd_dist.evaluation.model_key import ModelKey
from kd_dist.evaluation.scoring import Scored


def print_table(examples: Examples, scored: Mapping[ModelKey, Scored]) -> None:
    """Print a row for every model."""
    metrics = METRICS[examples.task]
    table = Table(title=f"{examples.split}: {len(examples.texts):,} rows")
    has_speed = any("latency_ms" in one.row for one in scored.values())
    has_exits = any(one.layers_N is not None for one in scored.values())
    exits = ["layers"] if has_exits else []
    speed = ["operations", "fewer", "latency ms", "p95", "samples/s", "faster"] if has_speed else []
    for header in ["model", *metrics, *exits, "parameters", "MB", *speed]:
        table.add_column(header, justify="left" if header == "model" else "right")
    for key, one in scored.items():
        table.add_row(str(key), *_cells(one, metrics, has_exits, has_speed))
    Console(width=None if sys.stdout.isatty() else 140).print(table)


def _cells(one: Scored, metrics: Sequence[str], has_exits: bool, has_speed: bool) -> list[str]:
    row = one.row
    cells = [f"{row[metric]:.4f}" for metric in metrics]
    if has_exits:
        cells.append(f"{row.get('mean_layers', one.classifier.num_layers):.2f}")
    cells += [f"{row['parameters']:,}", f"{row['size_mb']:.1f}"]
    if not has_speed:
        return cells
    timing = [f"{row['latency_ms']:.2f}", f"{row['latency_p95_ms']:.2f}", f"{row['samples_per_second']:,.1f}"]
    operations = [f"{row['operations_per_sample'] / 1e6:,.1f} M", f"{row['operations_ratio']:.2f}x"]
    return [*cells, *operations, *timing, f"{row['throughput_ratio']:.2f}x"]
