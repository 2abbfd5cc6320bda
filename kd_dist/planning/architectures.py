"""Find models that do not fit each other or the data, by their config.json alone."""

from pathlib import Path
from typing import Any

from kd_dist.config.families import ALL_FAMILIES, FAMILIES
from kd_dist.config.graph_stages import GraphTrainStage
from kd_dist.config.job import Job
from kd_dist.config.paths import model_config_file
from kd_dist.config.recurrent import RECURRENT, is_recurrent, recurrent_problems
from kd_dist.config.sections.graph import TEXT_GCN
from kd_dist.config.sections.objective import Parts
from kd_dist.config.stage import WIRE, wired_stage
from kd_dist.config.stages import (
    AugmentedStage,
    AugmentStage,
    CorpusStage,
    EvaluateStage,
    LabelledStage,
    SoftLabelsStage,
    TeacherOutputsStage,
    TrainStage,
    UnlabelledStage,
    WordsStage,
)
from kd_dist.errors import UserError
from kd_dist.model_files.model_configs import config_file, untyped_problem
from kd_dist.model_files.model_folders import (
    NUMBERS,
    Config,
    encoder_config,
    has_classifier_head,
    make_classifier_hint,
    num_positions,
    read_config,
    task_of,
)

STUDENTS = ("fastbert", RECURRENT, TEXT_GCN)  # families that are made here, to be small or fast: they teach nobody


def directory_problems(path: str) -> list[str]:
    """Return a message for a path that is neither a folder nor the form of a hub name (`organization/name`)."""
    if Path(path).is_dir() or (path.count("/") <= 1 and not path.startswith((".", "~", "/"))):
        return []
    return [f"{path}: no such folder (a Hugging Face directory, or a hub name like google-bert/bert-base-chinese)"]


def architecture_problems(job: Job, stage: TrainStage) -> list[str]:
    """Return why a stage cannot train its model: its architecture, its teacher's, or rows that are too long."""
    if stage.objective.trains_branches:
        return _branch_problems(job, stage)
    if stage.student is None and stage.encoder is None:
        return ["there is neither a student nor an encoder to train: set student.config or encoder.path"]
    try:
        trained, origin = trained_config(job, stage), _origin_of_trained(stage)
        teacher = stage.teacher and model_config(job, "teacher.path", stage.teacher.path)
    except UserError as error:
        return [str(error)]
    problems = [] if trained is None else _trained_problems(job, stage, origin, trained)
    if stage.teacher and teacher and not problems:
        problems += _teacher_problems(stage, teacher, trained)
        problems += _length_problems(job, stage, f"teacher.path={stage.teacher.path}", teacher)
    return problems or _donor_problems(job, stage)


def _donor_problems(job: Job, stage: TrainStage) -> list[str]:
    """Return why a student cannot start from the weights of its donor."""
    path = stage.initialized_from()
    if path is None or stage.donor is None:  # without a donor it is the teacher
        return []
    try:
        config = model_config(job, "donor.path", path)
    except UserError as error:
        return [str(error)]
    return [] if config is None else _donated_problems(config, f"donor.path={path}")


def _donated_problems(config: Config, origin: str) -> list[str]:
    """Return why a model can give no embeddings; those of words are enough, which every family has."""
    known = config.get("model_type") and config["model_type"] not in STUDENTS
    return [] if known else _encoder_problems(config, origin, "a donor of embeddings")


def _branch_problems(job: Job, stage: TrainStage) -> list[str]:
    """Return why branches cannot be added to the classifier of a stage."""
    if stage.model is None:
        return []  # reported by the objective
    path = stage.model.path
    try:
        found, origin = model_config(job, "model.path", path), origin_of(job, path)
        has_head = path.startswith(WIRE) or has_classifier_head(path)  # an earlier stage checks a wired one
    except UserError as error:
        return [str(error)]
    problems = []
    if not has_head:
        problems.append(
            f"model.path={path} has no trained classification head for branches to learn from: "
            f"{make_classifier_hint(path)}, or use `--job fastbert`, which fine-tunes first"
        )
    elif found is not None and not origin.startswith(WIRE) and task_of(found) == "regression":
        problems.append(f"model.path={origin} predicts a number, which has no uncertainty for early exit to use")
    if found is not None:
        problems += _trained_problems(job, stage, f"model.path={path}", encoder_config(found))
    return problems


def _trained_problems(job: Job, stage: TrainStage, origin: str, config: Config) -> list[str]:
    """Return why a model with this config.json cannot be trained on these rows with this objective."""
    if is_recurrent(config):
        problems = _recurrent_problems(stage, origin, config)
    else:
        problems = _encoder_problems(config, origin, "trained", stage.objective.reads())
    if problems:
        return problems
    own = [f"{origin} {problem}" for problem in stage.objective.training_problems(config)]
    return own + _length_problems(job, stage, origin, config)


def _recurrent_problems(stage: TrainStage, origin: str, config: Config) -> list[str]:
    """Return why a recurrent model with this config.json cannot be trained in a stage."""
    if not stage.objective.trains_recurrent:
        return [
            f"{origin} is a recurrent model, without layers of attention: it learns from labels and from a teacher's "
            "predictions alone; use `--job rnn`"
        ]
    problems = [f"{origin}: {problem}" for problem in recurrent_problems(config)]
    if stage.engine.activation_checkpointing:
        problems.append(
            f"engine.activation_checkpointing=true recomputes layers of attention, and {origin} is a recurrent model: "
            "leave it out"
        )
    return problems


def _origin_of_trained(stage: TrainStage) -> str:
    """Return the setting that decides the architecture of the trained model, as `key=value` for messages."""
    if stage.student is None:
        return f"encoder.path={stage.encoder.path if stage.encoder else ''}"
    if stage.student.path is not None:
        return f"student.path={stage.student.path}"
    if stage.student.teacher_layers is not None:
        return f"{_donor_key(stage)}={stage.donor_path()}"
    return f"student.config={stage.student.config}"


def _donor_key(stage: TrainStage) -> str:
    return "donor.path" if stage.donor else "teacher.path"


def trained_config(job: Job, stage: TrainStage) -> Config | None:
    """Return the architecture of the trained model; None where it is not known yet (a model on the hub)."""
    if stage.model is not None:
        config = model_config(job, "model.path", stage.model.path)
        return config and encoder_config(config)
    if stage.student is None:
        return None if stage.encoder is None else model_config(job, "encoder.path", stage.encoder.path)
    if stage.student.path is not None:
        return model_config(job, "student.path", stage.student.path)
    if stage.student.teacher_layers is None:
        return read_config(model_config_file(stage.student.config))
    return _donated_config(job, stage, stage.student.teacher_layers)


def _donated_config(job: Job, stage: TrainStage, layers: list[int]) -> Config | None:
    """Return the architecture of a student that consists of these layers of its donor."""
    path = stage.donor_path()
    if path is None:
        raise UserError(
            "student.teacher_layers takes layers of a model, but there is none: set donor.path or teacher.path"
        )
    donor = model_config(job, _donor_key(stage), path)
    if donor is None or _missing(donor):
        return None
    if donor["model_type"] not in ALL_FAMILIES:
        raise UserError(
            f"student.teacher_layers takes layers of {', '.join(ALL_FAMILIES)} models, and {path} is a "
            f"`{donor['model_type']}` model: leave it out, and the student starts from the embeddings alone"
        )
    there = donor["num_hidden_layers"]
    if outside := [layer for layer in layers if not 1 <= layer <= there]:
        raise UserError(f"student.teacher_layers names layers {outside}: the layers of {path} are 1 to {there}")
    return donor | {"num_hidden_layers": len(layers)}


def model_config(job: Job, key: str, path: str) -> Config | None:
    """Return the config.json of a model folder, or of the model that an earlier stage will export.

    Args:
        job: The job, which has the earlier stages.
        key: The setting that names the model, for messages.
        path: A folder, a hub name or a wire.

    Returns:
        The configuration; None for a model on the hub.

    Raises:
        UserError: The folder does not exist, or has no readable config.json.
    """
    path = origin_of(job, path)
    if path.startswith(WIRE):
        source = job.stages[wired_stage(path)]
        return trained_config(job, source) if isinstance(source, TrainStage) else None
    if problems := directory_problems(path):
        raise UserError(f"{key}={problems[0]}")
    if not Path(path).is_dir():
        return None
    if (file := config_file(Path(path))) is None:
        raise UserError(f"{key}={path} has no config.json: give a Hugging Face directory")
    return read_config(file)


def origin_of(job: Job, path: str) -> str:
    """Return the path behind the `model` of an evaluate stage, which links to its first model; others unchanged."""
    source = job.stages[wired_stage(path)] if path.startswith(WIRE) else None
    return origin_of(job, next(iter(source.evaluate.models.values()))) if isinstance(source, EvaluateStage) else path


def prepared_by(
    job: Job,
    stage: TrainStage
    | GraphTrainStage
    | TeacherOutputsStage
    | SoftLabelsStage
    | AugmentStage
    | AugmentedStage
    | UnlabelledStage
    | WordsStage,
) -> Any:
    """Return the stage of this job that decides how the texts of `stage` are tokenized; None if it is outside.

    Augmented rows, rows of words, and unlabelled rows beside labelled ones, are made like the rows that they are based
    on.
    """
    source = job.stages.get(wired_stage(stage.data.tokens or ""))
    if isinstance(source, AugmentedStage | WordsStage) or (isinstance(source, UnlabelledStage) and source.data.tokens):
        return prepared_by(job, source)
    return source


def _length_problems(job: Job, stage: TrainStage, whose: str, config: Config) -> list[str]:
    """Return a message for rows longer than the position embeddings, which would fail only on the GPU."""
    source, limit = prepared_by(job, stage), num_positions(config)
    if not isinstance(source, CorpusStage | LabelledStage) or limit is None or source.data.max_length <= limit:
        return []
    return [f"data.max_length={source.data.max_length} is more than the {limit} positions of {whose}"]


def _missing(config: Config) -> str:
    """Return the sizes that a config.json does not give, as a list for messages."""
    return ", ".join(key for key in NUMBERS if not isinstance(config.get(key), int) or config[key] < 1)


def _encoder_problems(config: Config, origin: str, purpose: str, reads: Parts = "layers") -> list[str]:
    """Return why a config.json is not an encoder that can be trained or distilled, which `purpose` says.

    Where predictions alone are read, any model will do of which transformers has a classifier, which is known once it
    is loaded.
    """
    if problem := untyped_problem(config):
        return [f"{origin} {problem}"]
    family = config["model_type"]
    if reads == "predictions" and family not in (*ALL_FAMILIES, *STUDENTS):
        return []
    if reads == "attention" and family in ALL_FAMILIES and (reason := ALL_FAMILIES[family].no_attention):
        return [
            f"{origin} is a `{family}` model, whose attention cannot be distilled: {reason}. Its predictions can "
            "(`--job finetune`, then `--job tinybert_task` or `--job rnn`), and its hidden states with TinyBERT's "
            "objective (objective.attention=none)"
        ]
    supported = ALL_FAMILIES if reads in ("predictions", "hidden states") else FAMILIES
    if family not in supported or config.get("is_decoder") or config.get("is_encoder_decoder"):
        known = reads == "layers" and family in ALL_FAMILIES
        why = "whose layers are not known one by one" if known else f"not an encoder that can be {purpose}"
        way_out = ", into which its predictions can be distilled (`--job tinybert_task`)" if known else ""
        return [f"{origin} is a `{family}` model, {why}; supported families: {', '.join(supported)}{way_out}"]
    if missing := _missing(config):
        return [f"{origin}: its config.json does not give {missing}"]
    width, heads = config["hidden_size"], config["num_attention_heads"]
    if width % heads:
        return [f"{origin}: hidden_size={width} does not divide among num_attention_heads={heads}"]
    return []


def _teacher_problems(stage: TrainStage, teacher: Config, student: Config | None) -> list[str]:
    """Return why this student cannot learn from this teacher; both are given by their config.json."""
    assert stage.teacher is not None
    if problems := _encoder_problems(
        teacher, f"teacher.path={stage.teacher.path}", "distilled", stage.objective.reads()
    ):
        return problems
    return [] if student is None else stage.objective.architecture_problems(teacher, student)
