"""Masked language modelling from scratch: makes a teacher where none is to be had."""

from kd_dist.sections import CorpusData, MlmObjective, ReportOptions, Student, TokenData, Tokenizer
from kd_dist.stages import Job, PrepareStage, ReportStage, TrainStage

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
