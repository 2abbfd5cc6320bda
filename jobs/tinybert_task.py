"""TinyBERT task distillation: a fine-tuned teacher and labelled texts to a small classifier."""

from kd_dist.sections import (
    Cadence,
    Evaluate,
    FinetuneObjective,
    Guards,
    LabelledData,
    Model,
    Optim,
    PlainTokenData,
    ReportOptions,
    Selection,
    SoftLabelsObjective,
    Student,
    Teacher,
    TinyBertObjective,
    TokenData,
    Train,
)
from kd_dist.stages import (
    AnyStage,
    EvaluateStage,
    ExportStage,
    Job,
    LabelledStage,
    ReportStage,
    TeacherOutputsStage,
    TrainStage,
)

DATA = LabelledData(train=["data/train.tsv"])
CADENCE = Cadence(evaluate_every_n_steps=200)


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


def with_equal_training(stages: dict[str, AnyStage]) -> dict[str, AnyStage]:
    """The student without distillation is trained for as long as both stages of distillation together."""
    alone, layers, distill = (stages[name] for name in ("alone", "layers", "distill"))
    assert isinstance(alone, TrainStage)
    assert isinstance(layers, TrainStage)
    assert isinstance(distill, TrainStage)
    steps = None
    if layers.train.steps is not None and distill.train.steps is not None:
        steps = layers.train.steps + distill.train.steps
    epochs = layers.train.epochs + distill.train.epochs
    train = alone.train.model_copy(update={"epochs": epochs, "steps": steps})
    return stages | {"alone": alone.model_copy(update={"train": train})}


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
    """The teacher that is named is the one to be checked."""
    prepare, check = job.stages["prepare"], job.stages["check"]
    assert isinstance(prepare, LabelledStage)
    assert isinstance(check, EvaluateStage)
    evaluate = check.evaluate.model_copy(update={"models": {"teacher": prepare.teacher.path}})
    stages = with_equal_training(job.stages | {"check": check.model_copy(update={"evaluate": evaluate})})
    return job.model_copy(update={"stages": stages, "notes": [start_of_the_student_alone(stages)]})
