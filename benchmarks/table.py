"""The README's rows about classifiers and early exit, out of the results of runs: no figure is typed by hand.

python benchmarks/table.py results/thucnews results/fastbert_thucnews
"""

import sys
from pathlib import Path

if not __package__:  # started as a script: its own folder must not shadow installed modules
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import json
from typing import Any

from kd_dist.config.paths import REPOSITORY
from kd_dist.errors import UserError, exit_with_message

CLASSIFIERS = (
    "| data | model | score | kept | parameters | latency | samples per second | faster | configuration and figures |\n"
    "|---|---|---|---|---|---|---|---|---|"
)
EARLY_EXIT = (
    "| data | model | score | layers | operations: all, padded | fewer operations | latency | samples per second "
    "| faster | of what operations promise | configuration and figures |\n|---|---|---|---|---|---|---|---|---|---|---|"
)
NAMES = {
    "teacher": "teacher",
    "student_alone": "student without distillation",
    "student": "distilled student",
    "fastbert": "FastBERT",
}


def results(folder: Path) -> list[dict[str, Any]]:
    """What the `evaluation` stage of a run has said of each model, at each speed.

    Raises:
        UserError: the folder holds no such results, or lies elsewhere.
    """
    file = folder / "results.json"
    if not folder.absolute().is_relative_to(REPOSITORY):
        raise UserError(f"{folder} is not inside {REPOSITORY}: the table links what it shows, so copy it there")
    if not file.exists():
        raise UserError(f"{folder} holds no results.json of a run")
    content = json.loads(file.read_text(encoding="utf-8"))
    return [row for row in content if row["stage"] == "evaluation"]


def classifier_cells(row: dict[str, Any]) -> list[str]:
    return [
        NAMES[row["model"]],
        _score(row),
        f"{row['quality_kept']:.1%}",
        f"{row['parameters'] / 1e6:.1f} M",
        f"{row['latency_ms']:.2f} ms",
        f"{row['samples_per_second']:,.0f}",
        f"{row['throughput_ratio']:.1f}x",
    ]


def early_exit_cells(row: dict[str, Any]) -> list[str]:
    """A model with branches at a speed, or calibrated; any other model runs through all its layers."""
    name = {"teacher": "all layers, no branches"}.get(row["model"], NAMES[row["model"]])
    if "mean_layers" in row:
        name = f"speed {row['speed']:g}" if "speed" in row else "calibrated"
    return [
        name,
        _score(row),
        f"{row['mean_layers']:.2f}" if "mean_layers" in row else "all",
        f"{row['operations_per_sample'] / 1e6:,.0f} M, {row['operations_padded'] / 1e6:,.0f} M",
        f"{row['operations_ratio']:.2f}x",
        f"{row['latency_ms']:.2f} ms",
        f"{row['samples_per_second']:,.0f}",
        f"{row['throughput_ratio']:.2f}x",
        f"{row['speedup_realised']:.0%}",
    ]


def _score(row: dict[str, Any]) -> str:
    score = next(name for name in ("micro_f1", "accuracy", "spearman") if name in row)
    return f"{score.replace('_', ' ').replace('f1', 'F1')} {row[score]:.4f}"


def _line(folder: Path, row: dict[str, Any], cells: list[str]) -> str:
    name = folder.absolute().relative_to(REPOSITORY)
    data = f"{folder.name}, {row['rows']:,} {row['split']} rows"
    link = f"[{name}/job.json]({name}/job.json), [results.json]({name}/results.json)"
    return f"| {' | '.join([data, *cells, link])} |"


def lines(folder: Path) -> list[str]:
    """The head of a run's table, and a line for each of its models."""
    rows = results(folder)
    has_exits = any("mean_layers" in row for row in rows)
    cells = early_exit_cells if has_exits else classifier_cells
    return [EARLY_EXIT if has_exits else CLASSIFIERS, *(_line(folder, row, cells(row)) for row in rows)]


def main() -> None:
    """A table for each kind of run that is named: of models, and of models with early exit."""
    tables: dict[str, list[str]] = {}
    for folder in sys.argv[1:]:
        head, *rows = lines(Path(folder))
        tables.setdefault(head, []).extend(rows)
    print("\n\n".join("\n".join([head, *rows]) for head, rows in tables.items()))


if __name__ == "__main__":
    exit_with_message(main)
