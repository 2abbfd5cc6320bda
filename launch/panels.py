"""The panels of a job's dashboard, by topic: they follow from its stages, their objectives and what they evaluate."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

from kd_dist.config.job import Job
from kd_dist.config.stages import EvaluateStage, LabelledStage, TrainStage
from kd_dist.config.tasks import METRICS


class Panel(NamedTuple):
    """A plot of what runs log.

    Attributes:
        title: Its heading.
        keys: What is plotted, as metrics.jsonl and W&B name it.
        form: Curves over steps, curves over the time of day, a bar for each key, or pictures.
    """

    title: str
    keys: list[str]
    form: Literal["steps", "time", "bars", "pictures"] = "steps"


def sections_of(job: Job) -> dict[str, list[Panel]]:
    """Return the panels of a job under the name of their section; sections without any are left out."""
    sections: dict[str, list[Panel]] = {}
    if stages := [stage for stage in job.stages.values() if isinstance(stage, TrainStage)]:
        sections |= {
            "Loss": [Panel("Loss", ["train/loss", "evaluation/loss"])],
            "Loss terms": list(_terms(stages)),
            "Quality on held-out rows": [Panel(_title(score), [f"evaluation/{score}"]) for score in _scores(job)],
            "Optimizer": [
                Panel("Learning rate", ["optim/learning_rate"]),
                Panel("Gradient norm", ["optim/gradient_norm"]),
                Panel("Refused steps in a row", ["optim/refused_in_a_row"]),
            ],
            "Speed and stragglers": list(_speed(stages)),
            "Memory": [Panel("Memory, GB", ["speed/memory_gb"])],
            "Preemptions": [
                Panel("Starts of the stage so far", ["starts"], "time"),
                Panel("Steps", ["global_step"], "time"),
            ],
        }
    evaluations = [stage for stage in job.stages.values() if isinstance(stage, EvaluateStage)]
    sections["Students against teacher"] = list(_comparison(evaluations, _scores(job)))
    if any(stage.evaluate.speeds for stage in evaluations):
        pictures = {"Layers at which rows exit": "exit_layers", "Quality by speed": "speed_accuracy"}
        sections["Early exit"] = [Panel(title, [f"evaluation/{name}"], "pictures") for title, name in pictures.items()]
    return {name: panels for name, panels in sections.items() if panels}


def _scores(job: Job) -> list[str]:
    """Return the scores of the tasks that the job's labels define."""
    tasks = [stage.data.task for stage in job.stages.values() if isinstance(stage, LabelledStage)]
    return list(dict.fromkeys(score for task in tasks for score in METRICS[task]))


def _terms(stages: list[TrainStage]) -> Iterator[Panel]:
    """Yield a panel for each loss term, and one for their shares of the loss, unless the loss has a single term."""
    weighted = (stage.objective.weights().items() for stage in stages)
    terms = list(dict.fromkeys(term for items in weighted for term, weight in items if weight > 0))
    if len(terms) == 1:
        return
    for term in terms:
        yield Panel(_title(term), [f"train/{term}", f"evaluation/{term}"])
    yield Panel("Weighted terms", [f"train/weighted/{term}" for term in terms])


def _speed(stages: list[TrainStage]) -> Iterator[Panel]:
    yield Panel("Samples per second", ["speed/samples_per_second"])
    yield Panel("Tokens per second", ["speed/tokens_per_second"])
    yield Panel("Which rank is the slowest", ["speed/slowest_rank"])
    yield Panel("Slowest rank, times the mean", ["speed/slowest_over_mean"])
    yield Panel("Share of padding", ["speed/padding_share"])
    yield Panel("Share of waiting for rows in the time", ["speed/data_wait_share"])
    if any(stage.teacher is not None and stage.data.teacher_outputs is None for stage in stages):
        yield Panel("Share of the teacher in the time", ["speed/teacher_share"])
    yield Panel("GPU in use", ["speed/gpu_utilization"])


def _comparison(evaluations: list[EvaluateStage], scores: list[str]) -> Iterator[Panel]:
    """Yield a panel of all models that are evaluated for each score, for their size and for their speed."""
    models = list(dict.fromkeys(model for stage in evaluations for model in stage.evaluate.models))
    if len(models) < 2:
        return
    measured = ["samples_per_second"] if any(stage.evaluate.speed for stage in evaluations) else []
    for key in [*scores, "parameters", *measured]:
        yield Panel(_title(key), [f"{model}/{key}" for model in models], "bars")


def _title(key: str) -> str:
    return key.replace("_", " ").capitalize()
