"""Pretrain an encoder by masked language modelling: from scratch where none is available, or a given one further."""

from kd_dist.config.job import Job
from kd_dist.config.objectives.mlm import MlmObjective
from kd_dist.config.sections.data import CorpusData, TokenData
from kd_dist.config.sections.evaluation import ReportOptions
from kd_dist.config.sections.models import Student
from kd_dist.config.stages import CorpusStage, ReportStage, TrainStage

JOB = Job(
    name="pretrain",
    description="train an encoder on raw text by masked language modelling",
    stages={
        "corpus": CorpusStage(data=CorpusData(corpus=["data/*.txt"])),
        "pretrain": TrainStage(
            student=Student(config="bert_base"),
            data=TokenData(tokens="@corpus/tokens"),
            objective=MlmObjective(),
        ),
        "report": ReportStage(page=ReportOptions(stages=["@pretrain"])),
    },
    result="pretrain",
    follows={"student.path": ["tokenizer.path"]},
)
