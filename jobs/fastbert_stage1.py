"""FastBERT's self-distillation alone: train branches of a classifier on any amount of text without labels."""

from jobs.fastbert import STAGE1
from kd_dist.config.job import Job
from kd_dist.config.sections.data import UnlabelledData
from kd_dist.config.sections.evaluation import ReportOptions
from kd_dist.config.sections.models import Model
from kd_dist.config.stages import ReportStage, UnlabelledStage

MODEL = Model(path="model")

JOB = Job(
    name="fastbert_stage1",
    description="train early exits of a trained classifier on texts without labels",
    stages={
        "unlabelled": UnlabelledStage(data=UnlabelledData(), model=MODEL),
        "self_distill": STAGE1.model_copy(update={"model": MODEL}),
        "report": ReportStage(page=ReportOptions(stages=["@self_distill"])),
    },
    result="self_distill",
)
