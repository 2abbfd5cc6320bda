"""Find every mistake in a job before it is queued, without a GPU and without torch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from kd_dist.augmentation.sources import sources_of
from kd_dist.config.graph_stages import GraphStage, GraphTrainStage
from kd_dist.config.job import Job
from kd_dist.config.jobs import find_job, resolve_job
from kd_dist.config.overrides import join_problems
from kd_dist.config.paths import with_absolute_paths
from kd_dist.config.sections.training import Selection
from kd_dist.config.stage import WIRE, Stage, wired_stage
from kd_dist.config.stages import (
    AugmentStage,
    CalibrateStage,
    CorpusStage,
    CutVocabularyStage,
    EvaluateStage,
    LabelledStage,
    SoftLabelsStage,
    TeacherOutputsStage,
    TrainStage,
    UnlabelledStage,
    VocabularyStage,
    WordsStage,
)
from kd_dist.config.tasks import METRICS
from kd_dist.data.graph_files import ADJACENCY
from kd_dist.data.judgement_files import NO_CLASSES
from kd_dist.data.prepared_rows import STATISTICS, PreparedRows
from kd_dist.data.preprocessing import FILE_NAME
from kd_dist.errors import UNUSABLE, UserError
from kd_dist.model_files.model_folders import has_classifier_head, make_classifier_hint
from kd_dist.planning.architectures import architecture_problems, directory_problems, model_config, prepared_by
from kd_dist.planning.data_checks import (
    corpus_problems,
    judgement_problems,
    labelled_problems,
    unlabelled_problems,
    vocabulary_file_problems,
    with_data_notes,
)
from kd_dist.planning.folder_checks import folder_problems, with_folder_notes
from kd_dist.planning.vocabulary_checks import vocabulary_problems
from kd_dist.planning.word_checks import input_problems, word_problems

Check = Callable[[Job, Any], list[str]]


def load_checked_job(name: str, overrides: list[str], overlay: Path | None = None, plan_only: bool = False) -> Job:
    """Load a job with absolute paths and check it.

    Args:
        name: A job in jobs/.
        overrides: Settings of the form `key=value`.
        overlay: A YAML file of settings, applied before the overrides.
        plan_only: For a dry run before there is any text: the default corpus of the job need not exist, but files that
            the user named must.

    Raises:
        UserError: Every problem, one per line.
    """
    job, problems, is_adapted = resolve_job(name, overrides, overlay)
    if job is not None:
        if unusable := _unusable_paths(job):  # every other look at them would fail
            raise UserError(join_problems([*problems, *unusable]))
        told = tuple(_broken_models(job)) if problems else ()
        problems = [problem for problem in problems if not problem.endswith(told)]
        reads_files = not (plan_only and _corpora(find_job(name)) == _corpora(job))
        job = with_absolute_paths(job)
        problems += _job_problems(job, reads_files and is_adapted)  # a stage too many may have no files
    if problems or job is None:
        raise UserError(join_problems(problems))
    job = with_folder_notes(job)
    return with_data_notes(job) if reads_files else job


def _unusable_paths(job: Job) -> list[str]:
    """Return a message for each path at which no file can be: a text in its place, or links in a circle."""
    return [
        f"{name}: {key}={path[:60]}{'...' * (len(path) > 60)}: {reason}; give the path of a file or folder"
        for name, stage in job.stages.items()
        for key, path in stage.named_paths()
        if (reason := _why_unusable(path))
    ]


def _why_unusable(path: str) -> str | None:
    try:
        Path(path).expanduser().stat()
    except OSError as error:
        return error.strerror if error.errno in UNUSABLE else None
    return None


def check_job(job: Job, reads_files: bool = True) -> None:
    """Check every stage of a job.

    Args:
        job: The job.
        reads_files: Whether its text files must exist.

    Raises:
        UserError: Every problem, one per line.
    """
    if problems := _job_problems(job, reads_files):
        raise UserError(join_problems(problems))


def _job_problems(job: Job, reads_files: bool) -> list[str]:
    """Return every problem, that of a model's folder once for all settings that name it."""
    broken = _broken_models(job)
    told = tuple(broken)  # and may be met again while something else is looked for in the folder
    return [_setting(settings) + problem for problem, settings in broken.items()] + [
        f"{name}: {problem}"
        for name, stage in job.stages.items()
        for problem in _other_problems(job, stage, reads_files)
        if not problem.endswith(told)
    ]


def _broken_models(job: Job) -> dict[str, list[tuple[str, str]]]:
    """Return what is wrong with the models that a job names, with the (stage, `section.key`) of all that name one."""
    broken: dict[str, list[tuple[str, str]]] = {}
    for name, stage in job.stages.items():
        for key, problem in _model_problems(stage):
            settings = broken.setdefault(problem, [])
            settings += [] if (name, key) in settings else [(name, key)]
    return broken


def _setting(settings: list[tuple[str, str]]) -> str:
    if len(settings) == 1:
        return ": ".join(settings[0]) + "="
    return ", ".join(".".join(setting) for setting in settings) + "="


def _corpora(job: Job) -> set[str]:
    """Return the text files outside the run that the job reads."""
    keys = ("data.corpus", "data.train", "data.unlabelled", "data.soft_labels", "data.id_texts")
    return {path for stage in job.stages.values() for key, path in stage.named_paths() if key in keys}


def stage_problems(job: Job, stage: Stage, reads_files: bool = True) -> list[str]:
    """Return every problem of a stage, without repetitions."""
    of_models = [f"{key}={problem}" for key, problem in _model_problems(stage)]
    return list(dict.fromkeys([*of_models, *_other_problems(job, stage, reads_files)]))


def _other_problems(job: Job, stage: Stage, reads_files: bool) -> list[str]:
    """Return the problems of a stage except those of its models' folders."""
    kind = type(stage)
    checks = [FILES[kind]] if reads_files and kind in FILES else []
    checks += CHECKS.get(kind, ())
    return list(dict.fromkeys(problem for check in checks for problem in check(job, stage)))


def _model_problems(stage: Stage) -> list[tuple[str, str]]:
    """Return (`section.key`, message) for each model whose folder is missing, incomplete or damaged.

    The message begins with the folder.
    """
    return [
        (f"{name}.{key}", problem)
        for name, section in stage.sections()
        for key, value in section.named(section.MODELS)
        if not value.startswith(WIRE)
        for problem in (*directory_problems(value), *folder_problems(section, value))
    ]


def _calibration_problems(job: Job, stage: CalibrateStage) -> list[str]:
    """Return a message if the model to calibrate has no branches."""
    path = stage.model.path
    if path.startswith(WIRE) or not Path(path).is_dir():
        return []
    try:
        config = model_config(job, "model.path", path)
    except UserError as error:
        return [str(error)]
    if config is not None and "backbone" in config:
        return []
    return [f"model.path={path} has no branches to calibrate: give the export of fastbert_stage1, or leave the key out"]


def _augmentation_problems(job: Job, stage: AugmentStage) -> list[str]:
    """Return a message if nothing proposes words, or if the filter has no labels to go by."""
    source, settings = prepared_by(job, stage), stage.augment
    if settings.keep_confidence is not None and isinstance(source, LabelledStage) and source.data.task == "regression":
        return [
            "augment.keep_confidence needs the probability of a label, but data.task=regression has none: set it to "
            "none"
        ]
    try:
        sources_of(stage)
    except UserError as error:
        return [str(error)]
    return []


def _classifier_problems(job: Job, stage: EvaluateStage) -> list[str]:
    """Return a message for each model to score that is not a classifier."""
    try:
        headless = [path for path in stage.evaluate.models.values() if not has_classifier_head(path)]
    except UserError as error:
        return [str(error)]
    return [
        f"{path} has no trained classification head, so it can neither be scored nor teach labels: "
        f"{make_classifier_hint(path)}, or use `--job tinybert` or `--job fastbert`, which fine-tune first"
        for path in headless
    ]


def _recipe_problems(job: Job, stage: UnlabelledStage) -> list[str]:
    """Return a message if neither labelled rows nor a classifier decide how texts are tokenized."""
    tokens = stage.data.tokens
    if tokens is None and stage.model is None:
        return [
            "nothing decides how texts are tokenized: set data.tokens to labelled rows, or model.path to a classifier"
        ]
    if tokens and not tokens.startswith(WIRE) and not PreparedRows(Path(tokens)).have_preprocessing():
        return [f"data.tokens={tokens} was not written by a `labelled` stage (no {FILE_NAME} in it)"]
    return []


def _task_problems(job: Job, stage: TrainStage | GraphTrainStage) -> list[str]:
    """Return a message for a metric that the task does not have, and for a task that the objective cannot learn."""
    source = prepared_by(job, stage)
    if not isinstance(source, LabelledStage):
        return []
    task, problems = source.data.task, []
    known = get_args(Selection.model_fields["metric"].annotation)
    metrics = ["auto", "loss", *(name for name in METRICS[task] if name in known)]
    if stage.selection is not None and stage.selection.metric not in metrics:
        problems.append(f"selection.metric={stage.selection.metric}: a {task} task has only {', '.join(metrics)}")
    return problems + (stage.objective.task_problems(task) if isinstance(stage, TrainStage) else [])


def _judged_task_problems(job: Job, stage: SoftLabelsStage) -> list[str]:
    """Return a message for judgements of rows that have no classes."""
    source = prepared_by(job, stage)
    if isinstance(source, LabelledStage) and source.data.task == "regression":
        return [NO_CLASSES]
    return []


def _teacher_output_problems(job: Job, stage: TrainStage) -> list[str]:
    """Return a message for teacher outputs given to a stage that does not read them, with the stages that do.

    `data.teacher_outputs` sets the key in every stage except the wired one, which is the one that reads them.
    """
    if stage.data.teacher_outputs is None or stage.objective.reads_teacher_outputs:
        return []
    readers = [
        f"{name}.data.teacher_outputs"
        for name, other in job.stages.items()
        if isinstance(other, TrainStage) and other.objective.reads_teacher_outputs
    ]
    way_out = f"set {' or '.join(readers)} instead" if readers else "leave the key out"
    return [f"data.teacher_outputs is not used by a stage that does not learn from the teacher's prediction: {way_out}"]


def _token_problems(job: Job, stage: TrainStage) -> list[str]:
    """Return a message for a folder without tokenized rows, and for rows without the word boundaries they need."""
    if not stage.data.tokens.startswith(WIRE):
        return _rows_problems(job, stage)
    source = job.stages[wired_stage(stage.data.tokens)]
    if isinstance(source, CorpusStage) and stage.objective.needs_word_starts() and not source.data.word_starts:
        return ["objective.whole_word_masking=true needs word boundaries in the data: set data.word_starts=true"]
    return stage.objective.unlabelled_problems() if isinstance(source, UnlabelledStage) else []


def _rows_problems(job: Job, stage: TrainStage | GraphStage | GraphTrainStage) -> list[str]:
    """Return a message for a folder outside the run that has no tokenized rows."""
    tokens = stage.data.tokens
    if tokens.startswith(WIRE) or PreparedRows(Path(tokens)).exist():
        return []
    return [f"data.tokens={tokens} has no tokenized rows (no {STATISTICS}): give the tokens of a run"]


def _graph_problems(job: Job, stage: GraphTrainStage) -> list[str]:
    """Return a message for a folder outside the run that has no graph."""
    graph = stage.data.graph
    if graph.startswith(WIRE) or (Path(graph) / ADJACENCY).exists():
        return []
    return [f"data.graph={graph} has no graph (no {ADJACENCY}): give the graph of a run, or leave the key out"]


FILES: dict[type, Check] = {
    CorpusStage: corpus_problems,
    CutVocabularyStage: corpus_problems,
    VocabularyStage: vocabulary_file_problems,
    LabelledStage: labelled_problems,
    UnlabelledStage: unlabelled_problems,
    SoftLabelsStage: judgement_problems,
}
CHECKS: dict[type, tuple[Check, ...]] = {
    TrainStage: (
        architecture_problems,
        vocabulary_problems,
        input_problems,
        _token_problems,
        _task_problems,
        _teacher_output_problems,
    ),
    GraphStage: (_rows_problems,),
    GraphTrainStage: (_rows_problems, _graph_problems, _task_problems),
    TeacherOutputsStage: (vocabulary_problems,),
    UnlabelledStage: (_recipe_problems,),
    SoftLabelsStage: (_judged_task_problems,),
    WordsStage: (word_problems,),
    CalibrateStage: (_calibration_problems,),
    AugmentStage: (_augmentation_problems,),
    EvaluateStage: (_classifier_problems,),
}
