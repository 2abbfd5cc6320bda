"""The train stage: set up training, run it, and export the model."""

import os
import statistics
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial, reduce
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from kd_dist.config.sections.training import tokens_at_once
from kd_dist.config.stages import TrainStage
from kd_dist.config.tasks import main_metric
from kd_dist.data.prepared_rows import PreparedRows
from kd_dist.data.token_rows import TokenRows
from kd_dist.data.tokenizer_folders import load_tokenizer
from kd_dist.errors import RunError
from kd_dist.model_files.model_folders import num_positions, task_of
from kd_dist.model_files.vocabularies import added_tokens, embedding_problem, reading_problem
from kd_dist.models.device import memory_gb, own_device
from kd_dist.models.loading import load_config
from kd_dist.models.students import num_parameters
from kd_dist.models.teacher import Teacher, Wanted
from kd_dist.objectives.base import Objective, build
from kd_dist.runs.completion import unfinished_together
from kd_dist.runs.layout import read_stage
from kd_dist.runs.metrics import is_finite
from kd_dist.runs.results import add_result
from kd_dist.runs.tracking import NullTracker, closed_at_end, make_tracker
from kd_dist.runs.tries import Tries
from kd_dist.serving.export import export
from kd_dist.training import distributed, engine, together
from kd_dist.training.checkpoint import newest_good, read_state
from kd_dist.training.engine import Engine
from kd_dist.training.forward import Kept
from kd_dist.training.preemption import Preemption
from kd_dist.training.profiling import Profile
from kd_dist.training.selection import Best
from kd_dist.training.teacher_outputs import StoredOutputs, verify
from kd_dist.training.trainer import Trainer
from kd_dist.training.watchdog import Watchdog

OBSERVED_ROWS, OBSERVED_BATCH = 256, 32


def run(stage: TrainStage, stage_dir: Path, shard: int) -> None:
    """Train from the newest checkpoint, or from the start, to the export. Every rank calls it.

    The students of stages that are trained together with this one, and are not complete, are trained with it.

    Raises:
        Preempted: A signal asked to stop; another call resumes.
        UserError: A setting or a file is wrong.
    """
    engine.start()
    folders = distributed.from_rank_0(lambda: unfinished_together(stage_dir))
    stages = {folder: stage if folder == stage_dir else read_stage(folder) for folder in folders}
    tries = Tries(stage_dir)
    watchdog = Watchdog(stage.engine.hang_minutes, tries)
    with Preemption() as preemption, ExitStack() as trackers:
        students = set_up(stages, watchdog, tries.crashed_step())
        for student in students:
            trackers.enter_context(closed_at_end(student.tracker))
        together.train([student.trainer for student in students], preemption, watchdog)
    for student in students:
        if distributed.rank() == 0:
            _finish(student)
        student.trainer.close()
    distributed.barrier()


class Loaded(NamedTuple):
    """The models and the rows of a stage."""

    objective: Objective
    teacher: Teacher | None
    tokenizer: Any
    rows: TokenRows
    validation_rows: TokenRows


class InTraining(NamedTuple):
    """A student, or another model, that is trained."""

    stage: TrainStage
    stage_dir: Path
    loaded: Loaded
    trainer: Trainer
    tracker: NullTracker


def load(*stages: TrainStage) -> list[Loaded]:
    """Load the models and the rows of a stage, or of several that are trained together on one teacher. Collective.

    Raises:
        UserError: A setting or a file is wrong.
    """
    stage = stages[0]
    _set_arithmetic(stage)
    tokens = Path(stage.data.tokens)
    tokenizer = load_tokenizer(PreparedRows(tokens).tokenizer_folder)
    objectives = [_objective(each, tokenizer, tokens) for each in stages]
    outputs = _stored_outputs(stage)
    pad, more = tokenizer.pad_token_id, list(map(Path, stage.data.unlabelled_tokens))
    rows = TokenRows(tokens, "train", pad, outputs, more)
    validation_rows = TokenRows(tokens, "validation", pad, outputs)
    teacher = _teacher(stage, objectives)
    if teacher is not None:
        for objective in objectives:
            _observe(objective, teacher, rows)
    return [Loaded(objective, teacher, tokenizer, rows, validation_rows) for objective in objectives]


def _objective(stage: TrainStage, tokenizer: Any, tokens: Path) -> Objective:
    """Return the objective of a stage with its model, which can read the rows."""
    torch.manual_seed(stage.initial_seed())
    objective = build(stage, tokenizer)
    _check_tokens(stage, objective, tokens)
    return objective


def set_up(stages: Mapping[Path, TrainStage], watchdog: Watchdog, crashed_step: int | None = None) -> list[InTraining]:
    """Return what is trained in the stages of these folders. Collective.

    Args:
        stages: One, or those that are trained together.
        watchdog: Ends this process if a step hangs.
        crashed_step: A step that an earlier try crashed at.

    Raises:
        UserError: A setting or a file is wrong.
    """
    loaded = load(*stages.values())
    newest = [distributed.from_rank_0(partial(newest_good, folder / "checkpoints")) for folder in stages]
    first, path = next(iter(stages.values())), next((path for path, _ in newest if path is not None), None)
    size = _micro_batch_size(first, path)  # for all: one pass of the teacher is for one micro-batch
    shared = {"watchdog": watchdog, "crashed_step": crashed_step, "kept": Kept() if len(stages) > 1 else None}
    return [
        _in_training(stage, folder, of_stage, size, newest=found, **shared)
        for (folder, stage), of_stage, found in zip(stages.items(), loaded, newest, strict=True)
    ]


def _in_training(stage: TrainStage, stage_dir: Path, loaded: Loaded, micro_batch_size: int, **found: Any) -> InTraining:
    """Return what is trained in a stage; `found` are arguments of its trainer."""
    total_steps = stage.train.total_steps(len(loaded.rows))
    tracker = make_tracker(
        distributed.rank(),
        stage_dir=stage_dir,
        total_steps=total_steps,
        settings=stage.tracking,
        log_every_n_steps=stage.cadence.log_every_n_steps,
        config=stage.model_dump(),
    )
    trainer = Trainer(
        stage,
        engine=build_engine(stage, loaded.objective, total_steps, micro_batch_size),
        objective=loaded.objective,
        teacher=loaded.teacher,
        rows=loaded.rows,
        validation_rows=loaded.validation_rows,
        total_steps=total_steps,
        micro_batch_size=micro_batch_size,
        profile=Profile(stage.train.profiled() if distributed.rank() == 0 else range(0), stage_dir / "profile"),
        checkpoints=stage_dir / "checkpoints",
        tracker=tracker,
        best=_best(stage, Path(stage.data.tokens)),
        **found,
    )
    return InTraining(stage, stage_dir, loaded, trainer, tracker)


def _micro_batch_size(stage: TrainStage, newest: Path | None) -> int:
    """Return the rows of a forward pass: as before a checkpoint, so that the random draws of a step stay the same.

    On other ranks, which cannot share a step that way, they are chosen anew.
    """
    train, ranks, memory = stage.train, distributed.world_size(), memory_gb()
    before = read_state(newest).get("micro_batch_size") if newest else None
    if train.micro_batch_size is None and before and train.global_batch_size % (before * ranks) == 0:
        return int(before)
    if memory is None:
        return train.sequences_per_micro_batch(ranks)
    longest = PreparedRows(Path(stage.data.tokens)).statistics["max_length"]
    return train.sequences_per_micro_batch(ranks, tokens_at_once(memory) // longest)


def build_engine(stage: TrainStage, objective: Objective, total_steps: int, micro_batch_size: int) -> Engine:
    """Return the engine that trains an objective for so many steps. Collective."""
    config = objective.student.config
    rate = stage.learning_rate(config.hidden_size, config.model_type, task_of(config.to_dict()))
    return Engine(
        objective,
        stage.engine,
        stage.optim.model_copy(update={"learning_rate": rate}),
        total_steps=total_steps,
        micro_batch_size=micro_batch_size,
        accumulation_steps=stage.train.global_batch_size // (micro_batch_size * distributed.world_size()),
        rate_of=objective.rate_of,
    )


def _stored_outputs(stage: TrainStage) -> StoredOutputs | None:
    """Return the precomputed teacher logits that the stage reads, if any; rank 0 verifies them for all. Collective."""
    if stage.data.teacher_outputs is None:
        return None
    folder, teacher = Path(stage.data.teacher_outputs), Path(stage.teacher.path) if stage.teacher else None
    distributed.from_rank_0(lambda: verify(folder, teacher, Path(stage.data.tokens)))
    return StoredOutputs(folder)


def _best(stage: TrainStage, tokens: Path) -> Best | None:
    """Return the selection of the best weights; None to keep the last."""
    if stage.selection is None:
        return None
    metric = stage.selection.metric
    return Best(main_metric(PreparedRows(tokens).labels.task) if metric == "auto" else metric, stage.selection.patience)


def _check_tokens(stage: TrainStage, objective: Objective, tokens: Path) -> None:
    """Refuse rows that a model has no embeddings for; a GPU would report only `device-side assert`.

    Raises:
        RunError: Token ids or positions exceed a model's embeddings, or word boundaries are missing.
    """
    rows = PreparedRows(tokens)
    statistics, made_with = rows.statistics, rows.tokenizer_folder
    num_tokens, added = statistics["vocabulary_size"], added_tokens(made_with)
    configs = {"student": objective.student.config}
    if stage.teacher is not None and not stage.reads_words():
        configs["teacher"] = load_config(stage.teacher.path)
    for name, config in configs.items():
        if problem := embedding_problem(num_tokens, str(made_with), config.vocab_size, f"the {name}", added):
            raise RunError(problem)
        needed, there = statistics["max_length"], num_positions(config.to_dict())
        if there is not None and needed > there:
            raise RunError(
                f"{tokens} needs {needed:,} positions, but the {name} has {there:,}: tokenize the data again for "
                "this model"
            )
    _check_vocabularies(stage, made_with)
    if stage.objective.needs_word_starts() and not statistics["word_starts"]:
        raise RunError(
            f"{tokens} has no word boundaries, which whole-word masking needs: tokenize it again with "
            "data.word_starts=true"
        )


def _check_vocabularies(stage: TrainStage, made_with: Path) -> None:
    """Refuse models that were trained on other tokens than the rows hold, whatever their number."""
    for key, path in stage.models_fed().items():
        if problem := reading_problem(made_with, f"the rows ({made_with})", key, Path(path), only_conflicts=True):
            raise RunError(problem)


def _teacher(stage: TrainStage, objectives: Sequence[Objective]) -> Teacher | None:
    """Return the teacher that runs during training, if an objective needs one, for all that they need."""
    needs = [wanted for objective in objectives if (wanted := objective.wanted()) is not None]
    if not needs or stage.teacher is None:
        return None
    wanted = reduce(Wanted.together_with, needs)
    return Teacher(
        stage.teacher.path,
        wanted,
        precision=stage.engine.precision,
        device=own_device(),
        label2id=PreparedRows(Path(stage.data.tokens)).labels.ids if wanted.logits else None,
    )


def _observe(objective: Objective, teacher: Teacher, rows: TokenRows) -> None:
    """Show the teacher's outputs for the first rows to the objective; what it keeps is rank 0's. Collective.

    The rows are those on disk, so neither ranks nor the order of training matter.
    """
    starts = range(0, min(OBSERVED_ROWS, len(rows)), OBSERVED_BATCH)
    batches = (rows.collate(np.arange(start, min(start + OBSERVED_BATCH, len(rows)))) for start in starts)
    on_device = ({name: tensor.to(own_device()) for name, tensor in batch.items()} for batch in batches)
    objective.observe((batch, teacher(batch)) for batch in on_device)
    for buffer in objective.buffers():
        buffer.copy_(distributed.broadcast(buffer.cpu()))


def _set_arithmetic(stage: TrainStage) -> None:
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # must be set before the first matrix product
    torch.use_deterministic_algorithms(stage.train.deterministic)
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high" if stage.engine.tf32 else "highest")


def _finish(trained: InTraining) -> None:
    """Export the model and add its row to the results. Only rank 0 calls it."""
    stage, stage_dir, loaded, trainer, _ = trained
    metrics = {name: value if is_finite(value) else None for name, value in sorted(trainer.kept_metrics.items())}
    scores = {name: value for name, value in metrics.items() if name.startswith(("train/", "evaluation/"))}
    export(loaded.objective, loaded.tokenizer, PreparedRows(Path(stage.data.tokens)), stage_dir, scores)
    row: dict[str, Any] = {
        "stage": stage_dir.name,
        "model": stage.objective.result_name(has_student=stage.student is not None),
        "seed": stage.train.seed,
        "split": "validation",
        "steps": trainer.kept_step,
        "parameters": num_parameters(loaded.objective.student),
    }
    row |= {name.removeprefix("evaluation/"): value for name, value in scores.items() if name.startswith("evaluation/")}
    if trainer.speeds:  # empty where a finished training was only exported
        row["training_samples_per_second"] = round(statistics.median(trainer.speeds), 1)
    add_result(stage_dir.parent, row)
