"""The cut vocabulary stage: cut a model to the pieces that a corpus uses.

Most of a small multilingual model are the embeddings of pieces of other languages. For texts of the corpus the model
stays what it is: they are the same pieces, and these have the same embeddings.
"""

import shutil
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_MASKED_LM_MAPPING,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
    MODEL_MAPPING,
)

from kd_dist.config.stages import CutVocabularyStage
from kd_dist.data.cut_tokenizer import cut_tokenizer
from kd_dist.data.discovery import find_files
from kd_dist.data.preprocessing import FILE_NAME
from kd_dist.data.tokenizers import load_fast_tokenizer
from kd_dist.errors import RunError
from kd_dist.files import replaced_folder
from kd_dist.model_files.model_folders import has_classifier_head, has_language_model_head
from kd_dist.model_files.vocabularies import embedding_problem
from kd_dist.models.loading import load_config, load_pretrained
from kd_dist.models.students import num_parameters


def run(stage: CutVocabularyStage, stage_dir: Path, shard: int) -> None:
    """Write `stage_dir`/export: the model with its head if it has one, the tokenizer, and the preprocessing if any.

    Raises:
        UserError: The tokenizer cannot be cut.
        RunError: It has tokens that the model has no embeddings for.
    """
    path, data = stage.encoder.path, stage.data
    model = _load(path)
    num_tokens, parameters = model.config.vocab_size, num_parameters(model)
    whole = load_fast_tokenizer(path)
    if problem := embedding_problem(max(whole.get_vocab().values()) + 1, path, num_tokens, f"encoder.path={path}", []):
        raise RunError(problem)
    tokenizer, kept = cut_tokenizer(whole, find_files(data.corpus), data.text_field, data.min_count)
    cut_embeddings(model, kept)
    with replaced_folder(stage_dir / "export") as (_, output):
        model.save_pretrained(output)
        tokenizer.save_pretrained(output)
        if (Path(path) / FILE_NAME).is_file():
            shutil.copy(Path(path) / FILE_NAME, output)
    millions = [f"{number / 1e6:.1f}" for number in (parameters, num_parameters(model))]
    print(f"{stage_dir.name}: {len(kept):,} of {num_tokens:,} tokens kept, {' -> '.join(millions)} million parameters")


def _load(path: str) -> PreTrainedModel:
    """Load a model with the head that it has."""
    mapping: Any = MODEL_MAPPING
    if Path(path).is_dir() and has_classifier_head(path):
        mapping = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING
    elif has_language_model_head(path):
        mapping = MODEL_FOR_MASKED_LM_MAPPING
    return load_pretrained(mapping, path, load_config(path)).note_new_heads(path)


@torch.no_grad()
def cut_embeddings(model: PreTrainedModel, kept: list[int]) -> None:
    """Keep of a model's embeddings, and of the head that predicts tokens, the rows of these tokens, in this order.

    The ids of special tokens in the configuration become the new ones, None where the token is not kept.
    """
    modules = [model.get_input_embeddings(), model.get_output_embeddings()]
    tensors = [tensor for module in modules if module is not None for tensor in module.parameters()]
    for tensor in {tensor.data_ptr(): tensor for tensor in tensors}.values():  # the weights of both may be one tensor
        tensor[: len(kept)] = tensor[kept].clone()
    model.resize_token_embeddings(len(kept))  # which leaves out the rows after these
    new = {old: number for number, old in enumerate(kept)}
    ids = {key: number for key, number in model.config.to_dict().items() if key.endswith("_token_id")}
    model.config.update({key: new.get(number) for key, number in ids.items()})
