"""Find students that read words, and rows that are no words, or the reverse."""

from pathlib import Path

from kd_dist.config.job import Job
from kd_dist.config.paths import model_config_file
from kd_dist.config.recurrent import is_recurrent
from kd_dist.config.sections.models import Student
from kd_dist.config.stage import wired_stage
from kd_dist.config.stages import TrainStage, WordsStage
from kd_dist.data.prepared_rows import PreparedRows
from kd_dist.data.word_vector_files import check_word_vectors
from kd_dist.errors import UserError
from kd_dist.model_files.model_folders import read_config


def input_problems(job: Job, stage: TrainStage) -> list[str]:
    """Return why a student cannot read the rows of a stage in the way that `student.input` says."""
    folders = [stage.data.tokens, *stage.data.unlabelled_tokens]
    of_words = [folder for folder in folders if _holds_words(job, folder)]
    if stage.student is None or not stage.student.reads_words():
        return [f"{folder} holds the words of a student: set student.input=words" for folder in of_words]
    given = f"student.input={stage.student.input}"
    if of_tokens := [folder for folder in folders if folder not in of_words]:
        return [f"{given}: {folder} holds tokens, and only `--job rnn` makes words of them" for folder in of_tokens]
    problems = _student_problems(stage.student, given)
    if stage.objective.reads_teacher_outputs and stage.data.teacher_outputs is None:
        problems.append(f"{given}: the teacher reads tokens and cannot run on rows of words: set data.teacher_outputs")
    return problems


def _holds_words(job: Job, folder: str) -> bool:
    """Return whether a folder of rows holds words of a student, or will."""
    return isinstance(job.stages.get(wired_stage(folder)), WordsStage) or PreparedRows(Path(folder)).are_of_words()


def _student_problems(student: Student, given: str) -> list[str]:
    """Return why a student is none that can learn to read words."""
    for key, value in (("path", student.path), ("teacher_layers", student.teacher_layers)):
        if value is not None:
            return [f"{given}: student.{key}={value} knows other tokens than the words of these texts: leave it out"]
    try:
        config = read_config(model_config_file(student.config))
    except UserError:
        return []  # the check of the architecture says so
    if is_recurrent(config):
        return []
    return [f"{given}: student.config={student.config} is no recurrent model: use bilstm, bigru or one like them"]


def word_problems(job: Job, stage: WordsStage) -> list[str]:
    """Return what is wrong with the file of word vectors, and that no student reads words."""
    if not any(isinstance(other, TrainStage) and other.reads_words() for other in job.stages.values()):
        return ["settings of words are for a student that reads them: set student.input=words or sentence as well"]
    if stage.student.word_vectors is None:
        return []
    try:
        check_word_vectors(Path(stage.student.word_vectors), "student.word_vectors")
    except UserError as error:
        return [str(error)]
    return []
