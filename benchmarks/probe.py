"""What distillation gains: a classifier from a few labelled titles, on a distilled student and on random weights.

    python benchmarks/probe.py --student runs/.../export --teacher DIR --train train.txt --test dev.txt

The files hold `text<TAB>label` lines. The linear probe leaves the encoder as it is: logistic regression on the
standardised mean over the tokens. Fine-tuning trains encoder and head together. Every start gets the same rows, seeds,
epochs and learning rate. Random weights are drawn once per seed.

Shapes: B batch, S sequence, D width.
"""

import sys
from pathlib import Path

if not __package__:  # started as a script: its own folder must not shadow installed modules
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse
import random
import statistics
from collections.abc import Iterator
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel

from benchmarks.measuring import positive, write_result

Rows = list[tuple[str, int]]


class MeanPooled(nn.Module):
    """An encoder and the mean of its last hidden states over the tokens (B, D): neither start has a trained pooler."""

    def __init__(self, encoder: PreTrainedModel) -> None:
        super().__init__()
        self.encoder = encoder
        self.width: int = encoder.config.hidden_size

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        hidden_BSD = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask_BS1 = attention_mask[:, :, None]
        return (hidden_BSD * mask_BS1).sum(1) / mask_BS1.sum(1)


def read_rows(path: Path, count: int, seed: int) -> Rows:
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if "\t" in line]
    random.Random(seed).shuffle(lines)
    return [(text, int(label)) for text, label in (line.rsplit("\t", 1) for line in lines[:count])]


def batches(rows: Rows, tokenizer: Any, size: int) -> Iterator[tuple[dict[str, Tensor], Tensor]]:
    for begin in range(0, len(rows), size):
        texts, labels = zip(*rows[begin : begin + size], strict=True)
        batch = tokenizer(list(texts), padding=True, truncation=True, max_length=64, return_tensors="pt")
        yield {name: batch[name] for name in ("input_ids", "attention_mask")}, torch.tensor(labels)


@torch.no_grad()
def linear_probe(model: MeanPooled, tokenizer: Any, train: Rows, test: Rows) -> float:
    """Test accuracy of a linear classifier on frozen features."""
    model.eval()
    features = [
        (torch.cat([model(**batch) for batch, _ in batches(rows, tokenizer, 128)]), [label for _, label in rows])
        for rows in (train, test)
    ]
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000)).fit(*features[0])
    return float(classifier.score(*features[1]))


def fine_tuned(model: MeanPooled, tokenizer: Any, train: Rows, test: Rows, options: argparse.Namespace) -> float:
    """Test accuracy after training encoder and classifier."""
    head = nn.Linear(model.width, 1 + max(label for _, label in train))
    network = nn.Sequential(model, head)
    optimizer = torch.optim.AdamW(network.parameters(), lr=options.learning_rate)
    network.train()
    for epoch in range(options.epochs):
        random.Random(epoch).shuffle(train)
        for batch, labels in batches(train, tokenizer, 32):
            nn.functional.cross_entropy(head(model(**batch)), labels).backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    network.eval()
    with torch.no_grad():
        hits = sum(int((head(model(**b)).argmax(1) == labels).sum()) for b, labels in batches(test, tokenizer, 128))
    return hits / len(test)


def measure(start: str, options: argparse.Namespace, train: Rows, test: Rows) -> dict[str, list[float]]:
    path = options.teacher if start == "teacher" else options.student
    tokenizer = AutoTokenizer.from_pretrained(path)
    figures: dict[str, list[float]] = {"linear probe": [], "fine-tuned": []}
    for seed in range(options.seeds):
        torch.manual_seed(seed)
        if start == "random":
            model = MeanPooled(AutoModel.from_config(AutoConfig.from_pretrained(path)))
        else:
            model = MeanPooled(AutoModel.from_pretrained(path))
        if start == "random" or seed == 0:  # trained weights are the same for every seed
            figures["linear probe"].append(linear_probe(model, tokenizer, train, test))
        if start != "teacher":
            figures["fine-tuned"].append(fine_tuned(model, tokenizer, list(train), test, options))
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", required=True, help="export of a distillation")
    parser.add_argument("--teacher", help="Hugging Face directory, for the linear probe of the teacher")
    parser.add_argument("--train", type=Path, required=True, help="text<TAB>label lines")
    parser.add_argument("--test", type=Path, required=True, help="text<TAB>label lines")
    parser.add_argument("--train-rows", type=positive, default=2000)
    parser.add_argument("--test-rows", type=positive, default=2000)
    parser.add_argument("--epochs", type=positive, default=4, help="of fine-tuning")
    parser.add_argument("--learning-rate", type=float, default=4e-4, help="of fine-tuning")
    parser.add_argument("--seeds", type=positive, default=3)
    parser.add_argument("--output", type=Path, help="JSON file for the figures")
    options = parser.parse_args()
    train, test = read_rows(options.train, options.train_rows, 0), read_rows(options.test, options.test_rows, 1)
    starts = ["random", "distilled"] + (["teacher"] if options.teacher else [])
    figures = {start: measure(start, options, train, test) for start in starts}
    table = Table("start", "linear probe", "fine-tuned", title=f"{len(train)} training rows, {len(test)} test rows")
    for start, by_method in figures.items():
        table.add_row(start, *(_shown(values) for values in by_method.values()))
    Console().print(table)
    write_result(figures, options.output)


def _shown(values: list[float]) -> str:
    if not values:
        return ""
    return f"{statistics.mean(values):.3f}" + (f"  ({', '.join(f'{v:.3f}' for v in values)})" if values[1:] else "")


if __name__ == "__main__":
    main()
