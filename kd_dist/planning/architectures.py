"""Whether the models of a stage fit each other and the data, by their config.json alone."""

from pathlib import Path
from typing import Any

from kd_dist.config.families import FAMILIES
from kd_dist.config.job import Job
from kd_dist.config.model_folders import (
    NUMBERS,
    Config,
    has_classifier_head,
    inside,
    num_positions,
    read_config,
)
from kd_dist.config.paths import model_config_file
from kd_dist.config.sections.objectives import FastBertObjective, TinyBertObjective
from kd_dist.config.stages import (
    WIRE,
    AugmentedStage,
    AugmentStage,
    EvaluateStage,
    LabelledStage,
    PrepareStage,
    TrainStage,
    UnlabelledStage,
    wired_stage,
)
from kd_dist.errors import UserError


def directory_problems(key: str, path: str) -> list[str]:
    """A path that is neither a folder nor could be a hub name (`name` or `organisation/name`)."""
    if Path(path).is_dir() or (path.count("/") <= 1 and not path.startswith((".", "~", "/"))):
        return []
    return [
        f"{key}={path}: no such folder (a Hugging Face directory, or a hub name like google-bert/bert-base-chinese)"
    ]


def architecture_problems(job: Job, stage: TrainStage) -> list[str]:
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
        found = model_config(job, "model.path", path)
        config, origin = found and inside(found), _origin(job, path)
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
        config = model_config(job, "model.path", stage.model.path)
        return config and inside(config)
    if stage.student is None:
        return _teacher_config(job, stage)
    if stage.student.path is not None:
        return model_config(job, "student.path", stage.student.path)
    if stage.student.teacher_layers is None:
        return read_config(model_config_file(stage.student.config))
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
    return model_config(job, "teacher.path", stage.teacher.path) if stage.teacher is not None else None


def model_config(job: Job, key: str, path: str) -> Config | None:
    """The config.json of a model folder, or of what an earlier stage will export; None for a model of the hub.

    Raises:
        UserError: there is no such folder, or no readable config.json in it.
    """
    path = _origin(job, path)
    if path.startswith(WIRE):
        source = job.stages[wired_stage(path)]
        return _student_config(job, source) if isinstance(source, TrainStage) else None
    if problems := directory_problems(key, path):
        raise UserError(problems[0])
    if not Path(path).is_dir():
        return None
    if not (Path(path) / "config.json").exists():
        raise UserError(f"{key}={path} holds no config.json: not a Hugging Face directory")
    return read_config(Path(path) / "config.json")


def _origin(job: Job, path: str) -> str:
    """Where the model comes from that an evaluate stage has let pass; any other path as it is."""
    source = job.stages[wired_stage(path)] if path.startswith(WIRE) else None
    return _origin(job, next(iter(source.evaluate.models.values()))) if isinstance(source, EvaluateStage) else path


def prepared_by(job: Job, stage: TrainStage | AugmentStage | AugmentedStage | UnlabelledStage) -> Any:
    """The stage of this job that decided how files became tokens, whatever was made alike since; else None."""
    source = job.stages.get(wired_stage(stage.data.tokens or ""))
    if isinstance(source, AugmentedStage) or (isinstance(source, UnlabelledStage) and source.data.tokens):
        return prepared_by(job, source)
    return source


def _length_problems(job: Job, stage: TrainStage, whose: str, config: Config) -> list[str]:
    """Sequences longer than the position embeddings would only fail on the GPU."""
    source, limit = prepared_by(job, stage), num_positions(config)
    if not isinstance(source, PrepareStage | LabelledStage) or limit is None or source.data.max_length <= limit:
        return []
    return [f"data.max_length={source.data.max_length} is more than the {limit} positions of {whose}"]


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
