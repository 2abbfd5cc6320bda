"""Recurrent layers as the ONNX operators LSTM and GRU; torch's exporter would fix the length of their inputs.

Shapes: B batch, S sequence, D width of the input, H width of a direction, G gates, R directions.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from kd_dist.models.recurrent import RecurrentForSequenceClassification

GATES = {"LSTM": [0, 3, 1, 2], "GRU": [1, 0, 2]}
"""ONNX's order of the gates: input, output, forget, cell of torch's i f g o; update, reset, hidden of its r z n."""


def with_onnx_layers(model: RecurrentForSequenceClassification) -> RecurrentForSequenceClassification:
    """Return a copy whose layers are for `torch.onnx.export` alone: elsewhere they give zeros."""
    model = copy.deepcopy(model)
    model.layers = nn.ModuleList(_OnnxLayer(layer) for layer in model.layers)
    return model


class _OnnxLayer(nn.Module):
    inputs: Tensor
    recurrence: Tensor
    biases: Tensor

    def __init__(self, layer: Any) -> None:
        super().__init__()
        directions = [layer.forwards] if layer.backwards is None else [layer.forwards, layer.backwards]
        self.operator, self.width = layer.forwards.mode, layer.forwards.hidden_size

        def gates(name: str) -> Tensor:
            """Return the weights or biases (R, GH, ...) of that name of all directions, in ONNX's order."""
            stacked = torch.stack([getattr(direction, name).detach() for direction in directions])
            return torch.cat([stacked.split(self.width, dim=1)[gate] for gate in GATES[self.operator]], dim=1)

        self.register_buffer("inputs", gates("weight_ih_l0"))
        self.register_buffer("recurrence", gates("weight_hh_l0"))
        self.register_buffer("biases", torch.cat([gates("bias_ih_l0"), gates("bias_hh_l0")], dim=1))

    def forward(self, states_BSD: Tensor, lengths_B1: Tensor) -> Tensor:
        directions = len(self.inputs)
        attributes: dict[str, Any] = {
            "hidden_size": self.width,
            "direction": "forward" if directions == 1 else "bidirectional",
        }
        outputs_SRBH = torch.onnx.ops.symbolic(
            self.operator,
            (states_BSD.transpose(0, 1), self.inputs, self.recurrence, self.biases, lengths_B1.squeeze(1).int()),
            attributes | ({"linear_before_reset": 1} if self.operator == "GRU" else {}),  # as torch's GRU is
            dtype=states_BSD.dtype,
            shape=(states_BSD.shape[1], directions, states_BSD.shape[0], self.width),
        )
        return outputs_SRBH.permute(2, 0, 1, 3).flatten(2)
