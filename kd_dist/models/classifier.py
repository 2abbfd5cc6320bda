"""A trained classifier, loaded from a Hugging Face directory, that turns texts into logits.

Shapes: N rows, B batch, S sequence, C classes (1 for regression).
"""

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

from kd_dist.config.tasks import Task
from kd_dist.data.preprocessing import (
    DEFAULT_MAX_LENGTH,
    FILE_NAME,
    Encoding,
    Preprocessing,
    default_max_length,
    segment_for,
)
from kd_dist.data.tokenizer_folders import load_tokenizer
from kd_dist.errors import UserError, first_line
from kd_dist.model_files.model_folders import label_names, no_classifier, num_positions, read_classifier_config, task_of
from kd_dist.model_files.vocabularies import added_tokens, embedding_problem, tokenizer_notes
from kd_dist.models.classifier_output import ClassifierOutput
from kd_dist.models.device import own_device
from kd_dist.models.early_exit import BRANCHES, FastBertForSequenceClassification
from kd_dist.models.exit_rules import ExitRule
from kd_dist.models.inputs import model_inputs
from kd_dist.models.loading import load_config, load_pretrained, print_note

TOKENS_SIDE_BY_SIDE = 32_768  # in one call of a model with early exit: 100 MB of states 768 wide


@dataclass(frozen=True)
class Classifier:
    """A model in eval mode on its device, its tokenizer, and what its logits mean.

    Args:
        directory: where it was loaded from.
        model: the classifier of transformers.
        tokenizer: that of the same directory.
        task: what its logits answer.
        labels: the names of the columns of the logits.
        max_length: how many tokens the model has positions for, or where it has none, as many as it was trained on.
        exit_rule: when samples exit a model with branches; None for any other model.
    """

    directory: Path
    model: PreTrainedModel
    tokenizer: Any
    task: Task
    labels: list[str]
    max_length: int
    exit_rule: ExitRule | None = None

    def at(self, speed: float | None = None, patience: int | None = None) -> Self:
        """Return the same model with another exit rule.

        Args:
            speed: from 0 (all layers) to 1 (exit at the first layer).
            patience: exit after so many layers in a row that agree.

        Raises:
            UserError: the model has no branches.
        """
        if not isinstance(self.model, FastBertForSequenceClassification):
            way_out = f": train some (`--job fastbert_stage1 model.path={self.directory} data.unlabelled=FILE`)"
            raise UserError(
                f"{self.directory} has no branches to exit early by, so it has no speed"
                f"{f'; {self.model.config.model_type} models never have' if self.brings_code else way_out}"
            )
        return replace(self, exit_rule=self.model.exit_rule(speed, patience))

    @property
    def num_layers(self) -> int:
        """Layers of the encoder."""
        return self.model.config.num_hidden_layers

    @property
    def brings_code(self) -> bool:
        """Whether the code of the model is saved with it, since transformers has none for it."""
        return self.model._auto_class is not None

    @torch.inference_mode()
    def run(self, batches: Iterable[Mapping[str, Tensor]]) -> ClassifierOutput:
        """Classify the rows of some batches, in their order.

        Args:
            batches: as `batch` makes them.
        """
        if self.exit_rule is None:
            return ClassifierOutput(torch.cat([self.model(**batch).logits.float().cpu() for batch in batches]))
        outputs = [self.model.classify(some, self.exit_rule) for some in _side_by_side(batches)]
        logits_NC = torch.cat([output.logits_NC for output in outputs])
        return ClassifierOutput(logits_NC, torch.cat([output.layers_N for output in outputs]))

    @property
    def label2id(self) -> dict[str, int]:
        """The column of each label's logits."""
        return {name: index for index, name in enumerate(self.labels)}

    def batch(self, rows: Sequence[Encoding]) -> dict[str, Tensor]:
        """Return rows as the model takes them, on its device: each entry (B, S), padded to the longest of them."""
        columns = {"input_ids": _padded([row.input_ids for row in rows], self.tokenizer.pad_token_id)}
        # Without types a model assumes a single segment, which is right.
        types = [row.token_type_ids for row in rows if row.token_type_ids is not None]
        columns |= {"token_type_ids": _padded(types, 0)} if types else {}
        columns["attention_mask"] = _padded([[1] * len(row.input_ids) for row in rows], 0)
        return {name: tensor.to(self.model.device) for name, tensor in model_inputs(self.model, columns).items()}

    def encode(
        self, preprocessing: Preprocessing, texts: Sequence[str], text_pairs: Sequence[str] | None
    ) -> tuple[list[Encoding], int]:
        """Tokenize texts, and cut those with more tokens than the model has positions for.

        Args:
            preprocessing: how texts are read.
            texts: the texts, or the first ones of pairs.
            text_pairs: the second texts of pairs.

        Returns:
            The tokens of each text, and how many texts were cut. The last token, which marks the end, stays.
        """
        rows = preprocessing.encode(self.tokenizer, texts, text_pairs)
        kept = [self._cut(row) if len(row.input_ids) > self.max_length else row for row in rows]
        return kept, sum(row.truncated for row in kept)

    def _cut(self, row: Encoding) -> Encoding:
        def cut(ids: list[int]) -> list[int]:
            return [*ids[: self.max_length - 1], ids[-1]]

        return Encoding(cut(row.input_ids), row.token_type_ids and cut(row.token_type_ids), truncated=True)


def _side_by_side(batches: Iterable[Mapping[str, Tensor]]) -> Iterator[list[Mapping[str, Tensor]]]:
    """Yield the batches that go through a model with early exit together: up to `TOKENS_SIDE_BY_SIDE` tokens."""
    some: list[Mapping[str, Tensor]] = []
    tokens = 0
    for batch in batches:
        some.append(batch)
        tokens += batch["input_ids"].numel()
        if tokens >= TOKENS_SIDE_BY_SIDE:
            yield some
            some, tokens = [], 0
    if some:
        yield some


def _padded(lists: Sequence[Sequence[int]], padding: int) -> Tensor:
    padded = np.full((len(lists), max(map(len, lists))), padding, dtype=np.int64)
    for row, ids in zip(padded, lists, strict=True):
        row[: len(ids)] = ids
    return torch.from_numpy(padded)


def load_classifier(directory: str | Path, device: torch.device | None = None) -> Classifier:
    """Load a trained classifier in fp32.

    Args:
        directory: a Hugging Face directory with model and tokenizer, such as the export of a stage.
        device: where to; by default the GPU if there is one.

    Raises:
        UserError: there is no such folder, no model or tokenizer in it, or no trained classification head.

    Example:
        >>> classifier = load_classifier("runs/finetune/my_run/export")
        >>> preprocessing = load_preprocessing(classifier, plain_preprocessing(classifier, pairs=False))
        >>> rows, _ = classifier.encode(preprocessing, ["好看", "不好看"], None)
        >>> [classifier.labels[index] for index in predict(classifier, rows).logits_NC.argmax(dim=1)]
        ['positive', 'negative']
    """
    directory = Path(directory)
    read_classifier_config(directory)
    model = _load_model(directory)
    config = model.config.to_dict()
    model.to(device or own_device()).eval().requires_grad_(False)
    return Classifier(
        directory=directory,
        model=model,
        tokenizer=_load_tokenizer(directory, model.config.vocab_size),
        task=task_of(config),
        labels=label_names(config),
        max_length=num_positions(config) or _length_in_training(directory),
        exit_rule=model.exit_rule() if isinstance(model, FastBertForSequenceClassification) else None,
    )


def _length_in_training(directory: Path) -> int:
    """Return the longest row that a model without positions, such as a recurrent one, was trained on; at least 128."""
    own = Preprocessing.load(directory).max_length if (directory / FILE_NAME).is_file() else 0
    return max(own, DEFAULT_MAX_LENGTH)


def _load_model(directory: Path) -> PreTrainedModel:
    loaded = load_pretrained(
        MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, str(directory), load_config(directory), torch.float32
    )
    model, missing, unknown = loaded.model, loaded.new, loaded.unused
    if wrong := [name for name in [*missing, *unknown] if name.startswith(BRANCHES)]:
        raise UserError(
            f"the branches in {directory} do not fit its encoder of {model.config.num_hidden_layers} layers "
            f"({', '.join(wrong[:3])}): its config.json is not the one they were trained with; copy it again"
        )
    return loaded.require_trained_head(str(directory), functools.partial(no_classifier, directory))


def _load_tokenizer(directory: Path, num_embeddings: int) -> Any:
    for note in tokenizer_notes(directory):
        print_note(note)
    try:
        tokenizer = load_tokenizer(directory)
    except (OSError, ValueError) as error:
        raise UserError(f"the tokenizer in {directory} cannot be loaded: {first_line(error)}") from error
    where, added = str(directory), added_tokens(directory)
    if problem := embedding_problem(len(tokenizer), where, num_embeddings, "its model", added):
        raise UserError(problem)
    return tokenizer


def by_length(rows: Sequence[Encoding], batch_size: int) -> Iterator[np.ndarray]:
    """Yield row numbers in batches of similar length, the longest first: what does not fit into memory fails early."""
    lengths = np.array([len(row.input_ids) for row in rows])
    order = np.argsort(-lengths, kind="stable")
    yield from (order[start : start + batch_size] for start in range(0, len(order), batch_size))


def predict(classifier: Classifier, rows: Sequence[Encoding], batch_size: int = 32) -> ClassifierOutput:
    """Classify rows; neither their order nor the size of the batches has an influence beyond rounding.

    Args:
        classifier: the model.
        rows: tokens of each text, as `Classifier.encode` returns them.
        batch_size: rows of similar length in a batch.

    Returns:
        Logits, and exits of a model with branches, in the order of the rows.
    """
    if not rows:
        layers_N = None if classifier.exit_rule is None else torch.empty(0, dtype=torch.long)
        return ClassifierOutput(torch.empty(0, len(classifier.labels)), layers_N)
    batches = list(by_length(rows, batch_size))
    output = classifier.run(classifier.batch([rows[number] for number in numbers]) for numbers in batches)
    places = torch.from_numpy(np.argsort(np.concatenate(batches)))
    layers_N = None if output.layers_N is None else output.layers_N[places]
    return ClassifierOutput(output.logits_NC[places], layers_N)


def predict_logits(classifier: Classifier, rows: Sequence[Encoding], batch_size: int = 32) -> np.ndarray:
    """Return the (N, C) logits of `predict`."""
    return predict(classifier, rows, batch_size).logits_NC.numpy()


def load_preprocessing(classifier: Classifier, default: Preprocessing) -> Preprocessing:
    """Return what the classifier was trained with, or the default for a model from elsewhere, which does not say."""
    has_own = (classifier.directory / FILE_NAME).is_file()
    return Preprocessing.load(classifier.directory) if has_own else default


def plain_preprocessing(classifier: Classifier, pairs: bool) -> Preprocessing:
    """Return the default for a model from elsewhere: what its tokenizer is made for, and at most 128 tokens."""
    segment = segment_for(classifier.tokenizer)
    return Preprocessing(max_length=default_max_length(classifier.max_length), segment=segment, pairs=pairs)
