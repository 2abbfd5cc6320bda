"""The training entry point.

    deepspeed --num_accelerators 2 kd_dist/train.py --job tinybert_general data.corpus='corpus/*.txt'
    torchrun --nproc-per-node 2 kd_dist/train.py --job ...        python kd_dist/train.py --job ...

`run` is what every rank of a training stage calls, however it was started.
"""

import sys
from pathlib import Path

if not __package__:  # started as a script: its own folder must not shadow installed modules
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import argparse
import json
import os
import statistics
from typing import Any

import torch
from transformers import AutoConfig

from kd_dist import distributed, engine
from kd_dist.batches import TokenRows
from kd_dist.checks import load_checked_job
from kd_dist.classifier import num_positions
from kd_dist.config import read_stage
from kd_dist.engine import Engine
from kd_dist.errors import Preempted, RunError, UserError, exit_with_message
from kd_dist.export import export
from kd_dist.hub import with_fetched_models
from kd_dist.metrics import main_metric
from kd_dist.models import Teacher, load_tokenizer, num_parameters
from kd_dist.objectives import Objective, build
from kd_dist.objectives.finetune import Labels
from kd_dist.preemption import Preemption
from kd_dist.runs import add_result, default_run_id, open_run, read_job, run_stage
from kd_dist.sections import FinetuneObjective, MlmObjective
from kd_dist.seeds import seed_of
from kd_dist.selection import Best
from kd_dist.stages import TrainStage
from kd_dist.teacher_outputs import StoredOutputs
from kd_dist.tracking import make_tracker, read_metrics
from kd_dist.trainer import Trainer


def run(stage_dir: Path) -> None:
    """Train one stage from wherever it stands to its export. Every rank calls it.

    Raises:
        Preempted: a signal asked to stop; calling it again goes on.
        UserError: a setting or a file is wrong.
    """
    engine.start()
    stage: TrainStage = read_stage(stage_dir)
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
        _finish(trainer, objective, tokenizer, stage_dir)
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
    statistics = json.loads((tokens / "statistics.json").read_text(encoding="utf-8"))
    configs = {"student": objective.student.config}
    if stage.teacher is not None and stage.student is not None:
        configs["teacher"] = AutoConfig.from_pretrained(stage.teacher.path)
    for name, config in configs.items():
        for what, needed, there in (
            ("ids of tokens", statistics["vocabulary_size"], config.vocab_size),
            ("positions", statistics["max_length"], num_positions(config)),
        ):
            if needed > there:
                raise RunError(
                    f"{tokens} needs {needed:,} {what}, but the {name} has {there:,}: prepare it anew for it"
                )
    if isinstance(stage.objective, MlmObjective) and stage.objective.whole_word_masking > statistics["word_starts"]:
        raise RunError(
            f"{tokens} has no word borders, which whole-word masking needs: prepare it with data.word_starts=true"
        )


def _teacher(stage: TrainStage, objective: Objective) -> Teacher | None:
    wanted = objective.wanted()
    if wanted is None or stage.teacher is None:
        return None
    return Teacher(
        stage.teacher.path,
        wanted,
        precision=stage.engine.precision,
        device=distributed.device(),
        label2id=Labels.load(Path(stage.data.tokens)).label2id if wanted.logits else None,
    )


def _make_deterministic(stage: TrainStage) -> None:
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # must be there before the first matrix product
    torch.use_deterministic_algorithms(stage.train.deterministic)


def _finish(trainer: Trainer, objective: Objective, tokenizer: Any, stage_dir: Path) -> None:
    """Export and score, on rank 0."""
    rows = read_metrics(stage_dir / "metrics.jsonl")
    # The latest value of each, but no evaluation of a later step than the one whose weights are kept.
    kept = [row for row in rows if row["global_step"] <= trainer.kept_step]
    metrics = {key: value for row in kept for key, value in row.items()}
    scores = {key: metrics[key] for key in sorted(metrics) if key.startswith(("train/", "evaluation/"))}
    export(objective, tokenizer, stage_dir, scores)
    row: dict[str, Any] = {"stage": stage_dir.name, "model": _trained_model(read_stage(stage_dir))}
    row |= {} if (seed := seed_of(stage_dir.name)) is None else {"seed": seed}
    row |= {"split": "validation", "steps": trainer.kept_step, "parameters": num_parameters(objective.student)}
    row |= {key.removeprefix("evaluation/"): value for key, value in scores.items() if key.startswith("evaluation/")}
    speeds = [values["speed/samples_per_second"] for values in rows if "speed/samples_per_second" in values]
    row["training_samples_per_second"] = round(statistics.median(speeds), 1)
    add_result(stage_dir.parent, row)


def _trained_model(stage: TrainStage) -> str:
    """What results call the model that the stage trains."""
    if stage.model is not None:
        return "fastbert"
    if stage.student is None:
        return "teacher"
    return "student_alone" if isinstance(stage.objective, FinetuneObjective) else "student"


def main() -> int:
    """Run a whole job on this machine's ranks, one stage after another."""
    options = _parse(sys.argv[1:])
    distributed.set_environment_defaults()
    # Rank 0 finds mistakes before it meets the others; a launcher ends those when it leaves.
    opened = _open_run(options) if distributed.rank() == 0 else None
    engine.start()
    run_dir = distributed.broadcast(opened)
    for name, stage in read_job(run_dir).stages.items():
        if stage.needs_gpus() or distributed.rank() == 0:
            run_stage(run_dir / name)
        distributed.barrier()
    if distributed.rank() == 0:
        print(f"done: {run_dir}")
    distributed.shut_down()
    return 0


def _open_run(options: argparse.Namespace) -> Path:
    """The run folder of a job that asks for the ranks that are really here."""
    taken = [text for text in options.overrides if "resources.nodes=" in text or "resources.gpus_per_node=" in text]
    if taken:
        raise UserError(f"{taken[0]}: the launcher decides how many ranks there are (deepspeed --num_accelerators N)")
    ranks_here = distributed.ranks_of_this_node()
    world = [
        f"resources.nodes={distributed.world_size() // ranks_here}",
        f"resources.gpus_per_node={ranks_here}",
    ]
    job = load_checked_job(options.job, [*options.overrides, *world], options.config)
    return open_run(with_fetched_models(job), options.runs_dir, options.run_id or default_run_id())


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="kd_dist/train.py",
        description="Run a job on the ranks that deepspeed or torchrun started here (plain python: one rank).",
        epilog="example: deepspeed --num_accelerators 2 kd_dist/train.py --job tinybert_general train.steps=300",
    )
    parser.add_argument("--job", required=True, help="a name from `python launch/slurm.py --list`")
    parser.add_argument("--run-id", default=None, help="name of the run; the same name continues it")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), help="where runs are kept (default: runs)")
    parser.add_argument("--config", type=Path, help="YAML file with settings, applied before the overrides")
    parser.add_argument("--local_rank", help=argparse.SUPPRESS)  # the deepspeed launcher appends it
    parser.add_argument(
        "overrides", nargs="*", metavar="section.key=value", help="settings, for example train.steps=300"
    )
    return parser.parse_intermixed_args(arguments)


if __name__ == "__main__":
    exit_with_message(main, is_rank=True)
