"""TinyBERT general distillation: raw text and a pretrained teacher to a small pretrained student."""

from kd_dist.sections import CorpusData, ReportOptions, Student, Teacher, TinyBertObjective, TokenData
from kd_dist.stages import Job, PrepareStage, ReportStage, TrainStage

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
