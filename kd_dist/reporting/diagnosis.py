"""Why distillation did not pay, as far as a run's own files tell, and what to do about it."""

from collections.abc import Iterator

from kd_dist.evaluation.comparison import Comparison, score_name
from kd_dist.reporting.page import Html, el, section, share
from kd_dist.reporting.record import RunRecord, StageRecord

WORTH_IT = 0.01
"""The gain over the student alone from which distillation has paid."""
ROOM = 0.005
"""A teacher that is less than this above the student alone leaves nothing to gain."""
FEW_ROWS = 1000
STILL_FALLING = 0.03
"""The share by which the loss of the last tenth of training is below that of the tenth before, for one that falls."""
OVERFITTED = 0.15
"""The share by which the last held-out loss is above the lowest, for a model that overfits."""


def diagnosis(run: RunRecord, comparison: Comparison) -> Html:
    """Name the causes of a small gain and the settings that help; nothing where distillation paid."""
    student, alone = (_mean(comparison, name) for name in ("student", "student_alone"))
    if student is None or alone is None or student - alone >= WORTH_IT:
        return Html()
    causes = [el("li", el("b", f"{cause}: "), advice) for cause, advice in _causes(run, comparison)]
    if not causes:
        causes = [el("li", "Nothing in this run explains it. --seeds 3 tells whether it is chance.")]
    return section("Why distillation gained little", el("ul", *causes, class_="notes"), note="as far as this run tells")


def _mean(comparison: Comparison, name: str) -> float | None:
    model = comparison.models.get(name)
    return None if model is None else model.mean(comparison.metric)


def _causes(run: RunRecord, comparison: Comparison) -> Iterator[tuple[str, str]]:
    teacher, alone, metric = _mean(comparison, "teacher"), _mean(comparison, "student_alone"), comparison.metric
    if teacher is not None and alone is not None and teacher - alone < ROOM:
        yield (
            f"the teacher is no better than the student alone ({score_name(metric)} {teacher:.4f} against {alone:.4f})",
            "a student can hardly exceed what it learns from; train the teacher longer, or take a better encoder "
            "(encoder.path)",
        )
    rows = [stage.read("tokens", "statistics.json") for stage in run.of_kind("labelled")]
    few = [found["train_rows"] for found in rows if found and found["train_rows"] < FEW_ROWS]
    if few and run.of_kind("soft_labels"):
        yield (
            f"{few[0]:,} rows are few",
            "have more text of the same kind judged (data.soft_labels); it needs no labels",
        )
    elif few and not run.of_kind("unlabelled"):
        yield (
            f"{few[0]:,} rows are few to show what a teacher knows",
            "name text of the same kind without labels (data.unlabelled): the teacher labels it",
        )
    for stage in run.training():
        yield from _causes_in_training(stage)


def _causes_in_training(stage: StageRecord) -> Iterator[tuple[str, str]]:
    """Yield what the losses of a student, or of a teacher that this run fine-tuned, tell."""
    if not (stage.has_teacher() or stage.config.get("encoder")):
        return
    who = "student" if stage.has_teacher() else "teacher"
    if (fall := _fall_at_the_end(stage)) > STILL_FALLING:
        yield (
            f"the {who} has not converged: the loss of {stage.name} fell by {share(fall)} in the last tenth",
            f"train it longer ({stage.name}.train.epochs)",
        )
    if who == "teacher" and (rise := _rise_of_held_out_loss(stage)) > OVERFITTED:
        yield (
            f"the teacher overfitted: its held-out loss ended {share(rise)} above its lowest",
            f"fewer epochs ({stage.name}.train.epochs) or a lower learning rate give predictions that tell more",
        )


def _fall_at_the_end(stage: StageRecord) -> float:
    """Return by which share the mean loss fell from the last tenth but one to the last; 0 where too little is known.

    The learning rate ends at 0, so a loss that still falls then has far to go.
    """
    _, losses = stage.series("train/loss")
    tenth = len(losses) // 10
    if tenth < 1:
        return 0.0
    last, before = losses[-tenth:].mean(), losses[-2 * tenth : -tenth].mean()
    return float(1 - last / before) if before > 0 else 0.0


def _rise_of_held_out_loss(stage: StageRecord) -> float:
    _, losses = stage.series("evaluation/loss")
    return float(losses[-1] / losses.min() - 1) if len(losses) > 1 and losses.min() > 0 else 0.0
