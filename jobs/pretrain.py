"""Masked language modelling from scratch: makes a teacher where none is to be had."""

from kd_dist.config.job import Job
from kd_dist.config.sections.data import CorpusData, TokenData
from kd_dist.config.sections.evaluation import ReportOptions
from kd_dist.config.sections.models import Student, Tokenizer
from kd_dist.config.sections.objectives import MlmObjective
from kd_dist.config.stages import PrepareStage, ReportStage, TrainStage

JOB = Job(
    name="pretrain",
    description="train an encoder on raw text by masked language modelling",
    stages={
        "prepare": PrepareStage(data=CorpusData(corpus=["data/*.txt"]), tokenizer=Tokenizer()),
        "pretrain": TrainStage(
            student=Student(config="bert_base"),
            data=TokenData(tokens="@prepare/tokens"),
            objective=MlmObjective(),
        ),
        "report": ReportStage(page=ReportOptions(stages=["@pretrain"])),
    },
    result="pretrain",
)
