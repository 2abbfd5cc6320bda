"""TinyBERT's general distillation: distil a pretrained teacher into a small pretrained student on raw text."""

from kd_dist.config.job import Job
from kd_dist.config.objectives.tinybert import TinyBertObjective
from kd_dist.config.sections.data import CorpusData, TokenData
from kd_dist.config.sections.evaluation import ReportOptions
from kd_dist.config.sections.models import Student, Teacher, Tokenizer
from kd_dist.config.stages import CorpusStage, ReportStage, TrainStage

PRETRAINED = "google-bert/bert-base-chinese"

JOB = Job(
    name="tinybert_general",
    description="distil a pretrained teacher's layers into a small student on raw text",
    stages={
        "corpus": CorpusStage(data=CorpusData(corpus=["data/*.txt"]), tokenizer=Tokenizer(path=PRETRAINED)),
        "distill": TrainStage(
            teacher=Teacher(path=PRETRAINED),
            student=Student(config="tinybert_4l_312"),
            data=TokenData(tokens="@corpus/tokens"),
            objective=TinyBertObjective(),
        ),
        "report": ReportStage(page=ReportOptions(stages=["@distill"])),
    },
    result="distill",
    students_of="distill",
    follows={"teacher.path": ["tokenizer.path"]},
)
