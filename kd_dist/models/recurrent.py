"""Recurrent students (Tang et al. 2019): token embeddings, LSTM or GRU layers, and a classifier of two layers.

Exports carry a copy of this file, with which transformers loads them wherever kd_dist is not installed, so it imports
nothing else of kd_dist.

Shapes: B batch, S sequence, D width of the embeddings, H width of all directions together, C classes.
"""

from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import SequenceClassifierOutput

CELLS: dict[str, type[nn.LSTM] | type[nn.GRU]] = {"lstm": nn.LSTM, "gru": nn.GRU}
POOLINGS = ("mean", "max", "attention", "last")
INPUTS = ("tokens", "sentence")


class RecurrentConfig(PreTrainedConfig):
    """The architecture of a recurrent student.

    Args:
        embedding_size: width of the token embeddings.
        freeze_embeddings: leave the embeddings as they start.
        cell: `lstm` or `gru`.
        hidden_size: width of a direction.
        num_hidden_layers: recurrent layers, one on top of another.
        bidirectional: read the text backwards as well.
        pooling: what the classifier reads. `mean` and `max`: that of the outputs over the tokens; `attention`: their
            mean weighted by a learnt score; `last`: the last state of each direction.
        classifier_size: width of the classifier's first layer.
        dropout: of the embeddings, of the output of each layer, and of the classifier's first layer.
        input: `tokens`, one after another; `sentence`: the mean of their embeddings, as a single step.
        sep_token_id: what ends a text, and does not count for the mean.

    Raises:
        ValueError: there is no such cell, pooling or input.
    """

    model_type = "recurrent"
    _auto_class = "AutoConfig"

    vocab_size: int = 21128
    pad_token_id: int | None = 0
    embedding_size: int = 256
    freeze_embeddings: bool = False
    cell: str = "lstm"
    hidden_size: int = 256
    num_hidden_layers: int = 1
    bidirectional: bool = True
    pooling: str = "max"
    classifier_size: int = 256
    dropout: float = 0.1
    input: str = "tokens"
    sep_token_id: int | None = None

    def __post_init__(self, **others: Any) -> None:
        super().__post_init__(**others)
        for name, choices in (("cell", CELLS), ("pooling", POOLINGS), ("input", INPUTS)):
            if (value := getattr(self, name)) not in choices:
                raise ValueError(f"{name}={value!r}, not one of {', '.join(choices)}")


class RecurrentForSequenceClassification(PreTrainedModel):
    """A recurrent classifier; padding, which stands at the end of rows, has no influence on its logits."""

    config_class = RecurrentConfig
    _auto_class = "AutoModelForSequenceClassification"

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__(config)
        self.embeddings = nn.Embedding(config.vocab_size, config.embedding_size, config.pad_token_id)
        # A donor's embeddings are much smaller than what recurrent layers start to learn from.
        self.norm = nn.LayerNorm(config.embedding_size)
        width = config.hidden_size * (2 if config.bidirectional else 1)
        inputs = [config.embedding_size, *[width] * (config.num_hidden_layers - 1)]
        self.layers = nn.ModuleList(RecurrentLayer(size, config) for size in inputs)
        self.pooling = _Pooling(width, config)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Sequential(
            nn.Linear(width, config.classifier_size),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.classifier_size, config.num_labels),
        )
        self.post_init()
        self.train()

    def train(self, mode: bool = True) -> Self:
        """Set the mode; frozen embeddings are frozen again, since loading weights thaws them."""
        if self.config.freeze_embeddings:
            self.embeddings.requires_grad_(False)
        return super().train(mode)

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Embedding | nn.LayerNorm | nn.RNNBase):
            module.reset_parameters()

    def get_input_embeddings(self) -> nn.Embedding:
        return self.embeddings

    def set_input_embeddings(self, value: nn.Embedding) -> None:
        self.embeddings = value

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, **ignored: Any
    ) -> SequenceClassifierOutput:
        """Return the logits.

        Args:
            input_ids: (B, S) tokens.
            attention_mask: (B, S), 0 at padding; none: there is no padding.
            ignored: what a tokenizer returns besides, such as `token_type_ids`.
        """
        mask_BS = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        states_BSD = self.embeddings(input_ids)
        if self.config.input == "sentence":
            states_BSD = _mean(states_BSD, mask_BS * (input_ids != self.config.sep_token_id))
            mask_BS = torch.ones_like(mask_BS[:, :1])
        lengths_B1 = mask_BS.sum(dim=1, keepdim=True)
        states_BSD = self.dropout(self.norm(states_BSD))
        for layer in self.layers:
            states_BSD = self.dropout(layer(states_BSD, lengths_B1))
        return SequenceClassifierOutput(logits=self.classifier(self.pooling(states_BSD, mask_BS.bool(), lengths_B1)))


def _mean(states_BSD: Tensor, mask_BS: Tensor) -> Tensor:
    """Return (B, 1, D) the mean of the states that are not masked; of none it is 0."""
    number_B1 = mask_BS.sum(dim=1, keepdim=True).clamp(min=1)
    return mask_BS.to(states_BSD.dtype).unsqueeze(1) @ states_BSD / number_B1.unsqueeze(2)


class RecurrentLayer(nn.Module):
    """One recurrent layer, in one direction or both.

    Backwards, each row is read from its last token, then its padding, so that padding comes last in both directions.
    Packed sequences would do the same, but a CPU runs a packed LSTM at half the speed.
    """

    def __init__(self, size: int, config: RecurrentConfig) -> None:
        super().__init__()
        cell = CELLS[config.cell]
        self.forwards = cell(size, config.hidden_size, batch_first=True)
        self.backwards = cell(size, config.hidden_size, batch_first=True) if config.bidirectional else None

    def forward(self, states_BSD: Tensor, lengths_B1: Tensor) -> Tensor:
        if states_BSD.shape[1] == 1 and not self.training:
            directions = [self.forwards, *([] if self.backwards is None else [self.backwards])]
            return torch.cat([_first_step(direction, states_BSD) for direction in directions], dim=2)
        forwards_BSH, _ = self.forwards(states_BSD)
        if self.backwards is None:
            return forwards_BSH
        size = states_BSD.shape[1]
        reversed_BS1 = (lengths_B1 - 1 - torch.arange(size, device=states_BSD.device)).remainder(size).unsqueeze(2)
        backwards_BSH, _ = self.backwards(states_BSD.take_along_dim(reversed_BS1, dim=1))
        return torch.cat([forwards_BSH, backwards_BSH.take_along_dim(reversed_BS1, dim=1)], dim=2)


def _first_step(layer: Any, states_B1D: Tensor) -> Tensor:
    """Return (B, 1, H) the output of a layer for the first token, before which there is nothing to remember.

    To call the layer takes several times as long on a CPU: oneDNN orders all of its weights anew in each call.
    """
    gates_B1G = nn.functional.linear(states_B1D, layer.weight_ih_l0, layer.bias_ih_l0)
    if layer.mode == "LSTM":
        entry, _, new, exit_ = (gates_B1G + layer.bias_hh_l0).chunk(4, dim=2)
        return exit_.sigmoid() * (entry.sigmoid() * new.tanh()).tanh()
    reset, update, new = gates_B1G.chunk(3, dim=2)
    reset_H, update_H, new_H = layer.bias_hh_l0.chunk(3)
    return (1 - (update + update_H).sigmoid()) * (new + (reset + reset_H).sigmoid() * new_H).tanh()


class _Pooling(nn.Module):
    """One vector for each row from the outputs of its tokens."""

    def __init__(self, width: int, config: RecurrentConfig) -> None:
        super().__init__()
        self.kind, self.bidirectional = config.pooling, config.bidirectional
        self.score = nn.Linear(width, 1) if config.pooling == "attention" else None

    def forward(self, states_BSH: Tensor, mask_BS: Tensor, lengths_B1: Tensor) -> Tensor:
        mask_BS1 = mask_BS.unsqueeze(2)
        if self.kind == "mean":
            return (states_BSH * mask_BS1).sum(dim=1) / lengths_B1
        if self.kind == "max":
            return states_BSH.masked_fill(~mask_BS1, -torch.inf).amax(dim=1)
        if self.score is not None:
            weights_BS1 = self.score(states_BSH).masked_fill(~mask_BS1, -torch.inf).softmax(dim=1)
            return (weights_BS1 * states_BSH).sum(dim=1)
        last_BH = states_BSH.gather(1, (lengths_B1 - 1).unsqueeze(2).expand(-1, -1, states_BSH.shape[2])).squeeze(1)
        if not self.bidirectional:
            return last_BH
        half = states_BSH.shape[2] // 2  # backwards, the last token that is read is the first of the text
        return torch.cat([last_BH[:, :half], states_BSH[:, 0, half:]], dim=1)
