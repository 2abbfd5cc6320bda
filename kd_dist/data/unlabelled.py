"""The stage of texts without labels: files -> tokens, made as labelled rows, or the texts of a classifier, were made.

The texts stream: this process reads and cleans them into units on disk, workers make rows of the units, and a last pass
writes the rows. Memory does not grow with the files, and what comes out depends neither on the number of workers nor on
how the texts are spread over files. Importing this module is cheap: the heavy libraries are imported where they are
used.
"""

import functools
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kd_dist.config.model_folders import label_names, num_positions, read_classifier_config, task_of
from kd_dist.config.sections.data import UnlabelledData
from kd_dist.config.stages import UnlabelledStage
from kd_dist.data.arrow_rows import quiet, rows_of_units, write_splits, write_units
from kd_dist.data.cleaning import clean
from kd_dist.data.discovery import find_files
from kd_dist.data.prepared_rows import held_out_texts, share_held_out
from kd_dist.data.preprocessing import FILE_NAME, Preprocessing, default_max_length
from kd_dist.data.readers import TEXTS, find_plain_texts, read_records
from kd_dist.data.tokenizers import load_fast_tokenizer
from kd_dist.data.unknown_words import count_unknown_words, refuse_unknown_words, unknown_words_note
from kd_dist.errors import CorpusError, RunError
from kd_dist.files import read_json, replaced_folder, write_json
from kd_dist.runs.fingerprints import input_files

Statistics = dict[str, Any]


def run(stage: UnlabelledStage, stage_dir: Path, shard: int) -> None:
    """Make `stage_dir`/tokens, which training reads.

    What an interrupted run left is replaced; nothing appears under its final name before it is complete.

    Raises:
        UserError: what `prepare` raises; the message names the option, or file and line.
        RunError: the files are not those that were there when the run was submitted.
    """
    _refuse_other_files(stage, stage_dir)
    statistics = prepare(stage.data, stage.model.path if stage.model else None, stage_dir / "tokens")
    print(summary(stage_dir.name, statistics), flush=True)


def _refuse_other_files(stage: UnlabelledStage, stage_dir: Path) -> None:
    """Compare with what was there at submission. What stages of this run have made in the meantime is not asked about.

    Raises RunError for input files that are gone or have changed, and for texts that have come.
    """
    submitted, now = (
        {path: facts for path, *facts in files}
        for files in (_read_json(stage_dir / "inputs.json")["files"], input_files(stage))
    )
    problems = [f"{path} is gone" for path in submitted if path not in now]
    problems += [f"{path} has changed" for path in submitted if path in now and submitted[path] != now[path]]
    if not problems:  # otherwise there may be no text to be found
        texts = [file for file in find_files(stage.data.unlabelled) if not file.is_relative_to(stage_dir.parent)]
        problems = [f"{file} is new" for file in texts if str(file) not in submitted]
    if problems:
        more = f" and {len(problems) - 5:,} more" if len(problems) > 5 else ""
        raise RunError(
            f"input files are not as they were when the run was submitted: {', '.join(problems[:5])}{more}; put them "
            "back and start the same run again, or start another run (--run-id) with the files that are there"
        )


def prepare(data: UnlabelledData, model: str | None, output_dir: Path) -> Statistics:
    """Write the tokenised texts to `output_dir`, which is replaced, and return the statistics.

    `train` is a Hugging Face dataset (`input_ids`, and `token_type_ids` where the model tells two segments apart) with
    `train_lengths.npy`, the tokens of every row. `validation` and `test` are those of `data.tokens`; without it every
    round(1 / data.validation_fraction)-th row is `validation`, or fewer where that would be more than
    `MAX_HELD_OUT_ROWS`. `tokenizer/`, `preprocessing.json` and `label2id.json` are those of `data.tokens` or, without
    it, of the classifier `model`. In `statistics.json`, `rows`, `tokens`, `truncated_rows` and `length_percentiles`
    count the rows that were made here.

    Raises:
        CorpusError: what `find_plain_texts`, `read_records` and `load_fast_tokenizer` refuse, and files without a text.
        UserError: a `model` that is no classifier.
        RunError: `data.tokens` was not written by a `labelled` stage, neither it nor `model` is given, or every text
            stands in validation or test.
    """
    started = time.monotonic()
    files = find_plain_texts(data.unlabelled)
    recipe = Recipe.of(data.tokens, model)
    tokenizer = load_fast_tokenizer(recipe.tokenizer_path)
    fields = [data.text_field, TEXTS[1]][: 1 + recipe.preprocessing.pairs]
    with replaced_folder(output_dir) as (work, output), quiet():
        counts = _read(files, fields, work)
        rows = _tokenised(work, recipe, tokenizer, data.num_workers)
        if not len(rows):
            raise RunError(f"all {counts.texts:,} texts of {_some(files)} stand in validation or test: none is left")
        unknown = count_unknown_words(tokenizer, rows.data.column("input_ids"))
        refuse_unknown_words(unknown, recipe.tokenizer_path)
        recipe.share(tokenizer, output, output_dir)
        fraction = None if recipe.tokens else data.validation_fraction
        made = write_splits(rows, work, output, recipe.preprocessing.max_length, fraction)
        statistics = {
            "vocabulary_size": len(tokenizer),
            "pad_token_id": tokenizer.pad_token_id,
            "max_length": recipe.preprocessing.max_length,
            "word_starts": False,
            "pairs": recipe.preprocessing.pairs,
            **recipe.facts,
            **made,
            **unknown,
            **asdict(counts),
            "texts_held_out": counts.texts - len(rows),
            "files": [str(file) for file in files],
            "seconds": round(time.monotonic() - started, 3),
        }
        write_json(output / "statistics.json", statistics)
    return statistics


def summary(name: str, statistics: Statistics) -> str:
    """One line for people, of what `prepare` returned."""
    left_out = {
        "longer than a row and cut": statistics["truncated_rows"],
        "empty and left out": statistics["texts_empty"],
        "left out that stand in validation or test": statistics["texts_held_out"],
    }
    words = "".join(f", {count:,} {what}" for what, count in left_out.items() if count)
    if statistics["files_empty"]:
        words += f"; {statistics['files_empty']:,} of {len(statistics['files']):,} files hold no text"
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
    """How a text becomes a row, and what is known of labels.

    `tokens`: the labelled rows that say so; None when a classifier does. `facts` are of the labels and of the rows that
    are shared, as `statistics.json` of labelled rows has them.
    """

    preprocessing: Preprocessing
    tokenizer_path: str
    tokens: Path | None
    label2id: dict[str, int]
    facts: Statistics

    @classmethod
    def of(cls, tokens: str | None, model: str | None) -> "Recipe":
        """Raises what `prepare` raises."""
        if tokens:
            return cls._of_labelled_rows(Path(tokens))
        if model:
            return cls._of_classifier(Path(model))
        raise RunError(
            "nothing says how a text becomes tokens: set data.tokens (labelled rows) or model.path (a classifier)"
        )

    @classmethod
    def _of_labelled_rows(cls, tokens: Path) -> "Recipe":
        try:
            statistics, label2id = (_read_json(tokens / f"{name}.json") for name in ("statistics", "label2id"))
            facts = {name: statistics[name] for name in ("task", "num_labels", "validation_rows", "test_rows")}
        except (FileNotFoundError, KeyError) as error:
            raise RunError(f"data.tokens={tokens} was not written by a `labelled` stage ({error})") from error
        return cls(Preprocessing.load(tokens), str(tokens / "tokenizer"), tokens, label2id, facts)

    @classmethod
    def _of_classifier(cls, model: Path) -> "Recipe":
        config = read_classifier_config(model)
        if (model / FILE_NAME).is_file():
            preprocessing = Preprocessing.load(model)
        else:
            preprocessing = Preprocessing(max_length=default_max_length(num_positions(config)))
        task = task_of(config)
        names = label_names(config)
        ids = {} if task == "regression" else {name: index for index, name in enumerate(names)}
        return cls(preprocessing, str(model), None, ids, {"task": task, "num_labels": len(names)})

    def share(self, tokenizer: Any, output: Path, output_dir: Path) -> None:
        """Put everything into `output` that does not come of the texts."""
        if self.tokens:
            share_held_out(self.tokens, output, output_dir)
            return
        tokenizer.save_pretrained(output / "tokenizer")
        self.preprocessing.save(output)
        write_json(output / "label2id.json", self.label2id)


def _read_json(path: Path) -> dict[str, Any]:
    return read_json(path)


@dataclass
class Counts:
    """What was read so far: `texts` that are not empty, ones that are, and files without any text."""

    texts: int = 0
    texts_empty: int = 0
    files_empty: int = 0


def _read(files: Sequence[Path], fields: Sequence[str], work: Path) -> Counts:
    """Write the texts of all files to `work`, in units."""
    counts = Counts()
    write_units(_clean_texts(files, fields, counts), work / "units.arrow")
    if not counts.texts:
        raise CorpusError(f"no text in {_some(files)}: {counts.texts_empty:,} texts read, all empty")
    return counts


def _clean_texts(files: Sequence[Path], fields: Sequence[str], counts: Counts) -> Iterator[list[str]]:
    """The texts of each row, cleaned; of a pair both, and neither is empty."""
    for file in files:
        before = counts.texts
        for _, raw in read_records(file, fields):
            texts = list(map(clean, raw))
            if all(texts):
                counts.texts += 1
                yield texts
            else:
                counts.texts_empty += 1
        counts.files_empty += counts.texts == before


def _tokenised(work: Path, recipe: Recipe, tokenizer: Any, num_workers: int) -> Any:
    """The rows of the units in `work`, without those that stand in validation or test."""
    import datasets

    columns = {"input_ids": datasets.List(datasets.Value("int32"))}
    if recipe.preprocessing.has_token_types(tokenizer):
        columns["token_type_ids"] = datasets.List(datasets.Value("int8"))
    columns["truncated"] = datasets.Value("bool")
    units = datasets.Dataset.from_file(str(work / "units.arrow"))
    encode = functools.partial(_encode_unit, recipe=recipe, columns=list(columns))
    rows = rows_of_units(units, encode, columns, work, num_workers)
    (work / "units.arrow").unlink()
    return rows


_worker_tokenizer = functools.lru_cache(maxsize=1)(load_fast_tokenizer)

_worker_held_out = functools.lru_cache(maxsize=1)(held_out_texts)


def _encode_unit(batch: dict[str, list], recipe: Recipe, columns: Sequence[str]) -> dict[str, list]:
    (texts,) = batch["blocks"]
    held_out = _worker_held_out(recipe.tokens) if recipe.tokens else set()
    kept = [row for row in texts if tuple(row) not in held_out]
    first, *second = ([row[place] for row in kept] for place in range(1 + recipe.preprocessing.pairs))
    encodings = recipe.preprocessing.encode(_worker_tokenizer(recipe.tokenizer_path), first, *second)
    return {name: [getattr(encoding, name) for encoding in encodings] for name in columns}
