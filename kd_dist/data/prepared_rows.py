"""The folder of prepared rows that training reads: no other module knows what is in it.

train/ validation/ test/    Hugging Face datasets: input_ids, and what else the stage that wrote them made; rows of a
                            student's own words have teacher_key, which finds the teacher's logits
<split>_lengths.npy         the tokens of every row
tokenizer/                  the tokenizer that made the tokens
teacher_tokenizer/          the one of what the teacher is fed, where a student reads its own words
word_vectors.npy            what the embeddings of such a student start from, if there is a file of word vectors
preprocessing.json          how a text becomes tokens, where the rows are labelled or of a classifier
label2id.json               the index of each label; without any for regression
statistics.json             sizes, and what the rows are for
data_report.json            what people want to know of labelled rows
"""

import os
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kd_dist.data.labels import Labels
from kd_dist.data.preprocessing import FILE_NAME, Preprocessing
from kd_dist.errors import RunError
from kd_dist.files import read_json, write_json

if TYPE_CHECKING:  # a submission asks only whether the folder is there, and should not wait for numpy
    import numpy as np

HELD_OUT = ("validation", "test")

SPLITS = ("train", *HELD_OUT)

TEXTS = ("text", "text_pair")  # columns for people, which no model reads

TEACHER_KEY = "teacher_key"

STATISTICS, DATA_REPORT, LABEL_IDS, TOKENIZER = "statistics.json", "data_report.json", "label2id.json", "tokenizer"

TEACHER_TOKENIZER, WORD_VECTORS = "teacher_tokenizer", "word_vectors.npy"


@dataclass(frozen=True)
class PreparedRows:
    """A folder of prepared rows; each of its files is read when it is asked for, and once."""

    folder: Path

    def exist(self) -> bool:
        """Return whether the folder was written by a stage that prepares rows."""
        return (self.folder / STATISTICS).exists()

    def have_preprocessing(self) -> bool:
        """Return whether the folder says how a text becomes tokens, as that of a corpus does not."""
        return (self.folder / FILE_NAME).exists()

    def copy_preprocessing(self, directory: Path) -> None:
        """Copy how a text becomes tokens, if the folder says it, so that prediction does the same."""
        if self.have_preprocessing():
            shutil.copyfile(self.folder / FILE_NAME, directory / FILE_NAME)

    @cached_property
    def statistics(self) -> dict[str, Any]:
        """Sizes and facts, as the stage that wrote the rows counted them."""
        return read_json(self.folder / STATISTICS)

    @cached_property
    def data_report(self) -> dict[str, Any]:
        """The report on labelled rows."""
        return read_json(self.folder / DATA_REPORT)

    @cached_property
    def label2id(self) -> dict[str, int]:
        """The index of each label."""
        return read_json(self.folder / LABEL_IDS)

    @cached_property
    def labels(self) -> Labels:
        """The labels of the rows; of rows without labels, those of the model that they are for.

        Raises:
            RunError: the rows are those of a corpus.
        """
        if "task" not in self.statistics:
            raise _no_labels(self.folder)
        return Labels(self.statistics["task"], self.label2id)

    def are_labelled(self) -> bool:
        """Return whether the validation and test rows carry labels."""
        return {"task", "test_rows"} <= self.statistics.keys()  # rows for a model without labels have the task alone

    def require_labels(self) -> None:
        """Raise RunError unless the validation and test rows carry labels."""
        if not self.are_labelled():
            raise _no_labels(self.folder)

    @cached_property
    def preprocessing(self) -> Preprocessing:
        """The preprocessing that made the tokens."""
        return Preprocessing.load(self.folder)

    @property
    def tokenizer_folder(self) -> Path:
        """The folder of the tokenizer, for transformers to load."""
        return self.folder / TOKENIZER

    @property
    def teacher_tokenizer_folder(self) -> Path:
        """The folder of the tokenizer of what a teacher of these rows is fed."""
        return self.folder / TEACHER_TOKENIZER if self.are_of_words() else self.tokenizer_folder

    def are_texts(self) -> bool:
        """Return whether rows without labels are texts as somebody wrote them, and not changed at random."""
        return "texts" in self.statistics

    def are_of_words(self) -> bool:
        """Return whether a student reads the rows by words of its own, which no teacher knows."""
        return (self.folder / TEACHER_TOKENIZER).exists()

    def word_vectors(self) -> "np.ndarray | None":
        """Load (V, E) what the embeddings of the words start from; None where they start from random vectors."""
        import numpy as np

        path = self.folder / WORD_VECTORS
        return np.load(path) if path.exists() else None

    def split_folder(self, split: str) -> Path:
        """Return where the dataset of a split is."""
        return self.folder / split

    def num_rows(self, split: str) -> int:
        """Return how many rows a split has."""
        return self.statistics[f"{split}_rows"]

    def dataset(self, split: str) -> Any:
        """Load the Hugging Face dataset of a split, memory-mapped."""
        from datasets import load_from_disk  # slow to import, and most uses need only the facts

        return load_from_disk(str(self.split_folder(split)))

    def lengths(self, split: str) -> "np.ndarray":
        """Load (N) the tokens of every row of a split, memory-mapped.

        Raises:
            RunError: The file holds something else than numbers.
        """
        import numpy as np

        path = _lengths_file(self.folder, split)
        try:
            return np.load(path, mmap_mode="r")
        except (ValueError, EOFError) as error:
            raise RunError(f"{path} is damaged ({error}): write the rows in {self.folder} again") from error

    def held_out_texts(self) -> set[tuple[str, ...]]:
        """Return the texts of all validation and test rows, of a pair both."""
        found: set[tuple[str, ...]] = set()
        for split in HELD_OUT:
            rows = self.dataset(split)
            found.update(zip(*(rows[name][:] for name in TEXTS if name in rows.column_names), strict=True))
        return found

    def label_shares(self) -> "np.ndarray":
        """Return (C) the share of training rows with each label, smoothed: half a row more has it, and half has not."""
        num_rows, counts_C = self._label_counts()
        return (counts_C + 0.5) / (num_rows + 1)

    def balanced_class_weights(self) -> "np.ndarray":
        """Return (C) weights in inverse proportion to the rows of a class; their mean over the rows is 1."""
        num_rows, counts_C = self._label_counts()
        return num_rows / (len(counts_C) * counts_C.clip(min=1))

    def _label_counts(self) -> "tuple[int, np.ndarray]":
        """Count the training rows, and (C) those with each label."""
        import numpy as np

        report = self.data_report["train"]
        return report["rows"], np.array([report["labels"][name] for name in self.labels.names()])


def _no_labels(folder: Path) -> RunError:
    return RunError(f"{folder} holds rows without labels: prepare them with a `labelled` stage")


def _lengths_file(folder: Path, split: str) -> Path:
    return folder / f"{split}_lengths.npy"


def open_lengths(folder: Path, split: str, num_rows: int, max_length: int) -> "np.ndarray":
    """Create the file of a split's lengths; what is assigned to the array (N) is written."""
    import numpy as np

    dtype = np.min_scalar_type(max(max_length, 256))
    return np.lib.format.open_memmap(_lengths_file(folder, split), mode="w+", dtype=dtype, shape=(num_rows,))


def write_statistics(folder: Path, statistics: dict[str, Any]) -> None:
    """Write what `PreparedRows.statistics` reads."""
    write_json(folder / STATISTICS, statistics)


def write_data_report(folder: Path, report: dict[str, Any]) -> None:
    """Write what `PreparedRows.data_report` reads."""
    write_json(folder / DATA_REPORT, report)


def write_encoding(folder: Path, tokenizer: Any, preprocessing: Preprocessing, labels: Labels) -> None:
    """Write how texts and labels become numbers."""
    write_tokenizer(folder, tokenizer)
    preprocessing.save(folder)
    write_json(folder / LABEL_IDS, labels.ids)


def write_tokenizer(folder: Path, tokenizer: Any) -> None:
    """Write the tokenizer to `PreparedRows.tokenizer_folder`."""
    tokenizer.save_pretrained(folder / TOKENIZER)


def write_own_words(folder: Path, teacher_tokenizer: Path, vectors_VE: "np.ndarray | None") -> None:
    """Write what rows of a student's words have besides."""
    import numpy as np

    shutil.copytree(teacher_tokenizer, folder / TEACHER_TOKENIZER)
    if vectors_VE is not None:
        np.save(folder / WORD_VECTORS, vectors_VE)


def share_held_out(rows: PreparedRows, output: Path, place: Path) -> None:
    """Share with another folder the validation and test rows, and how texts and labels become numbers.

    What is small is copied. The rows are links.

    Args:
        output: the folder that is being written.
        place: where it will be in the end, which relative links are seen from.
    """
    shutil.copytree(rows.tokenizer_folder, output / TOKENIZER)
    for name in (FILE_NAME, LABEL_IDS):
        shutil.copy(rows.folder / name, output / name)
    for split in HELD_OUT:
        for path in (rows.split_folder(split), _lengths_file(rows.folder, split)):
            (output / path.name).symlink_to(os.path.relpath(path.resolve(), place.resolve()))
