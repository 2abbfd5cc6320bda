"""Report on labelled rows, for people to read."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from kd_dist.data.arrow_rows import percentiles
from kd_dist.data.cleaning import clean
from kd_dist.data.discovery import unread_note
from kd_dist.data.labelled_rows import BadRows, left_out
from kd_dist.data.labels import Labels
from kd_dist.data.prepared_rows import SPLITS
from kd_dist.data.row_blocks import Rows
from kd_dist.data.unknown_words import total, unknown_words_note

SAMPLES_PER_LABEL = 2

SAMPLE_CHARACTERS = 200

NAMED_FILES = 100

Report = dict[str, Any]


def summary(name: str, report: Report) -> str:
    """Summarize a report in a few lines.

    Args:
        name: that of the stage.
        report: what `labelled.prepare` returned.
    """
    rows = ", ".join(f"{report[split]['rows']:,} {split}" for split in SPLITS)
    lines = [f"{name}: {rows} rows, {_labels_in_words(report)}, built in {report['seconds']:.0f} s"]
    leaks, skipped = report["leaks"], sum((Counter(report[split]["skipped"]) for split in SPLITS), Counter())
    if leaks["train_rows"]:
        what = "removed" if leaks["removed"] else "kept (data.remove_leaked=false)"
        lines.append(f"  {leaks['train_rows']:,} training rows are also in validation or test: {what}")
    if report["duplicates_in_train"]:
        lines.append(f"  {report['duplicates_in_train']:,} training rows repeat an earlier one: kept")
    if skipped:
        lines.append(f"  {left_out(skipped)}")
    if unread := report["unread_files"]:
        lines.append(f"  {unread_note(unread)}")
    if truncated := sum(report[split]["truncated"] for split in SPLITS):
        lines.append(f"  {truncated:,} rows are longer than data.max_length and were truncated")
    if note := unknown_words_note(total(report[split] for split in SPLITS)):
        lines.append(f"  {note}")
    if alike := report["alike_labels"]:
        lines.append("  labels that differ by case, width, spaces, invisible characters or .0 alone:")
        lines += [f"    {_alike_in_words(group)}" for group in alike[:10]]
        lines += [f"    and {len(alike) - 10:,} more (data_report.json)"] if len(alike) > 10 else []
    if rare := report["rare_labels"]:
        lines.append(f"  labels with fewer than two training rows: {', '.join(rare[:10])}{' ...' * (len(rare) > 10)}")
    return "\n".join(lines)


def _alike_in_words(group: Mapping[str, int]) -> str:
    num_labels = len({clean(spelling) for spelling in group})
    shown = ", ".join(f"{spelling!r} ({rows:,} rows)" for spelling, rows in group.items())
    return f"{shown}: {'read as one' if num_labels == 1 else f'{num_labels} labels, rename those that mean the same'}"


def _labels_in_words(report: Report) -> str:
    counts = report["train"]["labels"]
    if not counts:
        return "a number each"
    largest = max(counts, key=lambda name: counts[name])
    return f"{len(counts)} labels ({largest!r} in {counts[largest] / report['train']['rows']:.1%} of the training rows)"


def describe_rows(rows: Rows, labels: Labels, bad_rows: BadRows) -> Report:
    """Return counts of the rows of a split, by label and by length in characters."""
    counts, lengths = rows.label_counts(), rows.column("characters")
    return {
        "rows": len(rows),
        "files": rows.files(NAMED_FILES),
        "skipped": dict(bad_rows.counts),
        "labels": {name: counts[name] for name in labels.ids},
        "characters": int(lengths.sum()),
        "character_percentiles": percentiles(np.bincount(lengths, minlength=1)),
    }


def label_report(train: Rows, counts: dict[str, int]) -> Report:
    """Return how balanced the labels of the training rows are, and a few texts of each."""
    most, least = max(counts.values(), default=0), min(counts.values(), default=0)
    return {
        "largest_share": round(most / len(train), 4),
        "largest_to_smallest": round(most / least, 2) if least else None,
        "rare_labels": [name for name, count in counts.items() if count < 2],
        "samples": {
            label: ["\n".join(text[:SAMPLE_CHARACTERS] for text in train[position].key if text) for position in found]
            for label, found in _sampled(train, by_label=bool(counts)).items()
        },
    }


def _sampled(rows: Rows, *, by_label: bool) -> dict[str, list[int]]:
    """Return the positions of the first rows of each label."""
    samples: dict[str, list[int]] = {}
    for position, label_set in enumerate(rows.column("label_set").tolist()):
        for label in rows.label_sets[label_set]:
            found = samples.setdefault(label if by_label else "", [])
            if len(found) < SAMPLES_PER_LABEL:
                found.append(position)
    return samples
