"""The parts of a stage: sections of settings, each key typed, described and with its unit in its name.

No torch: a login node validates them in a blink.
"""

import math
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

# The `model_type` of every encoder whose layers call transformers' AttentionInterface and whose scores are plain QK'.
FAMILIES = ("albert", "bert", "distilbert", "electra", "ernie", "roberta", "xlm-roberta")
OFFSET_POSITIONS = ("roberta", "xlm-roberta")  # families that number positions from the padding token's id on

# Of texts without labels: a loss is known well from so many rows, and every evaluation reads them all.
MAX_HELD_OUT_ROWS = 10_000


def _optional(value: Any) -> Any:
    """`none` and `null` on the command line mean no value."""
    return None if isinstance(value, str) and value.lower() in ("none", "null", "") else value


def _listed(value: Any) -> Any:
    """`3,6,9,12`, `[3,6,9,12]` and a single item are all lists on the command line."""
    if isinstance(value, str) and value.lower() not in ("none", "null"):
        return [part.strip().strip("'\"") for part in value.strip("[]").split(",") if part.strip()]
    return _optional(value)


def _mapped(value: Any) -> Any:
    """`a:x,b:y` is a map on the command line."""
    if isinstance(value, str):
        return dict(part.split(":", 1) if ":" in part else (part, "") for part in _listed(value) or [])
    return value


Words = Annotated[list[str], BeforeValidator(_listed)]
Name = Annotated[str | None, BeforeValidator(_optional)]


class Section(BaseModel):
    """A frozen part of a stage that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)

    PATHS: ClassVar[tuple[str, ...]] = ()
    """Keys that hold local paths, which are made absolute and belong to the input files of a stage."""
    MODELS: ClassVar[tuple[str, ...]] = ()
    """Keys that hold a model folder or the name of a model on the hub."""

    def named(self, keys: tuple[str, ...]) -> list[tuple[str, str]]:
        """(key, value) of every string that stands under these keys, lists and maps included."""
        found = []
        for key in keys:
            value = getattr(self, key)
            items = list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else [value]
            found += [(key, item) for item in items if item]
        return found

    def with_changed(self, keys: tuple[str, ...], change: Callable[[str, str], str]) -> Self:
        """The counterpart of `named`: this section with `change(key, value)` in place of every such string."""

        def changed(key: str, value: Any) -> Any:
            if isinstance(value, dict):
                return {name: changed(key, item) for name, item in value.items()}
            if isinstance(value, list):
                return [changed(key, item) for item in value]
            return change(key, value) if value and isinstance(value, str) else value

        return self.model_copy(update={key: changed(key, getattr(self, key)) for key in keys})


class Teacher(Section):
    MODELS = ("path",)
    path: str = Field(description="Hugging Face directory or hub name of the teacher")


class Model(Section):
    MODELS = ("path",)
    path: str = Field(description="Hugging Face directory or hub name of a classifier")


class Tokenizer(Section):
    MODELS = ("path",)
    path: Name = Field(
        default=None, description="Hugging Face tokenizer directory or hub name; none: train a WordPiece vocabulary"
    )
    vocabulary_size: int = Field(default=21128, ge=100, description="pieces of a vocabulary that is trained here")


class Student(Section):
    MODELS = ("path",)
    config: str = Field(
        default="tinybert_4l_312",
        description="architecture: a name in configs/models, or the path of a Hugging Face config.json file",
    )
    path: Name = Field(
        default=None,
        description="pretrained student to start from, in place of random weights; its architecture counts",
    )
    teacher_layers: Annotated[list[int] | None, BeforeValidator(_listed)] = Field(
        default=None, description="start from these teacher layers, counted from 1, in the teacher's own width"
    )


class CorpusData(Section):
    PATHS = ("corpus",)
    corpus: Words = Field(
        description="files, folders or globs: txt, json lines, parquet, Arrow, plain or .gz; a blank line ends a "
        "document"
    )
    max_length: int = Field(default=128, ge=8, description="tokens of a sequence, special tokens included")
    pack: bool = Field(default=True, description="pack sentences into sequences; false: one line is one sequence")
    text_field: str = Field(default="text", description="field of the text in json lines, parquet and Arrow")
    word_starts: bool = Field(default=False, description="store jieba's word borders, for whole-word masking")
    validation_fraction: float = Field(
        default=0.005, ge=0, le=0.5, description=f"share of the rows held out, at most {MAX_HELD_OUT_ROWS:,} rows"
    )
    num_workers: int = Field(default=0, ge=0, description="processes that tokenise; 0: one per available core")
    max_lines: Annotated[int | None, BeforeValidator(_optional)] = Field(
        default=None, ge=1, description="lines that are read, for a trial; none: all"
    )


class LabelledData(Section):
    PATHS = ("train", "validation", "test", "hint_words", "label_names")
    train: Words = Field(
        description="files, folders or globs: tsv, csv, txt, json (lines or one list), parquet, plain or .gz; or a "
        "folder of folders, each a class with a document in every file"
    )
    validation: Words = Field(default=[], description="the same; none: split off train")
    test: Words = Field(default=[], description="the same; none: split off train when there is no validation either")
    columns: Words = Field(
        default=["label", "text"],
        description="what the columns are, in order (label,text,text_pair; - skips one), or where to find them by name "
        "(text:sentence1,text_pair:sentence2,label:label)",
    )
    header: Literal["auto", "yes", "no"] = Field(
        default="auto", description="first row of tsv and csv; auto: a header if it holds the names in data.columns"
    )
    task: Literal["single_label", "multi_label", "regression"] = Field(
        default="single_label", description="one label of several, any number of labels, or a number"
    )
    label_separator: str = Field(default="|", min_length=1, description="between the labels of a multi-label row")
    label_names: Name = Field(default=None, description="file of label names, a line each, when data holds their index")
    max_length: int = Field(default=128, ge=8, description="tokens of a row, special tokens included; the rest is cut")
    segment: Literal["none", "char", "word"] = Field(
        default="none",
        description="how text is cut before the tokenizer: not at all, into characters, or into jieba words (one token "
        "each where the vocabulary has the word)",
    )
    hint_words: Name = Field(
        default=None,
        description="file of `category<TAB>word word ...` lines: words of the categories that the text mentions go "
        "before it ([words][SEP][text])",
    )
    bad_rows: Literal["error", "skip"] = Field(
        default="error", description="rows with a missing column, an empty text or an unknown label"
    )
    remove_leaked: bool = Field(default=True, description="drop train rows whose text stands in validation or test")
    validation_fraction: float = Field(default=0.1, gt=0, lt=0.5, description="share split off for validation")
    test_fraction: float = Field(default=0.1, gt=0, lt=0.5, description="share split off for test")
    max_rows: Annotated[int | None, BeforeValidator(_optional)] = Field(
        default=None,
        ge=1,
        description="rows of each split that are used, drawn at random with each class in proportion; none: all",
    )
    seed: int = Field(default=42, ge=0, description="of the splits and of max_rows")
    num_workers: int = Field(default=0, ge=0, description="processes that tokenise; 0: one per available core")


class UnlabelledData(Section):
    PATHS = ("unlabelled", "tokens")
    unlabelled: Words = Field(
        default=[],
        description="files, folders or globs of texts: txt, json lines, parquet, Arrow, plain or .gz; labels in them "
        "are ignored",
    )
    text_field: str = Field(default="text", description="field of the text in json lines, parquet and Arrow")
    tokens: Name = Field(
        default=None, description="labelled rows whose validation and test rows are kept; none: rows are held out"
    )
    validation_fraction: float = Field(
        default=0.005,
        ge=0,
        le=0.5,
        description=f"share of the rows held out, at most {MAX_HELD_OUT_ROWS:,} rows, where data.tokens names none",
    )
    num_workers: int = Field(default=0, ge=0, description="processes that tokenise; 0: one per available core")


class PlainTokenData(Section):
    PATHS: ClassVar[tuple[str, ...]] = ("tokens",)
    tokens: str = Field(description="prepared rows: a folder written by a prepare stage")


class TokenData(PlainTokenData):
    PATHS = ("tokens", "teacher_outputs")
    teacher_outputs: Name = Field(
        default=None, description="the teacher's logits for these rows, written before; none: the teacher runs along"
    )
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


class Selection(Section):
    """Which of the weights that a stage went through become its result."""

    metric: Literal["auto", "accuracy", "macro_f1", "micro_f1", "spearman", "loss"] = Field(
        default="auto",
        description="on held-out rows; the best is kept. auto: accuracy, micro_f1 (multi-label) or spearman (numbers)",
    )
    patience: Annotated[int | None, BeforeValidator(_optional)] = Field(
        default=None, ge=1, description="evaluations in a row without a better one that end the stage; none: all steps"
    )


class Tracking(Section):
    project: str = Field(default="kd_dist", description="W&B project")
    tags: Words = Field(default=[], description="W&B tags")


class ProcessResources(Section):
    """What a stage of one process asks of the cluster."""

    cpus: int = Field(default=8, ge=1, description="CPU cores")
    memory_gb: Annotated[int | None, BeforeValidator(_optional)] = Field(
        default=None, ge=1, description="memory; none: the cluster's default"
    )
    timeout_minutes: int = Field(default=240, ge=1, description="time limit")

    def world_size(self) -> int:
        return 1


class CpuResources(ProcessResources):
    """A stage without GPUs."""


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


class TaskResources(ProcessResources):
    """A stage of one process, on a GPU where there is one."""

    gpus: int = Field(default=1, ge=0, le=1, description="1: on a GPU, where the cluster has any")


class ShardResources(TaskResources):
    """What each of the independent tasks of a stage asks of the cluster."""

    shards: int = Field(default=1, ge=1, description="parts of the work: an array job of as many tasks")


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


class FinetuneObjective(Section):
    """Learning from labels alone."""

    name: Literal["finetune"] = Field(default="finetune", description="learn from labels")
    class_weights: Literal["none", "balanced"] = Field(
        default="none", description="balanced: a class counts in inverse proportion to its rows"
    )

    def weights(self) -> dict[str, float]:
        return {"label": 1.0}


class SoftLabelsObjective(Section):
    """Distillation of the prediction (Hinton et al. 2015; TinyBERT's equation 10)."""

    name: Literal["soft_labels"] = Field(default="soft_labels", description="learn from the teacher's prediction")
    temperature: float = Field(default=1.0, gt=0, description="softens teacher and student before they are compared")
    compat: Literal["none", "huawei"] = Field(
        default="none", description="huawei: the published reduction (mean over classes too, no temperature squared)"
    )
    soft_weight: float = Field(default=1.0, ge=0, description="weight of the cross-entropy with the teacher")
    hard_weight: float = Field(default=0.0, ge=0, description="weight of the cross-entropy with the label")
    logits_weight: float = Field(default=0.0, ge=0, description="weight of the squared difference of the logits")

    def weights(self) -> dict[str, float]:
        return {"soft": self.soft_weight, "hard": self.hard_weight, "logits": self.logits_weight}


Direction = Literal["teacher_student", "student_teacher"]
Uncertainty = Literal["entropy", "top_k_entropy", "margin"]


class FastBertObjective(Section):
    """FastBERT's self-distillation (Liu et al. 2020): branches learn from the last classifier of a frozen model."""

    name: Literal["fastbert"] = Field(default="fastbert", description="branches learn from the last classifier")
    direction: Direction = Field(
        default="teacher_student",
        description="KL divergence of teacher from student, KL(t||s) (first published code), or the reverse (paper)",
    )
    branch_width: int = Field(default=128, ge=1, description="width of a new branch; those that a model has stay")
    branch_heads: int = Field(default=2, ge=1, description="attention heads of a branch (second published code: 8)")
    branch_activation: Literal["tanh", "none"] = Field(
        default="tanh", description="after a branch's projections (second published code: none)"
    )
    branch_mask: bool = Field(
        default=True, description="branches ignore padding (second published code: false, they attend to it)"
    )

    def weights(self) -> dict[str, float]:
        return {"branches": 1.0}


class Calibrate(Section):
    """When a sample may leave early, found on validation rows."""

    uncertainty: Uncertainty = Field(
        default="entropy",
        description="what must lie below the speed: normalised entropy (published), that of the most probable classes "
        "alone (for many classes), or one minus the margin between the two most probable",
    )
    top_k: int = Field(default=5, ge=2, description="classes that top_k_entropy looks at")
    quality_budget: float = Field(
        default=0.005, ge=0, lt=1, description="how much of the metric may be lost: the fastest within it is taken"
    )
    target_speedup: Annotated[float | None, BeforeValidator(_optional)] = Field(
        default=None, ge=1, description="operations to be saved, as a factor, in place of a budget; none: the budget"
    )
    per_layer: bool = Field(default=False, description="a threshold for every layer; false: one for all")
    patience: Annotated[int | None, BeforeValidator(_optional)] = Field(
        default=None, ge=1, description="leave when so many layers in a row agree, whatever the uncertainty; none: off"
    )


class Augment(Section):
    """TinyBERT's data augmentation (Jiao et al. 2020, algorithm 1), by words that jieba finds."""

    PATHS = ("word_vectors",)
    MODELS = ("mlm_path",)
    copies: int = Field(default=20, ge=1, description="new rows tried for each row (N); equal ones fall together")
    candidates: int = Field(default=15, ge=1, description="words that may take the place of one (M)")
    probability: float = Field(default=0.4, gt=0, le=1, description="chance of a word to be replaced (p)")
    mlm_path: Name = Field(
        default=None, description="masked language model that proposes words; none: the teacher, if it has such a head"
    )
    word_vectors: Name = Field(
        default=None, description="word2vec file, text or binary, plain or .gz: near words for those of several pieces"
    )
    multi_piece: Literal["vectors", "mask"] = Field(
        default="vectors", description="words of several pieces: near words by vectors, or all pieces masked at once"
    )
    language: Literal["zh", "en"] = Field(default="zh", description="zh: jieba words; en: as published")
    keep_confidence: Annotated[float | None, BeforeValidator(_optional)] = Field(
        default=None,
        gt=0,
        le=1,
        description="keep a new row only if the teacher gives its label at least this probability; none: keep all",
    )
    seed: int = Field(default=42, ge=0, description="decides every replacement, whatever the number of shards")


class AugmentedData(PlainTokenData):
    PATHS = ("tokens", "shards")
    shards: str = Field(description="folder of augmented rows, written by an augment stage")
    num_workers: int = Field(default=0, ge=0, description="processes that tokenise; 0: one per available core")


class Evaluate(Section):
    MODELS = ("models",)
    models: Annotated[dict[str, str], BeforeValidator(_mapped)] = Field(
        description="classifiers to score, by the name they have in the results; others are compared with the first"
    )
    split: Literal["validation", "test"] = Field(
        default="test", description="rows to score; validation where the data has no test rows"
    )
    speed: bool = Field(default=True, description="measure latency, throughput and operations as well")
    speeds: Annotated[list[Annotated[float, Field(ge=0, le=1)]], BeforeValidator(_listed)] = Field(
        default=[], description="speeds to measure models with early exit at, beside their own thresholds"
    )


class Guards(Section):
    teacher: Literal["refuse", "warn"] = Field(
        default="refuse",
        description="a teacher whose accuracy is not surely above the largest class (lower 95 % bound): stop, or warn",
    )


class ReportOptions(Section):
    stages: Words = Field(description="stages that the report waits for")
