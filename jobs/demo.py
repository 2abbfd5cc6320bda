"""Few labels, much text: a pretrained multilingual encoder becomes a teacher, teaches a student, and gets exits."""

from jobs.fastbert import STAGE1
from jobs.finetune import FINETUNE
from jobs.tinybert_task import task_stages, without_rows
from kd_dist.config.job import Job, drop_stages
from kd_dist.config.sections.data import LabelledData, PlainTokenData, UnlabelledData, VocabularyData
from kd_dist.config.sections.models import Encoder, Model, MultilingualEncoder, Student, TokenizerSource
from kd_dist.config.sections.resources import CpuResources
from kd_dist.config.sections.training import Cadence, Optim, Train
from kd_dist.config.stages import (
    AnyStage,
    CalibrateStage,
    CutVocabularyStage,
    EvaluateStage,
    LabelledStage,
    SampleTeacherStage,
    SampleTextStage,
    UnlabelledStage,
)

PRETRAINED = "@pretrained/export"
STUDENT = Student(config="bert_3l_192")
BATCH = {"global_batch_size": 32, "micro_batch_size": 32}  # on two cores one large pass is faster than four small ones
CADENCE = Cadence(log_every_n_steps=10, save_every_n_steps=200, evaluate_every_n_steps=100)
FEW_CORES = CpuResources(cpus=2, timeout_minutes=30)


def _distillation() -> dict[str, AnyStage]:
    """Return the stages of task distillation in minutes: of the prediction alone, for as long as the student alone.

    The rows without labels are prepared before them. Beside it the teacher itself gets exits, which learn from the same
    rows and are measured with the students.
    """
    stages = task_stages(teacher="@finetune/export", donor=PRETRAINED, tokens="@labelled/tokens", student=STUDENT)
    learning = {"student": STUDENT, "train": Train(steps=700, **BATCH), "cadence": CADENCE}
    changed = {name: stages[name].model_copy(update=learning) for name in ("distill", "alone")}
    stages = drop_stages(without_rows(stages | changed, "perturbed"), "layers", "unlabelled")
    return _with_exits(stages)


def _with_exits(stages: dict[str, AnyStage]) -> dict[str, AnyStage]:
    """Return the stages with those that give the teacher exits, before the evaluation, which measures them too."""
    evaluation = stages["evaluation"]
    assert isinstance(evaluation, EvaluateStage)
    measured = evaluation.evaluate.models | {"fastbert": "@calibration/export"}
    evaluate = evaluation.evaluate.model_copy(update={"models": measured})
    exits: dict[str, AnyStage] = {
        "self_distill": STAGE1.model_copy(update={"train": Train(steps=150, **BATCH), "cadence": CADENCE}),
        "calibration": CalibrateStage(
            model=Model(path="@self_distill/export"), data=PlainTokenData(tokens="@labelled/tokens")
        ),
        "evaluation": evaluation.model_copy(update={"evaluate": evaluate}),
    }
    last = ("serving", "report")
    return drop_stages(stages, "evaluation", *last) | exits | {name: stages[name] for name in last}


JOB = Job(
    name="demo",
    description="1,000 labelled reviews, 10,000 without labels and a pretrained encoder become a small classifier",
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
        "unlabelled": UnlabelledStage(
            data=UnlabelledData(unlabelled=["@texts/unlabelled.txt"], tokens="@labelled/tokens"), resources=FEW_CORES
        ),
        "finetune": FINETUNE.model_copy(
            update={
                "encoder": Encoder(path=PRETRAINED),
                "train": Train(steps=200, **BATCH),
                "optim": Optim(learning_rate=1e-4),
                "cadence": CADENCE,
            }
        ),
        **_distillation(),
    },
    result="serving",
    seeded=["distill", "alone"],
)
