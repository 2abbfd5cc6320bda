"""The section of data augmentation."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from kd_dist.config.sections.base import Name, Section, optional


class Augment(Section):
    """TinyBERT's data augmentation (Jiao et al. 2020, algorithm 1), by words that jieba finds."""

    PATHS = ("word_vectors",)
    MODELS = ("mlm_path",)
    copies: int = Field(default=20, ge=1, description="new rows tried for each row (N); equal ones fall together")
    candidates: int = Field(default=15, ge=1, description="words that may take the place of one (M)")
    probability: float = Field(default=0.4, gt=0, le=1, description="chance of a word to be replaced (p)")
    mlm_path: Name = Field(
        default=None, description="masked language model that proposes words; none: the encoder, if it has such a head"
    )
    word_vectors: Name = Field(
        default=None, description="word2vec file, text or binary, plain or .gz: near words for those of several pieces"
    )
    multi_piece: Literal["vectors", "mask"] = Field(
        default="vectors", description="words of several pieces: near words by vectors, or all pieces masked at once"
    )
    language: Literal["zh", "en"] = Field(default="zh", description="zh: jieba words; en: as published")
    keep_confidence: Annotated[float | None, BeforeValidator(optional)] = Field(
        default=None,
        gt=0,
        le=1,
        description="keep a new row only if the teacher gives its label at least this probability; none: keep all",
    )
    seed: int = Field(default=42, ge=0, description="decides every replacement, whatever the number of shards")
