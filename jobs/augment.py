"""More labelled texts out of those there are, as a folder that training reads."""

from jobs.tinybert_general import TEACHER
from jobs.tinybert_task import DATA
from kd_dist.config.job import Job
from kd_dist.config.sections.data import AugmentedData, PlainTokenData
from kd_dist.config.stages import AugmentedStage, AugmentStage, LabelledStage

JOB = Job(
    name="augment",
    description="TinyBERT's data augmentation of labelled text, as an array of shards",
    stages={
        "prepare": LabelledStage(data=DATA, teacher=TEACHER),
        "augmentation": AugmentStage(teacher=TEACHER, data=PlainTokenData(tokens="@prepare/tokens")),
        "augmented": AugmentedStage(data=AugmentedData(tokens="@prepare/tokens", shards="@augmentation/shards")),
    },
    result="augmented",
)
