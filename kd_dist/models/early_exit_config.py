"""The configuration of a model with early exit."""

from typing import Any, get_args

from transformers import AutoConfig, PreTrainedConfig

from kd_dist.config.sections.evaluation import Uncertainty

ACTIVATIONS = ("tanh", "none")

BACKBONE_FACTS = ("vocab_size", "hidden_size", "num_hidden_layers", "max_position_embeddings", "type_vocab_size")


class FastBertConfig(PreTrainedConfig):
    """The configuration of the backbone, of the branches, and of when samples exit.

    Args:
        backbone: configuration of the classifier that has branches.
        branch_width: width of the projection in a branch.
        branch_heads: attention heads of a branch.
        branch_activation: `tanh` or `none`.
        branch_mask: mask padding in the attention of branches.
        uncertainty: how it is measured, see `kd_dist.models.uncertainty`.
        top_k: classes that `top_k_entropy` looks at.
        thresholds: for each layer but the last, the uncertainty below which a sample exits there; 0: none does, and the
            branch is not computed.
        patience: exit after so many layers in a row that agree, whatever the uncertainty.

    Raises:
        ValueError: values that are not allowed, each with its name.
    """

    model_type = "fastbert"

    backbone: dict | None = None
    branch_width: int = 128
    branch_heads: int = 2
    branch_activation: str = "tanh"
    branch_mask: bool = True
    uncertainty: str = "entropy"
    top_k: int = 5
    thresholds: list | None = None
    patience: int | None = None

    def __post_init__(self, **others: Any) -> None:
        super().__post_init__(**others)
        expected = {
            "backbone": (self.backbone is None or isinstance(self.backbone, dict), "an encoder's configuration"),
            "branch_width": (_is_count(self.branch_width, 1), "a number of at least 1"),
            "branch_heads": (
                _is_count(self.branch_width, 1)
                and _is_count(self.branch_heads, 1)
                and self.branch_width % self.branch_heads == 0,
                f"a divisor of branch_width={self.branch_width}",
            ),
            "branch_activation": (self.branch_activation in ACTIVATIONS, f"one of {', '.join(ACTIVATIONS)}"),
            "uncertainty": (self.uncertainty in get_args(Uncertainty), f"one of {', '.join(get_args(Uncertainty))}"),
            "top_k": (_is_count(self.top_k, 2), "a number of at least 2"),
            "thresholds": (_are_thresholds(self.thresholds), "a list of numbers from 0 to 1"),
            "patience": (self.patience is None or _is_count(self.patience, 1), "a number of at least 1"),
        }
        if wrong := [
            f"{name}={getattr(self, name)!r}, not {what}" for name, (fine, what) in expected.items() if not fine
        ]:
            raise ValueError("; ".join(wrong))

    def backbone_config(self) -> PreTrainedConfig:
        """Return the backbone's own configuration, with the labels and the task of this one."""
        content = dict(self.backbone or {})
        config = AutoConfig.for_model(content.pop("model_type"), **content)
        config.update({"label2id": self.label2id, "id2label": self.id2label, "problem_type": self.problem_type})
        return config

    def __getattr__(self, name: str) -> Any:
        """Return facts that any encoder's configuration holds, such as `hidden_size`, from the backbone's."""
        if name in BACKBONE_FACTS and (backbone := self.__dict__.get("backbone")):
            return backbone[name] if name in backbone else getattr(self.backbone_config(), name)
        raise AttributeError(f"{type(self).__name__} has no attribute {name!r}")


def _is_count(value: Any, least: int) -> bool:
    return isinstance(value, int) and value >= least


def _are_thresholds(values: Any) -> bool:
    if values is None:
        return True
    return isinstance(values, list) and all(isinstance(value, int | float) and 0 <= value <= 1 for value in values)
