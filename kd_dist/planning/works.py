"""What the micro-batches of the stages of a job compute: their models, found by config.json alone."""

from kd_dist.config.job import Job
from kd_dist.config.paths import model_config_file
from kd_dist.config.stage import wired_stage
from kd_dist.config.stages import (
    CalibrateStage,
    CutVocabularyStage,
    EnsembleStage,
    TeacherOutputsStage,
    TrainStage,
    WordsStage,
)
from kd_dist.model_files.model_folders import Config, read_config
from kd_dist.planning.architectures import model_config, origin_of, trained_config
from kd_dist.planning.rows import RowCounts
from kd_dist.planning.shapes import Shape
from kd_dist.planning.step_times import Work

STAND_IN = "bert_base"
"""The shipped configuration that stands for a model whose config.json is not here."""

FORWARD_ROWS = 64
"""Rows of a forward pass where nothing is trained."""


class Works:
    """The work of the stages of a job.

    Args:
        job: The job, with absolute paths.
        counts: Of its rows.
    """

    def __init__(self, job: Job, counts: RowCounts) -> None:
        self._job, self._counts = job, counts
        self.stood_in: set[str] = set()
        """The models that `STAND_IN` was taken for."""

    def of(self, stage: TrainStage | TeacherOutputsStage) -> Work:
        """Return what a micro-batch of a stage computes."""
        if isinstance(stage, TeacherOutputsStage):
            return self.forward(stage.teacher.path, stage.engine.precision)
        teacher = stage.teacher if stage.teacher and stage.data.teacher_outputs is None else None
        return Work(
            objective=stage.objective.name,
            precision=stage.engine.precision,
            rows=stage.train.sequences_per_micro_batch(),
            student=Shape.of(self._trained(stage), self._vocabulary(stage)),
            teacher=self.shape(teacher.path) if teacher else None,
            is_trained=stage.objective.trains_layers(),
        )

    def forward(self, path: str, precision: str = "fp32") -> Work:
        """Return what a forward pass of a model computes where nothing is trained, as for a teacher's outputs."""
        return Work(
            TeacherOutputsStage.model_fields["kind"].default, precision, FORWARD_ROWS, self.shape(path), None, False
        )

    def shape(self, path: str) -> Shape:
        """Return the shape of the model in a folder, or of one that an earlier stage will export."""
        source = self._job.stages.get(wired_stage(origin_of(self._job, path)))
        if isinstance(source, CalibrateStage):
            return self.shape(source.model.path)
        if isinstance(source, EnsembleStage):
            return Shape.together([self.shape(path) for path in source.teachers.paths])
        return Shape.of(self._config(path), self._vocabulary(source) if isinstance(source, TrainStage) else None)

    def _config(self, path: str) -> Config:
        """Return the config.json of a model; of one that a stage makes of another, that other's."""
        path = origin_of(self._job, path)
        source = self._job.stages.get(wired_stage(path))
        if isinstance(source, TrainStage):
            return self._trained(source)
        if isinstance(source, CutVocabularyStage):
            return self._config(source.encoder.path)
        if (found := model_config(self._job, "path", path)) is not None:
            return found
        self.stood_in.add(path)
        return read_config(model_config_file(STAND_IN))

    def _trained(self, stage: TrainStage) -> Config:
        return trained_config(self._job, stage) or self._config(next(iter(stage.models_fed().values())))

    def _vocabulary(self, stage: TrainStage) -> int | None:
        """Return the tokens of a student that is made here; None where it has those of its weights."""
        student = stage.student
        if student is None or student.teacher_layers is not None:
            return None
        if student.path is not None:
            source = self._job.stages.get(wired_stage(student.path))
            return self._vocabulary(source) if isinstance(source, TrainStage) else None
        rows = self._job.stages.get(wired_stage(stage.data.tokens))
        if isinstance(rows, WordsStage):
            return rows.student.vocabulary_size
        source = self._counts.source_of(stage)
        if source is None or source.tokenizer.path is None:
            return getattr(source.tokenizer, "vocabulary_size", None) if source else None
        return self._config(source.tokenizer.path).get("vocab_size")
