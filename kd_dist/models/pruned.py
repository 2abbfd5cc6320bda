"""Start a student from its donor's first layers, pruned to the student's width, heads and neurons.

Evenly spaced layers of the donor would not fit together before they are trained: each expects what those between them
compute. To drop the last ones costs least (Sajjad et al. 2020). Weights are selected, as by Xu et al. 2024 (weight
selection), but the most important in place of evenly spaced ones. Hidden dimensions are not rotated, because a layer
normalization scales each of them by itself.

- Hidden dimensions, the same in all layers: those that have most of the variance, whose share a layer normalization
  states in its squared gains.
- Heads: those whose values and output have the largest product. Where the student's are narrower, the scores of a head
  and what it adds keep their first singular directions.
- Neurons: those with the largest product of the norms of their weights, in and out.

Shapes: D donor's width, E student's width, M neurons of the student.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot
from transformers import PretrainedConfig, PreTrainedModel

from kd_dist.config.families import FAMILIES
from kd_dist.models import projected

SIZES = {
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "intermediate_size": "neurons",
}


def obstacle(donor: PretrainedConfig, student: PretrainedConfig) -> str | None:
    """Return why a student of this architecture cannot start from this donor's layers; None where it can."""
    for name, config in (("donor", donor), ("student", student)):
        family = FAMILIES.get(config.model_type)
        if family is None or family.layers != "encoder.layer":
            return f"the {name} is a `{config.model_type}` model, whose layers are not built like BERT's"
    if problem := projected.obstacle(donor, student):
        return problem
    for name, what in SIZES.items():
        if getattr(student, name) > getattr(donor, name):
            return f"it has more {what} ({getattr(student, name)}) than the donor ({getattr(donor, name)})"
    if _head_width(student) > _head_width(donor):
        return f"its heads are wider ({_head_width(student)}) than those of the donor ({_head_width(donor)})"
    if student.hidden_act != donor.hidden_act:
        return f"its activation is {student.hidden_act}, that of the donor {donor.hidden_act}"
    return None


@torch.no_grad()
def prune(donor: PreTrainedModel, student: PreTrainedModel) -> Tensor:
    """Start a student's embeddings and layers from a donor's, and return the selection (D, E): 1 where E takes D.

    Args:
        donor: The encoder, or a model that has one.
        student: Likewise, of an architecture without an `obstacle`; it is changed in place.
    """
    theirs: Any = donor.base_model
    ours: Any = student.base_model
    pairs = list(zip(ours.encoder.layer, theirs.encoder.layer, strict=False))  # the donor has more layers
    norms = [theirs.embeddings.LayerNorm]
    norms += [part.output.LayerNorm for _, layer in pairs for part in (layer.attention, layer)]
    shares_D = torch.stack([norm.weight.square() / norm.weight.square().sum() for norm in norms]).sum(dim=0)
    kept_E = _largest(shares_D, student.config.hidden_size)
    selection_DE = one_hot(kept_E, len(shares_D)).T.float()
    projected.project(donor, student, selection_DE)
    _select_norm(ours.embeddings.LayerNorm, theirs.embeddings.LayerNorm, kept_E)
    for our_layer, their_layer in pairs:
        _prune_attention(our_layer.attention, their_layer.attention, kept_E)
        _prune_neurons(our_layer, their_layer, kept_E)
    return selection_DE


def _head_width(config: PretrainedConfig) -> int:
    return config.hidden_size // config.num_attention_heads


def _largest(values: Tensor, number: int) -> Tensor:
    """Return the indices of the largest values, in ascending order."""
    return values.argsort(descending=True, stable=True)[:number].sort().values


def _select_norm(ours: nn.LayerNorm, theirs: nn.LayerNorm, kept_E: Tensor) -> None:
    ours.weight.copy_(theirs.weight[kept_E])
    ours.bias.copy_(theirs.bias[kept_E])


def _prune_attention(ours: Any, theirs: Any, kept_E: Tensor) -> None:
    """Start the attention of a layer and its normalization; biases are the last row of each factor."""
    num_heads, width = ours.self.num_attention_heads, theirs.self.attention_head_size
    narrow = ours.self.attention_head_size

    def by_head(linear: nn.Linear) -> list[Tensor]:
        weights = torch.cat([linear.weight[:, kept_E].T, linear.bias[None]])
        return list(weights.split(width, dim=1))

    query, key, value = (by_head(linear) for linear in (theirs.self.query, theirs.self.key, theirs.self.value))
    output = theirs.output.dense.weight[kept_E].split(width, dim=1)
    sizes = torch.stack([(one @ other.T).norm() for one, other in zip(value, output, strict=True)])
    for head, source in enumerate(_largest(sizes, num_heads).tolist()):
        place = slice(head * narrow, (head + 1) * narrow)
        # Scores are divided by the root of a head's width, which is another one here.
        scale = (narrow / width) ** 0.25
        queries, keys = _narrowed(query[source] * scale, key[source] * scale, narrow)
        values, outputs = _narrowed(value[source], output[source], narrow)
        for linear, weights in ((ours.self.query, queries), (ours.self.key, keys), (ours.self.value, values)):
            linear.weight[place] = weights[:-1].T
            linear.bias[place] = weights[-1]
        ours.output.dense.weight[:, place] = outputs
    ours.output.dense.bias.copy_(theirs.output.dense.bias[kept_E])
    _select_norm(ours.output.LayerNorm, theirs.output.LayerNorm, kept_E)


def _narrowed(one: Tensor, other: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Return factors of `one @ other'` with fewer columns: its best approximation of that rank, evenly shared out."""
    if one.shape[1] == width:
        return one, other
    left, sizes, right = torch.linalg.svd(one @ other.T, full_matrices=False)
    roots = sizes[:width].sqrt()
    return left[:, :width] * roots, right[:width].T * roots


def _prune_neurons(ours: Any, theirs: Any, kept_E: Tensor) -> None:
    """Start the feed-forward part of a layer and its normalization."""
    inner, outer = theirs.intermediate.dense, theirs.output.dense
    kept_M = _largest(inner.weight.norm(dim=1) * outer.weight.norm(dim=0), len(ours.intermediate.dense.bias))
    ours.intermediate.dense.weight.copy_(inner.weight[kept_M][:, kept_E])
    ours.intermediate.dense.bias.copy_(inner.bias[kept_M])
    ours.output.dense.weight.copy_(outer.weight[kept_E][:, kept_M])
    ours.output.dense.bias.copy_(outer.bias[kept_E])
    _select_norm(ours.output.LayerNorm, theirs.output.LayerNorm, kept_E)
