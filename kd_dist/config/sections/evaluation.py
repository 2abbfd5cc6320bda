"""Settings of evaluation, calibration, guards and the report."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from kd_dist.config.sections.base import Section, Words, listed, mapped, optional

Uncertainty = Literal["entropy", "top_k_entropy", "margin"]


class Calibrate(Section):
    """The choice of early-exit thresholds on validation rows."""

    uncertainty: Uncertainty = Field(
        default="entropy",
        description="measure of uncertainty that decides about an exit: entropy (normalized, as published), "
        "top_k_entropy (for many classes), or margin (one minus the gap between the top two)",
    )
    top_k: int = Field(default=5, ge=2, description="most probable classes that top_k_entropy uses")
    quality_budget: float = Field(
        default=0.005, ge=0, lt=1, description="largest loss of the metric; the fastest setting within it is taken"
    )
    target_speedup: Annotated[float | None, BeforeValidator(optional)] = Field(
        default=None,
        ge=1,
        description="choose by a factor of operations saved instead of by the budget; none: by the budget",
    )
    per_layer: bool = Field(default=False, description="one threshold for each layer; false: one for all")
    patience: Annotated[int | None, BeforeValidator(optional)] = Field(
        default=None, ge=1, description="exit when this many layers in a row agree, whatever the uncertainty; none: off"
    )


ModelName = Annotated[str, Field(pattern=r"^[^/\x00-\x1f\x7f]{1,60}$")]  # part of the names of files


class Evaluate(Section):
    """The classifiers to measure, and the rows to measure them on."""

    MODELS = ("models",)
    models: Annotated[dict[ModelName, str], BeforeValidator(mapped)] = Field(
        description="classifiers to score, as name:path; all are compared with the first"
    )
    split: Literal["validation", "test"] = Field(
        default="test", description="rows to score; validation where there are no test rows"
    )
    speed: bool = Field(default=True, description="also measure latency, throughput and operations")
    speeds: Annotated[list[Annotated[float, Field(ge=0, le=1)]], BeforeValidator(listed)] = Field(
        default=[],
        description="speeds at which to measure early-exit models, in addition to their calibrated thresholds",
    )


class Guards(Section):
    """The checks that stop a run whose teacher is too bad to learn from."""

    teacher: Literal["refuse", "warn"] = Field(
        default="refuse",
        description="a teacher whose accuracy is not significantly above the share of the largest class (95 %): stop, "
        "or warn",
    )


class ReportOptions(Section):
    """The stages that the report waits for."""

    stages: Words = Field(description="stages that the report waits for")
