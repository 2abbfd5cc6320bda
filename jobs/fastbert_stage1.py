"""FastBERT's stage 1 by itself: branches for a trained classifier, from any amount of text without labels."""

from jobs.fastbert import STAGE1
from kd_dist.config.job import Job
from kd_dist.config.sections.data import UnlabelledData
from kd_dist.config.sections.evaluation import ReportOptions
from kd_dist.config.sections.models import Model
from kd_dist.config.stages import ReportStage, UnlabelledStage

MODEL = Model(path="model")

JOB = Job(
    name="fastbert_stage1",
    description="teach the layers of a trained classifier to exit early, on texts without labels",
    stages={
        "unlabelled": UnlabelledStage(data=UnlabelledData(), model=MODEL),
        "self_distill": STAGE1.model_copy(update={"model": MODEL}),
        "report": ReportStage(page=ReportOptions(stages=["@self_distill"])),
    },
    result="self_distill",
)
