"""The evaluate stage."""

import os
from pathlib import Path

from kd_dist.config.stages import EvaluateStage
from kd_dist.data.examples import read_split
from kd_dist.data.preprocessing import Preprocessing
from kd_dist.evaluation.guard import enforce, judge
from kd_dist.evaluation.outputs import write_evaluation
from kd_dist.evaluation.scoring import at_speeds, of_teacher, own_preprocessings, score_all
from kd_dist.evaluation.speeds import model_and_seed
from kd_dist.evaluation.tables import print_table
from kd_dist.files import link
from kd_dist.models.classifier import load_classifier
from kd_dist.runs.results import add_result
from kd_dist.runs.tracking import log_results


def run(stage: EvaluateStage, stage_dir: Path, shard: int) -> None:
    """The evaluate stage: `stage_dir`/evaluation.json, predictions, confusion matrices and rows of the run's results.

    `stage_dir`/model, which later stages start from, becomes a link to the first model once the guard lets it pass.

    Raises:
        UserError: a model that is no classifier of these labels, or a teacher that was trained on other tokens.
        RunError: no rows, or the guard refuses the first model.
    """
    (stage_dir / "model").unlink(missing_ok=True)  # of an evaluation with other inputs
    tokens = Path(stage.data.tokens)
    examples = read_split(tokens, stage.evaluate.split)
    classifiers = {name: load_classifier(path) for name, path in stage.evaluate.models.items()}
    classifiers = at_speeds(classifiers, stage.evaluate.speeds)
    prepared = Preprocessing.load(tokens)
    preprocessings = own_preprocessings(classifiers, prepared)
    if stage.guards:
        preprocessings |= of_teacher(classifiers, preprocessings, prepared)
    scored = score_all(classifiers, preprocessings, examples, speed=stage.evaluate.speed)
    for name, one in scored.items():
        add_result(stage_dir.parent, {"stage": stage_dir.name, **model_and_seed(name), **one.row})
    guard = judge(next(iter(scored.values())), examples) if stage.guards else None
    pictures = write_evaluation(stage_dir, examples, scored, guard)
    print_table(examples, scored)
    if stage.guards and guard:
        enforce(stage.guards, guard)
    first = next(iter(stage.evaluate.models.values()))
    link(stage_dir / "model", Path(os.path.relpath(Path(first).resolve(), stage_dir.resolve())))
    rows = {name: one.row for name, one in scored.items()}
    log_results(stage_dir, stage.tracking, stage.model_dump(), rows, pictures)
