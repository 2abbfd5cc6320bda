"""The unlabelled stage: tokenize texts without labels, as labelled rows or the texts of a classifier are tokenized.

The texts are streamed: this process reads and cleans them into units on disk, workers make rows of the units, and a
last pass writes the rows. Memory does not grow with the files. The result depends neither on the number of workers nor
on how the texts are distributed over files. Importing this module is cheap: heavy libraries are imported where they are
used.
"""

import functools
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kd_dist.config.sections.data import UnlabelledData
from kd_dist.config.stages import UnlabelledStage
from kd_dist.data.arrow_rows import quiet, rows_of_units, write_splits, write_units
from kd_dist.data.cleaning import clean
from kd_dist.data.discovery import find_files, unread_files, unread_note
from kd_dist.data.labels import Labels
from kd_dist.data.prepared_rows import HELD_OUT, TEXTS, PreparedRows, share_held_out, write_encoding, write_statistics
from kd_dist.data.preprocessing import FILE_NAME, Preprocessing, default_max_length, segment_for
from kd_dist.data.readers import SET_TEXT_FIELD, find_plain_texts, read_texts
from kd_dist.data.tokenizers import load_fast_tokenizer, worker_tokenizer
from kd_dist.data.unknown_words import count_unknown_words, refuse_unknown_words, unknown_words_note
from kd_dist.errors import CorpusError, RunError
from kd_dist.files import read_json, replaced_folder
from kd_dist.model_files.model_folders import label_names, num_positions, read_classifier_config, task_of
from kd_dist.runs.fingerprints import input_files

Statistics = dict[str, Any]


def run(stage: UnlabelledStage, stage_dir: Path, shard: int) -> None:
    """Write `stage_dir`/tokens, which training reads. It replaces what an earlier run wrote.

    Raises:
        UserError: what `prepare` raises; the message names the option, or file and line.
        RunError: the files are not those that were there when the run was submitted.
    """
    _refuse_other_files(stage, stage_dir)
    statistics = prepare(stage.data, stage.model.path if stage.model else None, stage_dir / "tokens")
    print(summary(stage_dir.name, statistics), flush=True)


def _refuse_other_files(stage: UnlabelledStage, stage_dir: Path) -> None:
    """Compare the files with those at submission, except what stages of this run have written since.

    Raises:
        RunError: input files are gone or have changed, or there are new texts.
    """
    submitted, now = (
        {path: facts for path, *facts in files}
        for files in (read_json(stage_dir / "inputs.json")["files"], input_files(stage))
    )
    problems = [f"{path} is gone" for path in submitted if path not in now]
    problems += [f"{path} has changed" for path in submitted if path in now and submitted[path] != now[path]]
    if not problems:  # otherwise there may be no text to find
        texts = [file for file in find_files(stage.data.unlabelled) if not file.is_relative_to(stage_dir.parent)]
        problems = [f"{file} is new" for file in texts if str(file) not in submitted]
    if problems:
        more = f" and {len(problems) - 5:,} more" if len(problems) > 5 else ""
        raise RunError(
            f"input files are not as they were when the run was submitted: {', '.join(problems[:5])}{more}; put them "
            "back and start the same run again, or start another run (--run-id) with the files that are there"
        )


def prepare(data: UnlabelledData, model: str | None, output_dir: Path) -> Statistics:
    """Write the tokenized texts to `output_dir`, which is replaced (see `PreparedRows`), and return the statistics.

    The columns of `train` are `input_ids` and, if the model distinguishes two segments, `token_type_ids`. The
    validation and test rows, the tokenizer and the labels are those of `data.tokens`, and texts that equal one of these
    rows are removed as leaks. Without it every round(1 / data.validation_fraction)-th row is for validation (at most
    `MAX_HELD_OUT_ROWS`), and tokenizer and labels are those of the classifier `model`. In the statistics `rows`,
    `tokens`, `truncated_rows` and `length_percentiles` count the rows that were made here.

    Raises:
        CorpusError: what `find_plain_texts`, `read_texts` and `load_fast_tokenizer` raise, and files without a text.
        UserError: a `model` that is not a classifier.
        RunError: `data.tokens` was not written by a `labelled` stage, neither it nor `model` is given, or every text is
            also in validation or test.
    """
    started = time.monotonic()
    files = find_plain_texts(data.unlabelled)
    recipe = Recipe.of(data.tokens, model)
    tokenizer = load_fast_tokenizer(recipe.tokenizer_path)
    fields = [data.text_field, TEXTS[1]][: 1 + recipe.preprocessing.pairs]
    with replaced_folder(output_dir) as (work, output), quiet():
        counts = _read(files, fields, work)
        fraction = None if recipe.tokens else data.validation_fraction
        made = write_texts(work, output, output_dir, recipe, tokenizer, data.num_workers, fraction)
        if not made["rows"]:
            raise RunError(f"all {counts.texts:,} texts of {_some(files)} are also in validation or test: none is left")
        statistics = {
            **made,
            **asdict(counts),
            "texts_held_out": counts.texts - made["rows"],
            "files": [str(file) for file in files],
            "files_unread": list(map(str, unread_files(data.unlabelled, files))),
            "seconds": round(time.monotonic() - started, 3),
        }
        write_statistics(output, statistics)
    return statistics


def write_texts(
    work: Path,
    output: Path,
    place: Path,
    recipe: "Recipe",
    tokenizer: Any,
    num_workers: int,
    validation_fraction: float | None = None,
) -> Statistics:
    """Write the rows of the texts that `write_units` wrote to `work`/units.arrow, and return their statistics.

    Without texts the rows are none. Their order is that of the texts, except those that are also in validation or test,
    which are left out.

    Args:
        work: a folder for temporary files.
        output: the folder that is being written.
        place: where it will be in the end.
        recipe: how a text becomes tokens.
        tokenizer: that of the recipe.
        num_workers: processes that tokenize; 0: one per available core.
        validation_fraction: the share that is held out; None: the validation rows are those of the recipe.

    Raises:
        CorpusError: the tokenizer does not know the words of the texts.
    """
    rows = _tokenize(work, recipe, tokenizer, num_workers)
    unknown = count_unknown_words(tokenizer, rows.data.column("input_ids"))
    refuse_unknown_words(unknown, recipe.tokenizer_path, "set data.tokens or model.path to one whose tokenizer is")
    recipe.share(tokenizer, output, place)
    made = write_splits(rows, work, output, recipe.preprocessing.max_length, validation_fraction)
    return {**recipe.facts(tokenizer), **made, **unknown}


def summary(name: str, statistics: Statistics) -> str:
    """Summarize the statistics that `prepare` returned in one line."""
    left_out = {
        "longer than a row and truncated": statistics["truncated_rows"],
        "empty and left out": statistics["texts_empty"],
        "removed that are also in validation or test": statistics["texts_held_out"],
    }
    words = "".join(f", {count:,} {what}" for what, count in left_out.items() if count)
    if statistics["files_empty"]:
        words += f"; {statistics['files_empty']:,} of {len(statistics['files']):,} files hold no text"
    if statistics["files_unread"]:
        words += f"; {unread_note(statistics['files_unread'])}"
    if note := unknown_words_note(statistics):
        words += f"; {note}"
    return (
        f"{name}: {statistics['train_rows']:,} train and {statistics['validation_rows']:,} validation rows, "
        f"{statistics['tokens']:,} tokens of {statistics['texts']:,} texts{words}; built in "
        f"{statistics['seconds']:.0f} s"
    )


def _some(files: Sequence[Path]) -> str:
    more = f" and {len(files) - 3:,} more files" if len(files) > 3 else ""
    return ", ".join(map(str, files[:3])) + more


@dataclass(frozen=True)
class Recipe:
    """The preprocessing of texts, and the labels of the model that it is for.

    Attributes:
        tokens: the labelled rows that say so; None when a classifier does.
        held_out_rows: the sizes of the validation and test rows that are shared with `tokens`, as its statistics have
            them.
    """

    preprocessing: Preprocessing
    tokenizer_path: str
    labels: Labels
    tokens: PreparedRows | None = None
    held_out_rows: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, tokens: str | None, model: str | None) -> "Recipe":
        """Read the recipe of labelled rows or, without them, of a classifier.

        Raises:
            UserError: a `model` that is not a classifier.
            RunError: `tokens` was not written by a `labelled` stage, or neither is given.
        """
        if tokens:
            return cls._of_labelled_rows(PreparedRows(Path(tokens)))
        if model:
            return cls._of_classifier(Path(model))
        raise RunError(
            "nothing says how a text becomes tokens: set data.tokens (labelled rows) or model.path (a classifier)"
        )

    @classmethod
    def _of_labelled_rows(cls, rows: PreparedRows) -> "Recipe":
        try:
            labels = Labels(ids=rows.label2id, task=rows.statistics["task"])
            sizes = {f"{split}_rows": rows.num_rows(split) for split in HELD_OUT}
        except (FileNotFoundError, KeyError) as error:
            raise RunError(f"data.tokens={rows.folder} was not written by a `labelled` stage ({error})") from error
        return cls(rows.preprocessing, str(rows.tokenizer_folder), labels, rows, sizes)

    @classmethod
    def _of_classifier(cls, model: Path) -> "Recipe":
        config = read_classifier_config(model)
        if (model / FILE_NAME).is_file():
            preprocessing = Preprocessing.load(model)
        else:
            segment = segment_for(load_fast_tokenizer(str(model)))
            preprocessing = Preprocessing(max_length=default_max_length(num_positions(config)), segment=segment)
        task, names = task_of(config), label_names(config)
        ids = {} if task == "regression" else {name: index for index, name in enumerate(names)}
        return cls(preprocessing, str(model), Labels(task, ids))

    def facts(self, tokenizer: Any) -> Statistics:
        """Return the statistics that do not depend on the texts."""
        return {
            "vocabulary_size": len(tokenizer),
            "pad_token_id": tokenizer.pad_token_id,
            "max_length": self.preprocessing.max_length,
            "word_starts": False,
            "pairs": self.preprocessing.pairs,
            "task": self.labels.task,
            "num_labels": self.labels.num_labels,
            **self.held_out_rows,
        }

    def share(self, tokenizer: Any, output: Path, place: Path) -> None:
        """Write everything to `output`, which will be at `place`, that does not depend on the texts."""
        if self.tokens:
            share_held_out(self.tokens, output, place)
        else:
            write_encoding(output, tokenizer, self.preprocessing, self.labels)


@dataclass
class Counts:
    """Counts of what was read so far: texts that are not empty, texts that are, and files without any text."""

    texts: int = 0
    texts_empty: int = 0
    files_empty: int = 0


def _read(files: Sequence[Path], fields: Sequence[str], work: Path) -> Counts:
    """Write the texts of all files to `work`, as units."""
    counts = Counts()
    write_units(_clean_texts(files, fields, counts), work / "units.arrow")
    if not counts.texts:
        raise CorpusError(f"no text in {_some(files)}: {counts.texts_empty:,} texts read, all empty")
    return counts


def _clean_texts(files: Sequence[Path], fields: Sequence[str], counts: Counts) -> Iterator[list[str]]:
    """Yield the clean texts of each row, of a pair both, without rows that have an empty text."""
    way_out = SET_TEXT_FIELD + (f"; the second text of a pair has the name {fields[1]!r}" if len(fields) == 2 else "")
    for file in files:
        before = counts.texts
        for raw in read_texts(file, fields, way_out):
            texts = list(map(clean, raw))
            if all(texts):
                counts.texts += 1
                yield texts
            else:
                counts.texts_empty += 1
        counts.files_empty += counts.texts == before


def _tokenize(work: Path, recipe: Recipe, tokenizer: Any, num_workers: int) -> Any:
    """Tokenize the units in `work`, in order, without the rows that are also in validation or test."""
    import datasets

    columns = {"input_ids": datasets.List(datasets.Value("int32"))}
    if recipe.preprocessing.has_token_types(tokenizer):
        columns["token_type_ids"] = datasets.List(datasets.Value("int8"))
    columns["truncated"] = datasets.Value("bool")
    units = datasets.Dataset.from_file(str(work / "units.arrow"))
    if not len(units):
        (work / "units.arrow").unlink()
        return datasets.Dataset.from_dict({name: [] for name in columns}, datasets.Features(columns))
    encode = functools.partial(_encode_unit, recipe=recipe, columns=list(columns))
    rows = rows_of_units(units, encode, columns, work, num_workers)
    (work / "units.arrow").unlink()
    return rows


_worker_held_out = functools.lru_cache(maxsize=1)(PreparedRows.held_out_texts)


def _encode_unit(batch: dict[str, list], recipe: Recipe, columns: Sequence[str]) -> dict[str, list]:
    (texts,) = batch["blocks"]
    held_out = _worker_held_out(recipe.tokens) if recipe.tokens else set()
    kept = [row for row in texts if tuple(row) not in held_out]
    first, *second = ([row[place] for row in kept] for place in range(1 + recipe.preprocessing.pairs))
    encodings = recipe.preprocessing.encode(worker_tokenizer(recipe.tokenizer_path), first, *second)
    return {name: [getattr(encoding, name) for encoding in encodings] for name in columns}
