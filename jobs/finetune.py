"""A classifier from a pretrained encoder and labelled text."""

from jobs.tinybert_general import TEACHER
from jobs.tinybert_task import CADENCE, DATA
from kd_dist.sections import (
    Evaluate,
    FinetuneObjective,
    Model,
    Optim,
    PlainTokenData,
    ReportOptions,
    Selection,
    TokenData,
    Train,
)
from kd_dist.stages import EvaluateStage, ExportStage, Job, LabelledStage, ReportStage, TrainStage

FINETUNE = TrainStage(
    teacher=TEACHER,
    data=TokenData(tokens="@prepare/tokens"),
    objective=FinetuneObjective(),
    train=Train(epochs=3, global_batch_size=32),
    optim=Optim(learning_rate=5e-5),
    selection=Selection(),
    cadence=CADENCE,
)

JOB = Job(
    name="finetune",
    description="train a classifier from a pretrained encoder, measure and export it",
    stages={
        "prepare": LabelledStage(data=DATA, teacher=TEACHER),
        "finetune": FINETUNE,
        "evaluation": EvaluateStage(
            evaluate=Evaluate(models={"teacher": "@finetune/export"}), data=PlainTokenData(tokens="@prepare/tokens")
        ),
        "serving": ExportStage(model=Model(path="@finetune/export"), data=PlainTokenData(tokens="@prepare/tokens")),
        "report": ReportStage(page=ReportOptions(stages=["@evaluation", "@serving"])),
    },
    result="serving",
    seeded=["finetune"],
)
