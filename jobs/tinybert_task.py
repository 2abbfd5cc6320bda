"""TinyBERT's task distillation: distil a fine-tuned teacher into a small classifier on labelled text."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kd_dist.config.job import Job, drop_stages
from kd_dist.config.objectives.finetune import FinetuneObjective
from kd_dist.config.objectives.soft_labels import SoftLabelsObjective
from kd_dist.config.objectives.tinybert import TinyBertObjective
from kd_dist.config.sections.base import Section
from kd_dist.config.sections.data import (
    DistillationData,
    LabelledData,
    PlainTokenData,
    TokenData,
    UnlabelledData,
)
from kd_dist.config.sections.evaluation import Evaluate, Guards, ReportOptions
from kd_dist.config.sections.models import Donor, Model, Student, Teacher, TokenizerSource
from kd_dist.config.sections.training import Cadence, Selection, Train
from kd_dist.config.stages import (
    AnyStage,
    EvaluateStage,
    LabelledStage,
    PerturbedStage,
    ReportStage,
    ServeStage,
    TeacherOutputsStage,
    TrainStage,
    UnlabelledStage,
)
from kd_dist.errors import UserError
from kd_dist.model_files.model_folders import read_manifest

DATA = LabelledData(train=["data/train.tsv"])
CADENCE = Cadence(evaluate_every_n_steps=200)
OF_LAYERS = {
    f"objective.{key}" for key in TinyBertObjective.model_fields.keys() - SoftLabelsObjective.model_fields.keys()
}
LENGTH = ("steps", "epochs", "min_steps", "global_batch_size")  # the settings that decide how long training takes


def task_stages(*, teacher: str, donor: str, tokens: str, student: Student) -> dict[str, AnyStage]:
    """Return the stages that distil a trained classifier into a student, and measure, export and report it.

    Args:
        teacher: The trained classifier, a path or a wire.
        donor: The model whose weights both students start from, a path or a wire.
        tokens: The rows to distil on, a wire; the rows to score are those of `@labelled/tokens`.
        student: The initial student.
    """
    checked = Teacher(path="@check/model")
    rows = {"tokens": tokens, "unlabelled_tokens": ["@unlabelled/tokens", "@perturbed/tokens"]}
    return {
        "unlabelled": UnlabelledStage(data=UnlabelledData(tokens="@labelled/tokens")),
        "perturbed": PerturbedStage(data=PlainTokenData(tokens="@labelled/tokens")),
        "check": EvaluateStage(
            evaluate=Evaluate(models={"teacher": teacher}, split="validation", speed=False),
            data=PlainTokenData(tokens="@labelled/tokens"),
            guards=Guards(),
        ),
        "outputs": TeacherOutputsStage(teacher=checked, data=DistillationData(**rows)),
        **_students(checked, donor, rows, student),
        "evaluation": EvaluateStage(
            evaluate=Evaluate(
                models={"teacher": "@check/model", "student_alone": "@alone/export", "student": "@distill/export"}
            ),
            data=PlainTokenData(tokens="@labelled/tokens"),
        ),
        "serving": ServeStage(model=Model(path="@distill/export"), data=PlainTokenData(tokens="@labelled/tokens")),
        "report": ReportStage(page=ReportOptions(stages=["@evaluation", "@serving"])),
    }


def _students(teacher: Teacher, donor: str, rows: dict[str, Any], student: Student) -> dict[str, AnyStage]:
    """Return the stages that train the student, with distillation in two steps and without."""
    return {
        "layers": TrainStage(
            teacher=teacher,
            student=student,
            donor=Donor(path=donor),
            data=TokenData(**rows),
            objective=TinyBertObjective(),
            train=Train(epochs=4, min_steps=400, global_batch_size=32),
        ),
        "distill": TrainStage(
            teacher=teacher,
            student=Student(path="@layers/export"),
            data=TokenData(**rows, teacher_outputs="@outputs/outputs"),
            objective=SoftLabelsObjective(hard_weight=1.0),  # rows without a label have the teacher's prediction alone
            train=Train(epochs=3, min_steps=1200, global_batch_size=32),
            selection=Selection(),
            cadence=CADENCE,
        ),
        "alone": TrainStage(
            student=Student(),
            donor=Donor(path=donor),
            data=TokenData(tokens=rows["tokens"]),
            objective=FinetuneObjective(),
            train=Train(epochs=6, min_steps=1200, global_batch_size=32),
            selection=Selection(),
            cadence=CADENCE,
        ),
    }


def with_equal_training(stages: dict[str, AnyStage], given: Iterable[str]) -> tuple[dict[str, AnyStage], list[str]]:
    """Train the student without distillation for as long as the stages of distillation together.

    It has about half the rows where distillation has perturbed ones too, so it gets twice the epochs.

    Args:
        stages: The stages, with `distill`, `alone` and perhaps `layers` among them.
        given: The keys that the user set; a length set for `alone` is kept.

    Returns:
        The stages, and a note where the length of `alone` was kept.

    Raises:
        UserError: The lengths of two stages cannot be added, and none is given for `alone`.
    """
    of_distillation: dict[str, Train] = {
        name: _train_of(stages, name) for name in ("layers", "distill") if name in stages
    }
    trains, alone = list(of_distillation.values()), _train_of(stages, "alone")
    own = [key for key in LENGTH if f"alone.train.{key}" in given]
    if own == ["global_batch_size"] and len({train.global_batch_size for train in (*trains, alone)}) == 1:
        own = []  # it is what the stage gets without being set
    if own:
        shown = ", ".join(f"alone.train.{key}={getattr(alone, key)}" for key in own)
        return stages, [f"the student without distillation is not trained for as long as the distilled one: {shown}"]
    units = {name: _unit(train) for name, train in of_distillation.items()}
    if len(set(units.values())) > 1:
        raise UserError(_no_sum(of_distillation, units))
    if len({train.global_batch_size for train in trains}) > 1:
        raise UserError(_no_sum(of_distillation, dict.fromkeys(units, "global_batch_size")))
    unit = _unit(trains[0])
    length = {key: sum(getattr(train, key) for train in trains) for key in (unit, "min_steps")}
    if unit == "epochs" and "perturbed" in stages:
        length["epochs"] *= 2
    train = alone.model_copy(update=length | {"global_batch_size": trains[0].global_batch_size})
    return stages | {"alone": stages["alone"].model_copy(update={"train": train})}, []


def without_layers(stages: dict[str, AnyStage], given: Iterable[str]) -> tuple[dict[str, AnyStage], list[str]]:
    """Leave out layer distillation for a student that no stage or user has trained, unless a setting asks for it.

    Such a student learns as well by prediction alone in the same time, or better (docs/what_distillation_buys.md).

    Args:
        stages: The stages, with `distill` and perhaps `layers` among them.
        given: The keys that the user set.

    Returns:
        The stages, and a note where `layers` was left out.
    """
    layers = stages.get("layers")
    if layers is None:
        return stages, []
    assert isinstance(layers, TrainStage)
    assert layers.student is not None
    asked = any(key.startswith("layers.") or key in OF_LAYERS for key in given)
    if asked or (reason := _nothing_to_compare(layers.student)) is None:
        return stages, []
    distill = stages["distill"]
    assert isinstance(distill, TrainStage)
    student = with_given(layers.student, distill.student, "distill.student.", given)
    donor = with_given(layers.donor, distill.donor, "distill.donor.", given)
    distill = distill.model_copy(update={"student": student, "donor": donor})
    note = f"no layer distillation: the student starts {reason} (layers.train.epochs=4 asks for it)"
    return drop_stages(stages | {"distill": distill}, "layers"), [note]


def _nothing_to_compare(student: Student) -> str | None:
    """Return how a student starts whose layers are not to become those of the teacher; None for another one.

    Layers that were taught relations alone have states of their own, and lose what they know before they have others.
    """
    if student.path is not None and read_manifest(Path(student.path).expanduser()).get("job") == "minilm":
        return "with layers that were taught relations"
    has_layers = student.path is not None or student.teacher_layers is not None
    return None if has_layers else f"from {student.init} weights"


def with_given(taken: Any, own: Any, prefix: str, given: Iterable[str]) -> Any:
    """Return a section that a stage takes from another one, with the values that the user gave the stage itself.

    Args:
        taken: The section of the other stage; None if it has none.
        own: That of the stage.
        prefix: `stage.section.` of the stage.
        given: The keys that the user set.
    """
    if taken is None or own is None:
        return taken
    keys = [key for key in type(own).model_fields if f"{prefix}{key}" in given]
    return taken.model_copy(update={key: getattr(own, key) for key in keys})


def without_unwanted_rows(stages: dict[str, AnyStage], given: Iterable[str]) -> tuple[dict[str, AnyStage], list[str]]:
    """Leave out rows without labels that are not there, or do not help.

    Those of texts where `data.unlabelled` names none, and perturbed ones where no row is to be perturbed, or where a
    text may have several labels and the student starts with layers of the teacher: by perturbed rows it learns to miss
    rare labels. A student without those layers gains by them all the same (docs/what_distillation_buys.md).

    Args:
        stages: The stages, with `labelled`, `unlabelled`, `perturbed`, `distill` and perhaps `layers` among them.
        given: The keys that the user set; perturbed rows that they ask for are kept.

    Returns:
        The stages, and a note where several labels are the reason.
    """
    labelled, unlabelled, perturbed = (stages[name] for name in ("labelled", "unlabelled", "perturbed"))
    assert isinstance(labelled, LabelledStage)
    assert isinstance(unlabelled, UnlabelledStage)
    assert isinstance(perturbed, PerturbedStage)
    asked = any("perturb." in key for key in given)
    needless = labelled.data.task == "multi_label" and _starts_with_layers_of_the_teacher(stages) and not asked
    names = [] if unlabelled.data.unlabelled else ["unlabelled"]
    names += ["perturbed"] if needless or not perturbed.perturb.copies else []
    note = (
        f"no perturbed rows: a text may have several labels (perturb.copies={perturbed.perturb.copies} asks for them)"
    )
    return without_rows(stages, *names), [note] if needless else []


def _starts_with_layers_of_the_teacher(stages: dict[str, AnyStage]) -> bool:
    first = stages.get("layers", stages["distill"])
    assert isinstance(first, TrainStage)
    student = first.student
    return student is not None and student.path is None and student.init == "pruned"


def without_rows(stages: dict[str, AnyStage], *names: str) -> dict[str, AnyStage]:
    """Leave out stages that make rows without labels, and the rows they make."""
    wires = {f"@{name}/tokens" for name in names}

    def without(_: str, section: Section) -> Section:
        if not isinstance(section, DistillationData):
            return section
        kept = [wire for wire in section.unlabelled_tokens if wire not in wires]
        return section.model_copy(update={"unlabelled_tokens": kept})

    return drop_stages({name: stage.with_sections(without) for name, stage in stages.items()}, *names)


def _train_of(stages: dict[str, AnyStage], name: str) -> Train:
    stage = stages[name]
    assert isinstance(stage, TrainStage)
    return stage.train


def _unit(train: Train) -> str:
    return "epochs" if train.steps is None else "steps"


def _no_sum(trains: dict[str, Train], keys: dict[str, str]) -> str:
    shown = " and ".join(f"{name}.train.{keys[name]}={getattr(train, keys[name])}" for name, train in trains.items())
    return (
        f"the student without distillation is trained for as long as layers and distill together, but {shown} cannot "
        "be added before the rows are counted: give both the same unit and batch size, or set alone.train.steps=N"
    )


def start_of_the_student_alone(stages: dict[str, AnyStage]) -> str:
    """Return a note about the initial weights of the student without distillation."""
    alone = stages["alone"]
    assert isinstance(alone, TrainStage)
    assert alone.student is not None
    start = alone.student.path or "random weights"
    if donor := alone.initialized_from():
        start = f"the weights of {donor}, {alone.student.init}"
    elif alone.student.path is None and (layers := alone.student.teacher_layers):
        start = f"layers {layers} of {alone.donor_path()}"
    return f"the student without distillation starts from {start} (alone.student.path)"


TEACHER = "teacher"

JOB = Job(
    name="tinybert_task",
    description="distil a fine-tuned teacher into a small classifier on labelled text",
    stages={
        "labelled": LabelledStage(data=DATA, tokenizer=TokenizerSource(path=TEACHER)),
        **task_stages(teacher=TEACHER, donor=TEACHER, tokens="@labelled/tokens", student=Student()),
    },
    result="serving",
    seeded=["layers", "distill", "alone"],
    follows={"teacher.path": ["tokenizer.path", "donor.path"]},
)


def adapt(job: Job) -> Job:
    """Train both students for equally long, and check the teacher that the user gave."""
    stages, of_rows = without_unwanted_rows(_with_checked_teacher(job), job.given)
    stages, of_layers = without_layers(stages, job.given)
    stages, of_length = with_equal_training(stages, job.given)
    return job.adapted(stages, [start_of_the_student_alone(stages), *of_rows, *of_layers, *of_length])


def _with_checked_teacher(job: Job) -> dict[str, AnyStage]:
    """Return the stages with `teacher.path` as the classifier to check, unless `check.evaluate.models` is given."""
    check = job.stages["check"]
    assert isinstance(check, EvaluateStage)
    if "teacher.path" not in job.given or "check.evaluate.models" in job.given:
        return job.stages
    evaluate = check.evaluate.model_copy(update={"models": {"teacher": job.given["teacher.path"]}})
    return job.stages | {"check": check.model_copy(update={"evaluate": evaluate})}
