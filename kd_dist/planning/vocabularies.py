"""Find models that were trained on other tokens than the rows hold that they are to be fed."""

from collections.abc import Iterator
from pathlib import Path

from kd_dist.config.job import Job
from kd_dist.config.model_configs import config_file
from kd_dist.config.model_folders import inside, read_config
from kd_dist.config.stages import CorpusStage, LabelledStage, TeacherOutputsStage, TrainStage, UnlabelledStage
from kd_dist.config.vocabularies import (
    Vocabulary,
    added_tokens,
    embedding_problem,
    has_tokenizer,
    read_vocabulary,
    size_of,
    vocabulary_difference,
)
from kd_dist.errors import UserError
from kd_dist.planning.architectures import origin_of, prepared_by

OTHER_STUDENT = (
    "a student reads the teacher's tokens, so give one with the teacher's vocabulary, or have one made "
    "(student.config=NAME without student.path, or student.teacher_layers)"
)
OTHER_TOKENIZER = "prepare the rows with the tokenizer of this model (tokenizer.path)"


def vocabulary_problems(job: Job, stage: TrainStage | TeacherOutputsStage) -> list[str]:
    """Find models of local folders whose embeddings are not those of the tokens in the rows.

    The vocabularies themselves are compared where both are there, else what their sizes say.
    """
    rows = _rows_tokenizer(job, stage)
    if rows is None or not rows.is_dir():
        return []
    try:
        tokens = read_vocabulary(rows)
        models = list(_models(job, stage))
        return [] if not tokens else [found for model in models if (found := _problem(stage, rows, tokens, *model))]
    except UserError as error:
        return [str(error)]


def _rows_tokenizer(job: Job, stage: TrainStage | TeacherOutputsStage) -> Path | None:
    """Return the folder of the tokenizer that made the rows of a stage; None if it is made by this job."""
    source = prepared_by(job, stage)
    if isinstance(source, CorpusStage | LabelledStage):
        return Path(source.tokenizer.path) if source.tokenizer.path else None
    if isinstance(source, UnlabelledStage):
        return Path(source.model.path) if source.model else None
    return Path(stage.data.tokens) / "tokenizer"


def _models(job: Job, stage: TrainStage | TeacherOutputsStage) -> Iterator[tuple[str, Path]]:
    """Yield the setting and the folder of every model that is fed the rows of a stage, or gives one its embeddings."""
    paths = {"teacher.path": stage.teacher.path if stage.teacher else None}
    if isinstance(stage, TrainStage):
        student = stage.student
        paths["student.path"] = student.path if student else None
        paths["encoder.path"] = stage.encoder.path if stage.encoder and student is None else None
        paths["model.path"] = stage.model.path if stage.model else None
        if student and student.path is None and student.teacher_layers is not None:
            paths["donor.path" if stage.donor else "teacher.path"] = stage.donor_path()
    for key, path in paths.items():
        folder = Path(origin_of(job, path)) if path else None
        if folder and config_file(folder) is not None:
            yield key, folder


def _problem(
    stage: TrainStage | TeacherOutputsStage, rows: Path, tokens: Vocabulary, key: str, folder: Path
) -> str | None:
    """Say why the model in a folder cannot read these tokens; None if it can."""
    model, whose = f"{key}={folder}", f"the tokenizer in {rows}"
    if stage.teacher and Path(stage.teacher.path).resolve() == rows.resolve():
        whose = f"teacher.path={rows}"
    own = read_vocabulary(folder) if has_tokenizer(folder) and folder.resolve() != rows.resolve() else None
    if own is not None and (problem := vocabulary_difference(tokens, whose, own, model)):
        return f"{problem}: {OTHER_STUDENT if key == 'student.path' else OTHER_TOKENIZER}"
    num_embeddings = inside(read_config(config_file(folder) or folder)).get("vocab_size")
    if not isinstance(num_embeddings, int):
        return None
    return embedding_problem(size_of(tokens), str(rows), num_embeddings, model, added_tokens(rows))
