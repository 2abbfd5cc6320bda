"""What the stages of a job cost on so many GPUs: steps, hours, memory and disk, before anything is run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from kd_dist.config.job import Job
from kd_dist.config.sections.training import Train, tokens_at_once
from kd_dist.config.stages import (
    AugmentedStage,
    AugmentStage,
    CalibrateStage,
    CorpusStage,
    EvaluateStage,
    LabelledStage,
    PerturbedStage,
    SoftLabelsStage,
    TeacherOutputsStage,
    TrainStage,
    UnlabelledStage,
    WordsStage,
)
from kd_dist.planning.places import Place, Site
from kd_dist.planning.rows import RowCounts
from kd_dist.planning.step_times import Work
from kd_dist.planning.text_rows import Rows
from kd_dist.planning.works import Works

GB = 1024**3

DISK_BYTES_PER_SECOND = 300e6  # of checkpoints

PREPARING = 0.8  # the share of the tokenizer's speed that preparation reaches

TIMED_ROUNDS, TIMED_ROWS, TIMED_TEXTS = 6, 512, 64  # of an evaluation that measures speed: in batches, and alone

CHARACTERS_OF_A_WORD = 1.7

GROUPS = 64  # micro-batches of different lengths that stand for all of them

OVERHEAD_GB = 0.7  # of CUDA's context, or of Python and its libraries


@dataclass(frozen=True)
class Cost:
    """What a stage costs; None where that cannot be said.

    Attributes:
        place: Where it runs.
        rows: That the stage reads or makes.
        steps: Of training.
        hours: From its start to its end.
        memory_gb: Of a GPU, or of a rank on a CPU.
        disk_gb: What it leaves behind.
    """

    place: Place
    rows: int | None = None
    steps: int | None = None
    hours: float | None = None
    memory_gb: float | None = None
    disk_gb: float = 0.0

    def gpu_hours(self) -> float:
        """Return the hours of all GPUs together."""
        return self.place.ranks * (self.hours or 0.0) if self.place.on_gpus else 0.0


class Costs:
    """The costs of the stages of a job.

    Args:
        job: The job, with absolute paths.
        counts: Of its rows, all of them known.
        site: Where it runs.
    """

    def __init__(self, job: Job, counts: RowCounts, site: Site) -> None:
        self.job, self.counts, self.site = job, counts, site
        self.works = Works(job, counts)

    def of(self, name: str, ranks: int | None = None) -> Cost | None:
        """Return what a stage costs on as many ranks as it asks for, or on others; None if it cannot use so many."""
        stage = self.job.stages[name]
        place = Place.of(stage, self.site, ranks)
        estimate = ESTIMATES.get(type(stage))
        return estimate(self, name, place) if estimate else Cost(place)

    def trained(self) -> dict[str, TrainStage]:
        """Return the training stages."""
        return {name: stage for name, stage in self.job.stages.items() if isinstance(stage, TrainStage)}

    def not_estimated(self) -> list[str]:
        """Return the stages of kinds that are not estimated."""
        return [name for name, stage in self.job.stages.items() if type(stage) not in ESTIMATES]

    def hours(self, costs: Mapping[str, Cost]) -> float:
        """Return the hours until all is done: on one machine in a row, else each stage as soon as it can begin."""
        ends: dict[str, float] = {}
        for name, inputs in self.job.edges().items():
            before = list(ends) if self.site.cores else [*inputs, *self.job.companions(name)]
            ends[name] = max((ends.get(other, 0.0) for other in before), default=0.0) + (costs[name].hours or 0.0)
        return max(ends.values())

    def as_run(self, name: str, ranks: int | None = None) -> TrainStage | None:
        """Return a training stage with the micro-batches that so many ranks run; None if they cannot share a step."""
        stage = self.trained()[name]
        place = Place.of(stage, self.site, ranks)
        train = divided(stage.train, place.ranks, _most(self, stage, place))
        return None if train is None else stage.model_copy(update={"train": train})

    def work(self, name: str, stage: TrainStage) -> Work:
        """Return what a micro-batch of a training stage computes; the pass of a shared teacher counts once."""
        work = self.works.of(stage)
        return replace(work, teacher=None) if self.is_served(name) else work

    def is_served(self, name: str) -> bool:
        """Return whether a stage is run by another one, whose pass of the teacher serves it too."""
        return any(name in copies[1:] for copies in self.job.together.values())

    def fitting(self, name: str, limit_gb: float) -> Train | None:
        """Return the settings of a training stage with the largest micro-batch that fits; None if none does."""
        stage = self.as_run(name)
        if stage is None:
            return None
        place = Place.of(stage, self.site)
        for size in range(stage.train.sequences_per_micro_batch() - 1, 0, -1):
            train = stage.train.model_copy(update={"micro_batch_size": size})
            smaller = stage.model_copy(update={"train": train})
            if not train.problems(name, place.ranks) and _memory_gb(self, name, smaller, place) <= limit_gb:
                return train
        return None


def divided(train: Train, ranks: int, most: int | None = None) -> Train | None:
    """Return the settings with the largest micro-batch that so many ranks can share a step with; None if none can.

    Args:
        train: The settings.
        ranks: The number of ranks.
        most: The sequences that a GPU takes at a time.
    """
    if not train.problems("", ranks):
        return train.model_copy(update={"micro_batch_size": train.sequences_per_micro_batch(ranks, most)})
    total, largest = train.global_batch_size, train.sequences_per_micro_batch()
    sizes = [size for size in range(1, largest + 1) if total % (size * ranks) == 0]
    return train.model_copy(update={"micro_batch_size": max(sizes)}) if sizes else None


def padded(lengths: Sequence[int], window: int, batch: int) -> list[int]:
    """Return the lengths that batches are padded to, where so many rows at a time are sorted by length."""
    number = max(1, min(GROUPS, window // batch))
    return [lengths[-(-(group + 1) * len(lengths) // number) - 1] for group in range(number)]


def _training(costs: Costs, name: str, place: Place) -> Cost | None:
    stage = costs.as_run(name, place.ranks)
    rows = None if stage is None else costs.counts.read_by(stage)
    if stage is None or rows is None:
        return None
    work, steps = costs.work(name, stage), stage.train.total_steps(rows.train)
    checks = -(-steps // stage.cadence.evaluate_every_n_steps)
    saves = -(-steps // stage.cadence.save_every_n_steps) + (checks // 2 if stage.selection else 0)  # half are better
    weights, kept = work.student.parameters(), stage.cadence.keep_checkpoints + (stage.selection is not None)
    once = 0.0 if costs.is_served(name) else place.times.once(work)
    seconds = once + steps * _step_seconds(costs, stage, work, rows, place)
    seconds += checks * _forward_seconds(place, work, rows, rows.validation) / place.ranks
    seconds += saves * 12 * weights / DISK_BYTES_PER_SECOND
    disk_gb = (12 * kept + 4) * weights / GB
    return Cost(place, rows.train, steps, seconds / 3600, _memory_gb(costs, name, stage, place), disk_gb)


def _most(costs: Costs, stage: TrainStage, place: Place) -> int | None:
    """Return the sequences that a GPU takes at a time, where there are GPUs of a known size."""
    if not place.on_gpus or costs.site.memory_gb is None:
        return None
    return tokens_at_once(costs.site.memory_gb) // costs.counts.max_length(stage)


def _step_seconds(costs: Costs, stage: TrainStage, work: Work, rows: Rows, place: Place) -> float:
    """Return the mean seconds of a step: the micro-batches of a rank, the exchange of gradients, and the update."""
    times = place.times
    lengths = padded(rows.lengths, stage.data.bucket_steps * stage.train.global_batch_size, work.rows)
    micro_batch = fmean(times.micro_batch(work, length, place.threads) for length in lengths)
    exchange = costs.site.exchange_seconds(4 * work.student.parameters(), place.ranks)
    update = times.optimizer(work, lengths[-1], place.threads) / (place.ranks if stage.engine.zero_stage else 1)
    return stage.train.accumulation_steps(place.ranks) * micro_batch + exchange + update


def _memory_gb(costs: Costs, name: str, stage: TrainStage, place: Place) -> float:
    """Return the peak memory of a rank, measured or from its parts: weights and optimizer, teacher, activations.

    It holds the students of the stages that are trained together with this one.
    """
    work, rows, trained = costs.works.of(stage), costs.counts.read_by(stage), costs.trained()
    longest = rows.lengths[-1] if rows else costs.counts.max_length(stage)
    others = sum(_held(costs.works.of(trained[other]), stage, place) for other in costs.job.companions(name))
    if (measured := place.times.memory_gb(work, longest)) is not None:
        return measured + others / GB + OVERHEAD_GB
    number = 4 if work.precision == "fp32" else 3  # autocast keeps some in fp32
    kept = work.student.activations(longest) if work.is_trained else work.student.working(longest)
    if stage.engine.activation_checkpointing:
        kept = work.student.layers * longest * work.student.width + kept // work.student.layers
    size = others + _held(work, stage, place) + work.rows * kept * number
    if work.teacher is not None:
        outputs = 3 * longest * work.teacher.layers * work.teacher.width  # queries, keys and hidden states
        size += work.teacher.parameters() * number + 4 * work.rows * (work.teacher.working(longest) + outputs)
    return size / GB + OVERHEAD_GB


def _held(work: Work, stage: TrainStage, place: Place) -> float:
    """Return the bytes of a student's weights, gradients and moments."""
    weights, zero = work.student.parameters(), stage.engine.zero_stage
    moments = (8 + 4 * (zero > 0)) / (place.ranks if zero else 1)  # ZeRO keeps a copy of the weights of its share
    gradients = 4 / (place.ranks if zero == 2 else 1)
    return weights * (4 + (gradients + moments if work.is_trained else 0))


def _forward_seconds(place: Place, work: Work, rows: Rows, number: int) -> float:
    """Return the seconds of forward passes of so many rows."""
    lengths = padded(rows.lengths, number, work.rows)
    return number / work.rows * fmean(place.times.forward(work, length, place.threads) for length in lengths)


def _outputs(costs: Costs, name: str, place: Place) -> Cost | None:
    stage: Any = costs.job.stages[name]
    rows = costs.counts.read_by(stage)
    if rows is None:
        return None
    number, work = rows.train + rows.validation, costs.works.of(stage)
    seconds = place.times.start_seconds + _forward_seconds(place, work, rows, number) / place.ranks
    memory_gb = 4 * (work.student.parameters() + work.rows * work.student.working(rows.lengths[-1])) / GB
    return Cost(place, number, None, seconds / 3600, memory_gb + OVERHEAD_GB, 32 * number / GB)


def _augmenting(costs: Costs, name: str, place: Place) -> Cost | None:
    """Estimate a forward pass for each word of each row; the copies are drawn from what these propose."""
    stage: Any = costs.job.stages[name]
    rows, made = costs.counts.read_by(stage), costs.counts.of(name)
    if rows is None or made is None:
        return None
    words = round(rows.train * rows.mean_length() / CHARACTERS_OF_A_WORD)
    work = costs.works.forward(stage.augment.mlm_path or stage.encoder.path)
    seconds = place.times.start_seconds + _forward_seconds(place, work, rows, words) / place.ranks
    return Cost(place, made.train, None, seconds / 3600, None, 4 * made.train * made.mean_length() / GB)


def _preparing(costs: Costs, name: str, place: Place) -> Cost | None:
    rows = costs.counts.of(name)
    if rows is None:
        return None
    seconds = rows.characters / (place.times.characters_per_second * place.threads * PREPARING)
    disk_gb = (4 * rows.total() * rows.mean_length() + 3 * rows.characters) / GB  # token ids, and texts
    return Cost(place, rows.total(), None, (place.times.start_seconds + seconds) / 3600, None, disk_gb)


def _evaluating(costs: Costs, name: str, place: Place) -> Cost | None:
    stage: Any = costs.job.stages[name]
    rows = costs.counts.read_by(stage)
    if rows is None:
        return None
    settings = stage.evaluate
    passes, models = 1 + len(settings.speeds), list(settings.models.values())
    number = rows.test if settings.split == "test" and rows.test else rows.validation
    timed = TIMED_ROUNDS * (min(number, TIMED_ROWS) + TIMED_TEXTS) if settings.speed else 0
    runs = [_forward_seconds(place, costs.works.forward(path), rows, (number + timed) * passes) for path in models]
    return Cost(place, number, None, (place.times.start_seconds + sum(runs)) / 3600)


def _calibrating(costs: Costs, name: str, place: Place) -> Cost | None:
    stage: Any = costs.job.stages[name]
    rows = costs.counts.read_by(stage)
    if rows is None:
        return None
    forward = _forward_seconds(place, costs.works.forward(stage.model.path), rows, rows.validation)
    return Cost(place, rows.validation, None, (place.times.start_seconds + forward) / 3600)


ESTIMATES: dict[type, Callable[[Costs, str, Place], Cost | None]] = {
    TrainStage: _training,
    TeacherOutputsStage: _outputs,
    AugmentStage: _augmenting,
    EvaluateStage: _evaluating,
    CalibrateStage: _calibrating,
    **dict.fromkeys(
        (LabelledStage, CorpusStage, UnlabelledStage, SoftLabelsStage, PerturbedStage, AugmentedStage, WordsStage),
        _preparing,
    ),
}
"""How to estimate what a stage of each kind costs; those of other kinds take minutes, and are not estimated."""
