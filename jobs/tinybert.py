"""TinyBERT end to end: from a pretrained encoder and labelled text to a small classifier ready for serving."""

from collections.abc import Iterable

from jobs.finetune import ENCODER, FINETUNE, LABELLED
from jobs.tinybert_general import PRETRAINED
from jobs.tinybert_task import (
    start_of_the_student_alone,
    task_stages,
    with_equal_training,
    with_given,
    without_layers,
    without_unwanted_rows,
)
from kd_dist.config.job import Job, drop_stages, replace_wire
from kd_dist.config.objectives.tinybert import TinyBertObjective
from kd_dist.config.sections.data import AugmentedData, CorpusData, PlainTokenData, TokenData
from kd_dist.config.sections.models import FilterTeacher, Student, Teacher, Tokenizer
from kd_dist.config.stages import AnyStage, AugmentedStage, AugmentStage, CorpusStage, TrainStage
from kd_dist.model_files.model_folders import has_language_model_head

JOB = Job(
    name="tinybert",
    description="labelled text and a pretrained encoder to a small classifier: fine-tune, augment, distil, export",
    stages={
        "labelled": LABELLED,
        "finetune": FINETUNE,
        "corpus": CorpusStage(data=CorpusData(corpus=[]), tokenizer=Tokenizer(path=PRETRAINED)),
        "general": TrainStage(
            teacher=Teacher(path=PRETRAINED),
            student=Student(),
            data=TokenData(tokens="@corpus/tokens"),
            objective=TinyBertObjective(),
        ),
        "augmentation": AugmentStage(encoder=ENCODER, data=PlainTokenData(tokens="@labelled/tokens")),
        "augmented": AugmentedStage(data=AugmentedData(tokens="@labelled/tokens", shards="@augmentation/shards")),
        **task_stages(
            teacher="@finetune/export",
            donor=PRETRAINED,
            tokens="@augmented/tokens",
            student=Student(path="@general/export"),
        ),
    },
    result="serving",
    seeded=["layers", "distill", "alone"],
    # One model is fine-tuned, teaches on raw text, and provides the tokenizer and layers, unless others are given.
    follows={
        "encoder.path": ["teacher.path", "tokenizer.path", "donor.path"],
        "teacher.path": ["encoder.path", "tokenizer.path", "donor.path"],
    },
)


def adapt(job: Job) -> Job:
    """Leave out the stages that the settings make unnecessary or impossible, and note why."""
    stages, notes = _adapt_general(job.stages, job.given)
    stages, notes = _adapt_augmentation(stages, notes, job.given)
    stages, of_rows = without_unwanted_rows(stages, job.given)
    stages, of_layers = without_layers(stages, job.given)
    stages, of_length = with_equal_training(stages, job.given)
    return job.adapted(stages, [*notes, start_of_the_student_alone(stages), *of_rows, *of_layers, *of_length])


def _adapt_general(stages: dict[str, AnyStage], given: Iterable[str]) -> tuple[dict[str, AnyStage], list[str]]:
    """Skip general distillation without a corpus, or for a student with initial weights."""
    corpus, general, layers = stages["corpus"], stages["general"], stages["layers"]
    assert isinstance(corpus, CorpusStage)
    assert isinstance(general, TrainStage)
    start = general.student
    assert start is not None
    assert isinstance(layers, TrainStage)
    student = with_given(start, layers.student, "layers.student.", given)
    without = drop_stages(stages, "corpus", "general") | {"layers": layers.model_copy(update={"student": student})}
    if start.path is not None or start.teacher_layers is not None:
        origin = start.path or f"the teacher's layers {start.teacher_layers}"
        return without, [f"no general distillation: the student starts from {origin}"]
    if not corpus.data.corpus:
        return without, ["no general distillation: there is no raw text (data.corpus)"]
    return stages, []


def _adapt_augmentation(
    stages: dict[str, AnyStage], notes: list[str], given: Iterable[str]
) -> tuple[dict[str, AnyStage], list[str]]:
    """Skip augmentation where nothing proposes words; filter with the trained teacher where the settings ask for it."""
    augment = stages["augmentation"]
    assert isinstance(augment, AugmentStage)
    settings, encoder = augment.augment, augment.encoder.path
    if not (settings.mlm_path or settings.word_vectors or has_language_model_head(encoder)):
        note = (
            f"no augmentation: {encoder} has no language-model head, and neither augment.mlm_path nor "
            "augment.word_vectors is given"
        )
        stages = replace_wire(stages, "@augmented/tokens", by="@labelled/tokens")
        return drop_stages(stages, "augmentation", "augmented"), [*notes, note]
    asked = FilterTeacher(path="@check/model" if settings.keep_confidence is not None else None)
    asked = with_given(asked, augment.teacher, "augmentation.teacher.", given)
    stages = stages | {"augmentation": augment.model_copy(update={"teacher": asked})}
    if asked.path == "@check/model":  # then the teacher must be trained before the augmentation
        order = ["labelled", "finetune", "check", *stages]
        stages = {name: stages[name] for name in dict.fromkeys(order)}
    return stages, notes
