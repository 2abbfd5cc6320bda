"""Folders of labelled tokens, and evaluate stages that score models on them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from kd_dist.config.sections.data import PlainTokenData
from kd_dist.config.sections.evaluation import Evaluate, Guards
from kd_dist.config.stages import EvaluateStage
from kd_dist.data.cleaning import clean
from kd_dist.data.preprocessing import Preprocessing
from kd_dist.files import write_json
from tests.conftest import TinyWorld
from tests.models.random_models import LABELS, save_classifier, save_fastbert

LABEL2ID = {name: index for index, name in enumerate(LABELS)}


def write_tokens(
    folder: Path, texts: list[str], labels: Any, *, task: str = "single_label", label2id: Any = LABEL2ID, test: int = 90
) -> Path:
    sizes = {"validation": len(texts), "test": test}
    for split, size in sizes.items():
        columns = {"input_ids": [[2, 3]] * size, "labels": list(labels)[:size], "text": texts[:size]}
        Dataset.from_dict(columns).save_to_disk(str(folder / split))
    write_json(folder / "label2id.json", label2id)
    write_json(folder / "statistics.json", {"task": task, **{f"{split}_rows": sizes[split] for split in sizes}})
    Preprocessing(max_length=32).save(folder)
    return folder


def stage_at(folder: Path, models: dict[str, Path], tokens: Path, *, guard: str | None = None, **options: Any) -> Path:
    stage = EvaluateStage(
        evaluate=Evaluate(models={name: str(path) for name, path in models.items()}, **options),
        data=PlainTokenData(tokens=str(tokens)),
        guards=Guards(teacher=guard) if guard else None,
    )
    folder.mkdir(parents=True)
    write_json(folder / "config.json", stage.model_dump())
    return folder


def evaluation_of(stage_dir: Path) -> dict[str, Any]:
    return json.loads((stage_dir / "evaluation.json").read_text(encoding="utf-8"))


def logits_of(model: Path, texts: list[str]) -> np.ndarray:
    """(N, C) logits by transformers alone."""
    loaded = AutoModelForSequenceClassification.from_pretrained(model).eval()
    tokenizer = AutoTokenizer.from_pretrained(model)
    cut = {"return_tensors": "pt", "truncation": True, "max_length": 32}
    with torch.inference_mode():
        return np.concatenate([loaded(**tokenizer(text, **cut)).logits.numpy() for text in texts])


def sample_texts(tiny: TinyWorld) -> list[str]:
    lines = map(clean, tiny.corpus.read_text(encoding="utf-8").split("\n"))
    return [line[:30] for line in lines if len(line) > 10][:90]


def save_teacher(directory: Path, tiny: TinyWorld) -> Path:
    """Wide weights, so that it does not give one label to all texts."""
    return save_classifier(directory, tiny.tokenizer, initializer_range=1.0)


def save_early_exit(directory: Path, tiny: TinyWorld, texts: list[str]) -> Path:
    """A model with branches whose own thresholds let all rows exit at the second layer."""
    save_fastbert(directory, tiny.tokenizer, texts[:20])
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    write_json(directory / "config.json", config | {"thresholds": [0.0, 1.0, 0.0]})
    return directory
