"""What many rows cost: seconds, memory, files and disk of reading, planning, starting, resuming and storing outputs.

    python benchmarks/size.py --rows 100000000 --output-rows 5000000 --work FOLDER --output results/size_65_classes.json

Rows of 20 tokens are made by repetition: one file of a million rows is there under as many names as it takes. What is
read is what training reads, but the disk holds it once. Outputs are random numbers for these rows, without a teacher.
Each part runs in a process of its own, so that its memory is its own.
"""

import sys
from pathlib import Path

if not __package__:  # started as a script: its own folder must not shadow installed modules
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse
import json
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from statistics import median
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.measuring import describe_machine, positive, timed, value_in, write_result
from kd_dist.config.objectives.soft_labels import SoftLabelsObjective
from kd_dist.config.sections.data import LabelledData, TokenData
from kd_dist.config.sections.models import Student
from kd_dist.config.stages import TrainStage
from kd_dist.data.arrow_rows import quiet
from kd_dist.data.labelled import prepare
from kd_dist.data.prepared_rows import PreparedRows, open_lengths, write_statistics
from kd_dist.data.token_rows import TokenRows, row_keys
from kd_dist.data.tokenizer_folders import load_tokenizer
from kd_dist.data.tokenizers import train_tokenizer
from kd_dist.errors import UserError, exit_with_message
from kd_dist.objectives.base import build
from kd_dist.runs.blocks import Blocks, Tally
from kd_dist.training import engine
from kd_dist.training.batches import BatchPlan
from kd_dist.training.feed import Feed
from kd_dist.training.teacher_blocks import BLOCK_ROWS, arrays_of, table_of
from kd_dist.training.teacher_outputs import StoredOutputs, identify, verify, write_part

TOKENS = 20
REPEATED = 1_000_000  # rows of the file that is repeated
BATCH_ROWS = 32
BATCHES = 200  # timed ones

Facts = dict[str, Any]


def write_rows(folder: Path, num_rows: int, num_classes: int) -> Facts:
    """Write a folder of labelled rows, and put repeated ones in place of its training rows."""
    texts = folder / "texts.tsv"
    lines = [f"{number % num_classes}\t{chr(0x4E00 + number)}好\n" for number in range(10 * num_classes)]
    texts.write_text("".join(lines), encoding="utf-8")
    train_tokenizer([texts], folder / "tokenizer", 2_000, "text")
    tokens, repeated = folder / "tokens", min(num_rows, REPEATED)
    prepare(LabelledData(train=[str(texts)], num_workers=1), str(folder / "tokenizer"), tokens, folder / "texts.txt")
    rows = PreparedRows(tokens)
    _repeat(rows, repeated, num_rows // repeated, num_classes)
    open_lengths(tokens, "train", num_rows // repeated * repeated, TOKENS)[:] = TOKENS
    write_statistics(tokens, rows.statistics | {"train_rows": num_rows // repeated * repeated})
    rows = PreparedRows(tokens)
    files = [path for path in tokens.rglob("*") if path.is_file()]
    return {"rows": rows.num_rows("train"), "files": len(files), "bytes": sum(path.stat().st_size for path in files)}


def _repeat(rows: PreparedRows, num_rows: int, times: int, num_classes: int) -> None:
    """Replace the training rows by random ones, whose file has several names."""
    import datasets

    folder, chance, old = rows.split_folder("train"), np.random.default_rng(0), rows.dataset("train")
    ids_NS = chance.integers(5, rows.statistics["vocabulary_size"], (num_rows, TOKENS), dtype=np.int32)
    columns = {"labels": chance.integers(num_classes, size=num_rows), "input_ids": list(ids_NS)}
    columns |= {"token_type_ids": list(np.zeros_like(ids_NS, np.int8))} if "token_type_ids" in old.features else {}
    features = datasets.Features({name: old.features[name] for name in columns})
    for path in folder.iterdir():
        path.unlink()
    with quiet():
        datasets.Dataset.from_dict(columns, features).save_to_disk(folder, num_shards=1)
    state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    first = folder / state["_data_files"][0]["filename"]
    names = [f"data-{number:05d}.arrow" for number in range(times)]
    for name in names:
        os.link(first, folder / name)
    first.unlink()
    state["_data_files"] = [{"filename": name} for name in names]
    (folder / "state.json").write_text(json.dumps(state), encoding="utf-8")


def read(tokens: Path) -> Facts:
    """Open the rows, and collate random ones."""
    opening, rows = timed(lambda: TokenRows(tokens, "train", 0))
    chance = np.random.default_rng(1)
    seconds = [timed(lambda: rows.collate(chance.integers(len(rows), size=BATCH_ROWS)))[0] for _ in range(BATCHES)]
    return {"rows": len(rows), "seconds_to_open": opening, "median_seconds_of_a_batch": median(seconds)}


def plan(tokens: Path) -> Facts:
    """Ask for the rows of the first step and of the last one."""
    lengths = PreparedRows(tokens).lengths("train")
    last = len(lengths) // BATCH_ROWS
    first, _ = timed(lambda: _plan(lengths).rows(1))
    late, _ = timed(lambda: _plan(lengths).rows(last))
    return {"rows": len(lengths), "late_step": last, "seconds_to_first_step": first, "seconds_to_late_step": late}


def _plan(lengths: np.ndarray) -> BatchPlan:
    sizes = {"global_batch_size": BATCH_ROWS, "micro_batch_size": BATCH_ROWS}
    return BatchPlan(lengths, **sizes, bucket_steps=100, seed=1)


def store(tokens: Path, outputs: Path, num_rows: int, num_classes: int) -> Facts:
    """Write blocks of outputs, and distribute them to the files that training reads."""
    rows = TokenRows(tokens, "train", 0)
    repeated = min(len(rows), REPEATED)
    starts = range(0, repeated, BLOCK_ROWS)
    keys = [row_keys(rows.collate(np.arange(start, min(start + BLOCK_ROWS, repeated)))) for start in starts]

    def made(numbers: Iterable[int]) -> Iterator[tuple[Any, Tally]]:
        for number in numbers:
            keys_N = keys[number % len(keys)]
            logits_NC = np.random.default_rng(number).standard_normal((len(keys_N), num_classes), dtype=np.float32)
            yield table_of(keys_N, logits_NC), Tally(rows=len(keys_N))

    own = range(max(1, num_rows // repeated) * len(keys))
    blocks = Blocks.agreed(outputs, {})
    filling, tally = timed(lambda: blocks.fill(own, made, "outputs"))
    files = len(list(outputs.iterdir()))
    identity = identify(None, tokens) | {"num_blocks": len(own)}
    write = lambda: write_part(outputs, own, identity, tally["rows"], map(arrays_of, blocks.tables(own)))  # noqa: E731
    distributing, _ = timed(write)
    blocks.discard(set(own))
    written = [path for path in outputs.rglob("*") if path.is_file()]
    return {
        "rows": tally["rows"],
        "classes": num_classes,
        "seconds_to_write_blocks": filling,
        "files_of_blocks": files,
        "seconds_to_distribute": distributing,
        "files": len(written),
        "bytes": sum(path.stat().st_size for path in written),
    }


def collate(tokens: Path, outputs: Path) -> Facts:
    """Collate random rows with their outputs."""
    opening, stored = timed(lambda: StoredOutputs(outputs))
    rows, chance = TokenRows(tokens, "train", 0, stored), np.random.default_rng(1)
    seconds = [timed(lambda: rows.collate(chance.integers(len(rows), size=BATCH_ROWS)))[0] for _ in range(BATCHES)]
    return {"rows": len(rows), "seconds_to_open": opening, "median_seconds_of_a_batch": median(seconds)}


def begin(tokens: Path, outputs: Path, late: bool) -> Facts:
    """Do what training does until the rows of its first step, or of a late one, are there with their outputs."""
    engine.start()
    stage = TrainStage(
        student=Student(config="bert_tiny_2l_64"),
        data=TokenData(tokens=str(tokens), teacher_outputs=str(outputs)),
        objective=SoftLabelsObjective(),
    )
    objective = build(stage, load_tokenizer(PreparedRows(tokens).tokenizer_folder))

    def first_rows() -> int:
        verify(outputs, None, tokens)
        rows = TokenRows(tokens, "train", 0, StoredOutputs(outputs))
        last = len(rows) // BATCH_ROWS
        feed = Feed(rows, _plan(rows.lengths), objective)
        step = last if late else 1
        next(feed.steps(step, step))
        feed.close()
        return step

    seconds, step = timed(first_rows)
    return {"step": step, "seconds": seconds}


def in_a_process(part: Callable[..., Facts], *arguments: Any) -> Facts:
    """Run a part in a process of its own; return its facts, seconds, and memory beyond that of the libraries."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        return pool.submit(_measured, part, arguments).result()


def _measured(part: Callable[..., Facts], arguments: tuple[Any, ...]) -> Facts:
    before, peaks, ended = _memory(), [0, 0], threading.Event()

    def watch() -> None:
        while not ended.wait(0.02):
            peaks[:] = map(max, peaks, _memory())

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        seconds, facts = timed(lambda: part(*arguments))
    finally:
        ended.set()
        watching.join()
    own, mapped = (max(0, peak - start) for peak, start in zip(peaks, before, strict=True))
    return facts | {"seconds": seconds, "own_memory_mb": own / 1e3, "mapped_files_mb": mapped / 1e3}


def _memory() -> list[int]:
    """Return the resident memory of this process in kB: its own, and files that it has mapped."""
    return [int(value_in("/proc/self/status", key).split()[0]) for key in ("RssAnon", "RssFile")]


def measure(options: argparse.Namespace) -> dict[str, Any]:
    work, result = options.work, {"machine": describe_machine(), "tokens": TOKENS}
    tokens, outputs = work / "tokens", work / "outputs"
    if work.exists() and any(work.iterdir()):
        raise UserError(f"--work {work} is not empty: choose a new folder")
    outputs.mkdir(parents=True)
    result["rows"] = in_a_process(write_rows, work, options.rows, options.classes)
    result["read"] = in_a_process(read, tokens)
    result["plan"] = in_a_process(plan, tokens)
    result["store"] = in_a_process(store, tokens, outputs, options.output_rows, options.classes)
    result["collate"] = in_a_process(collate, tokens, outputs)
    result["start"] = in_a_process(begin, tokens, outputs, False)
    result["resume"] = in_a_process(begin, tokens, outputs, True)
    return result


def show(result: dict[str, Any], console: Console) -> None:
    table = Table("what", "rows", "seconds", "own memory", title=f"rows of {TOKENS} tokens")
    for what in ("rows", "read", "plan", "store", "collate", "start", "resume"):
        part = result[what]
        table.add_row(what, f"{part.get('rows', 0):,}", f"{part['seconds']:.1f}", f"{part['own_memory_mb']:,.0f} MB")
    console.print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measures what many rows cost.")
    parser.add_argument("--rows", type=positive, default=1_000_000, metavar="N", help="training rows")
    parser.add_argument("--output-rows", type=positive, default=1_000_000, metavar="N", help="rows with outputs")
    parser.add_argument("--classes", type=positive, default=65, metavar="N", help="logits of a row")
    parser.add_argument("--work", type=Path, required=True, metavar="FOLDER", help="a new folder; it stays")
    parser.add_argument("--output", type=Path, metavar="FILE.json")
    options = parser.parse_args()
    result = measure(options)
    show(result, Console())
    write_result(result, options.output)


if __name__ == "__main__":
    exit_with_message(main)
