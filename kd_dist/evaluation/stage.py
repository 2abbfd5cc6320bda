"""The evaluate stage."""

import os
from pathlib import Path

from kd_dist.config.stages import EvaluateStage
from kd_dist.data.examples import read_split
from kd_dist.data.preprocessing import Preprocessing
from kd_dist.evaluation.guard import enforce, judge
from kd_dist.evaluation.model_key import ModelKey
from kd_dist.evaluation.outputs import write_evaluation
from kd_dist.evaluation.scoring import at_speeds, of_teacher, own_preprocessings, score_all
from kd_dist.evaluation.tables import print_table
from kd_dist.files import link
from kd_dist.models.classifier import load_classifier
from kd_dist.runs.results import add_result
from kd_dist.runs.tracking import log_results


def run(stage: EvaluateStage, stage_dir: Path, shard: int) -> None:
    """Score the models of the stage side by side.

    Writes `stage_dir`/evaluation.json, predictions, pictures, and the rows of the run's results. `stage_dir`/model,
    which later stages start from, becomes a link to the first model once the guard lets it pass.

    Args:
        stage: what to score, and on which rows.
        stage_dir: the stage's folder in the run.
        shard: always 0, the stage is not divided.

    Raises:
        UserError: a model is no classifier of these labels, or the teacher was trained on other tokens.
        RunError: there are no rows, or the guard refuses the first model.
    """
    (stage_dir / "model").unlink(missing_ok=True)  # of an evaluation with other inputs
    tokens = Path(stage.data.tokens)
    examples = read_split(tokens, stage.evaluate.split)
    loaded = {ModelKey.of_name(name): load_classifier(path) for name, path in stage.evaluate.models.items()}
    classifiers = at_speeds(loaded, stage.evaluate.speeds)
    prepared = Preprocessing.load(tokens)
    preprocessings = own_preprocessings(classifiers, prepared)
    if stage.guards:
        preprocessings |= of_teacher(classifiers, preprocessings, prepared)
    scored = score_all(classifiers, preprocessings, examples, speed=stage.evaluate.speed)
    rows = {key: key.fields() | one.row for key, one in scored.items()}
    add_result(stage_dir.parent, *({"stage": stage_dir.name} | row for row in rows.values()))
    guard = judge(next(iter(scored.values())), examples) if stage.guards else None
    pictures = write_evaluation(stage_dir, examples, scored, guard)
    print_table(examples, scored)
    if stage.guards and guard:
        enforce(stage.guards, guard)
    first = next(iter(loaded.values())).directory
    link(stage_dir / "model", Path(os.path.relpath(first.resolve(), stage_dir.resolve())))
    shown = {str(key): row for key, row in rows.items()}
    log_results(stage_dir, stage.tracking, stage.model_dump(), shown, pictures)
