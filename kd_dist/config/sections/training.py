"""Settings of a training run: length, optimizer, engine, cadence, selection and tracking."""

import math
import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from kd_dist.config.sections.base import Section, Words, optional


def tokens_at_once(memory_gb: float) -> int:
    """Return the tokens of a forward pass that fill a GPU of so much memory: to train 12 x 768 takes half of it."""
    return int(1024 * memory_gb)


def _two_steps(value: str | None) -> str | None:
    """Refuse what does not name a first and a last step."""
    found = re.fullmatch(r"([1-9]\d*)-([1-9]\d*)", value or "1-1")
    if found is None or int(found[1]) > int(found[2]):
        raise ValueError("expected a first and a last step, such as 20-25")
    return value


class Train(Section):
    """Length, batch size and seed of a training run."""

    steps: Annotated[int | None, BeforeValidator(optional)] = Field(
        default=None, ge=1, description="optimizer steps; none: as many as train.epochs takes"
    )
    epochs: float = Field(default=3.0, gt=0, description="passes over the data, unless train.steps is given")
    min_steps: int = Field(
        default=1, ge=1, description="optimizer steps at least, where train.epochs over few rows are fewer"
    )
    global_batch_size: int = Field(default=256, ge=1, description="sequences per optimizer step, over all ranks")
    micro_batch_size: Annotated[int | None, BeforeValidator(optional)] = Field(
        default=None,
        ge=1,
        description="sequences per forward pass; none: on a GPU all of a rank's sequences of a step, up to 1,024 "
        "tokens per GB of its memory; on a CPU at most 32, and at least 4 passes per step",
    )
    seed: int = Field(default=42, ge=0, description="seed of data order, dropout, masking and initial weights")
    deterministic: bool = Field(default=False, description="CUDA: deterministic kernels, for bit-identical resuming")
    max_nonfinite_steps: int = Field(
        default=5, ge=1, description="stop after this many skipped steps in a row (loss or gradient not finite)"
    )

    profile_steps: Annotated[str | None, BeforeValidator(optional), AfterValidator(_two_steps)] = Field(
        default=None,
        description="first and last step whose operators are timed, such as 20-25: a trace and a table in profile/",
    )

    def profiled(self) -> range:
        """Return the steps whose operators are timed."""
        first, last = map(int, self.profile_steps.split("-")) if self.profile_steps else (0, -1)
        return range(first, last + 1)

    def sequences_per_micro_batch(self, world_size: int = 1, most: int | None = None) -> int:
        """Return the sequences of one forward pass, which divide a rank's share of the global batch.

        Args:
            world_size: The number of ranks. Up to the one where each runs a single pass, it changes nothing on a CPU,
                so that results do not depend on it.
            most: The sequences that a GPU takes at a time; None: the limits of a CPU.
        """
        if self.micro_batch_size is not None:
            return self.micro_batch_size
        share = self.global_batch_size // world_size
        limit = max(1, min(32, self.global_batch_size // 4) if most is None else most)
        return max(size for size in range(1, min(limit, share) + 1) if share % size == 0)

    def accumulation_steps(self, world_size: int) -> int:
        """Return the micro-batches that each rank runs one after another in an optimizer step."""
        return self.global_batch_size // (self.sequences_per_micro_batch(world_size) * world_size)

    def total_steps(self, num_rows: int) -> int:
        """Return the optimizer steps of the whole run over `num_rows` rows."""
        return self.steps or max(self.min_steps, math.ceil(self.epochs * num_rows / self.global_batch_size))

    def problems(self, stage: str, world_size: int) -> list[str]:
        """Return why the batch of the stage of that name cannot be divided into micro-batches and among the ranks."""
        micro, total = self.sequences_per_micro_batch(), self.global_batch_size
        if self.micro_batch_size is None and total % world_size == 0:
            return []
        if total % micro:
            problem = f"train.global_batch_size={total} is not a multiple of train.micro_batch_size={micro}"
        elif (total // micro) % world_size:
            problem = (
                f"the {total} sequences of train.global_batch_size, in micro-batches of {micro}, do not divide among "
                f"{world_size} ranks"
            )
        else:
            return []
        return [f"{problem}: set {', or '.join(self._ways_out(stage, world_size))}"]

    def _ways_out(self, stage: str, world_size: int) -> list[str]:
        """Return settings that can be divided: a smaller micro-batch where there is one, and a near global batch."""
        total = self.global_batch_size
        micro = min(self.sequences_per_micro_batch(), max(1, total // world_size))
        passes = max(1, round(total / (micro * world_size)))
        near = passes * micro * world_size
        sizes = [size for size in range(1, micro + 1) if total % (size * world_size) == 0]
        ways = []
        if sizes:
            passes_of_smaller = total // (max(sizes) * world_size)
            ways.append(f"{stage}.train.micro_batch_size={max(sizes)} ({_accumulated(passes_of_smaller)})")
        if near != total:
            settings = f"{stage}.train.global_batch_size={near} {stage}.train.micro_batch_size={micro}"
            ways.append(f"{settings} ({_accumulated(passes)})")
        return ways


def _accumulated(passes: int) -> str:
    return f"each rank then accumulates {passes} micro-batch{'es' if passes > 1 else ''} a step"


class Optim(Section):
    """AdamW and its learning-rate schedule."""

    learning_rate: Annotated[float | None, BeforeValidator(optional)] = Field(
        default=None,
        gt=0,
        description="peak learning rate of AdamW; none: by the objective, the model's width and the task",
    )
    warmup_fraction: float = Field(
        default=0.1, ge=0, le=1, description="share of the steps over which the learning rate rises linearly"
    )
    schedule: Literal["linear", "cosine", "constant"] = Field(
        default="linear", description="learning rate after the warm-up"
    )
    weight_decay: float = Field(
        default=0.01, ge=0, description="weight decay of AdamW; not applied to biases and layer norms"
    )
    beta1: float = Field(default=0.9, ge=0, lt=1, description="decay of the first moment of AdamW")
    beta2: float = Field(default=0.999, ge=0, lt=1, description="decay of the second moment of AdamW")
    epsilon: float = Field(default=1e-8, gt=0, description="added to the denominator of AdamW")
    gradient_clipping: float = Field(
        default=1.0, ge=0, description="clip gradients to this global norm; 0: no clipping"
    )


class Precision(Section):
    """What a model computes in."""

    precision: Literal["fp32", "bf16", "auto"] = Field(
        default="auto",
        description="bf16: autocast over fp32 weights; auto: bf16 where the GPU or processor has instructions for it, "
        "else fp32",
    )


class Engine(Precision):
    """DeepSpeed, precision and activation memory."""

    zero_stage: int = Field(
        default=0,
        ge=0,
        le=2,
        description="DeepSpeed ZeRO stage: shard nothing (0, the fastest), optimizer state (1), gradients too (2)",
    )
    tf32: bool = Field(
        default=True, description="GPU: compute products of fp32 matrices in TF32; losses are exact all the same"
    )
    activation_checkpointing: bool = Field(
        default=False, description="recompute the student's layers in the backward pass, to save memory"
    )
    hang_minutes: float = Field(
        default=15.0,
        gt=0,
        description="end a rank whose step takes longer, as hanging; the first may take twice as long",
    )


class Cadence(Section):
    """The intervals at which a training run logs, evaluates and saves."""

    log_every_n_steps: int = Field(default=10, ge=1, description="steps between lines of metrics.jsonl")
    save_every_n_steps: int = Field(default=500, ge=1, description="steps between checkpoints")
    evaluate_every_n_steps: int = Field(default=500, ge=1, description="steps between evaluations on held-out rows")
    keep_checkpoints: int = Field(default=2, ge=1, description="number of newest checkpoints to keep")


class Selection(Section):
    """The choice of the weights that become the result of a training run."""

    metric: Literal["auto", "accuracy", "macro_f1", "micro_f1", "spearman", "loss"] = Field(
        default="auto",
        description="metric on held-out rows whose best step is kept; auto: accuracy, micro_f1 (multi_label) or "
        "spearman "
        "(regression)",
    )
    patience: Annotated[int | None, BeforeValidator(optional)] = Field(
        default=None, ge=1, description="stop after this many evaluations without improvement; none: run all steps"
    )


class Tracking(Section):
    """Weights & Biases (W&B)."""

    project: str = Field(default="kd_dist", description="W&B project")
    tags: Words = Field(default=[], description="W&B tags")
