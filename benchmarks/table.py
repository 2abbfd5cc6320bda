"""The README's rows about classifiers, out of the results of runs: no figure is typed by hand.

python benchmarks/table.py results/thucnews results/chnsenticorp
"""

import sys
from pathlib import Path

if not __package__:  # started as a script: its own folder must not shadow installed modules
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import json
from typing import Any

from kd_dist.config import REPOSITORY
from kd_dist.errors import UserError, exit_with_message

HEAD = (
    "| data | model | score | kept | parameters | latency | samples per second | faster | configuration and figures |\n"
    "|---|---|---|---|---|---|---|---|---|"
)
NAMES = {"teacher": "teacher", "student_alone": "student without distillation", "student": "distilled student"}


def rows(folder: Path) -> list[str]:
    """One line for each model that the `evaluation` stage of a run has scored.

    Raises:
        UserError: the folder holds no such results.
    """
    file = folder / "results.json"
    if not file.exists():
        raise UserError(f"{folder} holds no results.json of a run")
    content = json.loads(file.read_text(encoding="utf-8"))
    return [_row(folder, row) for row in content if row["stage"] == "evaluation"]


def _row(folder: Path, row: dict[str, Any]) -> str:
    score = next(name for name in ("micro_f1", "accuracy", "spearman") if name in row)
    name = folder.absolute().relative_to(REPOSITORY)
    cells = [
        f"{folder.name}, {row['rows']:,} {row['split']} rows",
        NAMES[row["model"]],
        f"{score.replace('_', ' ').replace('f1', 'F1')} {row[score]:.4f}",
        f"{row['quality_kept']:.1%}",
        f"{row['parameters'] / 1e6:.1f} M",
        f"{row['latency_ms']:.2f} ms",
        f"{row['samples_per_second']:,.0f}",
        f"{row['throughput_ratio']:.1f}x",
        f"[{name}/job.json]({name}/job.json), [results.json]({name}/results.json)",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    print(HEAD)
    for folder in sys.argv[1:]:
        print("\n".join(rows(Path(folder))))


if __name__ == "__main__":
    exit_with_message(main)
