"""Sections of the objectives, one for each method."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from kd_dist.config.sections.base import Section, listed


class TinyBertObjective(Section):
    """TinyBERT's distillation of the layers (Jiao et al. 2020, equations 7 to 9)."""

    name: Literal["tinybert"] = Field(default="tinybert", description="TinyBERT layer distillation")
    layer_map: Annotated[list[int] | None, BeforeValidator(listed)] = Field(
        default=None,
        description="teacher layer, counted from 1, that each student layer imitates; none: spread uniformly",
    )
    compat: Literal["none", "huawei"] = Field(
        default="none", description="huawei: the published reduction (padded query rows included, plain means)"
    )
    projection: Literal["paper", "shared", "per_layer"] = Field(
        default="paper",
        description="student to teacher width: one matrix for embeddings and one for layers (paper), one for all "
        "(first published code), or one each (second published code)",
    )
    temperature: float = Field(default=1.0, gt=0, description="softens the predictions; layers have none to soften")
    attention_weight: float = Field(default=1.0, ge=0, description="weight of the attention-score term")
    hidden_weight: float = Field(default=1.0, ge=0, description="weight of the hidden-state term")
    embeddings_weight: float = Field(default=1.0, ge=0, description="weight of the embedding term")

    def weights(self) -> dict[str, float]:
        return {
            "attention": self.attention_weight,
            "hidden": self.hidden_weight,
            "embeddings": self.embeddings_weight,
        }

    def mapped_layers(self, student_layers: int, teacher_layers: int) -> list[int]:
        """Teacher layer (from 1) of each student layer; uniform unless `layer_map` says otherwise."""
        if self.layer_map is not None:
            return self.layer_map
        return [layer * teacher_layers // student_layers for layer in range(1, student_layers + 1)]


class MlmObjective(Section):
    """Masked language modelling (Devlin et al. 2019); whole words as in Cui et al. 2019."""

    name: Literal["mlm"] = Field(default="mlm", description="masked language modelling")
    masking_probability: float = Field(default=0.15, gt=0, lt=1, description="share of the tokens to be predicted")
    whole_word_masking: bool = Field(default=False, description="mask whole jieba words (needs data.word_starts=true)")

    def weights(self) -> dict[str, float]:
        return {"mlm": 1.0}


class FinetuneObjective(Section):
    """Learning from labels alone."""

    name: Literal["finetune"] = Field(default="finetune", description="learn from labels")
    class_weights: Literal["none", "balanced"] = Field(
        default="none", description="balanced: a class counts in inverse proportion to its rows"
    )

    def weights(self) -> dict[str, float]:
        return {"label": 1.0}


class SoftLabelsObjective(Section):
    """Distillation of the prediction (Hinton et al. 2015; TinyBERT's equation 10)."""

    name: Literal["soft_labels"] = Field(default="soft_labels", description="learn from the teacher's prediction")
    temperature: float = Field(default=1.0, gt=0, description="softens teacher and student before they are compared")
    compat: Literal["none", "huawei"] = Field(
        default="none", description="huawei: the published reduction (mean over classes too, no temperature squared)"
    )
    soft_weight: float = Field(default=1.0, ge=0, description="weight of the cross-entropy with the teacher")
    hard_weight: float = Field(default=0.0, ge=0, description="weight of the cross-entropy with the label")
    logits_weight: float = Field(default=0.0, ge=0, description="weight of the squared difference of the logits")

    def weights(self) -> dict[str, float]:
        return {"soft": self.soft_weight, "hard": self.hard_weight, "logits": self.logits_weight}


Direction = Literal["teacher_student", "student_teacher"]


class FastBertObjective(Section):
    """FastBERT's self-distillation (Liu et al. 2020): branches learn from the last classifier of a frozen model."""

    name: Literal["fastbert"] = Field(default="fastbert", description="branches learn from the last classifier")
    direction: Direction = Field(
        default="teacher_student",
        description="KL divergence of teacher from student, KL(t||s) (first published code), or the reverse (paper)",
    )
    branch_width: int = Field(default=128, ge=1, description="width of a new branch; those that a model has stay")
    branch_heads: int = Field(default=2, ge=1, description="attention heads of a branch (second published code: 8)")
    branch_activation: Literal["tanh", "none"] = Field(
        default="tanh", description="after a branch's projections (second published code: none)"
    )
    branch_mask: bool = Field(
        default=True, description="branches ignore padding (second published code: false, they attend to it)"
    )

    def weights(self) -> dict[str, float]:
        return {"branches": 1.0}
