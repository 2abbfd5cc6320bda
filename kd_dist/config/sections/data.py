"""Sections that say what is read and how it becomes tokens."""

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from kd_dist.config.sections.base import Name, Section, Words, optional

# Of texts without labels: a loss is known well from so many rows, and every evaluation reads them all.
MAX_HELD_OUT_ROWS = 10_000


class CorpusData(Section):
    PATHS = ("corpus",)
    corpus: Words = Field(
        description="files, folders or globs: txt, json (lines or one list), parquet, Arrow, plain or .gz; a blank "
        "line ends a document"
    )
    max_length: int = Field(default=128, ge=8, description="tokens of a sequence, special tokens included")
    pack: bool = Field(default=True, description="pack sentences into sequences; false: one line is one sequence")
    text_field: str = Field(default="text", description="field of the text in json, parquet and Arrow")
    word_starts: bool = Field(default=False, description="store jieba's word borders, for whole-word masking")
    validation_fraction: float = Field(
        default=0.005, ge=0, le=0.5, description=f"share of the rows held out, at most {MAX_HELD_OUT_ROWS:,} rows"
    )
    num_workers: int = Field(default=0, ge=0, description="processes that tokenise; 0: one per available core")
    max_lines: Annotated[int | None, BeforeValidator(optional)] = Field(
        default=None, ge=1, description="lines that are read, for a trial; none: all"
    )


class LabelledData(Section):
    PATHS = ("train", "validation", "test", "hint_words", "label_names")
    train: Words = Field(
        description="files, folders or globs: tsv, csv, txt, json (lines or one list), parquet, Arrow, plain or .gz; "
        "or a folder of folders, each a class with a document in every file"
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
    max_rows: Annotated[int | None, BeforeValidator(optional)] = Field(
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
        description="files, folders or globs of texts: txt, json (lines or one list), parquet, Arrow, plain or .gz; "
        "labels in them are ignored",
    )
    text_field: str = Field(default="text", description="field of the text in json, parquet and Arrow")
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


class AugmentedData(PlainTokenData):
    PATHS = ("tokens", "shards")
    shards: str = Field(description="folder of augmented rows, written by an augment stage")
    num_workers: int = Field(default=0, ge=0, description="processes that tokenise; 0: one per available core")
