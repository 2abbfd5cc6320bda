"""TinyBERT's layer distillation (Jiao et al. 2020, equations 7 to 9).

Student layer m imitates teacher layer g(m): its attention scores, and through a linear projection its output; the
student's embedding output imitates the teacher's.

Shapes: B batch, S sequence, D width.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from kd_dist.config.objectives.tinybert import TinyBertObjective
from kd_dist.config.stages import TrainStage
from kd_dist.models.loading import load_config
from kd_dist.models.students import build_encoder
from kd_dist.models.teacher import Batch, Encoded, Wanted, encode
from kd_dist.objectives.base import Objective, Outcome
from kd_dist.objectives.losses import (
    attention_score_count,
    attention_score_error,
    hidden_state_count,
    hidden_state_error,
)
from kd_dist.objectives.published_projection import load_published_projection

PROJECTIONS = "projections.safetensors"


class TinyBert(Objective):
    """Sums of squared differences of attention scores, hidden states and embeddings.

    As in the paper, each term is a sum over layers of means: its count is that of a single layer. `projection` decides
    which of the L + 1 hidden states share a matrix. Terms of weight 0 are not computed.
    """

    def __init__(self, student: PreTrainedModel, teacher: PretrainedConfig, settings: TinyBertObjective) -> None:
        super().__init__()
        self.student = student
        self._compat = settings.compat
        self._num_heads, self._teacher_width = teacher.num_attention_heads, teacher.hidden_size
        num_layers = student.config.num_hidden_layers
        self._layer_map = dict(enumerate(settings.mapped_layers(num_layers, teacher.num_hidden_layers), start=1))
        self._terms = {name for name, weight in settings.weights().items() if weight > 0}
        self._projection_of = {layer: _projection_name(settings.projection, layer) for layer in self._hidden_layers()}
        self.projections = nn.ModuleDict(
            {
                name: nn.Linear(student.config.hidden_size, teacher.hidden_size)
                for name in sorted(set(self._projection_of.values()))
            }
        )

    def _hidden_layers(self) -> list[int]:
        """Return the student layers whose output is compared; 0 is the embedding."""
        layers = [0] if "embeddings" in self._terms else []
        return layers + (list(self._layer_map) if "hidden" in self._terms else [])

    def _attention_layers(self) -> list[int]:
        return list(self._layer_map) if "attention" in self._terms else []

    def _teacher_layer(self, layer: int) -> int:
        return self._layer_map.get(layer, 0)

    def wanted(self) -> Wanted:
        return Wanted(
            hidden_states=frozenset(self._teacher_layer(layer) for layer in self._hidden_layers()),
            attention=frozenset(self._teacher_layer(layer) for layer in self._attention_layers()),
        )

    def counts(self, batch: Batch) -> dict[str, float]:
        mask_BS = batch["attention_mask"]
        hidden = float(hidden_state_count(mask_BS, self._teacher_width, self._compat))
        attention = float(attention_score_count(mask_BS, self._num_heads, self._compat))
        counts = {"attention": attention, "hidden": hidden, "embeddings": hidden}
        return {term: counts[term] for term in sorted(self._terms)}

    def forward(self, batch: Batch, teacher: Encoded | None) -> Outcome:
        assert teacher is not None
        wanted = Wanted(frozenset(self._hidden_layers()), frozenset(self._attention_layers()))
        student = encode(self.student, batch, wanted)
        mask_BS = batch["attention_mask"]
        sums: dict[str, list[Tensor]] = {term: [] for term in sorted(self._terms)}
        for layer in self._attention_layers():
            pair = student.attention[layer], teacher.attention[self._teacher_layer(layer)]
            sums["attention"].append(attention_score_error(*pair, mask_BS, compat=self._compat))
        for layer in self._hidden_layers():
            projected_BSD = self.projections[self._projection_of[layer]](student.hidden_states[layer])
            target_BSD = teacher.hidden_states[self._teacher_layer(layer)]
            error = hidden_state_error(projected_BSD, target_BSD, mask_BS, compat=self._compat)
            sums["hidden" if layer else "embeddings"].append(error)
        return Outcome({term: torch.stack(values).sum() for term, values in sums.items()})

    def save_extras(self, directory: Path) -> None:
        """Save the projections, for a later stage that continues to distil this student."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.projections.state_dict().items()}
        save_file(tensors, directory / PROJECTIONS)

    def load_extras(self, directory: Path) -> None:
        """Load the projections that this student was distilled with, if they exist and have the right shapes.

        Where they do not fit, a note is printed and the projections stay as initialized.
        """
        if not (directory / PROJECTIONS).exists():
            load_published_projection(directory, self.projections)
            return
        found, own = load_file(directory / PROJECTIONS), self.projections.state_dict()
        if _shapes(found) == _shapes(own):
            self.projections.load_state_dict(found)
        else:
            print(
                f"note: {directory / PROJECTIONS} is for other widths or another objective.projection: the projections "
                "are initialized again",
                flush=True,
            )


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def _projection_name(kind: str, layer: int) -> str:
    """Return the name of the projection of a hidden state; 0 is the embedding."""
    if kind == "shared":
        return "all"
    if kind == "paper":
        return "layers" if layer else "embeddings"
    return f"layer_{layer}"


def build(stage: TrainStage, tokenizer: Any) -> TinyBert:
    """Build the objective with its student, and with the projections of an earlier stage where there are any."""
    assert isinstance(stage.objective, TinyBertObjective)
    assert stage.teacher is not None
    objective = TinyBert(build_encoder(stage, tokenizer), load_config(stage.teacher.path), stage.objective)
    if stage.student is not None and stage.student.path is not None:
        objective.load_extras(Path(stage.student.path))
    return objective
