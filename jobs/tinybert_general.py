"""TinyBERT general distillation: raw text and a pretrained teacher to a small pretrained student."""

from kd_dist.config.job import Job
from kd_dist.config.sections.data import CorpusData, TokenData
from kd_dist.config.sections.evaluation import ReportOptions
from kd_dist.config.sections.models import Student, Teacher
from kd_dist.config.sections.objectives import TinyBertObjective
from kd_dist.config.stages import PrepareStage, ReportStage, TrainStage

TEACHER = Teacher(path="google-bert/bert-base-chinese")

JOB = Job(
    name="tinybert_general",
    description="distil a pretrained teacher's layers into a small student on raw text",
    stages={
        "prepare": PrepareStage(data=CorpusData(corpus=["data/*.txt"]), teacher=TEACHER),
        "distill": TrainStage(
            teacher=TEACHER,
            student=Student(config="tinybert_4l_312"),
            data=TokenData(tokens="@prepare/tokens"),
            objective=TinyBertObjective(),
        ),
        "report": ReportStage(page=ReportOptions(stages=["@distill"])),
    },
    result="distill",
)
