"""The rows that every stage of a job will make: counted in its files, or computed from what an earlier stage makes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kd_dist.config.job import Job
from kd_dist.config.paths import matching_paths
from kd_dist.config.sections.data import MAX_HELD_OUT_ROWS
from kd_dist.config.stage import WIRE, Stage, wired_stage
from kd_dist.config.stages import (
    AugmentedStage,
    AugmentStage,
    CorpusStage,
    LabelledStage,
    PerturbedStage,
    SampleTextStage,
    SoftLabelsStage,
    UnlabelledStage,
    WordsStage,
)
from kd_dist.data.counting import count_records
from kd_dist.data.judgement_files import find_id_texts, find_judgements
from kd_dist.data.prepared_rows import SPLITS, PreparedRows
from kd_dist.data.preprocessing import DEFAULT_MAX_LENGTH
from kd_dist.data.readers import find_plain_texts
from kd_dist.data.sample_text import ROWS, UNLABELLED
from kd_dist.errors import UserError
from kd_dist.planning.architectures import prepared_by
from kd_dist.planning.text_rows import SAMPLE, Rows, corpus_rows, divided, joined, labelled_rows, plain_rows


class RowCounts:
    """The rows of the stages of a job.

    Args:
        job: The job, with absolute paths.
        given: The training rows of stages that the user says, by the name of the stage.
    """

    def __init__(self, job: Job, given: Mapping[str, int]) -> None:
        self._job, self._given = job, given
        self._known: dict[str, Rows | None] = {}

    def of(self, name: str) -> Rows | None:
        """Return the rows that a stage makes; None if it makes none, or if nobody can know yet how many.

        Raises:
            CorpusError: A file cannot be read.
        """
        if name not in self._known:
            stage = self._job.stages[name]
            count = COUNTS.get(type(stage))
            found = count(self, stage) if count else None
            self._known[name] = self._with_given(found, stage, self._given[name]) if name in self._given else found
        return self._known[name]

    def makers(self) -> list[str]:
        """Return the stages that make rows."""
        return [name for name, stage in self._job.stages.items() if type(stage) in COUNTS]

    def unknown(self) -> list[str]:
        """Return the stages whose rows nobody can know yet, without those whose rows follow from another stage's."""
        return [name for name in self.makers() if self.of(name) is None and not self._follow(self._job.stages[name])]

    def _follow(self, stage: Any) -> bool:
        """Return whether the rows of a stage are known once those of earlier stages are."""
        patterns = [path for key in FILES.get(type(stage), ()) for path in getattr(stage.data, key)]
        return type(stage) not in FILES or self.are_samples(patterns) or _are_there(patterns)

    def read_by(self, stage: Any) -> Rows | None:
        """Return the rows that a stage reads: in `data.tokens`, and those without labels beside them."""
        return self.in_folders([stage.data.tokens, *getattr(stage.data, "unlabelled_tokens", [])])

    def in_folders(self, paths: list[str]) -> Rows | None:
        """Return the rows in folders together, with those that the first of them holds out."""
        parts = [rows for path in paths if (rows := self._in_folder(path)) is not None]
        return joined(parts) if parts and len(parts) == len(paths) else None

    def _in_folder(self, path: str) -> Rows | None:
        """Return the rows in a folder, which an earlier stage will write or which is there already."""
        if not path.startswith(WIRE):
            return _prepared(PreparedRows(Path(path)))
        source = self._job.stages[wired_stage(path)]
        if isinstance(source, WordsStage):
            return self.in_folders([source.data.tokens] if path.endswith("tokens") else source.data.unlabelled_tokens)
        return self.of(wired_stage(path))

    def are_samples(self, paths: list[str]) -> bool:
        """Return whether all of these files are sample texts that a stage of the job writes."""
        wires = [path for path in paths if path.startswith(WIRE)]
        return 0 < len(wires) == len(paths) and all(
            isinstance(self._job.stages[wired_stage(wire)], SampleTextStage) for wire in wires
        )

    def _with_given(self, found: Rows | None, stage: Any, number: int) -> Rows:
        """Return rows with another number to train on, as long as they may be where no text is there to measure."""
        if found is None:
            length = self.max_length(stage)
            return Rows(number, lengths=(length,), characters=number * length)
        return _rescaled(found, number)

    def source_of(self, stage: Any) -> Any:
        """Return the stage that decides how texts are tokenized for a stage; None if it is outside of the job."""
        if isinstance(stage, LabelledStage | CorpusStage):
            return stage
        return prepared_by(self._job, stage) if stage.data.tokens else None

    def max_length(self, stage: Any) -> int:
        """Return the longest row that may be made for a stage, in tokens."""
        source = self.source_of(stage)
        return DEFAULT_MAX_LENGTH if source is None else int(source.data.max_length)

    def tokenizer_of(self, stage: Any) -> Any:
        """Return the folder or the name of the tokenizer that makes rows; None if it is trained on them."""
        source = self.source_of(stage)
        if source is not None:
            return source.tokenizer.path
        if stage.data.tokens:
            return str(PreparedRows(Path(stage.data.tokens)).tokenizer_folder)
        return stage.model.path if stage.model else None


def rows_given(texts: Sequence[str], makers: Sequence[str]) -> dict[str, int]:
    """Parse `STAGE=N`, the rows of stages that the user says.

    Raises:
        UserError: Something else, or a stage that makes no rows; the message names those that do.
    """
    given = {}
    for text in texts:
        name, _, number = text.partition("=")
        if name not in makers or not number.replace("_", "").isdigit():
            raise UserError(
                f"--rows {text}: expected STAGE=N, the number of rows that a stage makes, one of {', '.join(makers)}"
            )
        given[name] = int(number)
    return given


def _rescaled(rows: Rows, number: int) -> Rows:
    """Return rows of the same lengths, so many to train on."""
    return replace(rows, train=number, characters=round(rows.characters * number / max(rows.total(), 1)))


def _prepared(rows: PreparedRows) -> Rows:
    counts = {split: rows.statistics.get(f"{split}_rows", 0) for split in SPLITS}
    lengths = sorted(rows.lengths("train")[:: -(-counts["train"] // SAMPLE) or 1].tolist())
    return Rows(**counts, lengths=tuple(lengths))


def _are_there(patterns: Sequence[str]) -> bool:
    """Return whether all files are there to be counted: an earlier stage writes some, and defaults are only named."""
    return bool(patterns) and all(matching_paths(pattern) for pattern in patterns)


def _labelled(counts: RowCounts, stage: LabelledStage) -> Rows | None:
    named = [path for split in SPLITS for path in getattr(stage.data, split)]
    if any(path.startswith(WIRE) for path in named):
        return _of_samples(counts, stage)
    return labelled_rows(stage.data, counts.tokenizer_of(stage)) if _are_there(named) else None


def _of_samples(counts: RowCounts, stage: LabelledStage) -> Rows | None:
    """Return the rows of the labelled sample texts; None if another stage writes the files."""
    if not counts.are_samples([path for split in SPLITS for path in getattr(stage.data, split)]):
        return None
    rows = divided(stage.data, {split: ROWS[split] for split in SPLITS if getattr(stage.data, split)})
    length = stage.data.max_length
    return replace(rows, lengths=(length,), characters=rows.total() * length)


def _corpus(counts: RowCounts, stage: CorpusStage) -> Rows | None:
    return corpus_rows(stage.data, counts.tokenizer_of(stage)) if _are_there(stage.data.corpus) else None


def _unlabelled(counts: RowCounts, stage: UnlabelledStage) -> Rows | None:
    """Return the rows of texts without labels; those that are held out are those of labelled rows, if there are any."""
    data, length = stage.data, counts.max_length(stage)
    if counts.are_samples(data.unlabelled):
        made = Rows(UNLABELLED, lengths=(length,), characters=UNLABELLED * length)
    elif not _are_there(data.unlabelled):
        return None
    else:
        files = find_plain_texts(data.unlabelled)
        made = plain_rows(files, [data.text_field], counts.tokenizer_of(stage), length)
    if data.tokens:
        labelled = counts.in_folders([data.tokens])
        return labelled and replace(made, validation=labelled.validation, test=labelled.test)
    held_out = min(round(made.train * data.validation_fraction), MAX_HELD_OUT_ROWS)
    return replace(made, train=made.train - held_out, validation=held_out)


def _soft_labels(counts: RowCounts, stage: SoftLabelsStage) -> Rows | None:
    """Return the judgements; where they name rows by an id, as long as the texts that have one."""
    data = stage.data
    if not _are_there([*data.soft_labels, *data.id_texts]):
        return None
    judged = find_judgements(data.soft_labels)
    files = find_id_texts(data.id_texts) if data.id_field else judged
    made = plain_rows(files, [data.text_field], counts.tokenizer_of(stage), counts.max_length(stage))
    return _rescaled(made, count_records(judged, data.id_field)) if data.id_field else made


def _perturbed(counts: RowCounts, stage: PerturbedStage) -> Rows | None:
    source = counts.read_by(stage)
    settings = stage.perturb
    return source and replace(source, train=min(settings.copies * source.train, settings.max_rows), characters=0)


def _augment(counts: RowCounts, stage: AugmentStage) -> Rows | None:
    """Return as many copies as are tried; some will be the same, and those that are filtered out count as well."""
    source = counts.read_by(stage)
    return source and replace(source, train=source.train * stage.augment.copies, validation=0, test=0)


def _augmented(counts: RowCounts, stage: AugmentedStage) -> Rows | None:
    rows = counts.in_folders([stage.data.tokens, stage.data.shards])
    return rows and replace(rows, characters=round(rows.train * rows.mean_length()))


def _words(counts: RowCounts, stage: WordsStage) -> Rows | None:
    return counts.read_by(stage)


FILES: dict[type[Stage], tuple[str, ...]] = {
    LabelledStage: SPLITS,
    CorpusStage: ("corpus",),
    UnlabelledStage: ("unlabelled",),
    SoftLabelsStage: ("soft_labels", "id_texts"),
}
"""The settings of stages that name files of texts; the rows of other stages follow from those of earlier ones."""

COUNTS: dict[type[Stage], Callable[[RowCounts, Any], Rows | None]] = {
    LabelledStage: _labelled,
    CorpusStage: _corpus,
    UnlabelledStage: _unlabelled,
    SoftLabelsStage: _soft_labels,
    PerturbedStage: _perturbed,
    AugmentStage: _augment,
    AugmentedStage: _augmented,
    WordsStage: _words,
}
"""How to count the rows that a stage of each kind makes."""
