"""Average several teachers into one, and measure it beside them."""

from jobs.tinybert_task import DATA
from kd_dist.config.job import Job
from kd_dist.config.sections.data import PlainTokenData
from kd_dist.config.sections.evaluation import Evaluate, ReportOptions
from kd_dist.config.sections.models import Teachers, TokenizerSource
from kd_dist.config.stages import EnsembleStage, EvaluateStage, LabelledStage, ReportStage

ENSEMBLE = "@ensemble/export"

JOB = Job(
    name="ensemble",
    description="average several classifiers into one teacher, and measure it beside them",
    stages={
        "ensemble": EnsembleStage(teachers=Teachers(paths=["teacher_1", "teacher_2"])),
        "labelled": LabelledStage(data=DATA, tokenizer=TokenizerSource(path=ENSEMBLE)),
        "evaluation": EvaluateStage(
            evaluate=Evaluate(models={"ensemble": ENSEMBLE}), data=PlainTokenData(tokens="@labelled/tokens")
        ),
        "report": ReportStage(page=ReportOptions(stages=["@evaluation"])),
    },
    result="ensemble",
)


def adapt(job: Job) -> Job:
    """Measure every member beside the ensemble, unless `evaluate.models` is given."""
    ensemble, evaluation = job.stages["ensemble"], job.stages["evaluation"]
    assert isinstance(ensemble, EnsembleStage)
    assert isinstance(evaluation, EvaluateStage)
    if "evaluation.evaluate.models" in job.given:
        return job
    members = {f"teacher_{number}": path for number, path in enumerate(ensemble.teachers.paths, start=1)}
    evaluate = evaluation.evaluate.model_copy(update={"models": evaluation.evaluate.models | members})
    stages = job.stages | {"evaluation": evaluation.model_copy(update={"evaluate": evaluate})}
    return job.adapted(stages, ["teacher.path=RUN/ensemble/export distils the ensemble, --job tinybert_task"])
