"""Small models, word vectors and rows to augment."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
)

from kd_dist.augmentation.words import split_words
from kd_dist.files import read_json
from kd_dist.runs.blocks import Blocks, identity_of, read

CPU = torch.device("cpu")


ROWS = 150


BLOCK = 32


class World(NamedTuple):
    tokens: Path
    pairs: Path
    mlm: Path
    encoder: Path
    classifier: Path
    vectors: Path


def write_models(root: Path, tokenizer_dir: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_dir)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    config = BertConfig(vocab_size=len(tokenizer), max_position_embeddings=128, initializer_range=0.3, **sizes)
    torch.manual_seed(3)
    for name, model in {
        "mlm": BertForMaskedLM(config),
        "encoder": BertModel(config),
        "classifier": BertForSequenceClassification(BertConfig(**config.to_diff_dict() | {"num_labels": 3})),
    }.items():
        model.save_pretrained(root / name)
        tokenizer.save_pretrained(root / name)


def write_vectors(path: Path, texts: list[str]) -> None:
    """Vectors of so few dimensions that every word has near ones."""
    words = list(dict.fromkeys(word.text for text in texts for word in split_words(text, "zh")))
    vectors = np.random.default_rng(0).standard_normal((len(words), 4))
    lines = [f"{word} {' '.join(map(str, vector))}" for word, vector in zip(words, vectors.tolist(), strict=True)]
    path.write_text("\n".join([f"{len(words)} 4", *lines]) + "\n", encoding="utf-8")


def files_of(stage_dir: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((stage_dir / "shards").glob("block_*.parquet"))}


def blocks_in(stage_dir: Path) -> Blocks:
    return Blocks(stage_dir / "shards", identity_of(read_json(stage_dir / "shards" / "manifest.json")))


def blocks_of(stage_dir: Path) -> dict[int, list[dict[str, Any]]]:
    """The rows of each block, wherever it is."""
    return {number: read(path, [group]).to_pylist() for number, (path, group) in blocks_in(stage_dir).places().items()}


def rows_of(stage_dir: Path) -> list[dict[str, Any]]:
    return [row for block in blocks_of(stage_dir).values() for row in block]


def replaceable(text: str, language: Any = "zh") -> list[str]:
    return [word.text for word in split_words(text, language) if word.kind]
