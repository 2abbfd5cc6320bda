"""Everything that can be found wrong before a job queues: without a GPU and without torch."""

import json
from pathlib import Path
from typing import Any, get_args

from kd_dist.candidates import sources_of
from kd_dist.config import find_job, join_problems, model_config_file, resolve_job
from kd_dist.errors import UserError
from kd_dist.heads import has_classifier_head
from kd_dist.label_files import labelled_files, parse_columns
from kd_dist.metrics import METRICS
from kd_dist.runs import with_absolute_paths
from kd_dist.sections import (
    FAMILIES,
    OFFSET_POSITIONS,
    FastBertObjective,
    FinetuneObjective,
    MlmObjective,
    Selection,
    SoftLabelsObjective,
    TinyBertObjective,
)
from kd_dist.stages import (
    WIRE,
    AugmentedStage,
    AugmentStage,
    CalibrateStage,
    EvaluateStage,
    Job,
    LabelledStage,
    PrepareStage,
    TrainStage,
    UnlabelledStage,
    wired_stage,
)
from kd_dist.texts import CorpusError, find_files, find_plain_texts

# A family may call the same number by another name.
ALIASES = {"num_hidden_layers": "n_layers", "num_attention_heads": "n_heads", "hidden_size": "dim"}
NUMBERS = tuple(ALIASES)

Config = dict[str, Any]


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
        checks = (_architecture_problems, _token_problems, _selection_problems, _teacher_output_problems)
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
        config = _model_config(job, "model.path", path)
    except UserError as error:
        return [str(error)]
    if config is not None and "backbone" in config:
        return []
    return [f"model.path={path} has no branches: give the export of fastbert_stage1, or leave the key out"]


def _augmentation_problems(job: Job, stage: AugmentStage) -> list[str]:
    source, settings = _prepared_by(job, stage), stage.augment
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
        for problem in _directory_problems(f"{name}.{key}", value)
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
    if not tokens.startswith(WIRE) and not (Path(tokens) / "preprocessing.json").exists():
        return [f"data.tokens={tokens} was not written by a `labelled` stage (no preprocessing.json in it)"]
    return []


def _directory_problems(key: str, path: str) -> list[str]:
    """A path that is neither a folder nor could be a hub name (`name` or `organisation/name`)."""
    if Path(path).is_dir() or (path.count("/") <= 1 and not path.startswith((".", "~", "/"))):
        return []
    return [
        f"{key}={path}: no such folder (a Hugging Face directory, or a hub name like google-bert/bert-base-chinese)"
    ]


def _architecture_problems(job: Job, stage: TrainStage) -> list[str]:
    if isinstance(stage.objective, FastBertObjective):
        return _fastbert_problems(job, stage, stage.objective)
    if stage.student is None and stage.teacher is None:
        return ["there is neither a student nor a teacher to train"]
    try:
        student = _student_config(job, stage)
        teacher = _teacher_config(job, stage)
    except UserError as error:
        return [str(error)]
    problems = []
    if student is not None:
        problems += _student_problems(student, _origin_of_student(stage))
        problems += _length_problems(job, stage, _origin_of_student(stage), student)
    if teacher is not None and not problems:
        problems += teacher_problems(stage, teacher, student)
        problems += _length_problems(job, stage, f"teacher.path={stage.teacher.path if stage.teacher else ''}", teacher)
    return problems


def _fastbert_problems(job: Job, stage: TrainStage, objective: FastBertObjective) -> list[str]:
    if stage.model is None:
        return ["there is no model to grow branches on: set model.path to a trained classifier"]
    problems, path = [], stage.model.path
    if objective.branch_width % objective.branch_heads:
        problems.append(
            f"objective.branch_width={objective.branch_width} does not divide among "
            f"objective.branch_heads={objective.branch_heads}"
        )
    if stage.engine.activation_checkpointing:
        problems.append(
            "engine.activation_checkpointing=true does nothing where only branches learn: leave it out, or set "
            "finetune.engine.activation_checkpointing=true if that is what is meant"
        )
    try:
        found = _model_config(job, "model.path", path)
        config, origin = _inside(found), _origin(job, path)
        has_head = path.startswith(WIRE) or has_classifier_head(path)  # that of a wired one is checked before
    except UserError as error:
        return [*problems, str(error)]
    if not has_head:
        problems.append(
            f"model.path={path} has no trained classification head, and branches learn from that: give the export of "
            f"`--job finetune teacher.path={path} data.train=FILE`, or use `--job fastbert`, which begins with it"
        )
    elif found is not None and not origin.startswith(WIRE) and _predicts_a_number(found):
        problems.append(f"model.path={origin} predicts a number, which has no uncertainty to leave early by")
    if config is not None and not problems:
        problems += _student_problems(config, f"model.path={path}")
        problems += _length_problems(job, stage, f"model.path={path}", config)
    if config is not None and config.get("num_hidden_layers") == 1:
        problems.append(f"model.path={path} has a single layer: there is nothing to leave before")
    return problems


def _predicts_a_number(config: Config) -> bool:
    """Whether a classifier's config.json says so, or names a single label and no task, as transformers reads it."""
    num_labels = len(config.get("id2label") or ()) or config.get("num_labels", 2)
    return config.get("problem_type") == "regression" or (config.get("problem_type") is None and num_labels == 1)


def _inside(config: Config | None) -> Config | None:
    """What a model says of the encoder that got branches, if it has any; else what it says of itself."""
    return config if config is None or "backbone" not in config else _with_common_names(config["backbone"])


def _origin_of_student(stage: TrainStage) -> str:
    """The setting that decides the student's architecture, for messages."""
    if stage.student is None or stage.student.teacher_layers is not None:
        return f"teacher.path={stage.teacher.path if stage.teacher else ''}"
    if stage.student.path is not None:
        return f"student.path={stage.student.path}"
    return f"student.config={stage.student.config}"


def _student_config(job: Job, stage: TrainStage) -> Config | None:
    """The architecture that is trained; None where it is not known yet (a model of the hub)."""
    if stage.model is not None:
        return _inside(_model_config(job, "model.path", stage.model.path))
    if stage.student is None:
        return _teacher_config(job, stage)
    if stage.student.path is not None:
        return _model_config(job, "student.path", stage.student.path)
    if stage.student.teacher_layers is None:
        return _read_config(model_config_file(stage.student.config))
    if stage.teacher is None:
        raise UserError("student.teacher_layers needs a teacher")
    teacher = _teacher_config(job, stage)
    if teacher is None or _missing(teacher):
        return None
    layers, there = stage.student.teacher_layers, teacher["num_hidden_layers"]
    if outside := [layer for layer in layers if not 1 <= layer <= there]:
        raise UserError(f"student.teacher_layers names layers {outside}: the teacher's layers are 1 to {there}")
    return teacher | {"num_hidden_layers": len(layers)}


def _teacher_config(job: Job, stage: TrainStage) -> Config | None:
    return _model_config(job, "teacher.path", stage.teacher.path) if stage.teacher is not None else None


def _model_config(job: Job, key: str, path: str) -> Config | None:
    """The config.json of a model folder, or of what an earlier stage will export; None for a model of the hub.

    Raises:
        UserError: there is no such folder, or no readable config.json in it.
    """
    path = _origin(job, path)
    if path.startswith(WIRE):
        source = job.stages[wired_stage(path)]
        return _student_config(job, source) if isinstance(source, TrainStage) else None
    if problems := _directory_problems(key, path):
        raise UserError(problems[0])
    if not Path(path).is_dir():
        return None
    if not (Path(path) / "config.json").exists():
        raise UserError(f"{key}={path} holds no config.json: not a Hugging Face directory")
    return _read_config(Path(path) / "config.json")


def _origin(job: Job, path: str) -> str:
    """Where the model comes from that an evaluate stage has let pass; any other path as it is."""
    source = job.stages[wired_stage(path)] if path.startswith(WIRE) else None
    return _origin(job, next(iter(source.evaluate.models.values()))) if isinstance(source, EvaluateStage) else path


def _read_config(file: Path) -> Config:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise UserError(f"{file} is not readable as JSON: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"{file} is no Hugging Face config.json: expected an object, found {type(content).__name__}")
    return _with_common_names(content)


def _with_common_names(content: Config) -> Config:
    return {name: content[alias] for name, alias in ALIASES.items() if alias in content} | content


def _prepared_by(job: Job, stage: TrainStage | AugmentStage | AugmentedStage | UnlabelledStage) -> Any:
    """The stage of this job that decided how files became tokens, whatever was made alike since; else None."""
    source = job.stages.get(wired_stage(stage.data.tokens or ""))
    if isinstance(source, AugmentedStage) or (isinstance(source, UnlabelledStage) and source.data.tokens):
        return _prepared_by(job, source)
    return source


def _length_problems(job: Job, stage: TrainStage, whose: str, config: Config) -> list[str]:
    """Sequences longer than the position embeddings would only fail on the GPU."""
    source, limit = _prepared_by(job, stage), num_positions(config)
    if not isinstance(source, PrepareStage | LabelledStage) or limit is None or source.data.max_length <= limit:
        return []
    return [f"data.max_length={source.data.max_length} is more than the {limit} positions of {whose}"]


def num_positions(config: Config) -> int | None:
    """How many tokens a model has positions for, by its config.json; None where that does not say."""
    limit, padding = config.get("max_position_embeddings"), config.get("pad_token_id", 1)
    if not isinstance(limit, int):
        return None
    return limit - (padding or 0) - 1 if config.get("model_type") in OFFSET_POSITIONS else limit


def _missing(config: Config) -> str:
    return ", ".join(key for key in NUMBERS if not isinstance(config.get(key), int) or config[key] < 1)


def _student_problems(config: Config, origin: str) -> list[str]:
    family = config.get("model_type")
    if family not in FAMILIES or config.get("is_decoder") or config.get("is_encoder_decoder"):
        return [
            f"{origin} is a `{family}` model, not an encoder that can be trained; supported families: "
            f"{', '.join(FAMILIES)}"
        ]
    if missing := _missing(config):
        return [f"{origin}: its config.json does not say {missing}"]
    if config["hidden_size"] % config["num_attention_heads"]:
        width, heads = config["hidden_size"], config["num_attention_heads"]
        return [f"{origin}: hidden_size={width} does not divide among num_attention_heads={heads}"]
    return []


def teacher_problems(stage: TrainStage, teacher: Config, student: Config | None) -> list[str]:
    """Whether this student can learn from this teacher; both as their config.json says."""
    family = teacher.get("model_type")
    if family not in FAMILIES or teacher.get("is_decoder") or teacher.get("is_encoder_decoder"):
        return [
            f"teacher.path={stage.teacher.path if stage.teacher else ''} is a `{family}` model, not an encoder that "
            f"can be distilled; supported families: {', '.join(FAMILIES)}"
        ]
    if missing := _missing(teacher):
        return [f"teacher.path={stage.teacher.path if stage.teacher else ''}: its config.json does not say {missing}"]
    if isinstance(stage.objective, TinyBertObjective) and student is not None:
        return _tinybert_problems(stage.objective, teacher, student)
    return []


def _tinybert_problems(objective: TinyBertObjective, teacher: Config, student: Config) -> list[str]:
    problems = []
    heads = teacher["num_attention_heads"], student["num_attention_heads"]
    if objective.attention_weight > 0 and heads[0] != heads[1]:
        problems.append(
            f"the teacher has {heads[0]} attention heads and the student {heads[1]}: their scores cannot be compared. "
            f"Choose a student with {heads[0]} heads (student.config), or set objective.attention_weight=0"
        )
    layers = teacher["num_hidden_layers"], student["num_hidden_layers"]
    if objective.layer_map is None:
        if layers[0] < layers[1]:
            problems.append(
                f"the student's {layers[1]} layers are more than the teacher's {layers[0]}: set objective.layer_map"
            )
        return problems
    if len(objective.layer_map) != layers[1]:
        problems.append(
            f"objective.layer_map={objective.layer_map} names {len(objective.layer_map)} teacher layers, but the "
            f"student has {layers[1]} layers: name one for each"
        )
    outside = [layer for layer in objective.layer_map if not 1 <= layer <= layers[0]]
    if outside:
        problems.append(f"objective.layer_map names layers {outside}: the teacher's layers are 1 to {layers[0]}")
    return problems


def _selection_problems(job: Job, stage: TrainStage) -> list[str]:
    """A metric that the task does not have, or weights of classes where there are none."""
    source = _prepared_by(job, stage)
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
        if not (Path(stage.data.tokens) / "statistics.json").exists():
            return [f"data.tokens={stage.data.tokens} was not written by a prepare stage (no statistics.json in it)"]
        return []
    prepare = job.stages[wired_stage(stage.data.tokens)]
    wants_words = isinstance(stage.objective, MlmObjective) and stage.objective.whole_word_masking
    if wants_words and isinstance(prepare, PrepareStage) and not prepare.data.word_starts:
        return ["objective.whole_word_masking=true needs word borders in the data: set data.word_starts=true"]
    return []
