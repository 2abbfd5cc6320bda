"""Settings of data augmentation."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from kd_dist.config.sections.base import Name, Section, optional


class Perturb(Section):
    """Random changes of tokens (after Tang et al. 2019, section 3.3), for rows that only a teacher can label."""

    copies: int = Field(
        default=8,
        ge=0,
        description="perturbed copies of each labelled row, at most; 0: none; for a student that starts with the "
        "teacher's layers, none where a text may have several labels, unless a setting of `perturb` is given",
    )
    max_rows: int = Field(
        default=20_000, ge=1, description="perturbed rows, at most: many labelled rows need fewer copies, or none"
    )
    replace_words: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="make some of the copies by exchanging words of Chinese text for others of the same part of speech "
        "in the training rows, each word with this probability; 0: none",
    )
    seed: int = Field(default=42, ge=0, description="seed of every change")


class Augment(Section):
    """TinyBERT's data augmentation (Jiao et al. 2020, algorithm 1), on the words that jieba finds."""

    PATHS = ("word_vectors",)
    MODELS = ("mlm_path",)
    copies: int = Field(default=20, ge=1, description="new rows to try for each row (N); duplicates are dropped")
    candidates: int = Field(default=15, ge=1, description="candidates to replace a word with (M)")
    probability: float = Field(default=0.4, gt=0, le=1, description="probability that a word is replaced (p)")
    mlm_path: Name = Field(
        default=None,
        description="masked language model that proposes words; none: the encoder, if it has a language-model head",
    )
    word_vectors: Name = Field(
        default=None,
        description="word vectors (word2vec as text or binary, GloVe; plain or packed by gzip, bzip2 or xz) of nearest "
        "words, for words of several pieces",
    )
    multi_piece: Literal["vectors", "mask"] = Field(
        default="vectors",
        description="how to replace words of several pieces: vectors (nearest words) or mask (all pieces masked "
        "together)",
    )
    language: Literal["zh", "en"] = Field(
        default="zh", description="zh: words by jieba; en: words as in the published code"
    )
    keep_confidence: Annotated[float | None, BeforeValidator(optional)] = Field(
        default=None,
        gt=0,
        le=1,
        description="keep a new row only if the teacher gives its label at least this probability; none: keep all rows",
    )
    seed: int = Field(
        default=42, ge=0, description="seed of every replacement; the number of shards makes no difference"
    )
