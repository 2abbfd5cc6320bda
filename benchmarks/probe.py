"""What distillation bought: the same classifier, trained on a few labelled titles, from a distilled student, random
weights, and the teacher.

    python benchmarks/probe.py --student runs/.../export --teacher DIR --train train.txt --test dev.txt

The files hold `text<TAB>label` lines. Every start gets the same rows, steps, seeds and learning rate; the pooled vector
is the mean over the tokens, since neither model has a trained pooler.

Shapes: B batch, S sequence, D width, C classes.
"""

import argparse
import json
import random
import statistics
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer

Rows = list[tuple[str, int]]


class MeanPooledClassifier(nn.Module):
    def __init__(self, encoder: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(encoder.config.hidden_size, num_classes)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        hidden_BSD = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        mask_BS1 = attention_mask[:, :, None]
        return self.head((hidden_BSD * mask_BS1).sum(1) / mask_BS1.sum(1))


def read_rows(path: Path, count: int, seed: int) -> Rows:
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if "\t" in line]
    random.Random(seed).shuffle(lines)
    return [(text, int(label)) for text, label in (line.rsplit("\t", 1) for line in lines[:count])]


def accuracy(start: str, options: argparse.Namespace, train: Rows, test: Rows, seed: int) -> float:
    """Test accuracy after fine-tuning the whole model from `start` on the training rows."""
    path = options.teacher if start == "teacher" else options.student
    tokenizer = AutoTokenizer.from_pretrained(path)
    torch.manual_seed(seed)
    encoder = (
        AutoModel.from_config(AutoConfig.from_pretrained(path))
        if start == "random"
        else AutoModel.from_pretrained(path)
    )
    model = MeanPooledClassifier(encoder, 1 + max(label for _, label in train))
    if options.frozen:
        encoder.requires_grad_(False)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=options.learning_rate)
    generator = random.Random(seed)
    model.train()
    for _ in range(options.epochs):
        generator.shuffle(train)
        for batch, labels in _batches(train, tokenizer, options.batch_size):
            nn.functional.cross_entropy(model(**batch), labels).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    model.eval()
    with torch.no_grad():
        hits = sum(int((model(**batch).argmax(1) == labels).sum()) for batch, labels in _batches(test, tokenizer, 128))
    return hits / len(test)


def _batches(rows: Rows, tokenizer: Any, size: int) -> Any:
    for begin in range(0, len(rows), size):
        texts, labels = zip(*rows[begin : begin + size], strict=True)
        batch = tokenizer(list(texts), padding=True, truncation=True, max_length=64, return_tensors="pt")
        yield {name: batch[name] for name in ("input_ids", "attention_mask")}, torch.tensor(labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--student", required=True, help="export of a distillation")
    parser.add_argument("--teacher", help="Hugging Face directory; left out: no teacher row")
    parser.add_argument("--train", type=Path, required=True, help="text<TAB>label lines")
    parser.add_argument("--test", type=Path, required=True, help="text<TAB>label lines")
    parser.add_argument("--train-rows", type=int, default=2000)
    parser.add_argument("--test-rows", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--learning-rate", type=float, default=4e-4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--frozen", action="store_true", help="a linear probe: train the classifier only")
    parser.add_argument("--output", type=Path, help="JSON file for the figures")
    options = parser.parse_args()
    train, test = read_rows(options.train, options.train_rows, 0), read_rows(options.test, options.test_rows, 1)
    starts = ["random", "distilled"] + (["teacher"] if options.teacher else [])
    figures = {
        start: [accuracy(start, options, list(train), test, seed) for seed in range(options.seeds)] for start in starts
    }
    table = Table("start", "accuracy", "of each seed", title=f"{len(train)} training rows, {len(test)} test rows")
    for start, values in figures.items():
        table.add_row(start, f"{statistics.mean(values):.3f}", " ".join(f"{value:.3f}" for value in values))
    Console().print(table)
    if options.output:
        options.output.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
