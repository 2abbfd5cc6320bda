"""Tiny models with random weights: classifiers of every family, and models with branches."""

import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    PreTrainedModel,
)

from kd_dist.config.families import ALL_FAMILIES, FAMILIES
from kd_dist.data.preprocessing import Preprocessing
from kd_dist.models.classifier import load_classifier
from kd_dist.models.early_exit import FastBertForSequenceClassification
from kd_dist.objectives.prediction_losses import prediction_divergence

LABELS = ["体育", "财经", "旅游"]
NUM_LAYERS, NUM_BRANCHES = 4, 3
LENGTHS = [12, 12, 9, 9, 9, 8, 7, 7, 5, 5, 4, 3, 3, 2, 2, 1]
MULTI_LABEL = "multi_label_classification"

Batch = dict[str, Tensor]

VARIANTS: dict[str, dict[str, Any]] = {
    "albert": {"embedding_size": 8},
    "albert in two groups": {"embedding_size": 8, "num_hidden_groups": 2},
    "albert in three groups": {"embedding_size": 8, "num_hidden_groups": 3, "num_hidden_layers": 6},
    "deberta-v2": {"relative_attention": True, "position_buckets": 4, "pos_att_type": ["c2p", "p2c"]}
    | {"position_biased_input": False, "norm_rel_ebd": "layer_norm", "share_att_key": True, "type_vocab_size": 0},
    "electra": {"embedding_size": 8},
    "electra as wide as its embeddings": {"embedding_size": 16},
    "distilbert": {"hidden_dim": 32},
    "distilbert of sines": {"hidden_dim": 32, "sinusoidal_pos_embds": True},
    "ernie with tasks": {"use_task_id": True},
    "modernbert": {"cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3, "local_attention": 8},
    "nezha": {"max_relative_position": 3},
    "roberta": {"pad_token_id": 1},
    "roformer": {"embedding_size": 8},
    "xlm-roberta": {"pad_token_id": 1},
    "xlnet": {"d_inner": 32},
}
KINDS = sorted({*FAMILIES, *(kind for kind in VARIANTS if kind.split()[0] in FAMILIES)})
VOCABULARY = 100


def random_classifier(kind: str = "bert", seed: int = 0, **settings: Any) -> PreTrainedModel:
    """A classifier of 4 layers of any family, with weights so wide that every part of it matters, in eval mode."""
    torch.manual_seed(seed)
    model = AutoModelForSequenceClassification.from_config(random_config(kind, **settings))
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):  # zero at first: a bias left out would not be noticed
            torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def random_config(kind: str, **settings: Any) -> Any:
    shape = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32}
    shape |= {"vocab_size": VOCABULARY, "max_position_embeddings": 48, "initializer_range": 0.3, "num_labels": 3}
    if kind == "xlnet":  # which has no limit and refuses one
        del shape["max_position_embeddings"]
        shape = {ALL_FAMILIES[kind].aliases.get(name, name): value for name, value in shape.items()}
    return AutoConfig.for_model(kind.split()[0], **{"pad_token_id": 0} | shape | VARIANTS.get(kind, {}) | settings)


def random_inputs(lengths: list[int], padding: int = 0, seed: int = 0, width: int | None = None) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    mask_BS = (torch.arange(width or max(lengths)) < torch.tensor(lengths)[:, None]).long()
    ids_BS = torch.randint(5, VOCABULARY, mask_BS.shape, generator=generator)
    return {"input_ids": ids_BS.where(mask_BS.bool(), torch.tensor(padding)), "attention_mask": mask_BS}


def save_classifier(directory: Path, tokenizer: Path, **settings: object) -> Path:
    names = AutoTokenizer.from_pretrained(tokenizer)
    labels = {"id2label": dict(enumerate(LABELS)), "label2id": {name: i for i, name in enumerate(LABELS)}}
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(1)
    config = BertConfig(**(shape | labels | {"vocab_size": len(names), "max_position_embeddings": 64} | settings))
    BertForSequenceClassification(config).save_pretrained(directory)
    names.save_pretrained(directory)
    return directory


def random_fastbert(kind: str = "bert", problem_type: str | None = None, **settings: Any) -> Any:
    """Branches with weights so wide that some of them are sure of some rows."""
    backbone = random_classifier(kind, num_labels=5, problem_type=problem_type)
    torch.manual_seed(3)
    model = FastBertForSequenceClassification.from_classifier(backbone, **{"branch_width": 8} | settings)
    for parameter in model.branches.parameters():
        nn.init.normal_(parameter, std=0.6)
    return model.eval()


def save_fastbert(directory: Path, tokenizer: Path, texts: list[str], **settings: Any) -> Path:
    """A model of 4 layers whose branches have learnt a little."""
    save_classifier(directory, tokenizer, num_hidden_layers=NUM_LAYERS, initializer_range=0.6, **settings)
    classifier = load_classifier(directory)
    torch.manual_seed(5)
    model = FastBertForSequenceClassification.from_classifier(classifier.model, branch_width=16)
    batch = classifier.batch(Preprocessing(max_length=32).encode(classifier.tokenizer, texts, None))
    optimizer = torch.optim.Adam(model.branches.parameters(), lr=0.02)
    for _ in range(25):
        *early, last = model.all_logits(batch)
        optimizer.zero_grad()
        sum(prediction_divergence(own, last, model.task, "teacher_student") for own in early).backward()
        optimizer.step()
    shutil.rmtree(directory)
    model.save_pretrained(directory)
    AutoTokenizer.from_pretrained(tokenizer).save_pretrained(directory)
    Preprocessing(max_length=32).save(directory)
    return directory


def cut(inputs: Batch, *sizes: int) -> list[Batch]:
    """Batches of these sizes, each as wide as its longest row."""
    found, start = [], 0
    for size in sizes:
        width = int(inputs["attention_mask"][start : start + size].sum(dim=1).max())
        found.append({name: tensor[start : start + size, :width] for name, tensor in inputs.items()})
        start += size
    return found
