"""Data augmentation by a masked language model, one forward pass for each word as published and batched, side by side.

    python benchmarks/augmentation.py --mlm MODEL_DIR --titles 'titles/*.txt'

Both forms split the same rows into the same words, mask each word that may be replaced, ask the same model for
candidates and write copies of the rows. They run in turn (A B A B ...), so that other load on the machine slows both.
Before anything is timed, the script proves that both give the same copies.

Shapes: B places, S positions, N masked positions, V vocabulary.
"""

import sys
from pathlib import Path

if not __package__:  # started as a script: its own folder must not shadow installed modules
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from transformers import BertForMaskedLM

from benchmarks.measuring import (
    DEVICE,
    compare,
    comparison_cells,
    describe_machine,
    measure_and_show,
    positive,
    read_first_lines,
    save_random_encoder,
    timed,
)
from kd_dist.augmentation.augmenter import copies
from kd_dist.augmentation.candidates import Candidates
from kd_dist.augmentation.masked_words import Input, MaskedWords, Place, logits_at
from kd_dist.augmentation.words import Language, split_words
from kd_dist.config.sections.augmentation import Augment
from kd_dist.data.permutation import mix
from kd_dist.errors import RunError, UserError, exit_with_message
from kd_dist.model_files.model_folders import has_language_model_head

CHECKED_ROWS = 8


class Published(MaskedWords):
    """The forward passes of the published `data_augmentation.py`, written anew.

    Every word is a batch of its own, autograd is on, the head runs at every position, and the whole vocabulary is
    sorted.
    """

    def __init__(self, path: str, device: torch.device) -> None:
        super().__init__(path, "zh", device)
        self.model.requires_grad_(True)

    def propose(self, places: Sequence[Place], number: int, accept: Callable[[int, str], bool]) -> list[list[str]]:
        found = []
        for row, place in enumerate(places):

            def accepted(_: int, word: str, row: int = row) -> bool:
                return accept(row, word)

            found += super().propose([place], number, accepted)
        return found

    def most_probable(self, inputs: list[Input], number: int) -> tuple[list[list[float]], list[list[int]]]:
        tensors, masked_BS = self.batch(inputs)
        logits_BSV = self.model(**tensors).logits
        scores_NV = logits_BSV[masked_BS].float().log_softmax(-1)
        ids_NM = scores_NV.argsort(dim=-1, descending=True)[:, :number]
        return scores_NV.gather(1, ids_NM).tolist(), ids_NM.tolist()


def augmented(texts: Sequence[str], candidates: Candidates, settings: Augment) -> list[set[str]]:
    """Return the distinct new texts made from each text."""
    sentences = [split_words(text, settings.language) for text in texts]
    return [
        set(copies(words, found, settings.copies, settings.probability, mix(settings.seed, row))) - {texts[row]}
        for row, (words, found) in enumerate(zip(sentences, candidates(sentences), strict=True))
    ]


def check_equality(forms: dict[str, Candidates], texts: Sequence[str], settings: Augment) -> int:
    """Return how many copies both forms make of a few rows.

    Raises:
        RunError: The forms make different copies, or none.
    """
    published, ours = (augmented(texts, candidates, settings) for candidates in forms.values())
    if published != ours:
        raise RunError("the two forms make different copies of the same rows")
    if not any(ours):
        raise RunError("neither form makes a copy of any of the first rows: the model proposes no word for them")
    return sum(map(len, ours))


class Recorded(MaskedWords):
    """The batched form, which remembers what its model is fed."""

    def __init__(self, path: str, language: Language, device: torch.device) -> None:
        super().__init__(path, language, device)
        self.fed: list[tuple[dict[str, Tensor], Tensor]] = []

    def batch(self, inputs: list[Input]) -> tuple[dict[str, Tensor], Tensor]:
        found = super().batch(inputs)
        self.fed.append(found)
        return found

    @torch.inference_mode()
    def forward_alone(self) -> None:
        """Run the model on what it was fed, and do nothing else."""
        for tensors, masked_BS in self.fed:
            logits_at(self.model, tensors, masked_BS)


def measure(
    forms: dict[str, Candidates], ours: Recorded, texts: list[str], num_rows: int, settings: Augment
) -> dict[str, Any]:
    """Time both forms, and our model's forward passes alone, on new rows in every round; the first warms up."""
    rounds: list[dict[str, Any]] = []
    for start in range(0, len(texts), num_rows):
        rows, seconds = texts[start : start + num_rows], {}
        made: list[set[str]] = []
        ours.fed = []
        for name, candidates in forms.items():
            seconds[name], made = timed(partial(augmented, rows, candidates, settings))
        seconds["forward"] = timed(ours.forward_alone)[0]
        rounds.append({"seconds": seconds, "copies": sum(map(len, made))})
    shares = [each["seconds"]["forward"] / each["seconds"]["ours"] for each in rounds[1:]]
    return compare(rounds[1:]) | {"share_of_the_forward_pass": median(shares)}


def read_titles(patterns: list[str], number: int) -> list[str]:
    """Return the first `number` texts of the files that are not empty."""
    titles = list(islice((line for line in read_first_lines(patterns) if line.strip()), number))
    if len(titles) < number:
        raise UserError(f"--titles: {len(titles):,} rows, but the rounds take {number:,}; lower --rounds or --rows")
    return titles


def show(result: dict[str, Any], console: Console) -> None:
    machine, rows = result["machine"], result["options"]["rows"]
    title = f"rows per second: medians; {machine['device']}, {machine['threads']} threads"
    table = Table("rows per round", "copies", "published", "kd_dist", "ratio", "range", "of the forward", title=title)
    share = f"{result['share_of_the_forward_pass']:.2f}"
    found = median(each["copies"] for each in result["rounds"])
    table.add_row(str(rows), f"{found:.0f}", *comparison_cells(result, rows, digits=2), share)
    console.print(table)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Times augmentation by one forward pass for each word, as published, and in batches.",
        epilog="example: python benchmarks/augmentation.py --random-model --titles titles.txt --rows 16",
    )
    model = parser.add_mutually_exclusive_group(required=True)
    model.add_argument("--mlm", metavar="DIR", help="Hugging Face directory of a masked language model")
    model.add_argument("--random-model", action="store_true", help="BERT of 12 x 384, 12 heads, random weights")
    parser.add_argument("--titles", nargs="+", required=True, metavar="FILE", help="short texts, one a line; globs too")
    parser.add_argument("--rows", type=positive, default=32, metavar="N", help="per round (default: 32)")
    parser.add_argument("--rounds", type=positive, default=5, metavar="N", help="timed rounds (default: 5)")
    parser.add_argument("--output", type=Path, metavar="FILE.json", help="every timing, the machine and the versions")
    return parser.parse_args(arguments)


def run(options: argparse.Namespace, work: Path, console: Console) -> dict[str, Any]:
    result: dict[str, Any] = {"machine": describe_machine(), "options": vars(options)}
    titles = read_titles(options.titles, options.rows * (options.rounds + 1))
    path = options.mlm
    if options.random_model:
        path = save_random_encoder(BertForMaskedLM, options.titles, work, initializer_range=0.1)
    if not has_language_model_head(path):
        raise UserError(f"--mlm {path} has no masked-language-model head")
    settings = Augment(multi_piece="mask")  # words of any number of pieces, so that all of the work is the model's
    ours = Recorded(path, settings.language, DEVICE)
    models = {"published": Published(path, DEVICE), "ours": ours}
    forms = {name: Candidates(settings, model, None) for name, model in models.items()}
    num_copies = result["equal_copies"] = check_equality(forms, titles[:CHECKED_ROWS], settings)
    console.print(f"The same {num_copies} copies of the first {min(CHECKED_ROWS, len(titles))} rows in both forms")
    return result | measure(forms, ours, titles, options.rows, settings)


if __name__ == "__main__":
    exit_with_message(lambda: measure_and_show(parse(), run, show))
