"""TinyBERT's layer distillation (Jiao et al. 2020, equations 7 to 9).

Student layer m imitates teacher layer g(m): its attention scores, and through a linear projection its output; the
student's embedding output imitates the teacher's.

Shapes: B batch, S sequence, D width.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from kd_dist.config.objectives.tinybert import TinyBertObjective
from kd_dist.config.stages import TrainStage
from kd_dist.models.attention import Attention
from kd_dist.models.loading import load_config
from kd_dist.models.students import build_initialized_encoder
from kd_dist.models.teacher import Batch, Encoded, Wanted, encode
from kd_dist.objectives.base import Objective, Outcome
from kd_dist.objectives.layer_losses import (
    attention_score_count,
    attention_score_error,
    centred_keys,
    hidden_state_count,
    hidden_state_error,
)
from kd_dist.objectives.published_projection import load_published_projection
from kd_dist.objectives.variances import Variance

PROJECTIONS = "projections.safetensors"


class TinyBert(Objective):
    """Sums of squared differences of attention scores, hidden states and embeddings.

    As in the paper, each term is a sum over layers of means: its count is that of a single layer. `projection` decides
    which of the L + 1 hidden states share a matrix. Terms of weight 0 are not computed.

    In relative units, each layer's sum is divided by the teacher's variance of that quantity in that layer (`observe`),
    so that a term is 1 per layer for a student that gives the teacher's mean, whatever the teacher.
    """

    attention_variances_L: Tensor
    hidden_variances_L: Tensor

    def __init__(self, student: PreTrainedModel, teacher: PretrainedConfig, settings: TinyBertObjective) -> None:
        super().__init__()
        self.student = student
        self._compat, self._relative = settings.compat, settings.is_relative()
        self._centred = settings.attention_form() == "centred"
        self._num_heads, self.teacher_width = teacher.num_attention_heads, teacher.hidden_size
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
        self.register_buffer("attention_variances_L", torch.ones(len(self._attention_layers())))
        self.register_buffer("hidden_variances_L", torch.ones(len(self._hidden_layers())))

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

    def observe(self, outputs: Iterable[tuple[Batch, Encoded]]) -> None:
        """Estimate the teacher's variance of everything compared, for relative units."""
        if not self._relative:
            return
        attention = {layer: Variance() for layer in self._attention_layers()}
        hidden = {layer: Variance() for layer in self._hidden_layers()}
        for batch, teacher in outputs:
            mask_BS = batch["attention_mask"]
            for layer, variance in attention.items():
                variance.add_scores(self._scores(teacher.attention[self._teacher_layer(layer)], mask_BS), mask_BS)
            for layer, variance in hidden.items():
                variance.add_states(teacher.hidden_states[self._teacher_layer(layer)], mask_BS)
        self.attention_variances_L.copy_(torch.tensor([variance.value() for variance in attention.values()]))
        self.hidden_variances_L.copy_(torch.tensor([variance.value() for variance in hidden.values()]))

    def _scores(self, attention: Attention, mask_BS: Tensor) -> Attention:
        """Return the queries and keys whose scores are compared."""
        return centred_keys(attention, mask_BS) if self._centred else attention

    def counts(self, batch: Batch) -> dict[str, float]:
        mask_BS = batch["attention_mask"]
        hidden = float(hidden_state_count(mask_BS, self.teacher_width, self._compat))
        attention = float(attention_score_count(mask_BS, self._num_heads, self._compat))
        counts = {"attention": attention, "hidden": hidden, "embeddings": hidden}
        return {term: counts[term] for term in sorted(self._terms)}

    def forward(self, batch: Batch, teacher: Encoded | None) -> Outcome:
        assert teacher is not None
        wanted = Wanted(frozenset(self._hidden_layers()), frozenset(self._attention_layers()))
        student = encode(self.student, batch, wanted)
        mask_BS = batch["attention_mask"]
        sums: dict[str, list[Tensor]] = {term: [] for term in sorted(self._terms)}
        for layer, variance in zip(self._attention_layers(), self.attention_variances_L, strict=True):
            own = self._scores(student.attention[layer], mask_BS)
            target = self._scores(teacher.attention[self._teacher_layer(layer)], mask_BS)
            sums["attention"].append(attention_score_error(own, target, mask_BS, compat=self._compat) / variance)
        for layer, variance in zip(self._hidden_layers(), self.hidden_variances_L, strict=True):
            projected_BSD = self.projections[self._projection_of[layer]](student.hidden_states[layer])
            target_BSD = teacher.hidden_states[self._teacher_layer(layer)]
            error = hidden_state_error(projected_BSD, target_BSD, mask_BS, compat=self._compat) / variance
            sums["hidden" if layer else "embeddings"].append(error)
        return Outcome({term: torch.stack(values).sum() for term, values in sums.items()})

    def start_projections(self, directions_DE: Tensor) -> None:
        """Start every projection from the matrix by which the student has its donor's embeddings."""
        for projection in self.projections.values():
            assert isinstance(projection, nn.Linear)
            nn.init.zeros_(projection.bias)
            with torch.no_grad():
                projection.weight.copy_(directions_DE)

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
    student, directions_DE = build_initialized_encoder(stage, tokenizer)
    objective = TinyBert(student, load_config(stage.teacher.path), stage.objective)
    if directions_DE is not None and len(directions_DE) == objective.teacher_width:
        objective.start_projections(directions_DE)
    if stage.student is not None and stage.student.path is not None:
        objective.load_extras(Path(stage.student.path))
    return objective
