"""What a model costs by its config.json: weights, multiply-accumulates, and the activations that training keeps."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from kd_dist.config.recurrent import is_recurrent
from kd_dist.model_files.model_folders import Config, encoder_config

INNER = ("intermediate_size", "hidden_dim", "d_inner")  # the families' names for the width inside of a layer

KEPT_WIDTHS, KEPT_INNER = 14, 3
"""Activations that a layer of attention keeps for its backward pass, in tensors of its width and its inner width."""


@dataclass(frozen=True)
class Shape:
    """The sizes of an encoder, or of a recurrent student, that decide what it costs.

    Attributes:
        layers: How many are computed.
        stored_layers: How many have weights of their own: one in ALBERT.
        width: Of the hidden states.
        inner: Width inside of a layer.
        embedding: Width of the token embeddings.
        vocabulary: Tokens that have an embedding.
        positions: Positions that have one.
        gates: Of a recurrent cell in all directions; 0 for layers of attention.
    """

    layers: int
    stored_layers: int
    width: int
    inner: int
    embedding: int
    vocabulary: int
    positions: int
    gates: int = 0

    @classmethod
    def of(cls, config: Config, vocabulary: int | None = None) -> Self:
        """Return the shape of a model with this config.json, and with so many tokens if they are given."""
        config = encoder_config(config)
        tokens = vocabulary or config.get("vocab_size", 0)
        if is_recurrent(config):
            width, layers = config.get("hidden_size", 256), config.get("num_hidden_layers", 1)
            gates = (4 if config.get("cell", "lstm") == "lstm" else 3) * (2 if config.get("bidirectional", True) else 1)
            return cls(layers, layers, width, width, config.get("embedding_size", 256), tokens, 0, gates)
        width, layers = config["hidden_size"], config["num_hidden_layers"]
        return cls(
            layers=layers,
            stored_layers=config.get("num_hidden_groups", 1) if config["model_type"] == "albert" else layers,
            width=width,
            inner=next((config[name] for name in INNER if config.get(name)), 4 * width),
            embedding=config.get("embedding_size") or width,
            vocabulary=tokens,
            positions=config.get("max_position_embeddings", 512),
        )

    @classmethod
    def together(cls, shapes: Sequence[Self]) -> Self:
        """Return the shape of models that run one after another, as one with all their layers."""
        layers, stored = (sum(getattr(shape, name) for shape in shapes) for name in ("layers", "stored_layers"))
        vocabulary = sum(shape.vocabulary for shape in shapes)
        return replace(shapes[0], layers=layers, stored_layers=stored, vocabulary=vocabulary)

    def parameters(self) -> int:
        """Return about how many weights it has, without its head."""
        embeddings = (self.vocabulary + self.positions) * self.embedding + self._projection()
        return embeddings + self.stored_layers * self._weights_of_a_layer()

    def operations(self, length: int) -> int:
        """Return the multiply-accumulates of a forward pass of one row of so many tokens."""
        attention = 0 if self.gates else 2 * length * length * self.width
        return length * self._projection() + self.layers * (length * self._weights_of_a_layer() + attention)

    def activations(self, length: int) -> int:
        """Return how many numbers a row of so many tokens keeps for the backward pass; attention is fused."""
        if self.gates:
            return self.layers * length * self.gates * self.width * 3
        return length * (self.embedding + self.layers * (KEPT_WIDTHS * self.width + KEPT_INNER * self.inner))

    def working(self, length: int) -> int:
        """Return how many numbers a row has at once where nothing is kept."""
        return length * (4 * self.width + 2 * self.inner)

    def _projection(self) -> int:
        """Return the weights between embeddings and layers of another width, which recurrent layers do without."""
        return 0 if self.gates or self.embedding == self.width else self.embedding * self.width

    def _weights_of_a_layer(self) -> int:
        if self.gates:
            return self.gates * self.width * (self.embedding + self.width)
        return 4 * self.width * self.width + 2 * self.width * self.inner
