"""Several students of one teacher: `students=a,b` repeats the stage that distils; the copies are trained together."""

import re
from pathlib import Path
from typing import Any

from kd_dist.config.job import Job
from kd_dist.config.sections.base import listed
from kd_dist.config.sections.models import Student
from kd_dist.config.seeds import split_seed
from kd_dist.config.stage import WIRE
from kd_dist.config.stages import TrainStage

STUDENTS = "students"
"""The setting. It is one of the whole job: the stages that it makes have the rest as settings of their own."""

MEANING = (
    "several students, as a,b,c, that learn from one pass of the teacher: architectures, as student.config names them, "
    "or folders of pretrained students; NAME@1,NAME@2 start from random layers of seed 1 and 2 (student.init=projected)"
)

FOR_EXAMPLE = f"give for example {STUDENTS}=tinybert_4l_312,tinybert_6l_768"

NAMED_BY_IT = ("config", "path", "teacher_layers", "seed")
"""The keys of a student that `students` sets."""

Settings = list[tuple[str, Any]]


def with_students(job: Job, typed: Settings, problems: list[str]) -> Job:
    """Return the job with a stage for each student that the setting names, or as it is where it is not given.

    The copies of `distill` are called `distill_<student>`; what read its output reads those of all.

    Args:
        job: The job, before any setting.
        typed: All settings, in order; a later one replaces an earlier one.
        problems: Receives a message for each mistake in the students.
    """
    value = dict(typed).get(STUDENTS)
    if job.students_of is None or value is None:
        return job
    if job.together:
        problems.append(f"{STUDENTS}={value}: the run that --config repeats has its students already: leave it out")
        return job
    copies = _copies(job, job.students_of, value, problems)
    prefixes = ["", *(f"{stage}." for stage in (job.students_of, *copies))]
    named = {f"{prefix}student.{key}" for prefix in prefixes for key in NAMED_BY_IT}
    problems += [
        f"{key}={said} would replace what {STUDENTS} names: leave one of the two out"
        for key, said in typed
        if key in named
    ]
    if not copies:
        return job
    stages: dict[str, Any] = {}
    for name, stage in job.stages.items():
        stages |= copies if name == job.students_of else {name: _reading_all(stage, job.students_of, list(copies))}
    note = f"one pass of the teacher serves {len(copies)} students: {', '.join(copies)}"
    together = {job.students_of: list(copies)}
    return job.model_copy(update={"stages": stages, "together": together, "notes": [*job.notes, note]})


def _copies(job: Job, stage: str, value: Any, problems: list[str]) -> dict[str, TrainStage]:
    """Return a copy of the stage for each student, by its name."""
    copied = job.stages[stage]
    assert isinstance(copied, TrainStage)
    named, found = listed(value) or [], dict[str, TrainStage]()
    if not isinstance(named, list) or not all(isinstance(name, str) and name.strip() for name in named):
        problems.append(f"{STUDENTS}={value} is no list of names: {FOR_EXAMPLE}")
        return found
    for name in named:
        label, student = _student(name)
        copy = f"{stage}_{label}"
        if copy in found:
            problems.append(f"{STUDENTS}: two are called `{label}`; one size starts in several ways as NAME@1,NAME@2")
        found[copy] = copied.model_copy(update={"student": student})
    if not named:
        problems.append(f"{STUDENTS} names no student: {FOR_EXAMPLE}")
    return found


def _student(name: str) -> tuple[str, Student]:
    """Return the label and the settings of a student: `NAME` or `NAME@SEED`, an architecture or a folder."""
    origin, seed = (name, None) if Path(name).expanduser().exists() else split_seed(name)
    path = Path(origin).expanduser()
    student = Student(path=origin, seed=seed) if path.is_dir() else Student(config=origin, seed=seed)
    if seed is not None:  # pruned layers are the same whatever the seed
        student = student.model_copy(update={"init": "projected"})
    place = path.absolute()
    stem = place.parent.name if place.name == "export" else place.name.removesuffix(".json")
    label = stem if seed is None else f"{stem}_init{seed}"
    return re.sub(r"[^A-Za-z0-9_-]", "_", label), student


def together_problems(job: Job) -> list[str]:
    """Return a message for each setting of a student's stage that would give it other rows than the first one has."""
    problems = []
    for copies in job.together.values():
        first, *others = [(name, stage) for name in copies if isinstance(stage := job.stages[name], TrainStage)]
        wanted = first[1].decides_rows()
        problems += [
            f"{name}.{key}={value}, but {first[0]} has {wanted[key]}, and students that one pass of the teacher serves "
            f"have it in common: set {job.copied(name)}.{key} for all, or train {name} in a run of its own"
            for name, stage in others
            for key, value in stage.decides_rows().items()
            if value != wanted[key]
        ]
    return problems


def _reading_all(stage: Any, name: str, copies: list[str]) -> Any:
    """Return a stage that reads outputs of all copies where it listed one of the stage of that name."""

    def spread(value: Any) -> list[Any]:
        head, slash, rest = str(value).partition("/")
        return [f"{WIRE}{copy}{slash}{rest}" for copy in copies] if head == f"{WIRE}{name}" else [value]

    def spread_in(_: str, section: Any) -> Any:
        lists = {key: value for key in type(section).model_fields if isinstance(value := getattr(section, key), list)}
        return section.model_copy(
            update={key: [new for value in values for new in spread(value)] for key, values in lists.items()}
        )

    return stage.with_sections(spread_in)
