"""Sections of a training run: length, optimizer, engine, cadence, selection, tracking."""

import math
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from kd_dist.config.sections.base import Section, Words, optional


class Train(Section):
    steps: Annotated[int | None, BeforeValidator(optional)] = Field(
        default=None, ge=1, description="optimizer steps; none: as `epochs` says"
    )
    epochs: float = Field(default=3.0, gt=0, description="passes over the data, unless `steps` is given")
    global_batch_size: int = Field(default=256, ge=1, description="sequences of one optimizer step over all ranks")
    micro_batch_size: Annotated[int | None, BeforeValidator(optional)] = Field(
        default=None, ge=1, description="sequences of one forward pass; none: at most 32 and at least 4 to a step"
    )
    seed: int = Field(default=42, ge=0, description="decides data order, dropout, masking and initial weights")
    deterministic: bool = Field(default=False, description="CUDA: deterministic kernels, for bit-identical resuming")
    max_nonfinite_steps: int = Field(default=5, ge=1, description="refused steps in a row that end the run")

    def sequences_per_micro_batch(self) -> int:
        """Sequences of one forward pass. Never a function of the world size, or ranks would change the numbers."""
        if self.micro_batch_size is not None:
            return self.micro_batch_size
        limit = max(1, min(32, self.global_batch_size // 4))
        return max(size for size in range(1, limit + 1) if self.global_batch_size % size == 0)

    def micro_batches_per_step(self) -> int:
        return self.global_batch_size // self.sequences_per_micro_batch()

    def accumulation_steps(self, world_size: int) -> int:
        """Micro-batches that each rank runs one after another in one optimizer step."""
        return self.micro_batches_per_step() // world_size

    def total_steps(self, num_rows: int) -> int:
        """Optimizer steps of the whole run over `num_rows` rows."""
        return self.steps or max(1, math.ceil(self.epochs * num_rows / self.global_batch_size))

    def problems(self, world_size: int) -> list[str]:
        micro, total = self.sequences_per_micro_batch(), self.global_batch_size
        if total % micro:
            return [f"train.global_batch_size={total} is no multiple of train.micro_batch_size={micro}"]
        if (total // micro) % world_size:
            sizes = [s for s in range(1, total + 1) if total % s == 0 and (total // s) % world_size == 0]
            way_out = (
                f"set train.micro_batch_size={max(sizes)} (or a divisor of it)"
                if sizes
                else (f"set train.global_batch_size to a multiple of {world_size}")
            )
            return [
                f"train.global_batch_size={total} is {total // micro} micro-batches of {micro} sequences, which do not "
                f"divide among {world_size} ranks: {way_out}"
            ]
        return []


class Optim(Section):
    learning_rate: float = Field(default=1e-4, gt=0, description="peak learning rate of AdamW")
    warmup_fraction: float = Field(default=0.1, ge=0, le=1, description="share of the steps that warm up linearly")
    schedule: Literal["linear", "cosine", "constant"] = Field(default="linear", description="after the warm-up")
    weight_decay: float = Field(default=0.01, ge=0, description="AdamW's; not applied to biases and layer norms")
    beta1: float = Field(default=0.9, ge=0, lt=1, description="decay of AdamW's first moment")
    beta2: float = Field(default=0.999, ge=0, lt=1, description="decay of AdamW's second moment")
    epsilon: float = Field(default=1e-8, gt=0, description="AdamW's denominator guard")
    gradient_clipping: float = Field(default=1.0, ge=0, description="largest global gradient norm; 0: no clipping")


class Engine(Section):
    zero_stage: int = Field(default=1, ge=0, le=2, description="DeepSpeed ZeRO: what ranks share out among them")
    precision: Literal["fp32", "bf16"] = Field(default="fp32", description="bf16: autocast over fp32 weights")
    activation_checkpointing: bool = Field(default=False, description="recompute the student's layers in backward")


class Cadence(Section):
    log_every_n_steps: int = Field(default=10, ge=1, description="steps between lines of metrics.jsonl")
    save_every_n_steps: int = Field(default=500, ge=1, description="steps between checkpoints")
    evaluate_every_n_steps: int = Field(default=500, ge=1, description="steps between evaluations on held-out rows")
    keep_checkpoints: int = Field(default=2, ge=1, description="newest checkpoints that are kept")


class Selection(Section):
    """Which of the weights that a stage went through become its result."""

    metric: Literal["auto", "accuracy", "macro_f1", "micro_f1", "spearman", "loss"] = Field(
        default="auto",
        description="on held-out rows; the best is kept. auto: accuracy, micro_f1 (multi-label) or spearman (numbers)",
    )
    patience: Annotated[int | None, BeforeValidator(optional)] = Field(
        default=None, ge=1, description="evaluations in a row without a better one that end the stage; none: all steps"
    )


class Tracking(Section):
    project: str = Field(default="kd_dist", description="W&B project")
    tags: Words = Field(default=[], description="W&B tags")
