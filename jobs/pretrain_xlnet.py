"""Train a pretrained XLNet further on raw text by permutation language modelling, before it is fine-tuned."""

from kd_dist.config.job import Job
from kd_dist.config.objectives.permutation import PermutationObjective
from kd_dist.config.sections.data import CorpusData, TokenData
from kd_dist.config.sections.evaluation import ReportOptions
from kd_dist.config.sections.models import Student, Tokenizer
from kd_dist.config.stages import CorpusStage, ReportStage, TrainStage

XLNET = "hfl/chinese-xlnet-base"

JOB = Job(
    name="pretrain_xlnet",
    description="train a pretrained XLNet further on raw text by permutation language modelling",
    stages={
        "corpus": CorpusStage(data=CorpusData(corpus=["data/*.txt"]), tokenizer=Tokenizer(path=XLNET)),
        "pretrain": TrainStage(
            student=Student(path=XLNET),
            data=TokenData(tokens="@corpus/tokens"),
            objective=PermutationObjective(),
        ),
        "report": ReportStage(page=ReportOptions(stages=["@pretrain"])),
    },
    result="pretrain",
    follows={"student.path": ["tokenizer.path"]},
)
