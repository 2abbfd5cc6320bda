"""Distil a fine-tuned teacher into a recurrent student, an LSTM or GRU on tokens or words (Tang et al. 2019)."""

from jobs import tinybert_task
from jobs.tinybert_task import DATA, TEACHER, task_stages
from kd_dist.config.job import Job, drop_stages
from kd_dist.config.objectives.soft_labels import SoftLabelsObjective
from kd_dist.config.sections.data import DistillationData
from kd_dist.config.sections.models import Student, StudentWords, TokenizerSource
from kd_dist.config.sections.training import Cadence, Train
from kd_dist.config.stages import AnyStage, LabelledStage, TrainStage, WordsStage

STUDENT = Student(config="bilstm", init="projected")
TRAIN = Train(epochs=10, min_steps=1200, global_batch_size=32)
CADENCE = Cadence(evaluate_every_n_steps=50)  # a rare check misses the best step, which comes early
UNLABELLED = ["@unlabelled/tokens", "@perturbed/tokens"]
BY_WORDS = {"@labelled/tokens": "@words/tokens"} | dict.fromkeys(UNLABELLED, "@words/unlabelled")
OF_WORDS = tuple(f"student.{key}" for key in StudentWords.model_fields)


def _distillation() -> dict[str, AnyStage]:
    """Return the stages of task distillation, of the prediction alone: a recurrent student has no layers to compare."""
    stages = task_stages(teacher=TEACHER, donor=TEACHER, tokens="@labelled/tokens", student=STUDENT)
    objective = SoftLabelsObjective(soft_weight=0.0, logits_weight=0.5, hard_weight=0.5)
    both = {"student": STUDENT, "cadence": CADENCE}
    changed = {
        "distill": stages["distill"].model_copy(update=both | {"objective": objective, "train": TRAIN}),
        "alone": stages["alone"].model_copy(update=both),
    }
    words = WordsStage(data=DistillationData(tokens="@labelled/tokens", unlabelled_tokens=UNLABELLED))
    order = {name: stages[name] for name in ("unlabelled", "perturbed")} | {"words": words}
    return drop_stages(order | stages | changed, "layers")


JOB = Job(
    name="rnn",
    description="distil a fine-tuned teacher into a recurrent classifier (BiLSTM, BiGRU) on labelled text",
    stages={
        "labelled": LabelledStage(data=DATA, tokenizer=TokenizerSource(path=TEACHER)),
        **_distillation(),
    },
    result="serving",
    seeded=["distill", "alone"],
    follows={"teacher.path": ["tokenizer.path", "donor.path"]},
)


def adapt(job: Job) -> Job:
    """Adapt the job as task distillation of TinyBERT is adapted, and give each student rows of what it reads."""
    job = _with_probabilities(tinybert_task.adapt(job))
    readers = [name for name, stage in job.stages.items() if isinstance(stage, TrainStage) and stage.reads_words()]
    if readers:
        words = job.stages["words"]
        assert isinstance(words, WordsStage)
        start = words.student.word_vectors or "random vectors"
        note = f"{' and '.join(readers)}: words, whose embeddings start from {start} (student.word_vectors)"
        changed = {name: _with_words(job.stages[name]) for name in readers}
        return job.adapted(job.stages | changed, [*job.notes, note])
    if any(key.removeprefix("words.") in OF_WORDS for key in job.given):
        return job  # whose check says that no student reads them
    return job.adapted(drop_stages(job.stages, "words"), job.notes)


def _with_probabilities(job: Job) -> Job:
    """Let the student learn probabilities where a text may have several labels, unless its objective is given.

    The squared error of logits then spends itself on how absent the many absent labels are (docs/which_student.md).
    """
    labelled, distill = job.stages["labelled"], job.stages["distill"]
    assert isinstance(labelled, LabelledStage)
    assert isinstance(distill, TrainStage)
    is_given = any(key.endswith(("objective.soft_weight", "objective.logits_weight")) for key in job.given)
    if labelled.data.task != "multi_label" or is_given:
        return job
    objective = distill.objective.model_copy(update={"soft_weight": 0.5, "logits_weight": 0.0})
    stages = job.stages | {"distill": distill.model_copy(update={"objective": objective})}
    note = (
        "a text may have several labels: learns the teacher's probabilities, not its logits (objective.logits_weight)"
    )
    return job.adapted(stages, [*job.notes, note])


def _with_words(stage: AnyStage) -> AnyStage:
    """Return a train stage that reads the words of its rows, and no longer the tokens."""
    stage = stage.rewired(lambda value: BY_WORDS.get(value, value))
    assert isinstance(stage, TrainStage)
    unlabelled = list(dict.fromkeys(stage.data.unlabelled_tokens))
    return stage.model_copy(update={"data": stage.data.model_copy(update={"unlabelled_tokens": unlabelled})})
