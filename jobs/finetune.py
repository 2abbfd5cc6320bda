"""Fine-tune a pretrained encoder into a classifier on labelled text."""

from jobs.tinybert_general import PRETRAINED
from jobs.tinybert_task import CADENCE, DATA
from kd_dist.config.job import Job
from kd_dist.config.objectives.finetune import FinetuneObjective
from kd_dist.config.sections.data import PlainTokenData, TokenData
from kd_dist.config.sections.evaluation import Evaluate, ReportOptions
from kd_dist.config.sections.models import Encoder, Model, TokenizerSource
from kd_dist.config.sections.training import Selection, Train
from kd_dist.config.stages import EvaluateStage, LabelledStage, ReportStage, ServeStage, TrainStage

ENCODER = Encoder(path=PRETRAINED)
LABELLED = LabelledStage(data=DATA, tokenizer=TokenizerSource(path=PRETRAINED))
FINETUNE = TrainStage(
    encoder=ENCODER,
    data=TokenData(tokens="@labelled/tokens"),
    objective=FinetuneObjective(),
    train=Train(epochs=3, min_steps=900, global_batch_size=32),
    selection=Selection(),
    cadence=CADENCE,
)
FOLLOWS = {
    "encoder.path": ["tokenizer.path"],
    # The encoder becomes a teacher once it is fine-tuned, so `teacher.path` is understood too.
    "teacher.path": ["encoder.path", "tokenizer.path"],
}

JOB = Job(
    name="finetune",
    description="train a classifier from a pretrained encoder, measure and export it",
    stages={
        "labelled": LABELLED,
        "finetune": FINETUNE,
        "evaluation": EvaluateStage(
            evaluate=Evaluate(models={"teacher": "@finetune/export"}), data=PlainTokenData(tokens="@labelled/tokens")
        ),
        "serving": ServeStage(model=Model(path="@finetune/export"), data=PlainTokenData(tokens="@labelled/tokens")),
        "report": ReportStage(page=ReportOptions(stages=["@evaluation", "@serving"])),
    },
    result="serving",
    seeded=["finetune"],
    follows=FOLLOWS,
)
