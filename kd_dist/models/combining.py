"""The ensemble stage: combine trained classifiers into one, whose mean prediction a student can learn from."""

import json
from pathlib import Path
from typing import Any

import torch

from kd_dist.config.families import padding_side
from kd_dist.config.stages import EnsembleStage
from kd_dist.data.labels import align_labels
from kd_dist.data.preprocessing import FILE_NAME, Preprocessing
from kd_dist.errors import RunError, UserError
from kd_dist.files import replaced_folder
from kd_dist.models.classifier import Classifier, load_classifier
from kd_dist.models.ensemble import EnsembleConfig, EnsembleForSequenceClassification
from kd_dist.models.students import num_parameters


def run(stage: EnsembleStage, stage_dir: Path, shard: int) -> None:
    """Write `stage_dir`/export: the ensemble, and the tokenizer and preprocessing that its members share.

    Raises:
        UserError: the members predict other labels, or are no classifiers.
        RunError: they read texts in different ways, or one cannot be a member.
    """
    members = [load_classifier(path, torch.device("cpu")) for path in stage.teachers.paths]
    first = members[0]
    for member in members:
        _require_alike(first, member)
    model = combined(members, stage.teachers.shares(), stage.teachers.temperatures_of_all())
    with replaced_folder(stage_dir / "export") as (_, output):
        model.save_pretrained(output)
        first.tokenizer.save_pretrained(output)
        if (preprocessing := _preprocessing(first)) is not None:
            preprocessing.save(output)
    print(f"{stage_dir.name}: {len(members)} members, {num_parameters(model) / 1e6:.1f} million parameters", flush=True)


def combined(
    members: list[Classifier], weights: list[float], temperatures: list[float]
) -> EnsembleForSequenceClassification:
    """Return the ensemble of classifiers of the same tokens.

    Args:
        members: the classifiers; the first gives the order of the labels.
        weights: of the members; they sum to 1.
        temperatures: what their logits are divided by.

    Raises:
        UserError: the members predict other labels than the first.
    """
    first, configs = members[0], [member.model.config for member in members]
    config = EnsembleConfig(
        members=[config.to_dict() for config in configs],
        columns=[_columns(member, first) for member in members],
        weights=weights,
        temperatures=temperatures,
        vocab_size=min(config.vocab_size for config in configs),
        pad_token_id=first.tokenizer.pad_token_id,
        type_vocab_size=max(getattr(config, "type_vocab_size", 0) for config in configs),
        max_position_embeddings=min(member.max_length for member in members),
        num_hidden_layers=sum(member.num_layers for member in members),
        problem_type=configs[0].problem_type,
        id2label=configs[0].id2label,
        label2id=configs[0].label2id,
    )
    ensemble = EnsembleForSequenceClassification(config)
    for member, own in zip(members, ensemble.members, strict=True):
        own.load_state_dict(member.model.state_dict())
    return ensemble.eval()


def _columns(member: Classifier, first: Classifier) -> list[int]:
    if first.task == "regression":
        return [0]
    try:
        return align_labels(member.label2id, first.label2id)
    except UserError as error:
        raise UserError(f"{member.directory} and {first.directory}: {error}") from error


def _require_alike(first: Classifier, member: Classifier) -> None:
    """Raise RunError unless a classifier can be the member of an ensemble with the first one."""
    where = f"{member.directory} cannot be in one ensemble with {first.directory}"
    if member.exit_rule is not None or member.brings_code:
        raise RunError(f"{where}: it is a model of kind {member.model.config.model_type}; members are plain encoders")
    if padding_side(member.model.config.model_type) != "right":
        raise RunError(f"{where}: it expects padding on the left of a row, where members have it on the right")
    if member.task != first.task:
        raise RunError(f"{where}: one is for {member.task}, the other for {first.task}")
    if _tokens_of(member.tokenizer) != _tokens_of(first.tokenizer):
        raise RunError(
            f"{where}: their tokenizers differ. Teachers of different vocabularies can be averaged as judgements: "
            "write the predictions of each with kd_dist/predict.py, and use --job soft_labels"
        )
    if _preprocessing(member) != _preprocessing(first):
        raise RunError(f"{where}: their {FILE_NAME} differ, so they were trained on texts that were read differently")


def _tokens_of(tokenizer: Any) -> dict[str, Any]:
    """Return what decides how a tokenizer cuts texts into ids."""
    content = json.loads(tokenizer.backend_tokenizer.to_str())
    return {name: value for name, value in content.items() if name not in ("truncation", "padding")}


def _preprocessing(member: Classifier) -> Preprocessing | None:
    return Preprocessing.load(member.directory) if (member.directory / FILE_NAME).is_file() else None
