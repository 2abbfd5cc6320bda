"""Learn from judgements in files, a language model's or an ensemble's, as from a teacher's predictions."""

from jobs.tinybert_task import DATA, start_of_the_student_alone, task_stages, with_equal_training
from kd_dist.config.job import Job, drop_stages
from kd_dist.config.sections.data import SoftLabelsData, TokenData
from kd_dist.config.sections.evaluation import Evaluate
from kd_dist.config.sections.models import Donor, Student, TokenizerSource
from kd_dist.config.stages import AnyStage, LabelledStage, SoftLabelsStage

ENCODER = "encoder"
ROWS = TokenData(tokens="@labelled/tokens", unlabelled_tokens=["@outputs/tokens"], teacher_outputs="@outputs/outputs")


def _distillation() -> dict[str, AnyStage]:
    """Return the stages of task distillation, of predictions that are in files: nobody can label perturbed rows."""
    stages = task_stages(teacher=ENCODER, donor=ENCODER, tokens="@labelled/tokens", student=Student())
    learning = {"teacher": None, "donor": Donor(path=ENCODER), "student": Student(), "data": ROWS}
    compared = Evaluate(models={"student_alone": "@alone/export", "student": "@distill/export"})
    changed = {
        "outputs": SoftLabelsStage(data=SoftLabelsData(tokens="@labelled/tokens")),
        "distill": stages["distill"].model_copy(update=learning),
        "evaluation": stages["evaluation"].model_copy(update={"evaluate": compared}),
    }
    return drop_stages(stages | changed, "unlabelled", "perturbed", "check", "layers")


JOB = Job(
    name="soft_labels",
    description="distil the judgements of a language model or an ensemble, in files, into a small classifier",
    stages={
        "labelled": LabelledStage(data=DATA, tokenizer=TokenizerSource(path=ENCODER)),
        **_distillation(),
    },
    result="serving",
    seeded=["distill", "alone"],
    follows={"donor.path": ["tokenizer.path"]},
)


def adapt(job: Job) -> Job:
    """Train both students for equally long."""
    stages, notes = with_equal_training(job.stages, job.given)
    return job.adapted(stages, [start_of_the_student_alone(stages), *notes])
