"""The whole pipeline on a small scale: pretrain a teacher, fine-tune it on reviews, distil it into a student."""

from typing import Any

from jobs.tinybert_task import task_stages, with_equal_training
from kd_dist.config.job import Job
from kd_dist.config.objectives.finetune import FinetuneObjective
from kd_dist.config.objectives.mlm import MlmObjective
from kd_dist.config.objectives.tinybert import TinyBertObjective
from kd_dist.config.sections.data import CorpusData, LabelledData, TokenData
from kd_dist.config.sections.models import Encoder, Student, Teacher, Tokenizer, TokenizerSource
from kd_dist.config.sections.resources import CpuResources
from kd_dist.config.sections.training import Cadence, Optim, Selection, Train
from kd_dist.config.stages import AnyStage, CorpusStage, LabelledStage, SampleTextStage, TrainStage

TOKENS = TokenData(tokens="@corpus/tokens")
CADENCE = Cadence(log_every_n_steps=10, save_every_n_steps=100, evaluate_every_n_steps=100)
PRETRAINED, STUDENT = "@pretrain/export", Student(config="bert_tiny_2l_64")


def _shortened(stages: dict[str, AnyStage], **changes: dict[str, Any]) -> dict[str, AnyStage]:
    """Return the stages with `changes` of sections applied, by stage."""
    changed = {name: stages[name].model_copy(update=sections) for name, sections in changes.items()}
    return with_equal_training(stages | changed, given=())[0]


JOB = Job(
    name="demo",
    description="pretrain a teacher on Chinese text, fine-tune it on reviews, distil it; minutes on two cores",
    stages={
        "texts": SampleTextStage(),
        "corpus": CorpusStage(
            data=CorpusData(corpus=["@texts/texts"], max_length=64, word_starts=True),
            tokenizer=Tokenizer(vocabulary_size=6000),
            resources=CpuResources(cpus=2, timeout_minutes=30),
        ),
        "pretrain": TrainStage(
            student=Student(config="bert_tiny_4l_128"),
            data=TOKENS,
            objective=MlmObjective(whole_word_masking=True),
            train=Train(steps=220, global_batch_size=64),
            optim=Optim(learning_rate=1e-3),
            cadence=CADENCE,
        ),
        "general": TrainStage(
            teacher=Teacher(path=PRETRAINED),
            student=STUDENT,
            data=TOKENS,
            objective=TinyBertObjective(),
            train=Train(steps=120, global_batch_size=64),
            optim=Optim(learning_rate=1e-3),
            cadence=CADENCE,
        ),
        "labelled": LabelledStage(
            data=LabelledData(train=["@texts/reviews.tsv"], max_length=64, max_rows=3000),
            tokenizer=TokenizerSource(path=PRETRAINED),
            resources=CpuResources(cpus=2, timeout_minutes=30),
        ),
        "finetune": TrainStage(
            encoder=Encoder(path=PRETRAINED),
            data=TokenData(tokens="@labelled/tokens"),
            objective=FinetuneObjective(),
            train=Train(epochs=2, global_batch_size=32),
            optim=Optim(learning_rate=5e-4),
            selection=Selection(),
            cadence=CADENCE,
        ),
        **_shortened(
            task_stages(
                teacher="@finetune/export",
                donor=PRETRAINED,
                tokens="@labelled/tokens",
                student=Student(path="@general/export"),
            ),
            layers={"train": Train(epochs=2, global_batch_size=32), "optim": Optim(learning_rate=1e-3)},
            distill={
                "train": Train(epochs=2, global_batch_size=32),
                "optim": Optim(learning_rate=1e-3),
                "cadence": CADENCE,
            },
            alone={"student": STUDENT, "optim": Optim(learning_rate=1e-3), "cadence": CADENCE},
        ),
    },
    result="serving",
    seeded=["layers", "distill", "alone"],
)
