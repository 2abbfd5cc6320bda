"""Settings that name models, one section for each role that a model has."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from kd_dist.config.sections.base import Name, Section, Words, listed, optional


class Teacher(Section):
    """The model that a student learns from."""

    MODELS = ("path",)
    path: str = Field(description="Hugging Face directory or hub name of the teacher")


class Teachers(Section):
    """Trained classifiers whose predictions are averaged."""

    MODELS = ("paths",)
    paths: Words = Field(
        description="Hugging Face directories or hub names of two or more classifiers of one vocabulary, as a,b,c",
    )
    weights: Annotated[list[Annotated[float, Field(gt=0)]] | None, BeforeValidator(listed)] = Field(
        default=None, description="weight of each in the mean of their probabilities; none: all the same"
    )
    temperatures: Annotated[list[Annotated[float, Field(gt=0)]] | None, BeforeValidator(listed)] = Field(
        default=None, description="temperature that the logits of each are divided by first; none: 1"
    )

    def shares(self) -> list[float]:
        """Return the weights, which sum to 1."""
        weights = self.weights or [1.0] * len(self.paths)
        return [weight / sum(weights) for weight in weights]

    def temperatures_of_all(self) -> list[float]:
        """Return the temperature of each."""
        return self.temperatures or [1.0] * len(self.paths)

    def problems(self) -> list[str]:
        """Return why these cannot be averaged, whatever the models are."""
        found = [] if len(self.paths) > 1 else ["teachers.paths needs two or more classifiers, as a,b,c"]
        for key in ("weights", "temperatures"):
            values = getattr(self, key)
            if values is not None and len(values) != len(self.paths):
                found.append(f"teachers.{key} has {len(values)} numbers for {len(self.paths)} classifiers")
        return found


class FilterTeacher(Section):
    """The teacher that filters augmented rows, if any."""

    MODELS = ("path",)
    path: Name = Field(default=None, description="classifier that augment.keep_confidence filters with")


class Encoder(Section):
    """A pretrained encoder to fine-tune, which may also propose words for augmentation."""

    MODELS = ("path",)
    path: str = Field(description="Hugging Face directory or hub name of the pretrained encoder to fine-tune")


class MultilingualEncoder(Section):
    """A model that has pieces for more languages than a corpus has."""

    MODELS = ("path",)
    path: str = Field(description="Hugging Face directory or hub name of the model to cut, with or without a head")


class Donor(Section):
    """The model whose weights a student starts from."""

    MODELS = ("path",)
    path: str = Field(
        description="Hugging Face directory or hub name of the model whose weights the student starts from "
        "(student.init, student.teacher_layers)"
    )


class Model(Section):
    """A trained classifier to add branches to, calibrate or export."""

    MODELS = ("path",)
    path: str = Field(description="Hugging Face directory or hub name of a classifier")


class TokenizerSource(Section):
    """The tokenizer of labelled rows."""

    MODELS = ("path",)
    path: str = Field(description="Hugging Face directory or hub name of the tokenizer")


class Tokenizer(Section):
    """The tokenizer of a corpus: a given one, or one trained on it."""

    MODELS = ("path",)
    path: Name = Field(
        default=None, description="Hugging Face tokenizer directory or hub name; none: train a WordPiece vocabulary"
    )
    vocabulary_size: int = Field(default=21128, ge=100, description="size of a vocabulary that is trained")


class Vocabulary(Section):
    """A vocabulary of jieba's words and of characters, made of the training texts or given."""

    PATHS = ("file",)
    words: int = Field(
        default=30_000,
        ge=0,
        description="words with a token of their own, at most: the most frequent ones, of those that occur five times; "
        "0: characters alone",
    )
    file: Name = Field(
        default=None, description="vocab.txt of a BERT model, one token a line; none: made of the training texts"
    )


class Student(Section):
    """The model to train: its architecture and its initial weights."""

    MODELS = ("path",)
    config: str = Field(
        default="tinybert_4l_312",
        description="architecture: a name in configs/models, or the path of a Hugging Face config.json; bilstm and "
        "bigru are recurrent",
    )
    path: Name = Field(
        default=None,
        description="pretrained student to start from; it replaces student.config. none: as student.init says",
    )
    init: Literal["pruned", "projected", "random"] = Field(
        default="pruned",
        description="start of student.config. pruned: embeddings and first layers of donor.path or else the teacher, "
        "pruned to the student's sizes, or projected where that cannot be; projected: the embeddings alone, projected "
        "onto the principal directions of its word embeddings; random: random weights throughout",
    )
    seed: Annotated[int | None, BeforeValidator(optional)] = Field(
        default=None, ge=0, description="seed of the initial weights, as far as they are random; none: train.seed"
    )
    teacher_layers: Annotated[list[int] | None, BeforeValidator(listed)] = Field(
        default=None,
        description="start from these layers (from 1) of donor.path or else the teacher, at their full width",
    )
    input: Literal["tokens", "words", "sentence"] = Field(
        default="tokens",
        description="what a student reads. tokens: the teacher's; words: jieba's words, with embeddings of its own; "
        "sentence: the mean of the embeddings of the words, one vector for a text. The last two are for recurrent "
        "students (job rnn)",
    )

    def reads_words(self) -> bool:
        """Return whether the student reads words of its own, and not the teacher's tokens."""
        return self.input != "tokens"


class StudentWords(Section):
    """The words of a student that does not read the teacher's tokens."""

    PATHS = ("word_vectors",)
    word_vectors: Name = Field(
        default=None,
        description="vectors that the embeddings of words start from (word2vec as text or binary, GloVe; plain or "
        "packed by gzip, bzip2 or xz), whose width replaces embedding_size; none: random vectors",
    )
    vocabulary_size: int = Field(
        default=30_000, ge=100, description="words with an embedding of their own, at most: the most frequent ones"
    )
