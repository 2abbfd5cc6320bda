"""The data on the page: rows, labels, lengths, what was left out, and what augmentation made of them."""

import difflib
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from kd_dist.data.prepared_rows import DATA_REPORT, SPLITS, STATISTICS
from kd_dist.reporting.page import Amount, Html, bar, el, facts, folded, join, section, share, table
from kd_dist.reporting.record import Row, RunRecord, StageRecord

FEW_LABELS = 24

AUGMENTED_ROWS, AUGMENTED_COPIES = 4, 3

Texts = tuple[str, ...]


def data_sections(run: RunRecord) -> list[Html]:
    """Return a section for each stage that makes data, as far as it has come."""
    made = {
        "corpus": _corpus,
        "unlabelled": _corpus,
        "perturbed": _corpus,
        "soft_labels": _corpus,
        "words": _corpus,
        "labelled": _labelled,
        "augment": _augmented_rows,
        "augmented": _augmented,
    }
    return [made[stage.kind](stage) for stage in run.stages if stage.kind in made]


def _corpus(stage: StageRecord) -> Html:
    title, statistics = f"Data · {stage.name}", stage.read("tokens", STATISTICS)
    if statistics is None:
        return Html()
    single = {key: value for key, value in statistics.items() if not isinstance(value, dict | list)}
    nested = {key: value for key, value in statistics.items() if isinstance(value, dict)}
    shown = [facts({key.replace("_", " "): value for key, value in single.items()})]
    for key, value in nested.items():
        shown.append(el("h3", key.replace("_", " ")))
        shown.append(table(list(map(str, value)), [list(value.values())]))
    return section(title, *shown, _files(statistics.get("files") or []))


def _files(files: Sequence[str]) -> Html:
    return folded(f"Files: {len(files):,}", el("ul", *(el("li", file) for file in files)))


def _labelled(stage: StageRecord) -> Html:
    title, report = f"Data · {stage.name}", stage.read("tokens", DATA_REPORT)
    if report is None:
        return Html()
    files = list(dict.fromkeys(file for split in SPLITS for file in report[split].get("files", [])))
    return section(
        title,
        facts(_left_out(report)),
        el("h3", "Splits and lengths in tokens"),
        _splits(report),
        _labels(report),
        _samples(report),
        _files(files),
        note=report["task"].replace("_", " "),
    )


def _left_out(report: Row) -> dict[str, Any]:
    """Return how many rows were removed, and how many were kept although they are duplicates."""
    leaks = report["leaks"]
    skipped = sum((Counter(report[split].get("skipped", {})) for split in SPLITS), Counter[str]())
    shown = {
        f"leaked training rows, {'removed' if leaks['removed'] else 'kept'}": leaks["train_rows"],
        "test rows that also appear in validation": leaks["test_rows_in_validation"],
        "duplicate training rows, kept": report["duplicates_in_train"],
        "skipped rows": sum(skipped.values()),
        "files that are not read": len(report.get("unread_files", [])),
        "largest label": share(report["largest_share"]) if report["train"]["labels"] else None,
        "largest ÷ smallest label": report["largest_to_smallest"],
    }
    shown |= {f"skipped: {reason}": number for reason, number in skipped.most_common()}
    if alike := report.get("alike_labels"):
        shown["labels that differ by case, width, spaces, invisible characters or .0 alone"] = "; ".join(
            ", ".join(map(repr, group)) for group in alike[:10]
        )
    if report["rare_labels"]:
        shown["labels with fewer than two rows"] = ", ".join(report["rare_labels"][:10])
    return shown


def _splits(report: Row) -> Html:
    described = {split: report[split] for split in SPLITS if report[split]["rows"]}
    percents = list(next(iter(described.values())).get("token_percentiles", {}))
    rows = [
        [split, one["rows"], *(one.get("token_percentiles", {}).get(percent) for percent in percents),
         one.get("truncated")]
        for split, one in described.items()
    ]  # fmt: skip
    names = ["longest" if percent == "100" else f"{percent} %" for percent in percents]
    return table(["split", "rows", *names, "cut"], rows)


def _labels(report: Row) -> Html:
    """Show how many rows have each label; the bars are of the training rows."""
    labels = report["train"]["labels"]
    if not labels:
        return Html()
    most, total = max(labels.values()) or 1, report["train"]["rows"]
    splits = [split for split in SPLITS if report[split]["rows"]]
    rows = [
        [label, bar(rows / most), Amount(share(rows / total)), *(report[split]["labels"][label] for split in splits)]
        for label, rows in sorted(labels.items(), key=lambda item: -item[1])
    ]
    shown = table(["label", "training rows", "share", *splits], rows, class_="bars")
    return folded(f"{len(labels):,} labels", shown, is_open=len(labels) <= FEW_LABELS)


def _samples(report: Row) -> Html:
    rows = [[label, text] for label, texts in (report.get("samples") or {}).items() for text in texts]
    return folded("A few training rows", table(["label", "text"], rows, class_="wrapping")) if rows else Html()


def _augmented(stage: StageRecord) -> Html:
    title, report = f"Data · {stage.name}", stage.read("tokens", DATA_REPORT)
    tally = (report or {}).get("augmentation")
    if not tally:
        return Html()
    lost = {name: tally.get(name, 0) for name in ("equal", "refused", "leaked")}
    kept = tally["tried"] - sum(lost.values())
    shown = {
        "rows": tally["rows"],
        "copies tried": tally["tried"],
        "equal to another": lost["equal"],
        "refused by the teacher": lost["refused"],
        "equal to a held-out row": lost["leaked"],
        "kept": f"{kept:,} ({share(kept / (tally['tried'] or 1))})",
        "training rows now": report["train"]["rows"],
        "words with candidates": share(tally["replaceable"] / tally["words"]) if tally.get("words") else None,
    }
    return section(title, facts(shown), el("h3", "Splits and lengths in tokens"), _splits(report))


def _augmented_rows(stage: StageRecord) -> Html:
    """Show a few rows and their copies; nothing where no block is there or can be read."""
    samples = list(itertools.islice(_samples_of(stage), AUGMENTED_ROWS))
    rows = [[_lines(original), join(_changed(original, copy) for copy in copies)] for original, copies in samples]
    if not rows:
        return Html()
    return section(f"Data · {stage.name}", table(["row", "copies"], rows, class_="wrapping"), note="a few rows")


def _samples_of(stage: StageRecord) -> Iterator[tuple[Texts, list[Texts]]]:
    """Yield rows of the first block and their copies."""
    import pyarrow.parquet as pq

    block = next(iter(sorted((stage.directory / "shards").glob("block_*.parquet"))), None)
    if block is None:
        return
    try:
        rows = pq.ParquetFile(block).read_row_group(0).to_pylist()
    except (OSError, ValueError):  # damaged: the stage that reads it will say so
        return
    for _, group in itertools.groupby(rows, key=lambda row: row["row"]):
        texts = [tuple(row[name] for name in ("text", "text_pair") if name in row) for row in group]
        if len(texts) > 1:
            yield texts[0], texts[1 : 1 + AUGMENTED_COPIES]


def _lines(texts: Texts) -> Html:
    return join(el("div", text) for text in texts)


def _changed(original: Texts, copy: Texts) -> Html:
    """Return the copy with what is new in it marked."""
    return join(
        el("div", *_marked(before, after)) for before, after in zip(original, copy, strict=True) if before != after
    )


def _marked(before: str, after: str) -> Iterator[Any]:
    for operation, _, _, start, end in difflib.SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        yield after[start:end] if operation == "equal" else el("mark", after[start:end]) if end > start else ""
