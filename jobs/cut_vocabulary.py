"""Cut the vocabulary of a pretrained model, such as a multilingual one, to the pieces that a corpus uses."""

from kd_dist.config.job import Job
from kd_dist.config.sections.data import VocabularyData
from kd_dist.config.sections.models import MultilingualEncoder
from kd_dist.config.stages import CutVocabularyStage

JOB = Job(
    name="cut_vocabulary",
    description="cut a multilingual model to the pieces that a corpus uses: the same model, a fraction of its size",
    stages={
        "cut": CutVocabularyStage(
            encoder=MultilingualEncoder(path="intfloat/multilingual-e5-small"),
            data=VocabularyData(corpus=["data/*.txt"]),
        ),
    },
    result="cut",
)
