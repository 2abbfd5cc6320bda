"""Run one job with several seeds: the stages that depend on chance are repeated, all others are shared."""

import re
from typing import Any

from kd_dist.config.graph_stages import GraphTrainStage
from kd_dist.config.job import Job
from kd_dist.config.stage import WIRE, Stage
from kd_dist.config.stages import EvaluateStage, TrainStage
from kd_dist.errors import UserError

SUFFIX = "_seed"


def seed_of(stage: str) -> int | None:
    """Return the seed in the name of a repeated stage; None for any other stage."""
    found = re.fullmatch(rf".+{SUFFIX}(\d+)", stage)
    return int(found[1]) if found else None


def seeded_name(model: str, seed: int) -> str:
    """Return the name in `evaluate.models` of a model that was trained with another seed than the job's first."""
    return f"{model}@{seed}"


def split_seed(name: str) -> tuple[str, int | None]:
    """Return the model and the seed that `seeded_name` put together; a name without a seed is all model."""
    model, _, seed = name.rpartition("@")
    return (model, int(seed)) if model and seed.isdecimal() else (name, None)


def with_seeds(job: Job, seeds: int) -> Job:
    """Return the job with its seeded stages repeated under `seeds` seeds: train.seed, train.seed + 1, ...

    A copy follows its stage and is called `<stage>_seed43`. Copies of one seed are wired to each other, and a stage
    that scores a repeated one scores its copies too, as `<model>@43`.

    Raises:
        UserError: The job has no stage that can be repeated.
    """
    if seeds == 1:
        return job
    trained = [stage for name in job.seeded if isinstance(stage := job.stages[name], TrainStage | GraphTrainStage)]
    if not trained:
        raise UserError(f"--seeds {seeds}: job `{job.name}` has no stage that can be repeated with another seed")
    first = trained[0].train.seed
    copies = {seed: {name: f"{name}{SUFFIX}{seed}" for name in job.seeded} for seed in range(first + 1, first + seeds)}
    stages: dict[str, Any] = {}
    for name, stage in job.stages.items():
        if name in job.seeded:
            stages[name] = stage
            stages |= {names[name]: _copy(stage, names, seed - first) for seed, names in copies.items()}
        else:
            stages[name] = _with_scored_copies(stage, copies) if isinstance(stage, EvaluateStage) else stage
    return job.model_copy(update={"stages": stages})


def _copy(stage: Stage, names: dict[str, str], seeds_further: int) -> Stage:
    """Return the stage with its wires leading to the copies of its own seed."""
    copy = stage.rewired(lambda value: _rewired(value, names))
    if not isinstance(copy, TrainStage | GraphTrainStage):
        return copy
    train = copy.train.model_copy(update={"seed": copy.train.seed + seeds_further})
    return copy.model_copy(update={"train": train})


def _with_scored_copies(stage: EvaluateStage, copies: dict[int, dict[str, str]]) -> EvaluateStage:
    models = dict(stage.evaluate.models)
    for label, path in stage.evaluate.models.items():
        for seed, names in copies.items():
            if (copy := _rewired(path, names)) != path:
                models[seeded_name(label, seed)] = copy
    return stage.model_copy(update={"evaluate": stage.evaluate.model_copy(update={"models": models})})


def _rewired(value: str, names: dict[str, str]) -> str:
    stage, slash, rest = value.removeprefix(WIRE).partition("/")
    return f"{WIRE}{names[stage]}{slash}{rest}" if value.startswith(WIRE) and stage in names else value
