"""Words or characters: train a small encoder from random weights on words and on characters of the same texts."""

from jobs import textgcn
from jobs.tinybert_task import CADENCE, DATA
from kd_dist.config.job import Job
from kd_dist.config.objectives.finetune import FinetuneObjective
from kd_dist.config.sections.data import PlainTokenData, TokenData
from kd_dist.config.sections.evaluation import Evaluate, ReportOptions
from kd_dist.config.sections.models import Student, TokenizerSource, Vocabulary
from kd_dist.config.sections.training import Selection, Train
from kd_dist.config.stages import AnyStage, EvaluateStage, LabelledStage, ReportStage, TrainStage, VocabularyStage
from kd_dist.errors import UserError

INPUTS = {"words": (Vocabulary(), "word"), "characters": (Vocabulary(words=0), "char")}


def _branch(unit: str, vocabulary: Vocabulary, segment: str) -> dict[str, AnyStage]:
    """Return the stages that train the encoder on one kind of input."""
    data = DATA.model_copy(update={"segment": segment})
    return {
        f"{unit}_vocabulary": VocabularyStage(data=data, vocabulary=vocabulary),
        f"{unit}_labelled": LabelledStage(data=data, tokenizer=TokenizerSource(path=f"@{unit}_vocabulary/tokenizer")),
        unit: TrainStage(
            student=Student(config="bert_3l_192", init="random"),
            data=TokenData(tokens=f"@{unit}_labelled/tokens"),
            objective=FinetuneObjective(),
            train=Train(epochs=10, min_steps=1200, global_batch_size=32),
            selection=Selection(),
            cadence=CADENCE,
        ),
    }


JOB = Job(
    name="granularity",
    description="compare words and characters as the input of the same small encoder, trained from random weights",
    stages={
        **_branch("words", *INPUTS["words"]),
        **_branch("characters", *INPUTS["characters"]),
        "evaluation": EvaluateStage(
            evaluate=Evaluate(models={unit: f"@{unit}/export" for unit in INPUTS}),
            data=PlainTokenData(tokens="@words_labelled/tokens"),
        ),
        "report": ReportStage(page=ReportOptions(stages=["@evaluation"])),
    },
    result="words",
    seeded=list(INPUTS),
)


def adapt(job: Job) -> Job:
    """Leave out a vocabulary by which no rows are cut, as the job `textgcn` does.

    Raises:
        UserError: Both branches would read the same.
    """
    words, characters = (_segment(job.stages[f"{unit}_labelled"]) for unit in INPUTS)
    if words == characters:
        raise UserError(
            f"data.segment={words} cuts the texts of both branches alike, so that nothing is compared: "
            "set words_labelled.data.segment or characters_labelled.data.segment"
        )
    return textgcn.adapt(job)


def _segment(stage: AnyStage) -> str:
    assert isinstance(stage, LabelledStage)
    return stage.data.segment
