"""Find models whose vocabulary differs from that of the rows they will be trained on."""

from collections.abc import Iterator
from pathlib import Path

from kd_dist.config.job import Job
from kd_dist.config.stages import CorpusStage, LabelledStage, TeacherOutputsStage, TrainStage, UnlabelledStage
from kd_dist.data.prepared_rows import PreparedRows
from kd_dist.errors import UserError
from kd_dist.model_files.model_configs import config_file
from kd_dist.model_files.vocabularies import reading_problem
from kd_dist.model_files.weight_files import pointer_problem
from kd_dist.planning.architectures import origin_of, prepared_by


def vocabulary_problems(job: Job, stage: TrainStage | TeacherOutputsStage) -> list[str]:
    """Find models of local folders whose embeddings are not those of the tokens in the rows.

    The vocabularies themselves are compared where both are there, else what their sizes say.
    """
    rows = _rows_tokenizer(job, stage)
    if rows is None or not rows.is_dir() or pointer_problem(rows, weights=False):
        return []
    is_teachers = stage.teacher is not None and Path(origin_of(job, stage.teacher.path)).resolve() == rows.resolve()
    whose = f"teacher.path={rows}" if is_teachers else f"the tokenizer in {rows}"
    try:
        problems = [reading_problem(rows, whose, key, folder) for key, folder in _models(job, stage)]
    except UserError as error:
        return [str(error)]
    return [problem for problem in problems if problem]


def _rows_tokenizer(job: Job, stage: TrainStage | TeacherOutputsStage) -> Path | None:
    """Return the folder of the tokenizer that made the rows of a stage; None if it is made by this job."""
    source = prepared_by(job, stage)
    if isinstance(source, CorpusStage | LabelledStage):
        return Path(source.tokenizer.path) if source.tokenizer.path else None
    if isinstance(source, UnlabelledStage):
        return Path(source.model.path) if source.model else None
    return PreparedRows(Path(stage.data.tokens)).tokenizer_folder


def _models(job: Job, stage: TrainStage | TeacherOutputsStage) -> Iterator[tuple[str, Path]]:
    """Yield the setting and the folder of every model on this machine that is fed the rows of a stage."""
    for key, path in stage.models_fed().items():
        folder = Path(origin_of(job, path))
        if config_file(folder) is not None:
            yield key, folder
