"""Augment labelled text into a folder of rows that training reads."""

from jobs.finetune import ENCODER, FOLLOWS, LABELLED
from kd_dist.config.job import Job
from kd_dist.config.sections.data import AugmentedData, PlainTokenData
from kd_dist.config.stages import AugmentedStage, AugmentStage

JOB = Job(
    name="augment",
    description="augment labelled text as TinyBERT does, as an array of shards",
    stages={
        "labelled": LABELLED,
        "augmentation": AugmentStage(encoder=ENCODER, data=PlainTokenData(tokens="@labelled/tokens")),
        "augmented": AugmentedStage(data=AugmentedData(tokens="@labelled/tokens", shards="@augmentation/shards")),
    },
    result="augmented",
    follows=FOLLOWS,
)
