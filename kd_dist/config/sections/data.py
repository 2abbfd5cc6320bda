"""Settings of the data: what is read and how it is tokenized."""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field

from kd_dist.config.sections.base import Name, Section, Words, WordsOrNone, optional

# Texts without labels: this many rows give a precise loss, and every evaluation reads all of them.
MAX_HELD_OUT_ROWS = 10_000


def _separator(value: Any) -> Any:
    value = optional(value)
    return value.replace("\\t", "\t") if isinstance(value, str) else value


# Typed as \t in a shell, a tab is a tab.
Separator = Annotated[Annotated[str, Field(pattern=r'^[^"\r\n]+$')] | None, BeforeValidator(_separator)]


class CorpusData(Section):
    """Raw text to tokenize."""

    PATHS = ("corpus",)
    corpus: Words = Field(
        description="files, folders or globs: txt, json (lines or one list), parquet, Arrow, plain or .gz; a blank "
        "line ends a document"
    )
    max_length: int = Field(default=128, ge=8, description="tokens per sequence, special tokens included")
    pack: bool = Field(default=True, description="pack sentences into full sequences; false: one line is one sequence")
    text_field: str = Field(default="text", description="field of the text in json, parquet and Arrow")
    word_starts: bool = Field(
        default=False, description="store the word boundaries that jieba finds, for whole-word masking"
    )
    validation_fraction: float = Field(
        default=0.005, ge=0, le=0.5, description=f"share of the rows held out, at most {MAX_HELD_OUT_ROWS:,} rows"
    )
    num_workers: int = Field(default=0, ge=0, description="tokenizer processes; 0: one per available core")
    max_lines: Annotated[int | None, BeforeValidator(optional)] = Field(
        default=None, ge=1, description="read only this many lines, for a trial; none: all"
    )


class VocabularyData(Section):
    """Raw text that says which pieces of a vocabulary are used."""

    PATHS = ("corpus",)
    corpus: Words = Field(
        description="files, folders or globs: txt, tsv, csv, json (lines or one list), parquet, Arrow, plain or .gz; "
        "lines of tsv and csv are read with their labels, which does no harm"
    )
    text_field: str = Field(default="text", description="field of the text in json, parquet and Arrow")
    min_count: int = Field(
        default=1,
        ge=1,
        description="leave out pieces of several characters that occur fewer times; 1: texts of the corpus stay the "
        "same pieces",
    )


class LabelledData(Section):
    """Labelled text to tokenize, and how it is split and cleaned."""

    PATHS = ("train", "validation", "test", "hint_words", "label_names")
    train: Words = Field(
        description="files, folders or globs: tsv, csv, txt, json (lines or one list), parquet, Arrow, plain or .gz; "
        "or a folder with a subfolder per class and a document per file"
    )
    validation: Words = Field(default=[], description="as data.train; none: split off data.train")
    test: Words = Field(
        default=[], description="as data.train; none: split off data.train unless data.validation is given"
    )
    columns: Words = Field(
        default=["label", "text"],
        description="columns in order (label,text,text_pair; - skips one), or by their names in the header "
        "(text:sentence1,text_pair:sentence2,label:label); labels:NAME is a column that is itself a label, with 1 in "
        "the rows that have it, labels:* is every column not named otherwise (-:NAME leaves one out)",
    )
    header: Literal["auto", "yes", "no"] = Field(
        default="auto",
        description="whether tsv and csv files start with a header; auto: if the first row has the names in "
        "data.columns",
    )
    separator: Separator = Field(
        default=None,
        description="separates the columns of tsv, csv and txt files, in place of tabs (commas in csv), for example "
        "`;`, `||` or `\\t`; quotes count in csv only",
    )
    task: Literal["single_label", "multi_label", "regression"] = Field(
        default="single_label",
        description="single_label: one of several labels; multi_label: any number of them; regression: a number",
    )
    label_separator: str = Field(default="|", min_length=1, description="separates the labels of a multi-label row")
    label_names: Name = Field(
        default=None, description="file of label names, one per line, where the data holds their indices"
    )
    max_length: int = Field(
        default=128, ge=8, description="tokens per row, special tokens included; longer rows are truncated"
    )
    segment: Literal["auto", "none", "char", "word"] = Field(
        default="auto",
        description="segmentation before the tokenizer: none, characters, or jieba words (one token each if the "
        "vocabulary has the word); auto: words for a vocabulary of words, such as WoBERT's, else none",
    )
    hint_words: Name = Field(
        default=None,
        description="file of `category<TAB>word word ...` lines: the words of every category that a text mentions are "
        "put before it ([words][SEP][text])",
    )
    bad_rows: Literal["error", "skip"] = Field(
        default="error", description="what to do with a missing column, an empty text or an unknown label"
    )
    remove_leaked: bool = Field(
        default=True, description="drop training rows whose text also appears in validation or test"
    )
    validation_fraction: float = Field(
        default=0.1, gt=0, lt=0.5, description="share of data.train that becomes validation rows"
    )
    test_fraction: float = Field(default=0.1, gt=0, lt=0.5, description="share of data.train that becomes test rows")
    max_rows: Annotated[int | None, BeforeValidator(optional)] = Field(
        default=None,
        ge=1,
        description="use only this many rows of each split, a random sample stratified by class; none: all",
    )
    seed: int = Field(default=42, ge=0, description="seed of the splits and of data.max_rows")
    export_splits: bool = Field(
        default=False,
        description="write the splits as files for people too (texts/train.csv, valid.csv, test.csv, label2id.json, "
        "beside texts/train.txt, the training texts without labels)",
    )
    num_workers: int = Field(default=0, ge=0, description="tokenizer processes; 0: one per available core")


class UnlabelledData(Section):
    """Text without labels to tokenize like labelled rows."""

    PATHS = ("unlabelled", "tokens")
    unlabelled: Words = Field(
        default=[],
        description="files, folders or globs of texts: txt, json (lines or one list), parquet, Arrow, plain or .gz; "
        "labels are ignored",
    )
    text_field: str = Field(default="text", description="field of the text in json, parquet and Arrow")
    tokens: Name = Field(
        default=None, description="labelled rows to take validation and test rows from; none: hold rows out"
    )
    validation_fraction: float = Field(
        default=0.005,
        ge=0,
        le=0.5,
        description=f"share of the rows held out, at most {MAX_HELD_OUT_ROWS:,} rows, unless data.tokens is given",
    )
    num_workers: int = Field(default=0, ge=0, description="tokenizer processes; 0: one per available core")


class PlainTokenData(Section):
    """Tokenized rows to read."""

    PATHS: ClassVar[tuple[str, ...]] = ("tokens",)
    tokens: str = Field(
        description="tokenized rows: a folder that a corpus, labelled, unlabelled or augmented stage wrote"
    )


class SoftLabelsData(PlainTokenData):
    """Judgements of texts, from a language model or an ensemble, to learn from like a teacher's predictions."""

    PATHS: ClassVar[tuple[str, ...]] = ("soft_labels", "id_texts", "tokens")
    soft_labels: Words = Field(
        default=[],
        description="files, folders or globs: tsv, csv, json (lines or one list), parquet, Arrow, plain or .gz; a "
        "column for the text (two for pairs), and one for each class, which holds its probability or logit",
    )
    text_field: str = Field(
        default="text", description="column of the text; the second text of a pair is in `text_pair`"
    )
    id_field: Name = Field(
        default=None,
        description="column by which data.soft_labels names its rows in place of the text; data.id_texts has it too; "
        "none: by the text",
    )
    id_texts: WordsOrNone = Field(
        default=[],
        description="files, folders or globs, as data.soft_labels, with columns for the id and the text; often those "
        "of data.train",
    )
    ignored_columns: WordsOrNone = Field(
        default=[], description="columns of data.soft_labels that are neither texts nor classes, for example id,reason"
    )
    scale: Literal["auto", "probabilities", "logits"] = Field(
        default="auto",
        description="what the numbers are. auto: logits where a file has some below 0 or above 1, else probabilities; "
        "probabilities: shares too, such as percentages and votes",
    )
    num_workers: int = Field(default=0, ge=0, description="tokenizer processes; 0: one per available core")

    def problems(self) -> list[str]:
        """Return why rows cannot be found by their ids."""
        if self.id_field and not self.id_texts:
            return [
                f"data.id_field={self.id_field} names rows by an id, and nothing says what their texts are: set "
                f"data.id_texts to files with the columns {self.id_field} and {self.text_field}, often those of "
                "data.train"
            ]
        if self.id_texts and not self.id_field:
            return [
                f"data.id_texts={','.join(self.id_texts)} has the texts of rows, and nothing says by which column "
                "data.soft_labels names them: set data.id_field, for example data.id_field=id"
            ]
        return []


class DistillationData(PlainTokenData):
    """Tokenized rows that a teacher teaches on, with labels or without."""

    PATHS: ClassVar[tuple[str, ...]] = ("tokens", "unlabelled_tokens")
    unlabelled_tokens: WordsOrNone = Field(
        default=[],
        description="rows without labels to train on as well: folders that unlabelled or perturbed stages wrote",
    )


class TokenData(DistillationData):
    """Tokenized rows to train on, and how they are batched."""

    PATHS = (*DistillationData.PATHS, "teacher_outputs")
    teacher_outputs: Name = Field(
        default=None, description="precomputed teacher logits for these rows; none: run the teacher during training"
    )
    bucket_steps: int = Field(
        default=64, ge=1, description="steps whose rows are shuffled together and sorted by length, to save padding"
    )


class AugmentedData(PlainTokenData):
    """Augmented rows to tokenize, and the labelled rows that they come from."""

    PATHS = ("tokens", "shards")
    shards: str = Field(description="folder of augmented rows that an augment stage wrote")
    num_workers: int = Field(default=0, ge=0, description="tokenizer processes; 0: one per available core")
