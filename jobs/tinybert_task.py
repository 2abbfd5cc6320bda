"""TinyBERT task distillation: a fine-tuned teacher and labelled texts to a small classifier."""

from kd_dist.config.job import Job
from kd_dist.config.sections.data import LabelledData, PlainTokenData, TokenData
from kd_dist.config.sections.evaluation import Evaluate, Guards, ReportOptions
from kd_dist.config.sections.models import Model, Student, Teacher
from kd_dist.config.sections.objectives import FinetuneObjective, SoftLabelsObjective, TinyBertObjective
from kd_dist.config.sections.training import Cadence, Optim, Selection, Train
from kd_dist.config.stages import (
    AnyStage,
    EvaluateStage,
    ExportStage,
    LabelledStage,
    ReportStage,
    TeacherOutputsStage,
    TrainStage,
)
from kd_dist.errors import UserError

DATA = LabelledData(train=["data/train.tsv"])
CADENCE = Cadence(evaluate_every_n_steps=200)
COMPARED = ("layers", "distill", "alone")
LENGTH = ("steps", "epochs", "global_batch_size")  # what decides how long a training is


def task_stages(*, base: Teacher, teacher: str, tokens: str, student: Student) -> dict[str, AnyStage]:
    """From a trained classifier, `teacher`, to a student that is measured, exported and shown.

    `tokens` are the rows to distil on and `student` where distillation starts; `@prepare/tokens` holds the rows to
    score. `base` is only there for a student that is to be made of its layers.
    """
    checked = Teacher(path="@check/model")
    return {
        "check": EvaluateStage(
            evaluate=Evaluate(models={"teacher": teacher}, split="validation", speed=False),
            data=PlainTokenData(tokens="@prepare/tokens"),
            guards=Guards(),
        ),
        "outputs": TeacherOutputsStage(teacher=checked, data=PlainTokenData(tokens=tokens)),
        "layers": TrainStage(
            teacher=checked,
            student=student,
            data=TokenData(tokens=tokens),
            objective=TinyBertObjective(),
            train=Train(epochs=5, global_batch_size=32),
            optim=Optim(learning_rate=1e-4),
        ),
        "distill": TrainStage(
            teacher=checked,
            student=Student(path="@layers/export"),
            data=TokenData(tokens=tokens, teacher_outputs="@outputs/outputs"),
            objective=SoftLabelsObjective(),
            train=Train(epochs=3, global_batch_size=32),
            optim=Optim(learning_rate=5e-5),
            selection=Selection(),
            cadence=CADENCE,
        ),
        "alone": TrainStage(
            teacher=base,
            student=Student(),
            data=TokenData(tokens=tokens),
            objective=FinetuneObjective(),
            train=Train(epochs=8, global_batch_size=32),
            optim=Optim(learning_rate=1e-4),
            selection=Selection(),
            cadence=CADENCE,
        ),
        "evaluation": EvaluateStage(
            evaluate=Evaluate(
                models={"teacher": "@check/model", "student_alone": "@alone/export", "student": "@distill/export"}
            ),
            data=PlainTokenData(tokens="@prepare/tokens"),
        ),
        "serving": ExportStage(model=Model(path="@distill/export"), data=PlainTokenData(tokens="@prepare/tokens")),
        "report": ReportStage(page=ReportOptions(stages=["@evaluation", "@serving"])),
    }


def with_equal_training(
    stages: dict[str, AnyStage], defaults: dict[str, AnyStage]
) -> tuple[dict[str, AnyStage], list[str]]:
    """The student without distillation is trained for as long as both stages of distillation together; and notes.

    `defaults` are the stages as the job's file has them: a length that was set for `alone` stays, and is noted.

    Raises:
        UserError: the lengths of the two stages have no sum, and none was set for `alone`.
    """
    layers, distill, alone = (_train_of(stages, name) for name in COMPARED)
    if own := [key for key in LENGTH if _is_set_for_alone(key, stages, defaults)]:
        given = ", ".join(f"alone.train.{key}={getattr(alone, key)}" for key in own)
        return stages, [f"the student without distillation is trained for a length of its own: {given}"]
    unit, other = _unit(layers), _unit(distill)
    if unit != other:
        raise UserError(_no_sum(layers, unit, distill, other))
    if layers.global_batch_size != distill.global_batch_size:
        raise UserError(_no_sum(layers, "global_batch_size", distill, "global_batch_size"))
    length = {unit: getattr(layers, unit) + getattr(distill, unit), "global_batch_size": layers.global_batch_size}
    train = alone.model_copy(update=length)
    return stages | {"alone": stages["alone"].model_copy(update={"train": train})}, []


def _train_of(stages: dict[str, AnyStage], name: str) -> Train:
    stage = stages[name]
    assert isinstance(stage, TrainStage)
    return stage.train


def _unit(train: Train) -> str:
    return "epochs" if train.steps is None else "steps"


def _is_set_for_alone(key: str, stages: dict[str, AnyStage], defaults: dict[str, AnyStage]) -> bool:
    """Whether a length is neither the default one nor one that a key without a stage gave to all three."""
    now, before = ({name: getattr(_train_of(which, name), key) for name in COMPARED} for which in (stages, defaults))
    like_alone = {name for name in COMPARED if now[name] == now["alone"] != before[name]}
    given_to_all = len(like_alone) > 1 and None not in now.values()
    return "alone" in like_alone and not given_to_all


def _no_sum(layers: Train, key: str, distill: Train, other: str) -> str:
    return (
        "the student without distillation is to be trained for as long as layers and distill together, but "
        f"layers.train.{key}={getattr(layers, key)} and distill.train.{other}={getattr(distill, other)} have no sum "
        "before the rows are counted: give both the same unit and batch size, or set alone.train.steps=N yourself"
    )


def start_of_the_student_alone(stages: dict[str, AnyStage]) -> str:
    """What the distilled student is compared with, for the user to know."""
    alone = stages["alone"]
    assert isinstance(alone, TrainStage)
    assert alone.student is not None
    layers = alone.student.teacher_layers
    start = alone.student.path or (f"the teacher's layers {layers}" if layers else "random weights")
    return f"the student without distillation starts from {start} (alone.student.path)"


TEACHER = Teacher(path="teacher")

JOB = Job(
    name="tinybert_task",
    description="distil a fine-tuned teacher into a small classifier on labelled text",
    stages={
        "prepare": LabelledStage(data=DATA, teacher=TEACHER),
        **task_stages(base=TEACHER, teacher="teacher", tokens="@prepare/tokens", student=Student()),
    },
    result="serving",
    seeded=["layers", "distill", "alone"],
)


def adapt(job: Job) -> Job:
    """Train both students for as long, and check the teacher that is named."""
    stages, notes = with_equal_training(_with_checked_teacher(job.stages), JOB.stages)
    return job.model_copy(update={"stages": stages, "notes": [start_of_the_student_alone(stages), *notes]})


def _with_checked_teacher(stages: dict[str, AnyStage]) -> dict[str, AnyStage]:
    """`teacher.path` is what distillation starts from, unless `check.evaluate.models` names another classifier."""
    prepare, check, default = stages["prepare"], stages["check"], JOB.stages["check"]
    assert isinstance(prepare, LabelledStage)
    assert isinstance(check, EvaluateStage)
    assert isinstance(default, EvaluateStage)
    if check.evaluate.models != default.evaluate.models:
        return stages
    evaluate = check.evaluate.model_copy(update={"models": {"teacher": prepare.teacher.path}})
    return stages | {"check": check.model_copy(update={"evaluate": evaluate})}
