"""Sections that name models and tokenizers."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from kd_dist.config.sections.base import Name, Section, listed


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
    teacher_layers: Annotated[list[int] | None, BeforeValidator(listed)] = Field(
        default=None, description="start from these teacher layers, counted from 1, in the teacher's own width"
    )
