"""FastBERT: train a classifier with early exit from a pretrained encoder and labelled texts."""

from jobs.finetune import FINETUNE, FOLLOWS, LABELLED
from kd_dist.config.job import Job, drop_stages, replace_wire
from kd_dist.config.objectives.fastbert import FastBertObjective
from kd_dist.config.sections.data import PlainTokenData, TokenData, UnlabelledData
from kd_dist.config.sections.evaluation import Evaluate, Guards, ReportOptions
from kd_dist.config.sections.models import Model
from kd_dist.config.sections.training import Train
from kd_dist.config.stages import (
    AnyStage,
    CalibrateStage,
    EvaluateStage,
    ReportStage,
    TrainStage,
    UnlabelledStage,
)

STAGE1 = TrainStage(
    model=Model(path="@check/model"),
    data=TokenData(tokens="@unlabelled/tokens"),
    objective=FastBertObjective(),
    train=Train(epochs=3, global_batch_size=32),
)

JOB = Job(
    name="fastbert",
    description="fine-tune an encoder, train a branch after each layer, and calibrate the exits",
    stages={
        "labelled": LABELLED,
        "unlabelled": UnlabelledStage(data=UnlabelledData(tokens="@labelled/tokens")),
        "finetune": FINETUNE,
        "check": EvaluateStage(
            evaluate=Evaluate(models={"teacher": "@finetune/export"}, split="validation", speed=False),
            data=PlainTokenData(tokens="@labelled/tokens"),
            guards=Guards(),
        ),
        "self_distill": STAGE1,
        "calibration": CalibrateStage(
            model=Model(path="@self_distill/export"), data=PlainTokenData(tokens="@labelled/tokens")
        ),
        "evaluation": EvaluateStage(
            evaluate=Evaluate(
                models={"teacher": "@check/model", "fastbert": "@calibration/export"},
                speeds=[0, 0.1, 0.3, 0.5, 0.8, 1.0],
            ),
            data=PlainTokenData(tokens="@labelled/tokens"),
        ),
        "report": ReportStage(page=ReportOptions(stages=["@evaluation"])),
    },
    result="calibration",
    seeded=["self_distill", "calibration"],
    follows=FOLLOWS,
)


def adapt(job: Job) -> Job:
    """Leave out the stages that the settings make unnecessary, and note why."""
    stages, notes = job.stages, []
    unlabelled, calibration = stages["unlabelled"], stages["calibration"]
    assert isinstance(unlabelled, UnlabelledStage)
    assert isinstance(calibration, CalibrateStage)
    names_classifier = "finetune" not in stages["check"].inputs()
    if "self_distill" not in calibration.inputs():
        stages = drop_stages(stages, "self_distill", "unlabelled")
        notes.append(
            f"no self-distillation, and data.unlabelled is not read: {calibration.model.path} already has branches"
        )
        if not names_classifier:
            stages = _without_teacher(stages)
            notes.append(
                "it is compared with its own final classifier; set check.evaluate.models to compare with another"
            )
    elif not unlabelled.data.unlabelled:
        stages = drop_stages(replace_wire(stages, "@unlabelled/tokens", by="@labelled/tokens"), "unlabelled")
        notes.append("branches learn from the training texts; set data.unlabelled to use others")
    if names_classifier:
        stages = drop_stages(stages, "finetune")
        notes.append("no fine-tuning: check.evaluate.models is a trained classifier")
    return job.adapted(stages, notes)


def _without_teacher(stages: dict[str, AnyStage]) -> dict[str, AnyStage]:
    """Return the stages without those that train, check and measure a teacher beside the model with branches."""
    evaluation = stages["evaluation"]
    assert isinstance(evaluation, EvaluateStage)
    models = {name: path for name, path in evaluation.evaluate.models.items() if path != "@check/model"}
    evaluate = evaluation.evaluate.model_copy(update={"models": models})
    changed = {"evaluation": evaluation.model_copy(update={"evaluate": evaluate})}
    return drop_stages(stages | changed, "finetune", "check")
