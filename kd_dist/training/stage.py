"""The train stage: set up, run and export everything that one stage of training needs."""

import os
import statistics
from pathlib import Path
from typing import Any

import torch

from kd_dist.config.model_folders import num_positions
from kd_dist.config.stages import TrainStage
from kd_dist.config.tasks import main_metric
from kd_dist.config.vocabularies import added_tokens, embedding_problem, reading_problem
from kd_dist.data.token_rows import TokenRows
from kd_dist.data.tokenizers import load_tokenizer
from kd_dist.errors import Preempted, RunError
from kd_dist.files import read_json
from kd_dist.models.device import own_device
from kd_dist.models.loading import load_config
from kd_dist.models.students import num_parameters
from kd_dist.models.teacher import Teacher
from kd_dist.objectives.base import Objective, build
from kd_dist.objectives.finetune import Labels
from kd_dist.runs.metrics import is_finite
from kd_dist.runs.results import add_result
from kd_dist.runs.tracking import make_tracker
from kd_dist.serving.export import export
from kd_dist.training import distributed, engine
from kd_dist.training.engine import Engine
from kd_dist.training.preemption import Preemption
from kd_dist.training.selection import Best
from kd_dist.training.teacher_outputs import StoredOutputs
from kd_dist.training.trainer import Trainer


def run(stage: TrainStage, stage_dir: Path, shard: int) -> None:
    """Train one stage from wherever it stands to its export. Every rank calls it.

    Raises:
        Preempted: A signal asked to stop; calling it again goes on.
        UserError: A setting or a file is wrong.
    """
    engine.start()
    with Preemption() as preemption:
        trainer, objective, tokenizer, tracker = _set_up(stage, stage_dir, preemption)
        status = 1
        try:
            trainer.train()
            status = 0
        except Preempted:
            status = 0  # it goes on later: no failure for W&B
            raise
        finally:
            tracker.close(status)
    if distributed.rank() == 0:
        _finish(stage, trainer, objective, tokenizer, stage_dir)
    trainer.close()
    distributed.barrier()


def _set_up(stage: TrainStage, stage_dir: Path, preemption: Preemption) -> tuple[Trainer, Objective, Any, Any]:
    _make_deterministic(stage)
    tokens = Path(stage.data.tokens)
    tokenizer = load_tokenizer(tokens / "tokenizer")
    torch.manual_seed(stage.train.seed)
    objective = build(stage, tokenizer)
    _check_tokens(stage, objective, tokens)
    outputs = _stored_outputs(stage)
    rows = TokenRows(tokens, "train", tokenizer.pad_token_id, outputs)
    total_steps = stage.train.total_steps(len(rows))
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
        engine=Engine(
            objective,
            stage.engine,
            stage.optim,
            total_steps=total_steps,
            micro_batch_size=stage.train.sequences_per_micro_batch(),
            accumulation_steps=stage.train.accumulation_steps(distributed.world_size()),
        ),
        objective=objective,
        teacher=_teacher(stage, objective),
        rows=rows,
        validation_rows=TokenRows(tokens, "validation", tokenizer.pad_token_id, outputs),
        total_steps=total_steps,
        checkpoints=stage_dir / "checkpoints",
        tracker=tracker,
        preemption=preemption,
        best=_best(stage, tokens),
    )
    return trainer, objective, tokenizer, tracker


def _stored_outputs(stage: TrainStage) -> StoredOutputs | None:
    if stage.data.teacher_outputs is None or stage.teacher is None:
        return None
    return StoredOutputs(Path(stage.data.teacher_outputs), Path(stage.teacher.path), Path(stage.data.tokens))


def _best(stage: TrainStage, tokens: Path) -> Best | None:
    if stage.selection is None:
        return None
    metric = stage.selection.metric
    return Best(main_metric(Labels.load(tokens).task) if metric == "auto" else metric, stage.selection.patience)


def _check_tokens(stage: TrainStage, objective: Objective, tokens: Path) -> None:
    """Refuse rows that a model has no embedding or position for: a GPU would only say `device-side assert`."""
    statistics = read_json(tokens / "statistics.json")
    configs = {"student": objective.student.config}
    if stage.teacher is not None:
        configs["teacher"] = load_config(stage.teacher.path)
    for name, config in configs.items():
        made_with, num_tokens = tokens / "tokenizer", statistics["vocabulary_size"]
        added = added_tokens(made_with)
        if problem := embedding_problem(num_tokens, str(made_with), config.vocab_size, f"the {name}", added):
            raise RunError(problem)
        needed, there = statistics["max_length"], num_positions(config.to_dict())
        if there is not None and needed > there:
            raise RunError(f"{tokens} needs {needed:,} positions, but the {name} has {there:,}: prepare it anew for it")
    _check_vocabularies(stage, tokens / "tokenizer")
    if stage.objective.needs_word_starts() and not statistics["word_starts"]:
        raise RunError(
            f"{tokens} has no word borders, which whole-word masking needs: prepare it with data.word_starts=true"
        )


def _check_vocabularies(stage: TrainStage, made_with: Path) -> None:
    """Refuse models that were trained on other tokens than the rows hold, whatever their number."""
    named = {
        "teacher.path": stage.teacher,
        "student.path": stage.student,
        "encoder.path": stage.encoder,
        "model.path": stage.model,
    }
    for key, section in named.items():
        if section is None or section.path is None:
            continue
        if problem := reading_problem(
            made_with, f"the rows ({made_with})", key, Path(section.path), only_conflicts=True
        ):
            raise RunError(problem)


def _teacher(stage: TrainStage, objective: Objective) -> Teacher | None:
    wanted = objective.wanted()
    if wanted is None or stage.teacher is None:
        return None
    return Teacher(
        stage.teacher.path,
        wanted,
        precision=stage.engine.precision,
        device=own_device(),
        label2id=Labels.load(Path(stage.data.tokens)).label2id if wanted.logits else None,
    )


def _make_deterministic(stage: TrainStage) -> None:
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # must be there before the first matrix product
    torch.use_deterministic_algorithms(stage.train.deterministic)


def _finish(stage: TrainStage, trainer: Trainer, objective: Objective, tokenizer: Any, stage_dir: Path) -> None:
    """Export the model and add its row to the results. Rank 0 alone."""
    metrics = {name: value if is_finite(value) else None for name, value in sorted(trainer.kept_metrics.items())}
    scores = {name: value for name, value in metrics.items() if name.startswith(("train/", "evaluation/"))}
    export(objective, tokenizer, stage_dir, scores)
    row: dict[str, Any] = {
        "stage": stage_dir.name,
        "model": stage.objective.result_name(has_student=stage.student is not None),
        "seed": stage.train.seed,
        "split": "validation",
        "steps": trainer.kept_step,
        "parameters": num_parameters(objective.student),
    }
    row |= {name.removeprefix("evaluation/"): value for name, value in scores.items() if name.startswith("evaluation/")}
    if trainer.speeds:  # none where a run that had ended was only exported
        row["training_samples_per_second"] = round(statistics.median(trainer.speeds), 1)
    add_result(stage_dir.parent, row)
