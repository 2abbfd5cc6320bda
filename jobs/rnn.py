"""Distil a fine-tuned teacher into a recurrent student, an LSTM or GRU on the teacher's tokens (Tang et al. 2019)."""

from jobs.tinybert_task import DATA, TEACHER, adapt, task_stages
from kd_dist.config.job import Job, drop_stages
from kd_dist.config.objectives.soft_labels import SoftLabelsObjective
from kd_dist.config.sections.models import Student, TokenizerSource
from kd_dist.config.sections.training import Train
from kd_dist.config.stages import AnyStage, LabelledStage

__all__ = ["JOB", "adapt"]

STUDENT = Student(config="bilstm")
TRAIN = Train(epochs=10, min_steps=1200, global_batch_size=32)


def _distillation() -> dict[str, AnyStage]:
    """Return the stages of task distillation, of the prediction alone: a recurrent student has no layers to compare."""
    stages = task_stages(teacher=TEACHER, donor=TEACHER, tokens="@labelled/tokens", student=STUDENT)
    objective = SoftLabelsObjective(soft_weight=0.0, logits_weight=0.5, hard_weight=0.5)
    changed = {
        "distill": stages["distill"].model_copy(update={"student": STUDENT, "objective": objective, "train": TRAIN}),
        "alone": stages["alone"].model_copy(update={"student": STUDENT}),
    }
    return drop_stages(stages | changed, "layers")


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
