"""The tables of docs/reliability.md on the kills that runs survived, made from results/chaos.jsonl."""

import json
from collections import Counter
from collections.abc import Callable
from statistics import median
from typing import Any

from benchmarks.table import RESULTS, table

JOBS = "command|job|ranks|kills survived|of one rank|of all ranks|of the launcher|of everything"
PHASES = "killed during|kills"
COSTS = "command|kills in training|steps repeated: median, most|seconds until training was back: median, most"

TARGETS = {
    "one rank": ("one rank", "the rank, at a change of a file"),
    "all ranks": ("all ranks",),
    "the launcher": ("launcher",),
    "everything": ("node",),
}
WORK = {
    "opening the run folder": ("opening",),
    "preparation of rows": ("labelled", "unlabelled", "perturbed", "corpus", "words", "vocabulary", "graph"),
    "augmentation": ("augment", "augmented"),
    "cutting a vocabulary": ("cut_vocabulary",),
    "outputs of the teacher": ("teacher_outputs", "soft_labels"),
    "averaging teachers": ("ensemble",),
    "set-up of training": ("set-up",),
    "a step of training": ("step",),
    "an evaluation in training": ("evaluation",),
    "a save": ("save",),
    "an export": ("export",),
    "results and completion": ("results", "completion"),
    "evaluation": ("evaluate",),
    "calibration": ("calibrate",),
    "the ONNX of the export": ("serve",),
    "the report": ("report",),
}


def _kills() -> list[dict[str, Any]]:
    return [json.loads(line) for line in (RESULTS / "chaos.jsonl").read_text(encoding="utf-8").splitlines()]


def jobs() -> list[str]:
    """Return which jobs were killed how often, and what of them."""
    kills, rows = _kills(), []
    for command, job, ranks in sorted({(kill["command"], kill["job"], kill["ranks"]) for kill in kills}):
        own = [kill for kill in kills if (kill["command"], kill["job"], kill["ranks"]) == (command, job, ranks)]
        counts = [sum(kill["target"] in targets for kill in own) for targets in TARGETS.values()]
        rows.append([f"`{command}`", f"`{job}`", str(ranks), str(len(own)), *(str(count or "") for count in counts)])
    sums = [sum(kill["target"] in targets for kill in kills) for targets in TARGETS.values()]
    return table(JOBS, [*rows, ["all", "", "", str(len(kills)), *map(str, sums)]])


def phases() -> list[str]:
    """Return what runs were doing when they were killed."""
    counts = Counter(kill["phase"] for kill in _kills())
    unnamed = counts.keys() - {phase for phases in WORK.values() for phase in phases}
    assert not unnamed, unnamed
    rows = [[name, str(sum(counts[phase] for phase in phases))] for name, phases in WORK.items()]
    return table(PHASES, [row for row in rows if row[1] != "0"])


def costs() -> list[str]:
    """Return what the kills in training cost."""
    rows = []
    for command in sorted({kill["command"] for kill in _kills()}):
        kills = [kill for kill in _kills() if kill["command"] == command and kill["step"] is not None]
        repeated = [kill["step"] - kill["saved"] for kill in kills]
        back = [kill["seconds_back"] for kill in kills if kill["seconds_back"] is not None]
        rows.append([f"`{command}`", str(len(kills)), _both(repeated, "{:.0f}"), _both(back, "{:.1f}")])
    return table(COSTS, rows)


def _both(values: list[float], form: str) -> str:
    shown: Callable[[float], str] = form.format
    return f"{shown(median(values))}, {shown(max(values))}" if values else ""
