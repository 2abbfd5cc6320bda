"""The output of a classifier for some rows.

Shapes: N rows, C classes (1 for regression).
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class ClassifierOutput:
    """Logits, and where rows exited; on the CPU.

    Args:
        logits_NC: in the order of the rows.
        layers_N: the layer, from 1, whose classifier gave a row's logits; None for a model without early exit.
    """

    logits_NC: Tensor
    layers_N: Tensor | None = None
