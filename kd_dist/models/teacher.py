"""Load a teacher, and run teacher or student for just what an objective needs.

Shapes: B batch, S sequence, D width.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, MODEL_MAPPING

from kd_dist.config.families import FAMILIES
from kd_dist.data.labels import align_labels, columns_by_name
from kd_dist.model_files.model_folders import no_classifier
from kd_dist.models.attention import Attention, capture_attention, run_with_attention
from kd_dist.models.device import in_bf16
from kd_dist.models.inputs import Batch, model_inputs, states_as_in_batch
from kd_dist.models.loading import load_config, load_pretrained


@dataclass(frozen=True)
class Wanted:
    """The outputs of a model that an objective needs; layers count from 1.

    Args:
        hidden_states: after these layers; 0 is the output of the embeddings.
        attention: queries and keys of these layers.
        logits: those of a whole classifier.
    """

    hidden_states: frozenset[int] = frozenset()
    attention: frozenset[int] = frozenset()
    logits: bool = False

    def together_with(self, other: "Wanted") -> "Wanted":
        """Return what serves two objectives."""
        return Wanted(
            self.hidden_states | other.hidden_states, self.attention | other.attention, self.logits or other.logits
        )

    def last_layer(self) -> int:
        """Return the last layer that has to be computed."""
        return max([0, *self.hidden_states, *self.attention])


@dataclass(frozen=True)
class Encoded:
    """The outputs that an objective needs, as a model computed them.

    Args:
        hidden_states: (B, S, D), by layer.
        attention: queries and keys, by layer.
        logits: (B, C).
    """

    hidden_states: dict[int, Tensor]
    attention: dict[int, Attention]
    logits: Tensor | None = None


def encode(model: nn.Module, batch: Batch, wanted: Wanted) -> Encoded:
    """Run an encoder, which `capture_attention` has prepared if attention is wanted.

    Args:
        model: the encoder.
        batch: `input_ids`, `attention_mask` (0 at padding) and perhaps `token_type_ids`, each (B, S).
        wanted: layers of which to keep states and attention.
    """
    inputs = model_inputs(model, batch)
    if wanted.attention:
        outputs, attention = run_with_attention(model, wanted.attention, **inputs, output_hidden_states=True)
    else:
        outputs, attention = model(**inputs, output_hidden_states=True), {}
    states = {layer: outputs.hidden_states[layer] for layer in wanted.hidden_states}
    return Encoded({layer: states_as_in_batch(model, batch, state) for layer, state in states.items()}, attention)


class Teacher:
    """A frozen encoder in eval mode, outside optimizer, ZeRO, autograd and checkpoints.

    Only the layers up to the last one that is wanted are loaded, so nothing beyond it is ever computed, except of
    families that do something after the last one. Where logits are wanted it is a whole classifier.

    Args:
        path: a folder, or the name of a model on the hub.
        wanted: what an objective needs.
        precision: `fp32`, `bf16` or `auto` (see `in_bf16`). In bf16 the weights of families with attention to learn
            from are bf16 too.
        device: where it runs.
        label2id: the data's labels; logits come in their order.

    Raises:
        UserError: the teacher predicts other labels than these.
    """

    def __init__(
        self,
        path: str,
        wanted: Wanted,
        *,
        precision: str,
        device: torch.device,
        label2id: Mapping[str, int] | None = None,
    ) -> None:
        self.wanted = wanted
        config = load_config(path)
        low = in_bf16(precision)
        # Other families mix in tensors in fp32, which fails where weights are bf16; autocast goes with that.
        self._autocast = low and config.model_type not in FAMILIES
        dtype = torch.bfloat16 if low and not self._autocast else torch.float32
        self._columns: list[int] | None = None
        if wanted.logits:
            self._columns = align_labels(columns_by_name(config.id2label), label2id) if label2id else None
        elif config.model_type in FAMILIES:
            config.num_hidden_layers = wanted.last_layer()
        mapping = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING if wanted.logits else MODEL_MAPPING
        loaded = load_pretrained(mapping, path, config, dtype)
        self.model: PreTrainedModel = loaded.model
        if wanted.logits:
            loaded.require_trained_head(path, functools.partial(no_classifier, Path(path)))
        if config.model_type in FAMILIES:
            capture_attention(self.model)
        self.model.to(device).eval().requires_grad_(False)

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Encoded:
        """Run the teacher on a batch, and return what is wanted."""
        with torch.autocast(self.model.device.type, dtype=torch.bfloat16, enabled=self._autocast):
            if not self.wanted.logits:
                return encode(self.model, batch, self.wanted)
            logits_BC = self.model(**model_inputs(self.model, batch)).logits.float()
        return Encoded({}, {}, logits_BC if self._columns is None else logits_BC[:, self._columns])
