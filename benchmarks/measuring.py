"""What the benchmarks share: their inputs, their clock, the comparison of two forms, and the machine they ran on."""

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import torch
import transformers
from rich.console import Console
from torch import Tensor
from transformers import BertConfig, PreTrainedModel

from kd_dist.data.discovery import find_files
from kd_dist.data.readers import read_lines
from kd_dist.data.tokenizers import train_tokenizer

T = TypeVar("T")

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
MAX_LINES = 20_000  # read from each input file: more than enough rows for the rounds
VOCABULARY_SIZE = 8000


def read_first_lines(patterns: Sequence[str]) -> Iterator[str]:
    """Yield the first lines of every file, each up to its first tab."""
    for file in find_files(list(patterns)):
        yield from ((text or "").split("\t")[0] for text in islice(read_lines(file), MAX_LINES))


def save_random_encoder(
    architecture: type[PreTrainedModel], patterns: Sequence[str], folder: Path, **changes: Any
) -> str:
    """Save a BERT of 12 layers x 384 with random weights, and a vocabulary trained on the files, and return its folder.

    Args:
        architecture: a class of transformers that is built from a BertConfig
        patterns: the text files, globs included
        folder: where the model and the tokenizer go
        changes: further values of the BertConfig
    """
    train_tokenizer(find_files(list(patterns)), folder, vocabulary_size=VOCABULARY_SIZE, text_field="text")
    sizes = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 1536}
    architecture(BertConfig(vocab_size=VOCABULARY_SIZE, **sizes, **changes)).save_pretrained(folder)
    return str(folder)


def to_device(batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.to(DEVICE) for name, tensor in batch.items()}


def timed(action: Callable[[], T]) -> tuple[float, T]:
    """Return the seconds an action takes, its work on the GPU included, and what it returns."""
    wait = torch.cuda.synchronize if DEVICE.type == "cuda" else lambda: None
    wait()
    started = time.perf_counter()
    result = action()
    wait()
    return time.perf_counter() - started, result


def in_turn(forms: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each form in every round: they take turns, after a round that warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(1 + rounds):
        for name, form in forms.items():
            seconds[name].append(timed(form)[0])
    return {name: of_form[1:] for name, of_form in seconds.items()}


def ratio_of(seconds: Mapping[str, Sequence[float]], first: str, second: str) -> float:
    """Return the median over the rounds of what the first form takes, in units of what the second takes."""
    return median(one / other for one, other in zip(seconds[first], seconds[second], strict=True))


def compare(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Summarise rounds of the forms `published` and `ours`, each with its `seconds` by form."""
    medians = {form: median(each["seconds"][form] for each in rounds) for form in ("published", "ours")}
    ratios = [each["seconds"]["published"] / each["seconds"]["ours"] for each in rounds]
    ratio = {"of_medians": medians["published"] / medians["ours"], "lowest": min(ratios), "highest": max(ratios)}
    return {"median_seconds": medians, "ratio": ratio, "rounds": rounds}


def comparison_cells(compared: Mapping[str, Any], num_rows: int, digits: int) -> list[str]:
    """Return rows per second of both forms, the ratio of the medians, and the range of the ratios, as text."""
    rates = [f"{num_rows / compared['median_seconds'][form]:.{digits}f}" for form in ("published", "ours")]
    ratio = compared["ratio"]
    return [*rates, f"{ratio['of_medians']:.1f}", f"{ratio['lowest']:.1f} to {ratio['highest']:.1f}"]


def positive(text: str) -> int:
    """Read a count from the command line."""
    if not text.isdigit() or not int(text):
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number above 0")
    return int(text)


def value_in(path: str, key: str) -> str:
    """Return what follows `key:` in a file of /proc."""
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(key)), "unknown")


def describe_machine() -> dict[str, Any]:
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    return {
        "device": torch.cuda.get_device_name() if DEVICE.type == "cuda" else "cpu",
        "processor": value_in("/proc/cpuinfo", "model name"),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory": value_in("/proc/meminfo", "MemTotal"),
        "load_average_at_start": os.getloadavg(),
        "versions": versions | {"transformers": transformers.__version__},
    }


def silence_transformers() -> None:
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()


def measure_and_show(
    options: argparse.Namespace,
    run: Callable[[argparse.Namespace, Path, Console], dict[str, Any]],
    show: Callable[[dict[str, Any], Console], None],
) -> None:
    """Run a benchmark in a temporary folder, show its result, and write it to `options.output` if that is given."""
    console = Console()
    silence_transformers()
    torch.manual_seed(42)
    with tempfile.TemporaryDirectory() as work:
        result = run(options, Path(work), console)
    show(result, console)
    write_result(result, options.output)


def write_result(result: Any, file: Path | None) -> None:
    """Write a result as JSON, if a file was asked for."""
    if file is not None:
        file.write_text(json.dumps(result, indent=1, ensure_ascii=False, default=str) + "\n", encoding="utf-8")
