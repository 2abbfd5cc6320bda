"""Sections of evaluation, calibration, guards and the report."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from kd_dist.config.sections.base import Section, Words, listed, mapped, optional

Uncertainty = Literal["entropy", "top_k_entropy", "margin"]


class Calibrate(Section):
    """When a sample may leave early, found on validation rows."""

    uncertainty: Uncertainty = Field(
        default="entropy",
        description="what must lie below the speed: normalised entropy (published), that of the most probable classes "
        "alone (for many classes), or one minus the margin between the two most probable",
    )
    top_k: int = Field(default=5, ge=2, description="classes that top_k_entropy looks at")
    quality_budget: float = Field(
        default=0.005, ge=0, lt=1, description="how much of the metric may be lost: the fastest within it is taken"
    )
    target_speedup: Annotated[float | None, BeforeValidator(optional)] = Field(
        default=None, ge=1, description="operations to be saved, as a factor, in place of a budget; none: the budget"
    )
    per_layer: bool = Field(default=False, description="a threshold for every layer; false: one for all")
    patience: Annotated[int | None, BeforeValidator(optional)] = Field(
        default=None, ge=1, description="leave when so many layers in a row agree, whatever the uncertainty; none: off"
    )


class Evaluate(Section):
    MODELS = ("models",)
    models: Annotated[dict[str, str], BeforeValidator(mapped)] = Field(
        description="classifiers to score, by the name they have in the results; others are compared with the first"
    )
    split: Literal["validation", "test"] = Field(
        default="test", description="rows to score; validation where the data has no test rows"
    )
    speed: bool = Field(default=True, description="measure latency, throughput and operations as well")
    speeds: Annotated[list[Annotated[float, Field(ge=0, le=1)]], BeforeValidator(listed)] = Field(
        default=[], description="speeds to measure models with early exit at, beside their own thresholds"
    )


class Guards(Section):
    teacher: Literal["refuse", "warn"] = Field(
        default="refuse",
        description="a teacher whose accuracy is not surely above the largest class (lower 95 % bound): stop, or warn",
    )


class ReportOptions(Section):
    stages: Words = Field(description="stages that the report waits for")
