"""TinyBERT's data augmentation (Jiao et al. 2020, algorithm 1), made right for Chinese and for millions of rows.

    shards/manifest.json            settings, models and data: what every block belongs to
           block_00000012.parquet   from rows 12 x 256 and on: text, text_pair, labels, row, copy (0: the original)

A block depends on its rows and the settings alone: shard i of n writes blocks i, i + n, ..., but for those that are
there, and any number of shards writes the same bytes (on one kind of device).

Of each row N copies are tried. In a copy every word that may be replaced is, independently and with probability p, by a
uniform choice of its M candidates: those of a masked language model for a word of one piece; for others near words by
vectors, or those of a mask over all pieces. A copy equal to the row or to an earlier copy is dropped, but counts as
tried. Labels are those of the row. What differs from the published code:

- Chinese words are jieba's; candidates are of the same part of speech; names, numbers, function words stay.
- The word itself is no candidate of the language model: it made replacements that replaced nothing.
- Vectors only stand for Chinese words of two characters and more: one alone says too little to have near words.
- A pair gives N copies of each text beside the *original* other; the published loop kept the last copy of the first.
- Text between the words stays as it is; the published code joins lower-cased tokens by spaces.
- Chance is a function of (seed, row, text, copy): a larger N only adds copies.
- Copies are of what training sees of a text, its first `max_length` tokens; the row itself stays as it is.
"""

import functools
import hashlib
import itertools
import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from kd_dist.batches import mix
from kd_dist.candidates import Candidates, Sources, sources_of
from kd_dist.candidates.words import Word, split_words
from kd_dist.config import read_stage
from kd_dist.corpus import SPLIT_ROWS, percentiles, rebuilt, rows_of_units
from kd_dist.errors import RunError
from kd_dist.labelled import held_out_texts, share_held_out
from kd_dist.preprocessing import CHARACTERS_PER_TOKEN, Preprocessing
from kd_dist.runs import write_json
from kd_dist.sections import Augment
from kd_dist.stages import AugmentedStage, AugmentStage
from kd_dist.texts import TEXTS
from kd_dist.tokenising import load_fast_tokenizer, word_cutter

FORMAT_VERSION = 2  # raise it when the same settings would give other rows
BLOCK_ROWS = 256
SECONDS_BETWEEN_LINES = 60
MANIFEST = "manifest.json"
METADATA = b"kd_dist"  # under this key a block keeps its identity and its tally


# What became of the rows of a block: `rows` there were, copies `tried`, `equal` ones, ones `refused` by the teacher;
# `words` that may be replaced, and `replaceable` ones that have candidates.
Tally = Counter[str]


# --------------------------------------------------------------------------------------------------------------- shards


def run(stage_dir: Path) -> None:
    """Write the blocks of one shard, KD_DIST_SHARD, that are not there yet.

    Raises:
        UserError: the teacher's labels are not those of the data.
        RunError: nothing that proposes words, a file that is not what its option says, or blocks of other settings.
    """
    stage: AugmentStage = read_stage(stage_dir)
    sources = sources_of(stage)
    rows = source_rows(Path(stage.data.tokens))
    folder = stage_dir / "shards"
    folder.mkdir(exist_ok=True)
    identity = _agree(folder, _manifest(stage, sources, len(rows)))
    shard = int(os.environ.get("KD_DIST_SHARD", "0"))
    name = f"{stage_dir.name}, shard {shard}"
    own = range(shard, num_blocks(len(rows)), stage.resources.shards)
    missing = [block for block in own if not _is_good(block_path(folder, block), identity)]
    if len(missing) < len(own):
        print(f"{name}: {len(own) - len(missing):,} of {len(own):,} blocks are there", flush=True)
    if missing:
        _write_blocks(Augmenter.of(stage, sources), rows, folder, identity, missing, name)


def _write_blocks(augmenter: "Augmenter", rows: Any, folder: Path, identity: str, blocks: list[int], name: str) -> None:
    tally, started = Tally(), time.monotonic()
    for block in _with_progress(blocks, name):
        first = block * BLOCK_ROWS
        table, found = augmenter.augmented(rows[first : first + BLOCK_ROWS], first)
        _write_block(block_path(folder, block), table, identity, found)
        tally += found
    seconds, written = time.monotonic() - started, tally["rows"] + num_kept(tally)
    print(
        f"{name}: {in_words(tally)}; {written:,} rows in {seconds:,.0f} s, {written / seconds:,.0f} a second",
        flush=True,
    )


def num_kept(tally: Tally) -> int:
    """Copies that were written."""
    return tally["tried"] - tally["equal"] - tally["refused"]


def in_words(tally: Tally) -> str:
    refused = f", {tally['refused']:,} refused by the teacher" if tally["refused"] else ""
    return (
        f"{tally['rows']:,} rows gave {num_kept(tally):,} more of {tally['tried']:,} tried ({tally['equal']:,} equal"
        f"{refused}); {tally['replaceable']:,} of {tally['words']:,} words had candidates"
    )


def _with_progress(blocks: list[int], name: str) -> Iterator[int]:
    started = last = time.monotonic()
    for done, block in enumerate(blocks):
        if done and time.monotonic() - last > SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            minutes = (last - started) / done * (len(blocks) - done) / 60
            print(f"{name}: {done:,} of {len(blocks):,} blocks, {minutes:,.0f} minutes left", flush=True)
        yield block


def source_rows(tokens_dir: Path) -> Any:
    """The train rows of prepared data: texts and labels, as Arrow."""
    from datasets import load_from_disk

    rows = load_from_disk(str(tokens_dir / "train"))
    return rows.select_columns([name for name in (*TEXTS, "labels") if name in rows.column_names]).with_format("arrow")


# ------------------------------------------------------------------------------------------------------------- manifest


def _manifest(stage: AugmentStage, sources: Sources, num_rows: int) -> dict[str, Any]:
    return {
        "format_version": FORMAT_VERSION,
        "settings": stage.augment.model_dump(),
        "rows": num_rows,
        "block_rows": BLOCK_ROWS,
        "data": files_at(Path(stage.data.tokens) / "train"),
        "teacher": files_at(Path(stage.teacher.path)) if stage.augment.keep_confidence is not None else None,
    } | {name: path and files_at(Path(path)) for name, path in sources._asdict().items()}


def files_at(path: Path) -> list[list[Any]]:
    """(name, bytes, time of change) of a file or of the files in a folder; just the name of a model on the hub."""
    if not path.exists():
        return [[str(path)]]
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in files if file.is_file()]


def identity_of(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()[:16]


def _agree(folder: Path, manifest: dict[str, Any]) -> str:
    """Write the manifest, or see that it is the one that is there; returns its identity. Every shard does so."""
    path = folder / MANIFEST
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else manifest
    if before != manifest:
        pairs = [(before.get(key), value, key) for key, value in manifest.items() if key != "settings"]
        pairs += [(before["settings"].get(key), value, f"augment.{key}") for key, value in manifest["settings"].items()]
        differing = ", ".join(key for old, new, key in pairs if old != new)
        raise RunError(
            f"{folder} holds blocks of other settings or inputs ({differing}); remove the folder, or choose another "
            "--run-id"
        )
    write_json(path, manifest)
    return identity_of(manifest)


# --------------------------------------------------------------------------------------------------------------- blocks


def num_blocks(num_rows: int) -> int:
    return -(-num_rows // BLOCK_ROWS)


def block_path(folder: Path, block: int) -> Path:
    return folder / f"block_{block:08d}.parquet"


def _write_block(path: Path, table: Any, identity: str, tally: Tally) -> None:
    """A file that is there as a whole or not at all."""
    import pyarrow.parquet as pq

    metadata = json.dumps({"identity": identity, "tally": tally})
    temporary = path.with_name(f".{path.name}.tmp")  # a block has one writer: what a killed one left is overwritten
    with open(temporary, "wb") as file:
        table = table.replace_schema_metadata({METADATA: metadata.encode()})
        pq.write_table(table, file, compression="zstd", write_page_checksum=True)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def read_block(path: Path) -> Any:
    """The Arrow table of a block, every byte verified. Raises ValueError or OSError when it is damaged."""
    import pyarrow.parquet as pq

    with open(path, "rb") as file:
        return pq.read_table(file, page_checksum_verification=True, use_threads=False)


def read_tally(path: Path, identity: str) -> Tally:
    """The tally of a block, from its end alone. Raises ValueError or OSError when it is no block of these settings."""
    import pyarrow.parquet as pq

    metadata = json.loads((pq.read_schema(path).metadata or {}).get(METADATA, "{}"))
    if metadata.get("identity") != identity:
        raise ValueError("written with other settings")
    return Tally(metadata["tally"])


def _is_good(path: Path, identity: str) -> bool:
    try:
        read_tally(path, identity)
        read_block(path)
    except (OSError, ValueError):  # pyarrow's errors are one or the other
        return False
    return True


# --------------------------------------------------------------------------------------------------------------- copies


def copies(
    words: Sequence[Word], candidates: dict[int, list[str]], number: int, probability: float, seed: int
) -> Iterator[str]:
    """`number` texts in which words are replaced by chance; any of them may be equal, to the original too."""
    draws = np.random.Generator(np.random.PCG64(seed)).random((number, len(candidates), 2))
    for draw in draws:
        texts = [word.text for word in words]
        for (index, options), (chance, choice) in zip(candidates.items(), draw.tolist(), strict=True):
            if chance < probability:
                texts[index] = options[int(choice * len(options))]
        yield "".join(texts)


# ------------------------------------------------------------------------------------------------------------ augmenter


class Copy(NamedTuple):
    """Copy `number` of row `row`, both counted from 0: copy 0 is the row itself. `texts`: one, or the two of a pair."""

    row: int
    number: int
    texts: tuple[str, ...]


class Window:
    """What training sees of a text: no more of it is worth a forward pass, or a place in a copy."""

    def __init__(self, tokens_dir: Path) -> None:
        self._preprocessing = Preprocessing.load(tokens_dir)
        self._backend = load_fast_tokenizer(str(tokens_dir / "tokenizer")).backend_tokenizer
        self._backend.no_truncation()
        self._backend.no_padding()

    def __call__(self, text: str) -> str:
        """The beginning of a clean text that its first `max_length` tokens cover: enough to fill a row by itself."""
        size = self._preprocessing.max_length
        text = text[: size * CHARACTERS_PER_TOKEN]
        ends = self._ends(text)
        return text if len(ends) <= size else text[: ends[size - 1]]

    def _ends(self, text: str) -> list[int]:
        """Where each token ends, as a number of characters; of words at least one of the tokens that they become."""
        if self._preprocessing.segment != "word":
            return [end for _, end in self._backend.encode(text, add_special_tokens=False).offsets]
        words = word_cutter().lcut(text, HMM=False)  # as the preprocessing cuts
        ends = itertools.accumulate(map(len, words))
        return [end for word, end in zip(words, ends, strict=True) if not word.isspace()]


class Augmenter:
    """Rows in, rows and their copies out."""

    def __init__(
        self, settings: Augment, candidates: Candidates, window: Window, confidence: "Confidence | None"
    ) -> None:
        self._settings = settings
        self._candidates = candidates
        self._window = window
        self._confidence = confidence

    @classmethod
    def of(cls, stage: AugmentStage, sources: Sources) -> "Augmenter":
        """Load what the settings name, onto the GPU if there is one. Raises what `run` raises."""
        from kd_dist.distributed import device

        confidence = None
        if stage.augment.keep_confidence is not None:
            confidence = Confidence(stage.teacher.path, Path(stage.data.tokens), device())
        candidates = Candidates.of(stage.augment, sources, device())
        return cls(stage.augment, candidates, Window(Path(stage.data.tokens)), confidence)

    def augmented(self, rows: Any, first_row: int) -> tuple[Any, Tally]:
        """The Arrow table of rows (text, text_pair, labels) `first_row`, `first_row` + 1, ..., each with its copies."""
        import pyarrow as pa

        columns = [name for name in TEXTS if name in rows.column_names]
        texts = list(zip(*(rows.column(name).to_pylist() for name in columns), strict=True))
        labels = rows.column("labels").combine_chunks()
        written, tally = self._copies(texts, first_row)
        if self._confidence is not None:
            before = len(written)
            written = self._confident(written, labels)
            tally["refused"] = before - len(written)
        sources = [copy.row for copy in written]
        arrays = {name: [copy.texts[column] for copy in written] for column, name in enumerate(columns)}
        table = pa.table(
            {name: pa.array(array, pa.string()) for name, array in arrays.items()}
            | {
                "labels": labels.take(pa.array(sources)),
                "row": pa.array([first_row + source for source in sources], pa.int64()),
                "copy": pa.array([copy.number for copy in written], pa.int32()),
            }
        )
        return table, tally

    def _copies(self, rows: list[tuple[str, ...]], first_row: int) -> tuple[list[Copy], Tally]:
        seen = [tuple(map(self._window, texts)) for texts in rows]
        sentences = [[split_words(text, self._settings.language) for text in texts] for texts in seen]
        flat = list(itertools.chain.from_iterable(sentences))
        candidates = self._candidates(flat)
        tally = Tally(
            rows=len(rows),
            words=sum(word.kind is not None for words in flat for word in words),
            replaceable=sum(map(len, candidates)),
            tried=len(flat) * self._settings.copies,
        )
        written: list[Copy] = []
        remaining = iter(candidates)
        for row, original in enumerate(rows):
            options = list(itertools.islice(remaining, len(original)))
            written.append(Copy(row, 0, original))
            written += self._copies_of_row(row, seen[row], sentences[row], options, first_row)
        tally["equal"] = tally["tried"] + len(rows) - len(written)
        return written, tally

    def _copies_of_row(
        self,
        row: int,
        seen: tuple[str, ...],
        sentences: list[list[Word]],
        options: list[dict[int, list[str]]],
        first_row: int,
    ) -> list[Copy]:
        """The copies of a row that differ from what training sees of it, each of which is there once."""
        settings = self._settings
        found = {seen: 0}
        for column, (words, candidates) in enumerate(zip(sentences, options, strict=True)):
            seed = mix(settings.seed, first_row + row, column)
            new_texts = copies(words, candidates, settings.copies, settings.probability, seed)
            for number, text in enumerate(new_texts, start=1 + column * settings.copies):
                found.setdefault((*seen[:column], text, *seen[column + 1 :]), number)
        return [Copy(row, number, texts) for texts, number in found.items() if number]

    def _confident(self, written: list[Copy], labels: Any) -> list[Copy]:
        """Without the copies to which the teacher would not give their label; the rows themselves stay."""
        assert self._confidence is not None
        assert self._settings.keep_confidence is not None
        new = [copy for copy in written if copy.number]
        sure = self._confidence([copy.texts for copy in new], [labels[copy.row].as_py() for copy in new])
        kept = {
            copy for copy, probability in zip(new, sure, strict=True) if probability >= self._settings.keep_confidence
        }
        return [copy for copy in written if not copy.number or copy in kept]


class Confidence:
    """How probable the teacher finds the labels of rows.

    Raises:
        UserError: the teacher's labels are not those of the data.
        RunError: the data has numbers in place of labels.
    """

    def __init__(self, teacher: str, tokens_dir: Path, device: Any) -> None:
        from kd_dist.models import Teacher, Wanted, load_tokenizer

        self._task = json.loads((tokens_dir / "statistics.json").read_text(encoding="utf-8"))["task"]
        if self._task == "regression":
            raise RunError("augment.keep_confidence needs labels with a probability; regression has none")
        self._preprocessing = Preprocessing.load(tokens_dir)
        self._tokenizer = load_tokenizer(tokens_dir / "tokenizer")
        self._device = device
        self._teacher = Teacher(
            teacher,
            Wanted(logits=True),
            precision="bf16" if device.type == "cuda" else "fp32",
            device=device,
            label2id=json.loads((tokens_dir / "label2id.json").read_text(encoding="utf-8")),
        )

    def __call__(self, rows: Sequence[tuple[str, ...]], labels: Sequence[Any]) -> np.ndarray:
        """(B) probability of the label; of several labels, that of the one the teacher agrees with least."""
        from kd_dist.candidates.masked_words import batches_of_tokens
        from kd_dist.metrics import probabilities

        columns = [list(column) for column in zip(*rows, strict=True)]
        encodings = self._preprocessing.encode(self._tokenizer, *columns) if rows else []
        sure = np.zeros(len(rows))
        for batch in batches_of_tokens([len(encoding.input_ids) for encoding in encodings]):
            probability_BC = probabilities(self._task, self._logits([encodings[row] for row in batch]))
            if self._task == "single_label":
                sure[batch] = probability_BC[np.arange(len(batch)), [labels[row] for row in batch]]
            else:
                labels_BC = np.array([labels[row] for row in batch]) > 0.5
                sure[batch] = np.where(labels_BC, probability_BC, 1 - probability_BC).min(axis=1)
        return sure

    def _logits(self, encodings: list[Any]) -> np.ndarray:
        columns = {"input_ids": [encoding.input_ids for encoding in encodings]}
        if encodings[0].token_type_ids is not None:
            columns["token_type_ids"] = [encoding.token_type_ids for encoding in encodings]
        batch = self._tokenizer.pad(columns, return_tensors="pt").to(self._device)
        logits_BC = self._teacher(batch).logits
        assert logits_BC is not None
        return logits_BC.cpu().numpy()


# -------------------------------------------------------------------------------------------------------------- collect


def collect(stage_dir: Path) -> None:
    """Make `stage_dir`/tokens of the blocks of all shards, in the shape of the data that they came from.

    Validation and test rows are shared with it. A copy that equals one of them is left out, or it would leak.

    Raises:
        RunError: a block that is missing or damaged, or shards that were not made from this data.
    """
    stage: AugmentedStage = read_stage(stage_dir)
    tokens, output_dir, started = Path(stage.data.tokens), stage_dir / "tokens", time.monotonic()
    blocks, tally = verified_blocks(Path(stage.data.shards), tokens)
    with rebuilt(output_dir) as (work, output):
        share_held_out(tokens, output, output_dir)
        rows = _tokenised(blocks, tokens, work, stage.data.num_workers)
        tally["leaked"] = tally["rows"] + num_kept(tally) - len(rows)
        train = _write_train(rows, tokens, output)
        _write_reports(tokens, output, train, tally, time.monotonic() - started)
    leaked = f", {tally['leaked']:,} left out that stand in validation or test" if tally["leaked"] else ""
    print(
        f"{stage_dir.name}: {len(rows):,} train rows, {train['tokens']:,} tokens; {in_words(tally)}{leaked}", flush=True
    )


def verified_blocks(shards: Path, tokens_dir: Path) -> tuple[list[Path], Tally]:
    """All blocks in order, and what became of their rows. Raises what `collect` raises."""
    way_out = f"remove COMPLETE and shard_*.COMPLETE in {shards.parent}, and the same run writes what is missing"
    try:
        manifest = json.loads((shards / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{shards / MANIFEST} cannot be read ({error}); {way_out}") from error
    if manifest["data"] != files_at(tokens_dir / "train"):
        raise RunError(f"{shards} was not made from the rows in {tokens_dir}; remove it and start the same run again")
    identity, tally, problems = identity_of(manifest), Tally(), []
    blocks = [block_path(shards, block) for block in range(num_blocks(manifest["rows"]))]
    for path in blocks:
        try:
            tally += read_tally(path, identity)
        except FileNotFoundError:
            problems.append(f"{path.name} is missing")
        except (OSError, ValueError) as error:
            problems.append(f"{path.name} is damaged ({error})")
    if problems:
        more = f" and {len(problems) - 5:,} more" if len(problems) > 5 else ""
        raise RunError(f"{shards}: {', '.join(problems[:5])}{more}; {way_out}")
    return blocks, tally


def _tokenised(blocks: list[Path], tokens: Path, work: Path, num_workers: int) -> Any:
    """The rows of all blocks as a dataset, memory-mapped from `work`; `num_workers` processes tokenise."""
    import datasets

    features = datasets.load_from_disk(str(tokens / "train")).features
    units = datasets.Dataset.from_dict({"block": [str(path) for path in blocks]})
    columns = {**features, "truncated": datasets.Value("bool")}
    return rows_of_units(units, functools.partial(_encode_block, tokens=tokens), columns, work, num_workers)


def _encode_block(batch: dict[str, list[str]], tokens: Path) -> dict[str, list]:
    (path,) = batch["block"]
    try:
        table = read_block(Path(path))
    except (OSError, ValueError) as error:
        raise RunError(
            f"{path} is damaged ({error}); remove it, COMPLETE and shard_*.COMPLETE of its stage, and run again"
        ) from error
    columns = [table.column(name).to_pylist() for name in TEXTS if name in table.column_names]
    texts, numbers = list(zip(*columns, strict=True)), table.column("copy").to_pylist()
    preprocessing, tokenizer, held_out = _worker_state(tokens)
    kept = [row for row, number in enumerate(numbers) if number == 0 or texts[row] not in held_out]
    rows = table.select([name for name in (*TEXTS, "labels") if name in table.column_names]).take(kept).to_pydict()
    encodings = preprocessing.encode(tokenizer, rows["text"], rows.get("text_pair"))
    fields = {name: [getattr(encoding, name) for encoding in encodings] for name in encodings[0]._fields}
    return rows | {name: values for name, values in fields.items() if values[0] is not None}


@functools.lru_cache(maxsize=1)
def _worker_state(tokens: Path) -> tuple[Any, Any, set[tuple[str, ...]]]:
    """Preprocessing, tokenizer, and the texts of all validation and test rows."""
    return Preprocessing.load(tokens), load_fast_tokenizer(str(tokens / "tokenizer")), held_out_texts(tokens)


def _write_train(rows: Any, tokens: Path, output: Path) -> dict[str, Any]:
    """Write train/ and the lengths of its rows; return what `data_report.json` says of a split."""
    import pyarrow.compute as pc

    label2id = json.loads((tokens / "label2id.json").read_text(encoding="utf-8"))
    dtype = np.load(tokens / "train_lengths.npy", mmap_mode="r").dtype
    lengths = np.lib.format.open_memmap(output / "train_lengths.npy", mode="w+", dtype=dtype, shape=(len(rows),))
    labels, counts = np.zeros(len(label2id), np.int64), {"tokens": Counter[int](), "characters": Counter[int]()}
    num_truncated, arrow = 0, rows.with_format("arrow")
    for start in range(0, len(rows), SPLIT_ROWS):
        table = arrow[start : start + SPLIT_ROWS]
        lengths[start : start + len(table)] = pc.list_value_length(table.column("input_ids")).to_numpy()
        counts["tokens"].update(lengths[start : start + len(table)].tolist())
        texts = [table.column(name) for name in TEXTS if name in table.column_names]
        counts["characters"].update(sum(pc.utf8_length(text).to_numpy() for text in texts).tolist())
        labels += _label_counts(table.column("labels"), len(label2id))
        num_truncated += pc.sum(table.column("truncated")).as_py()
    lengths.flush()
    rows.remove_columns("truncated").save_to_disk(output / "train")
    report = {"rows": len(rows), "labels": {name: int(labels[index]) for name, index in label2id.items()}}
    for name, found in counts.items():
        report[name] = sum(length * count for length, count in found.items())
        report[f"{name.removesuffix('s')}_percentiles"] = percentiles(np.bincount(list(found), list(found.values())))
    return report | {"truncated": num_truncated}


def _label_counts(column: Any, num_labels: int) -> np.ndarray:
    """(num_labels) rows of each label; a row of several labels counts for each, regression has no labels."""
    if not num_labels:
        return np.zeros(0, np.int64)
    labels = np.array(column.to_pylist())
    return (labels > 0).sum(axis=0) if labels.ndim == 2 else np.bincount(labels, minlength=num_labels)


def _write_reports(tokens: Path, output: Path, train: dict[str, Any], tally: Tally, seconds: float) -> None:
    """`statistics.json` and `data_report.json` as they were, but for what the train rows have changed."""
    statistics, report = (
        json.loads((tokens / f"{name}.json").read_text(encoding="utf-8")) for name in ("statistics", "data_report")
    )
    for ours, theirs in {"train_rows": "rows", "tokens": "tokens", "truncated_rows": "truncated"}.items():
        statistics[ours] += train[theirs] - report["train"][theirs]
    most, least = max(train["labels"].values(), default=0), min(train["labels"].values(), default=0)
    shares = {
        "largest_share": round(most / train["rows"], 4),
        "largest_to_smallest": round(most / least, 2) if least else None,
    }
    new = {"augmentation": dict(tally), "seconds": round(seconds, 3)}
    write_json(output / "statistics.json", statistics | new)
    write_json(output / "data_report.json", report | {"train": report["train"] | train} | shares | new)
