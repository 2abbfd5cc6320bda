"""Everything that can be found wrong before a job queues: without a GPU and without torch."""

from pathlib import Path
from typing import Any, get_args

from kd_dist.augmentation.sources import sources_of
from kd_dist.config.job import Job
from kd_dist.config.jobs import find_job, resolve_job
from kd_dist.config.model_folders import has_classifier_head
from kd_dist.config.overrides import join_problems
from kd_dist.config.paths import with_absolute_paths
from kd_dist.config.sections.objectives import FastBertObjective, FinetuneObjective, MlmObjective, SoftLabelsObjective
from kd_dist.config.sections.training import Selection
from kd_dist.config.stages import (
    WIRE,
    AugmentStage,
    CalibrateStage,
    EvaluateStage,
    LabelledStage,
    PrepareStage,
    TrainStage,
    UnlabelledStage,
    wired_stage,
)
from kd_dist.config.tasks import METRICS
from kd_dist.data.columns import parse_columns
from kd_dist.data.discovery import find_files, labelled_files
from kd_dist.data.prepared_rows import STATISTICS, PreparedRows
from kd_dist.data.preprocessing import FILE_NAME
from kd_dist.data.readers import find_plain_texts
from kd_dist.errors import CorpusError, UserError
from kd_dist.planning.architectures import architecture_problems, directory_problems, model_config, prepared_by


def load_checked_job(name: str, overrides: list[str], overlay: Path | None = None, plan_only: bool = False) -> Job:
    """`load_job` and `check_job` in one, with absolute paths and every problem of both reported at once.

    `plan_only` shows what a job would do before there is any text: its default corpus need not exist, but what the
    user did name must.
    """
    job, problems = resolve_job(name, overrides, overlay)
    if job is not None:
        needs_corpus = not (plan_only and _corpora(find_job(name)) == _corpora(job))
        job = with_absolute_paths(job)
        problems += _job_problems(job, needs_corpus)
    if problems or job is None:
        raise UserError(join_problems(problems))
    return job


def check_job(job: Job, needs_corpus: bool = True) -> None:
    """Raise one UserError that holds every problem of every stage; `needs_corpus` is false to look at a plan only."""
    if problems := _job_problems(job, needs_corpus):
        raise UserError(join_problems(problems))


def _job_problems(job: Job, needs_corpus: bool) -> list[str]:
    return [
        f"{name}: {text}" for name, stage in job.stages.items() for text in _stage_problems(job, stage, needs_corpus)
    ]


def _corpora(job: Job) -> set[str]:
    """Text files that the job reads from outside."""
    keys = ("data.corpus", "data.train", "data.unlabelled")
    return {path for stage in job.stages.values() for key, path in stage.named_paths() if key in keys}


def _stage_problems(job: Job, stage: Any, needs_corpus: bool) -> list[str]:
    if isinstance(stage, PrepareStage):
        return [*(_corpus_problems(stage) if needs_corpus else []), *_model_problems(stage)]
    if isinstance(stage, TrainStage):
        checks = (architecture_problems, _token_problems, _selection_problems, _teacher_output_problems)
        return [problem for check in checks for problem in check(job, stage)]
    if isinstance(stage, LabelledStage):
        return [*(_labelled_problems(stage) if needs_corpus else []), *_model_problems(stage)]
    if isinstance(stage, UnlabelledStage):
        return [*(_unlabelled_problems(stage) if needs_corpus else []), *_recipe_problems(stage)]
    if isinstance(stage, CalibrateStage):
        return _model_problems(stage) or _calibration_problems(job, stage)
    if isinstance(stage, AugmentStage):
        return _model_problems(stage) or _augmentation_problems(job, stage)
    if isinstance(stage, EvaluateStage):
        return _model_problems(stage) or _classifier_problems(stage)
    return _model_problems(stage)


def _calibration_problems(job: Job, stage: CalibrateStage) -> list[str]:
    path = stage.model.path
    if path.startswith(WIRE) or not Path(path).is_dir():
        return []
    try:
        config = model_config(job, "model.path", path)
    except UserError as error:
        return [str(error)]
    if config is not None and "backbone" in config:
        return []
    return [f"model.path={path} has no branches: give the export of fastbert_stage1, or leave the key out"]


def _augmentation_problems(job: Job, stage: AugmentStage) -> list[str]:
    source, settings = prepared_by(job, stage), stage.augment
    if settings.keep_confidence is not None and isinstance(source, LabelledStage) and source.data.task == "regression":
        return ["augment.keep_confidence asks for the probability of a label, and data.task=regression has none"]
    try:
        sources_of(stage)
    except UserError as error:
        return [str(error)]
    # What a stage of this job has trained is a classifier, and proposes no words.
    if stage.teacher.path.startswith(WIRE) and settings.mlm_path is None and settings.multi_piece == "mask":
        return ["augment.multi_piece=mask needs a masked language model: set augment.mlm_path"]
    return []


def _classifier_problems(stage: EvaluateStage) -> list[str]:
    """Encoders in place of the classifiers that are to be scored."""
    try:
        headless = [path for path in stage.evaluate.models.values() if not has_classifier_head(path)]
    except UserError as error:
        return [str(error)]
    return [
        f"{path} has no trained classification head, so it can neither be scored nor teach labels: give the export of "
        f"`--job finetune teacher.path={path} data.train=FILE`, or use `--job tinybert` or `--job fastbert`, which "
        "begin with it"
        for path in headless
    ]


def _labelled_problems(stage: LabelledStage) -> list[str]:
    problems = []
    try:
        parse_columns(stage.data.columns)
    except CorpusError as error:
        problems.append(str(error))
    for split in ("train", "validation", "test"):
        patterns = [pattern for pattern in getattr(stage.data, split) if not pattern.startswith(WIRE)]
        try:
            next(iter(labelled_files(patterns)), None)
        except CorpusError as error:
            problems.append(f"data.{split}: {error}")
    for key in ("label_names", "hint_words"):
        path = getattr(stage.data, key)
        if path is not None and not Path(path).is_file():
            problems.append(f"data.{key}={path}: no such file")
    if not stage.data.train:
        problems.append("data.train is empty: name labelled files, for example data.train=train.tsv")
    return problems


def _model_problems(stage: Any) -> list[str]:
    """Models that are named and are not there."""
    return [
        problem
        for name, section in stage.sections()
        for key, value in section.named(section.MODELS)
        if not value.startswith(WIRE)
        for problem in directory_problems(f"{name}.{key}", value)
    ]


def _corpus_problems(stage: PrepareStage) -> list[str]:
    problems = []
    patterns = [pattern for pattern in stage.data.corpus if not pattern.startswith(WIRE)]
    if not stage.data.corpus:
        problems.append("data.corpus is empty: name text files, for example data.corpus='corpus/*.txt.gz'")
    try:
        if patterns and not any(file.stat().st_size for file in find_files(patterns)):
            problems.append(f"data.corpus={','.join(patterns)}: there is no text in these files, all are empty")
    except CorpusError as error:
        problems.append(f"data.corpus: {error}")
    return problems


def _unlabelled_problems(stage: UnlabelledStage) -> list[str]:
    if not stage.data.unlabelled:
        return ["data.unlabelled is empty: name files of texts, for example data.unlabelled='texts/*.parquet'"]
    patterns = [pattern for pattern in stage.data.unlabelled if not pattern.startswith(WIRE)]
    try:
        if patterns:
            find_plain_texts(patterns)
    except CorpusError as error:
        return [f"data.unlabelled: {error}"]
    return []


def _recipe_problems(stage: UnlabelledStage) -> list[str]:
    """Labelled rows or a classifier must say how texts become tokens; where both are given, the rows do."""
    tokens = stage.data.tokens
    if tokens is None:
        if stage.model is None:
            return ["data.tokens names no labelled rows, and there is no model.path: one must say how texts are made"]
        return _model_problems(stage)
    if not tokens.startswith(WIRE) and not PreparedRows(Path(tokens)).have_preprocessing():
        return [f"data.tokens={tokens} was not written by a `labelled` stage (no {FILE_NAME} in it)"]
    return []


def _selection_problems(job: Job, stage: TrainStage) -> list[str]:
    """A metric that the task does not have, or weights of classes where there are none."""
    source = prepared_by(job, stage)
    if not isinstance(source, LabelledStage):
        return []
    task, problems = source.data.task, []
    known = get_args(Selection.model_fields["metric"].annotation)
    metrics = ["auto", "loss", *(name for name in METRICS[task] if name in known)]
    if stage.selection is not None and stage.selection.metric not in metrics:
        problems.append(f"selection.metric={stage.selection.metric}: a {task} task has {', '.join(metrics)}")
    weighs = isinstance(stage.objective, FinetuneObjective) and stage.objective.class_weights != "none"
    if weighs and task != "single_label":
        problems.append(f"objective.class_weights weighs single labels, but data.task={task}")
    if isinstance(stage.objective, FastBertObjective) and task == "regression":
        problems.append("data.task=regression predicts a number, which has no uncertainty to leave early by")
    return problems


def _teacher_output_problems(job: Job, stage: TrainStage) -> list[str]:
    """A key without a stage does not reach the stage that it is for, where an earlier stage feeds it."""
    if stage.data.teacher_outputs is None or isinstance(stage.objective, SoftLabelsObjective):
        return []
    users = [
        f"{name}.data.teacher_outputs"
        for name, other in job.stages.items()
        if isinstance(other, TrainStage) and isinstance(other.objective, SoftLabelsObjective)
    ]
    way_out = f"set {' or '.join(users)} instead" if users else "leave the key out"
    return [f"data.teacher_outputs has no use in a stage that does not learn from the teacher's prediction: {way_out}"]


def _token_problems(job: Job, stage: TrainStage) -> list[str]:
    if not stage.data.tokens.startswith(WIRE):
        if not PreparedRows(Path(stage.data.tokens)).exist():
            return [f"data.tokens={stage.data.tokens} was not written by a prepare stage (no {STATISTICS} in it)"]
        return []
    prepare = job.stages[wired_stage(stage.data.tokens)]
    wants_words = isinstance(stage.objective, MlmObjective) and stage.objective.whole_word_masking
    if wants_words and isinstance(prepare, PrepareStage) and not prepare.data.word_starts:
        return ["objective.whole_word_masking=true needs word borders in the data: set data.word_starts=true"]
    return []
