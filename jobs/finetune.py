"""A classifier from a pretrained encoder and labelled text."""

from jobs.tinybert_general import TEACHER
from jobs.tinybert_task import CADENCE, DATA
from kd_dist.config.job import Job
from kd_dist.config.sections.data import PlainTokenData, TokenData
from kd_dist.config.sections.evaluation import Evaluate, ReportOptions
from kd_dist.config.sections.models import Model
from kd_dist.config.sections.objectives import FinetuneObjective
from kd_dist.config.sections.training import Optim, Selection, Train
from kd_dist.config.stages import EvaluateStage, ExportStage, LabelledStage, ReportStage, TrainStage

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
