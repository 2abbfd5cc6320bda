"""Sections that name models: one name for each part that a model plays."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from kd_dist.config.sections.base import Name, Section, listed


class Teacher(Section):
    """The model that a student learns from."""

    MODELS = ("path",)
    path: str = Field(description="Hugging Face directory or hub name of the teacher")


class FilterTeacher(Section):
    """The teacher that augmented rows are shown to, if any."""

    MODELS = ("path",)
    path: Name = Field(default=None, description="the classifier that augment.keep_confidence asks")


class Encoder(Section):
    """A pretrained encoder that is fine-tuned, and that may propose words."""

    MODELS = ("path",)
    path: str = Field(description="Hugging Face directory or hub name of the pretrained encoder to fine-tune")


class Donor(Section):
    """The model whose layers a student starts from."""

    MODELS = ("path",)
    path: str = Field(description="Hugging Face directory or hub name of the model that student.teacher_layers names")


class Model(Section):
    """A trained classifier that gets branches, thresholds or an export."""

    MODELS = ("path",)
    path: str = Field(description="Hugging Face directory or hub name of a classifier")


class TokenizerSource(Section):
    """Where the tokenizer of labelled rows comes from."""

    MODELS = ("path",)
    path: str = Field(description="Hugging Face directory or hub name with the tokenizer")


class Tokenizer(Section):
    """Where the tokenizer of a corpus comes from."""

    MODELS = ("path",)
    path: Name = Field(
        default=None, description="Hugging Face tokenizer directory or hub name; none: train a WordPiece vocabulary"
    )
    vocabulary_size: int = Field(default=21128, ge=100, description="pieces of a vocabulary that is trained here")


class Student(Section):
    """The model that is trained: its architecture, and what it starts from."""

    MODELS = ("path",)
    config: str = Field(
        default="tinybert_4l_312",
        description="architecture: a name in configs/models, or the path of a Hugging Face config.json file",
    )
    path: Name = Field(
        default=None,
        description="pretrained student to start from, in place of random weights; its architecture counts",
    )
    teacher_layers: Annotated[list[int] | None, BeforeValidator(listed)] = Field(
        default=None,
        description="start from these layers of the teacher (or of donor.path), counted from 1, in its own width",
    )
