"""Few labels, much text: a pretrained multilingual encoder becomes a teacher of reviews, and then teaches a student."""

from typing import Any

from jobs.finetune import FINETUNE
from jobs.tinybert_task import task_stages, with_equal_training
from kd_dist.config.job import Job
from kd_dist.config.sections.data import LabelledData, VocabularyData
from kd_dist.config.sections.models import Encoder, MultilingualEncoder, Student, TokenizerSource
from kd_dist.config.sections.resources import CpuResources
from kd_dist.config.sections.training import Cadence, Optim, Train
from kd_dist.config.stages import AnyStage, CutVocabularyStage, LabelledStage, SampleTeacherStage, SampleTextStage

PRETRAINED = "@pretrained/export"
CADENCE = Cadence(log_every_n_steps=10, save_every_n_steps=100, evaluate_every_n_steps=50)
FEW_CORES = CpuResources(cpus=2, timeout_minutes=30)


def _shortened(stages: dict[str, AnyStage], **changes: dict[str, Any]) -> dict[str, AnyStage]:
    """Return the stages with `changes` of sections applied, by stage."""
    changed = {name: stages[name].model_copy(update=sections) for name, sections in changes.items()}
    return with_equal_training(stages | changed, given=())[0]


JOB = Job(
    name="demo",
    description="few labels, much text: a pretrained teacher from a package, a student from it; minutes on two cores",
    stages={
        "texts": SampleTextStage(),
        "multilingual": SampleTeacherStage(),
        "pretrained": CutVocabularyStage(
            encoder=MultilingualEncoder(path="@multilingual/encoder"),
            data=VocabularyData(corpus=["@texts/train.tsv", "@texts/validation.tsv", "@texts/unlabelled.txt"]),
            resources=FEW_CORES,
        ),
        "labelled": LabelledStage(
            data=LabelledData(
                train=["@texts/train.tsv"],
                validation=["@texts/validation.tsv"],
                test=["@texts/test.tsv"],
                max_length=40,
            ),
            tokenizer=TokenizerSource(path=PRETRAINED),
            resources=FEW_CORES,
        ),
        "finetune": FINETUNE.model_copy(
            update={
                "encoder": Encoder(path=PRETRAINED),
                "train": Train(epochs=3, global_batch_size=32),
                "optim": Optim(learning_rate=1e-4),
                "cadence": CADENCE,
            }
        ),
        **_shortened(
            task_stages(teacher="@finetune/export", donor=PRETRAINED, tokens="@labelled/tokens", student=Student()),
            layers={"train": Train(epochs=2, global_batch_size=32), "optim": Optim(learning_rate=1e-3)},
            distill={
                "train": Train(epochs=2, global_batch_size=32),
                "optim": Optim(learning_rate=1e-3),
                "cadence": CADENCE,
            },
            alone={"optim": Optim(learning_rate=1e-3), "cadence": CADENCE},
        ),
    },
    result="serving",
    seeded=["layers", "distill", "alone"],
)
