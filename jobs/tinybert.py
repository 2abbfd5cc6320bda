"""The whole way from a pretrained teacher and labelled texts to a TinyBERT classifier that is ready to be served."""

from jobs.finetune import FINETUNE
from jobs.tinybert_general import TEACHER
from jobs.tinybert_task import DATA, start_of_the_student_alone, task_stages, with_equal_training
from kd_dist.config.job import Job, bypassed, without
from kd_dist.config.model_folders import has_language_model_head
from kd_dist.config.sections.data import AugmentedData, CorpusData, PlainTokenData, TokenData
from kd_dist.config.sections.models import Student, Teacher
from kd_dist.config.sections.objectives import TinyBertObjective
from kd_dist.config.stages import WIRE, AnyStage, AugmentedStage, AugmentStage, LabelledStage, PrepareStage, TrainStage

JOB = Job(
    name="tinybert",
    description="labelled text and a pretrained teacher to a small classifier: fine-tune, augment, distil, export",
    stages={
        "prepare": LabelledStage(data=DATA, teacher=TEACHER),
        "finetune": FINETUNE,
        "corpus": PrepareStage(data=CorpusData(corpus=[]), teacher=TEACHER),
        "general": TrainStage(
            teacher=TEACHER,
            student=Student(),
            data=TokenData(tokens="@corpus/tokens"),
            objective=TinyBertObjective(),
        ),
        "augmentation": AugmentStage(teacher=TEACHER, data=PlainTokenData(tokens="@prepare/tokens")),
        "augmented": AugmentedStage(data=AugmentedData(tokens="@prepare/tokens", shards="@augmentation/shards")),
        **task_stages(
            base=TEACHER,
            teacher="@finetune/export",
            tokens="@augmented/tokens",
            student=Student(path="@general/export"),
        ),
    },
    result="serving",
    seeded=["layers", "distill", "alone"],
)


def adapt(job: Job) -> Job:
    """Leave out what the settings make needless or impossible, and say so."""
    stages, notes = _adapt_general(job.stages, [])
    stages, notes = _adapt_augmentation(stages, notes)
    stages, more = with_equal_training(stages, JOB.stages)
    notes = [*notes, start_of_the_student_alone(stages), *more]
    return job.model_copy(update={"stages": stages, "notes": notes})


def _adapt_general(stages: dict[str, AnyStage], notes: list[str]) -> tuple[dict[str, AnyStage], list[str]]:
    corpus, general, layers = stages["corpus"], stages["general"], stages["layers"]
    assert isinstance(corpus, PrepareStage)
    assert isinstance(general, TrainStage)
    start = general.student
    assert start is not None
    if start.path is not None or start.teacher_layers is not None:
        stages = without(stages, "corpus", "general") | {"layers": layers.model_copy(update={"student": start})}
        origin = start.path or f"the teacher's layers {start.teacher_layers}"
        return stages, [*notes, f"no general distillation: the student starts from {origin}"]
    if not corpus.data.corpus:
        data = corpus.data.model_copy(update={"corpus": [f"{WIRE}prepare/texts"], "pack": False})
        stages = stages | {"corpus": corpus.model_copy(update={"data": data})}
        notes = [
            *notes,
            "general distillation reads the training texts; data.corpus names others, student.path skips it",
        ]
    return stages, notes


def _adapt_augmentation(stages: dict[str, AnyStage], notes: list[str]) -> tuple[dict[str, AnyStage], list[str]]:
    augment = stages["augmentation"]
    assert isinstance(augment, AugmentStage)
    settings, teacher = augment.augment, augment.teacher.path
    if not (settings.mlm_path or settings.word_vectors or has_language_model_head(teacher)):
        note = (
            f"no augmentation: {teacher} has no language-model head, and neither augment.mlm_path nor "
            "augment.word_vectors is given"
        )
        stages = bypassed(stages, "@augmented/tokens", by="@prepare/tokens")
        return without(stages, "augmentation", "augmented"), [*notes, note]
    if settings.keep_confidence is not None:
        mlm_path = settings.mlm_path or (teacher if has_language_model_head(teacher) else None)
        settings = settings.model_copy(update={"mlm_path": mlm_path})
        changed = augment.model_copy(update={"augment": settings, "teacher": Teacher(path="@check/model")})
        order = ["prepare", "finetune", "check", *stages]  # the filter asks the trained teacher
        stages = {name: (stages | {"augmentation": changed})[name] for name in dict.fromkeys(order)}
    return stages, notes
