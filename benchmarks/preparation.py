"""Preparation of labelled rows against the tokenizer's own speed, and the memory that it takes.

    python benchmarks/preparation.py --documents 836075 --form folders --output results/preparation_folders.json

The documents are made up, with the number, classes and mean length of THUCNews by default: a class per folder and a
document per file, or one table. The tokenizer by itself gets texts from memory, many at a time, on all cores, before
and after the preparation. Preparation is everything from raw files to what training reads, and its memory is that of
its process and all workers: the proportional set size, in which a page that several of them share counts once. Both are
compared by the clock and by processor time, which other work on the machine hardly changes.
"""

import sys
from pathlib import Path

if not __package__:  # started as a script: its own folder must not shadow installed modules
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse
import csv
import json
import os
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from typing import Any

import numpy as np
from rich.console import Console
from transformers import BertTokenizer

from benchmarks.measuring import describe_machine, positive, silence_transformers, timed, value_in, write_result
from kd_dist.data.tokenizers import load_fast_tokenizer

CLASSES = [
    "体育",
    "娱乐",
    "家居",
    "彩票",
    "房产",
    "教育",
    "时尚",
    "时政",
    "星座",
    "游戏",
    "社会",
    "科技",
    "股票",
    "财经",
]
CHARACTERS = np.array([chr(code) for code in range(0x4E00, 0x4E00 + 3_000)] + list("，。！？、" * 40))
MAX_LENGTH = 128
SOURCE_CHARACTERS = 10_000_000
SAMPLE = 1_000  # documents for the tokenizer by itself
ROUNDS = 3  # before the preparation, and again after it
SECONDS_BETWEEN_LOOKS = 0.2

PREPARE = """
import sys
from pathlib import Path
from kd_dist.config.sections.data import LabelledData
from kd_dist.data.labelled import prepare
source, tokenizer, output = sys.argv[1:]
data = LabelledData(train=[source], max_length=%d)
prepare(data, tokenizer, Path(output) / "tokens", Path(output) / "texts" / "train.txt")
"""


def documents(number: int, characters: int) -> Iterator[tuple[str, str]]:
    """Yield the class and the text of made-up documents of a mean length, the same ones at each call.

    They are parts of one long random text, which is quicker than random characters for each.
    """
    rng = np.random.default_rng(0)
    source = "".join(CHARACTERS[rng.integers(0, len(CHARACTERS), SOURCE_CHARACTERS + 2 * characters)])
    starts = rng.integers(0, SOURCE_CHARACTERS, number).tolist()
    lengths = rng.integers(characters // 2, characters * 3 // 2 + 1, number).tolist()
    for document, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        yield CLASSES[document % len(CLASSES)], source[start : start + length]


def write_folders(made: Iterator[tuple[str, str]], work: Path) -> Path:
    for name in CLASSES:
        (work / "raw" / name).mkdir(parents=True)
    for number, (name, text) in enumerate(made):
        (work / "raw" / name / f"{number}.txt").write_text(text, encoding="utf-8")
    return work / "raw"


def write_csv(made: Iterator[tuple[str, str]], work: Path) -> Path:
    with (work / "raw.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerow(("label", "text"))
        csv.writer(stream).writerows(made)
    return work / "raw.csv"


def write_tsv(made: Iterator[tuple[str, str]], work: Path) -> Path:
    with (work / "raw.tsv").open("w", encoding="utf-8") as stream:
        stream.writelines(f"{name}\t{text}\n" for name, text in made)
    return work / "raw.tsv"


def write_jsonl(made: Iterator[tuple[str, str]], work: Path) -> Path:
    with (work / "raw.jsonl").open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps({"label": name, "text": text}, ensure_ascii=False) + "\n" for name, text in made)
    return work / "raw.jsonl"


FORMS: dict[str, Callable[[Iterator[tuple[str, str]], Path], Path]] = {
    "folders": write_folders,
    "csv": write_csv,
    "tsv": write_tsv,
    "jsonl": write_jsonl,
}


def write_tokenizer(folder: Path) -> str:
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(CHARACTERS.tolist()), *",.!?"]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    BertTokenizer(vocab=vocabulary, model_max_length=512).save_pretrained(folder)
    return str(folder)


def tokenizer_rates(tokenizer_path: str, texts: list[str]) -> dict[str, list[tuple[float, float]]]:
    """Return rows per second, and per second of processor time, of the tokenizer on all cores.

    It gets whole texts, and the characters alone that fit in a row.
    """
    tokenizer = load_fast_tokenizer(tokenizer_path)
    os.environ["TOKENIZERS_PARALLELISM"] = "true"
    forms = {"whole_texts": texts, "what_fits": [text[:MAX_LENGTH] for text in texts]}
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in forms}
    for _ in range(ROUNDS):
        for name, found in forms.items():
            used = time.process_time()
            seconds, _ = timed(partial(tokenizer, found, truncation=True, max_length=MAX_LENGTH))
            rates[name].append((len(found) / seconds, len(found) / (time.process_time() - used)))
    return rates


def prepare(source: Path, tokenizer_path: str, work: Path) -> dict[str, Any]:
    """Prepare the rows in a process of its own; return its seconds, the processors' and its peak memory in GB."""
    command = [sys.executable, "-c", PREPARE % MAX_LENGTH, str(source), tokenizer_path, str(work / "out")]
    started, used, peaks = time.perf_counter(), seconds_of_children(), {"Pss": 0, "Rss": 0}
    with subprocess.Popen(command, cwd=Path(__file__).resolve().parent.parent) as process:
        while process.poll() is None:
            for kind in peaks:
                peaks[kind] = max(peaks[kind], sum(memory_of(pid, kind) for pid in tree(process.pid)))
            time.sleep(SECONDS_BETWEEN_LOOKS)
    if process.returncode:
        sys.exit(f"the preparation ended with exit status {process.returncode}")
    seconds, used = time.perf_counter() - started, seconds_of_children() - used
    return {
        "seconds": seconds,
        "processor_seconds": used,
        "peak_gb": peaks["Pss"] / 1e6,
        "peak_gb_shared_pages_counted_twice": peaks["Rss"] / 1e6,
    }


def seconds_of_children() -> float:
    """Return the seconds of processor time of all child processes that have ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def tree(pid: int) -> list[int]:
    """Return a process and all below it."""
    try:
        found = [
            child for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
        ]
    except FileNotFoundError:  # it has just ended
        return []
    return [pid, *(below for child in found for below in tree(int(child)))]


def memory_of(pid: int, kind: str) -> int:
    """Return kB of a process; 0 if it has just ended."""
    try:
        return int(value_in(f"/proc/{pid}/smaps_rollup", kind).split()[0])
    except (FileNotFoundError, ProcessLookupError, ValueError):
        return 0


def run(options: argparse.Namespace, work: Path) -> dict[str, Any]:
    tokenizer_path = write_tokenizer(work / "tokenizer")
    source = FORMS[options.form](documents(options.documents, options.characters), work)
    sample = [text for _, text in documents(min(SAMPLE, options.documents), options.characters)]
    alone, rounds = [tokenizer_rates(tokenizer_path, sample)], []
    for _ in range(options.rounds):
        rounds.append(prepare(source, tokenizer_path, work))
        alone.append(tokenizer_rates(tokenizer_path, sample))
    found = {key: (max if key.startswith("peak") else median)(one[key] for one in rounds) for key in rounds[0]}
    of_forms = {name: [rate for one in alone for rate in one[name]] for name in alone[0]}
    rates = {name: [median(column) for column in zip(*them, strict=True)] for name, them in of_forms.items()}
    by_clock, by_processor = (options.documents / found[name] for name in ("seconds", "processor_seconds"))
    size = sum(file.stat().st_size for file in ([source] if source.is_file() else source.rglob("*.txt")))
    return {
        "documents": options.documents,
        "mean_characters": options.characters,
        "form": options.form,
        "gb": size / 1e9,
        **found,
        "rows_per_second": by_clock,
        "tokenizer_rows_per_second": {name: rate for name, (rate, _) in rates.items()},
        "share_of_tokenizer": {name: by_clock / rate for name, (rate, _) in rates.items()},
        "share_of_tokenizer_by_processor_time": {name: by_processor / rate for name, (_, rate) in rates.items()},
        "machine": describe_machine(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=positive, default=836_075)
    parser.add_argument("--characters", type=positive, default=900, help="mean length of a document")
    parser.add_argument("--rounds", type=positive, default=1, metavar="N", help="preparations; seconds are medians")
    parser.add_argument("--form", choices=FORMS, default="folders")
    parser.add_argument("--work", type=Path, help="folder for the documents and the rows; they are removed at the end")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    silence_transformers()
    work = Path(tempfile.mkdtemp(dir=options.work))
    try:
        result = run(options, work)
    finally:
        shutil.rmtree(work)
    Console().print_json(json.dumps(result, default=str))
    write_result(result, options.output)


if __name__ == "__main__":
    main()
