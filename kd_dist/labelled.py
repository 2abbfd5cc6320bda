"""The stage of labelled texts: files -> splits without leaks -> tokenised, memory-mapped Arrow, and a report on them.

The texts are in memory, their tokens are not. Importing this module is cheap: the heavy libraries are imported where
they are used.
"""

import dataclasses
import functools
import json
import math
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kd_dist.config import read_stage
from kd_dist.corpus import interruption_as_itself, percentiles, rebuilt
from kd_dist.errors import nearest
from kd_dist.label_files import BadRows, RawRow, RowReader, left_out, parse_columns, refuse_header_as_row
from kd_dist.preprocessing import Encoding, Preprocessing, read_hint_words
from kd_dist.sections import LabelledData
from kd_dist.stages import LabelledStage
from kd_dist.texts import TEXTS, CorpusError, grouped, numbered_lines
from kd_dist.tokenising import load_fast_tokenizer

HELD_OUT = ("validation", "test")
SPLITS = ("train", *HELD_OUT)
ROWS_PER_WORKER = 4_096  # fewer are tokenised sooner than a process starts
SAMPLES_PER_LABEL = 2
SAMPLE_CHARACTERS = 200

Splits = dict[str, list[RawRow]]
Report = dict[str, Any]


# ---------------------------------------------------------------------------------------------------------------- stage


def run(stage_dir: Path) -> None:
    """Make `stage_dir`/tokens, which training reads, and `stage_dir`/texts/train.txt, the training texts alone.

    What an interrupted run left is replaced; nothing appears under its final name before it is complete.

    Raises:
        CorpusError: rows, labels or settings that cannot be used; the message names file and line.
    """
    stage: LabelledStage = read_stage(stage_dir)
    report = prepare(stage.data, stage.teacher.path, stage_dir / "tokens", stage_dir / "texts" / "train.txt")
    print(summary(stage_dir.name, report), flush=True)


def prepare(data: LabelledData, tokenizer_path: str, output_dir: Path, texts_file: Path) -> Report:
    """Write the tokenised splits to `output_dir` and the training texts to `texts_file`; return the report.

    `output_dir` is replaced. It holds, for every split, a Hugging Face dataset (`input_ids`, `token_type_ids` where the
    model tells two segments apart, `labels`, `text`, `text_pair`) and `<split>_lengths.npy`, the tokens of every row;
    `tokenizer/`, `preprocessing.json`, `label2id.json`, `statistics.json` and `data_report.json`. `labels` is the index
    of a class, for multi-label rows a vector with 1.0 for every label, for regression a number.

    Raises what `load_splits`, `read_hint_words` and `load_fast_tokenizer` raise.
    """
    started = time.monotonic()
    tokenizer = load_fast_tokenizer(tokenizer_path)
    hint_words = read_hint_words(Path(data.hint_words)) if data.hint_words else {}
    splits, labels, report = load_splits(data)
    preprocessing = Preprocessing(
        data.max_length, data.segment, "text_pair" in parse_columns(data.columns).wanted(), hint_words
    )
    with rebuilt(output_dir) as (work, output):
        for split in SPLITS:
            report[split] |= write_split(
                splits[split], split, work, output, tokenizer_path, preprocessing, labels, data.num_workers
            )
        report["seconds"] = round(time.monotonic() - started, 3)
        statistics = _statistics(data, tokenizer, labels, preprocessing, report)
        tokenizer.save_pretrained(output / "tokenizer")
        preprocessing.save(output)
        for name, content in {"label2id": labels.ids, "statistics": statistics, "data_report": report}.items():
            (output / f"{name}.json").write_text(json.dumps(content, ensure_ascii=False, indent=2), encoding="utf-8")
        _write_texts(splits["train"], texts_file)
    return report


def _statistics(
    data: LabelledData, tokenizer: Any, labels: "Labels", preprocessing: Preprocessing, report: Report
) -> dict[str, Any]:
    return {
        "vocabulary_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "max_length": data.max_length,
        "word_starts": False,
        "task": data.task,
        "num_labels": max(1, len(labels.ids)),
        "pairs": preprocessing.pairs,
        **{f"{split}_rows": report[split]["rows"] for split in SPLITS},
        "truncated_rows": sum(report[split]["truncated"] for split in SPLITS),
        "tokens": sum(report[split]["tokens"] for split in SPLITS),
        "seconds": report["seconds"],
    }


def _write_texts(rows: Sequence[RawRow], file: Path) -> None:
    """One text a line; a pair is two lines."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.tmp")
    with temporary.open("w", encoding="utf-8") as stream:
        stream.writelines(f"{text}\n" for row in rows for text in row.key if text is not None)
    os.replace(temporary, file)


def summary(name: str, report: Report) -> str:
    """A few lines for people, of what `prepare` returned."""
    rows = ", ".join(f"{report[split]['rows']:,} {split}" for split in SPLITS)
    lines = [f"{name}: {rows} rows, {_labels_in_words(report)}, built in {report['seconds']:.0f} s"]
    leaks, skipped = report["leaks"], sum((Counter(report[split]["skipped"]) for split in SPLITS), Counter())
    if leaks["train_rows"]:
        what = "removed" if leaks["removed"] else "kept (data.remove_leaked=false)"
        lines.append(f"  {leaks['train_rows']:,} training rows stand in validation or test too: {what}")
    if report["duplicates_in_train"]:
        lines.append(f"  {report['duplicates_in_train']:,} training rows repeat an earlier one: kept")
    if skipped:
        lines.append(f"  {left_out(skipped)}")
    if truncated := sum(report[split]["truncated"] for split in SPLITS):
        lines.append(f"  {truncated:,} rows are longer than data.max_length and were cut")
    if rare := report["rare_labels"]:
        lines.append(f"  labels with fewer than two training rows: {', '.join(rare[:10])}{' ...' * (len(rare) > 10)}")
    return "\n".join(lines)


def _labels_in_words(report: Report) -> str:
    counts = report["train"]["labels"]
    if not counts:
        return "a number each"
    largest = max(counts, key=lambda name: counts[name])
    return f"{len(counts)} labels ({largest!r} in {counts[largest] / report['train']['rows']:.1%} of the training rows)"


# -------------------------------------------------------------------------------------------- rows for other train rows


def share_held_out(tokens: Path, output: Path, output_dir: Path) -> None:
    """Put into `output` everything of prepared rows but the train rows and the reports.

    Copies of what is small, and links to the validation and test rows, from where `output` will be at last.
    """
    shutil.copytree(tokens / "tokenizer", output / "tokenizer")
    for name in ("preprocessing.json", "label2id.json"):
        shutil.copy(tokens / name, output / name)
    for split in HELD_OUT:
        for name in (split, f"{split}_lengths.npy"):
            (output / name).symlink_to(os.path.relpath((tokens / name).resolve(), output_dir.resolve()))


def held_out_texts(tokens: Path) -> set[tuple[str, ...]]:
    """The texts of all validation and test rows, of a pair both."""
    from datasets import load_from_disk

    found: set[tuple[str, ...]] = set()
    for split in HELD_OUT:
        rows = load_from_disk(str(tokens / split))
        found.update(zip(*(rows[name][:] for name in TEXTS if name in rows.column_names), strict=True))
    return found


# --------------------------------------------------------------------------------------------------------------- labels


def label_order(names: Iterable[str]) -> list[str]:
    """Each once, sorted: numbers by value, then words."""

    def key(name: str) -> tuple[float, str]:
        return (float(name), name) if is_finite_number(name) else (math.inf, name)

    return sorted(set(names), key=key)


def is_finite_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def read_label_names(path: Path) -> list[str]:
    """Read label names, a line each, in the order of their indices; empty lines may stand at the end only.

    Raises CorpusError for an empty line in between, a name that stands twice, and a file without names.
    """
    lines = [(number, line.strip()) for number, line in numbered_lines(path)]
    while lines and not lines[-1][1]:
        lines.pop()
    if not lines:
        raise CorpusError(f"{path}: no label names")
    first_line: dict[str, int] = {}
    for number, name in lines:
        if not name:
            raise CorpusError(f"{path}, line {number}: empty, but names follow; the line of a name is its index")
        if name in first_line:
            raise CorpusError(f"{path}, line {number}: {name!r} stands in line {first_line[name]} already")
        first_line[name] = number
    return list(first_line)


@dataclass(frozen=True)
class Labels:
    """The labels that rows may have: those of the file of names, or all that the training files hold.

    `ids`: index by name; empty for regression. With a file of names, rows hold names or indices; a label that is both
    is a name.
    """

    data: LabelledData
    ids: dict[str, int]

    @classmethod
    def of(cls, data: LabelledData, train: Sequence[RawRow]) -> "Labels":
        """Raises CorpusError for a bad file of names, and when there are not two labels to tell apart."""
        if data.task == "regression":
            return cls(data, {})
        if data.label_names:
            names = read_label_names(Path(data.label_names))
        else:
            names = label_order(label for row in train for label in row.labels)
        if len(names) < 2:
            found = f"only one label, {names[0]!r}" if names else "no label"
            raise CorpusError(f"data.train: {found} in {len(train):,} rows: there is nothing to tell apart")
        return cls(data, {name: index for index, name in enumerate(names)})

    def resolved(self, rows: Iterable[RawRow], split: str, bad_rows: BadRows) -> list[RawRow]:
        """The rows with names in place of indices into the file of names; rows of unknown labels are refused."""
        kept, names = [], list(self.ids)
        for row in rows:
            if problem := self._problem(row, split):
                bad_rows.refuse(problem[0], f"{row.where}: {problem[1]}")
            elif all(label in self.ids for label in row.labels) or self.data.task == "regression":
                kept.append(row)
            else:
                labels = (label if label in self.ids else names[int(label)] for label in row.labels)
                kept.append(dataclasses.replace(row, labels=tuple(dict.fromkeys(labels))))
        return kept

    def encoded(self, row: RawRow) -> int | float | list[float]:
        """What the column `labels` holds for a row."""
        if self.data.task == "regression":
            return float(row.labels[0])
        if self.data.task == "single_label":
            return self.ids[row.labels[0]]
        return [float(name in row.labels) for name in self.ids]

    def _problem(self, row: RawRow, split: str) -> tuple[str, str] | None:
        """(reason, message) when the row has a label that cannot be used."""
        if self.data.task == "regression":
            number = row.labels[0]
            return None if is_finite_number(number) else ("not a number", f"{number!r} is not a finite number")
        unknown = [label for label in row.labels if label not in self.ids and not self._is_index(label)]
        if not unknown:
            return None
        near = nearest(unknown[0], self.ids)
        if self.data.label_names:
            valid = f"a name in {self.data.label_names} or an index from 0 to {len(self.ids) - 1}"
            return "unknown label", f"the label {unknown[0]!r} is not {valid}{near}"
        return f"label only in {split}", f"the label {unknown[0]!r} is only in {split}, no training row has it{near}"

    def _is_index(self, label: str) -> bool:
        return bool(self.data.label_names) and label.isdecimal() and int(label) < len(self.ids)


# --------------------------------------------------------------------------------------------------------------- splits


def load_splits(data: LabelledData) -> tuple[Splits, Labels, Report]:
    """Return the rows of every split, their labels, and a report on them.

    Splits that are not given are split off train, each class in proportion; then train rows that stand in another split
    go (`data.remove_leaked`); then `data.max_rows` are drawn, each class in proportion and one row of each at least.
    Equal files, settings and seed give equal rows.

    Raises:
        CorpusError: what `RowReader.read`, `refuse_header_as_row` and `Labels` refuse; a label without a training row
            (unless bad rows are skipped: it then keeps its index); no row for training or none for validation.
    """
    columns = parse_columns(data.columns)
    bad_rows = {split: BadRows(skip=data.bad_rows == "skip") for split in SPLITS}
    given = [split for split in SPLITS if getattr(data, split)]
    splits = {split: RowReader(data, columns, bad_rows[split]).read(getattr(data, split)) for split in given}
    refuse_header_as_row(splits["train"], data)
    labels = Labels.of(data, splits["train"])
    splits = {split: labels.resolved(rows, split, bad_rows[split]) for split, rows in splits.items()}
    splits = split_off(splits, data)
    report: Report = {"task": data.task, "duplicates_in_train": _num_duplicates(splits["train"])}
    report["leaks"] = {**count_leaks(splits), "removed": data.remove_leaked}
    if data.remove_leaked:
        held_out = {row.key for split in HELD_OUT for row in splits[split]}
        splits["train"] = [row for row in splits["train"] if row.key not in held_out]
    splits = {split: _drawn(rows, data, [data.seed, 1, i]) for i, (split, rows) in enumerate(splits.items())}
    _check(splits, labels)
    report |= {split: _description(rows, labels, bad_rows[split]) for split, rows in splits.items()}
    return splits, labels, report | _label_report(splits["train"], report["train"]["labels"])


def split_off(splits: Splits, data: LabelledData) -> Splits:
    """Return train, validation and test; what is not there is taken out of train, of every class its share.

    Without test rows but with validation rows test stays empty. The shares are of the rows that train has at first.
    """
    train = splits["train"]
    shares = {} if "validation" in splits else {"validation": data.validation_fraction}
    if len(splits) == 1:
        shares["test"] = data.test_fraction
    made = dict(splits)
    for number, (split, share) in enumerate(shares.items()):
        classes = _classes(made["train"], data.task)
        held_out = stratified(classes, round(share * len(train)), np.random.default_rng([data.seed, 0, number]))
        made[split] = [row for row, is_out in zip(made["train"], held_out, strict=True) if is_out]
        made["train"] = [row for row, is_out in zip(made["train"], held_out, strict=True) if not is_out]
    return {split: made.get(split, []) for split in SPLITS}


def _classes(rows: Sequence[RawRow], task: str) -> list[str]:
    """By what rows are stratified: the label, of several the rarest (Sechidis et al. 2011), of numbers nothing."""
    if task == "regression":
        return [""] * len(rows)
    counts = Counter(label for row in rows for label in row.labels)
    return [min(row.labels, key=lambda label: (counts[label], label), default="") for row in rows]


def stratified(classes: Sequence[str], count: int, rng: np.random.Generator) -> np.ndarray:
    """Return which rows are drawn (bool): `count` of them, of each class its share to within a row, never all.

    Rows in order of their classes, shuffled within a class, are taken at equal distances (systematic sampling). Fewer
    than `count` when otherwise a class would be without a row.
    """
    order = sorted(rng.permutation(len(classes)).tolist(), key=lambda row: classes[row])
    firsts = {classes[row]: row for row in reversed(order)}
    candidates = np.array([row for row in order if firsts[classes[row]] != row], dtype=np.int64)
    count = min(count, len(candidates))
    drawn = np.zeros(len(classes), dtype=bool)
    places = (np.arange(count) + rng.random()) * (len(candidates) / max(count, 1))
    drawn[candidates[places.astype(np.int64)]] = True
    return drawn


def _drawn(rows: list[RawRow], data: LabelledData, seed: list[int]) -> list[RawRow]:
    """`data.max_rows` of the rows, or one of each class where that is more."""
    if data.max_rows is None or len(rows) <= data.max_rows:
        return rows
    dropped = stratified(_classes(rows, data.task), len(rows) - data.max_rows, np.random.default_rng(seed))
    return [row for row, is_dropped in zip(rows, dropped, strict=True) if not is_dropped]


def _check(splits: Splits, labels: Labels) -> None:
    for split, way_out in (("train", "data.remove_leaked=false keeps them"), ("validation", "give data.validation")):
        if not splits[split]:
            raise CorpusError(
                f"no row is left for {split}: there are too few, or all stand in other splits ({way_out})"
            )
    with_rows = {label for row in splits["train"] for label in row.labels}
    empty = [name for name in labels.ids if name not in with_rows]
    if empty and labels.data.bad_rows == "error":
        drawn = "" if labels.data.max_rows is None else f", or data.max_rows={labels.data.max_rows} left them out"
        raise CorpusError(
            f"no training row for the label {', '.join(map(repr, empty[:10]))} ({len(empty)} of {len(labels.ids)}), or "
            f"all of its rows stand in validation or test too{drawn}; data.bad_rows=skip goes on without"
        )


# --------------------------------------------------------------------------------------------------------------- report


def count_leaks(splits: Splits) -> dict[str, int]:
    """How many rows stand in two splits; `train_rows` of train that stand in any other."""
    keys = {split: {row.key for row in rows} for split, rows in splits.items()}

    def shared(split: str, *others: str) -> int:
        return sum(any(row.key in keys[other] for other in others) for row in splits[split])

    return {
        "train_rows": shared("train", "validation", "test"),
        "train_rows_in_validation": shared("train", "validation"),
        "train_rows_in_test": shared("train", "test"),
        "validation_rows_in_train": shared("validation", "train"),
        "test_rows_in_train": shared("test", "train"),
        "test_rows_in_validation": shared("test", "validation"),
    }


def _num_duplicates(rows: Sequence[RawRow]) -> int:
    return len(rows) - len({row.key for row in rows})


def _description(rows: Sequence[RawRow], labels: Labels, bad_rows: BadRows) -> Report:
    counts = Counter(label for row in rows for label in row.labels)
    lengths = np.array([sum(len(text) for text in row.key if text) for row in rows], dtype=np.int64)
    return {
        "rows": len(rows),
        "files": [str(file) for file in dict.fromkeys(row.file for row in rows)][:100],
        "skipped": dict(bad_rows.counts),
        "labels": {name: counts[name] for name in labels.ids},
        "characters": int(lengths.sum()),
        "character_percentiles": percentiles(np.bincount(lengths, minlength=1)),
    }


def _label_report(train: Sequence[RawRow], counts: dict[str, int]) -> Report:
    """How even the labels of the training rows are, and a few rows of each."""
    samples: dict[str, list[str]] = {}
    for row in train:
        for label in row.labels:
            found = samples.setdefault(label if counts else "", [])
            if len(found) < SAMPLES_PER_LABEL:
                found.append("\n".join(text[:SAMPLE_CHARACTERS] for text in row.key if text))
    most, least = max(counts.values(), default=0), min(counts.values(), default=0)
    return {
        "largest_share": round(most / len(train), 4),
        "largest_to_smallest": round(most / least, 2) if least else None,
        "rare_labels": [name for name, count in counts.items() if count < 2],
        "samples": samples,
    }


# ----------------------------------------------------------------------------------------------------------------- rows


def write_split(
    rows: Sequence[RawRow],
    split: str,
    work: Path,
    output: Path,
    tokenizer_path: str,
    preprocessing: Preprocessing,
    labels: Labels,
    num_workers: int,
) -> Report:
    """Write `output`/`split` and its lengths; return what the tokens add to the report.

    `num_workers` processes tokenise (0: one per available core); the rows do not depend on it.
    """
    import datasets
    import pyarrow.compute as pc

    features = _features(preprocessing, labels, load_fast_tokenizer(tokenizer_path))
    encode = functools.partial(_encode_batch, tokenizer_path=tokenizer_path, preprocessing=preprocessing)
    if rows:
        _write_arrow(rows, labels, features, work / f"{split}.arrow")
        workers = min(num_workers or len(os.sched_getaffinity(0)), math.ceil(len(rows) / ROWS_PER_WORKER))
        with interruption_as_itself():
            dataset = datasets.Dataset.from_file(str(work / f"{split}.arrow")).map(
                encode,
                batched=True,
                features=features,
                num_proc=workers if workers > 1 else None,
                cache_file_name=str(work / f"{split}_rows.arrow"),
                new_fingerprint=split,  # otherwise the function is pickled and hashed for a cache that is not used
                load_from_cache_file=False,
                desc=f"tokenising {split}",
            )
    else:
        dataset = datasets.Dataset.from_dict({name: [] for name in features}, features)
    lengths = pc.list_value_length(dataset.data.column("input_ids")).to_numpy()
    np.save(output / f"{split}_lengths.npy", lengths.astype(np.min_scalar_type(max(preprocessing.max_length, 256))))
    dataset.remove_columns("truncated").save_to_disk(output / split, num_shards=None if rows else 1)
    return {
        "tokens": int(lengths.sum()),
        "token_percentiles": percentiles(np.bincount(lengths, minlength=1)),
        "truncated": pc.sum(dataset.data.column("truncated")).as_py() or 0,
    }


def _features(preprocessing: Preprocessing, labels: Labels, tokenizer: Any) -> Any:
    import datasets

    label = {
        "single_label": datasets.Value("int64"),
        "multi_label": datasets.List(datasets.Value("float32")),
        "regression": datasets.Value("float32"),
    }
    columns = {"text": datasets.Value("string"), "labels": label[labels.data.task]}
    if preprocessing.pairs:
        columns["text_pair"] = datasets.Value("string")
    columns["input_ids"] = datasets.List(datasets.Value("int32"))
    if preprocessing.has_token_types(tokenizer):
        columns["token_type_ids"] = datasets.List(datasets.Value("int8"))
    return datasets.Features({**columns, "truncated": datasets.Value("bool")})


def _write_arrow(rows: Sequence[RawRow], labels: Labels, features: Any, path: Path) -> None:
    """Write texts and labels, a few thousand rows at a time."""
    import pyarrow as pa

    names = [name for name in ("text", "text_pair", "labels") if name in features]
    schema = pa.schema([features.arrow_schema.field(name) for name in names])
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
        for group in grouped(rows, lambda row: len(row.text) + len(row.text_pair or "")):
            columns = {
                "text": [row.text for row in group],
                "text_pair": [row.text_pair for row in group],
                "labels": [labels.encoded(row) for row in group],
            }
            writer.write_batch(pa.record_batch({name: columns[name] for name in names}, schema=schema))


_worker_tokenizer = functools.lru_cache(maxsize=1)(load_fast_tokenizer)


def _encode_batch(batch: dict[str, list], tokenizer_path: str, preprocessing: Preprocessing) -> dict[str, list]:
    encodings = preprocessing.encode(_worker_tokenizer(tokenizer_path), batch["text"], batch.get("text_pair"))
    columns = {name: list(values) for name, values in zip(Encoding._fields, zip(*encodings, strict=True), strict=True)}
    return {name: values for name, values in columns.items() if values[0] is not None}
