"""MiniLMv2: distil the attention relations of a pretrained teacher into a small pretrained student on raw text."""

from jobs.tinybert_general import JOB as TINYBERT_GENERAL
from kd_dist.config.job import Job
from kd_dist.config.objectives.relations import RelationsObjective

DISTILL = TINYBERT_GENERAL.stages["distill"].model_copy(update={"objective": RelationsObjective()})

JOB = Job(
    name="minilm",
    description="distil the attention relations of a pretrained teacher into a small student on raw text",
    stages=TINYBERT_GENERAL.stages | {"distill": DISTILL},
    result="distill",
    students_of="distill",
    follows=TINYBERT_GENERAL.follows,
)
