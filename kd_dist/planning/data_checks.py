"""Find input files that are missing or misnamed, from their names and how they begin."""

import itertools
from collections.abc import Callable, Iterable
from pathlib import Path

from kd_dist.config.job import Job
from kd_dist.config.sections.data import LabelledData, SoftLabelsData
from kd_dist.config.stage import WIRE, Stage, wired_stage
from kd_dist.config.stages import (
    CorpusStage,
    CutVocabularyStage,
    LabelledStage,
    SoftLabelsStage,
    UnlabelledStage,
    VocabularyStage,
)
from kd_dist.data.columns import Columns, parse_columns
from kd_dist.data.discovery import (
    NAMED_SUFFIXES,
    find_files,
    format_suffix,
    labelled_files,
    unread_files,
    unread_labelled_files,
    unread_note,
)
from kd_dist.data.judgement_files import check_columns, check_id_texts, find_id_texts, find_judgements
from kd_dist.data.labelled_rows import checked_separator
from kd_dist.data.lines import refuse_other_kinds
from kd_dist.data.prepared_rows import TEXTS
from kd_dist.data.readers import find_plain_texts
from kd_dist.data.vocabulary_files import read_vocabulary
from kd_dist.errors import CorpusError


def labelled_problems(job: Job, stage: LabelledStage) -> list[str]:
    """Return what is wrong with the columns and the files of labelled data."""
    problems = []
    columns = None
    try:
        columns = parse_columns(stage.data.columns)
    except CorpusError as error:
        problems.append(str(error))
    for split in ("train", "validation", "test"):
        patterns = _outside(getattr(stage.data, split))
        try:
            _refuse_other_beginnings(labelled_files(patterns), stage.data, columns)
        except CorpusError as error:
            problems.append(f"data.{split}: {error}")
    for key in ("label_names", "hint_words"):
        path = getattr(stage.data, key)
        if path is not None and not Path(path).is_file():
            problems.append(f"data.{key}={path}: no such file")
    if not stage.data.train:
        problems.append("data.train is empty: name labelled files, for example data.train=train.tsv")
    return problems


def _refuse_other_beginnings(
    files: Iterable[tuple[Path, str | None]], data: LabelledData, columns: Columns | None
) -> None:
    """Refuse labelled files that are something else than their names say, or have another separator."""
    named = [file for file, label in files if label is None]
    refuse_other_kinds(named)
    for file in named:
        if columns and format_suffix(file) not in NAMED_SUFFIXES:
            checked_separator(file, data, columns)


def vocabulary_file_problems(job: Job, stage: VocabularyStage) -> list[str]:
    """Return what is wrong with a given vocabulary; labelled files are those of a labelled stage, which names them."""
    try:
        if stage.vocabulary.file is not None:
            read_vocabulary(Path(stage.vocabulary.file))
    except CorpusError as error:
        return [str(error)]
    return []


def corpus_problems(job: Job, stage: CorpusStage | CutVocabularyStage) -> list[str]:
    """Return what is wrong with the files of a corpus."""
    problems = []
    patterns = _outside(stage.data.corpus)
    if not stage.data.corpus:
        problems.append("data.corpus is empty: name text files, for example data.corpus='corpus/*.txt.gz'")
    try:
        files = find_files(patterns)
        refuse_other_kinds(files)
        if patterns and not any(file.stat().st_size for file in files):
            problems.append(f"data.corpus={','.join(patterns)}: these files have no text, all are empty")
    except CorpusError as error:
        problems.append(f"data.corpus: {error}")
    return problems


def unlabelled_problems(job: Job, stage: UnlabelledStage) -> list[str]:
    """Return what is wrong with the files of texts without labels."""
    if not stage.data.unlabelled:
        return ["data.unlabelled is empty: name files of texts, for example data.unlabelled='texts/*.parquet'"]
    patterns = _outside(stage.data.unlabelled)
    try:
        if patterns:
            refuse_other_kinds(find_plain_texts(patterns))
    except CorpusError as error:
        return [f"data.unlabelled: {error}"]
    return []


def judgement_problems(job: Job, stage: SoftLabelsStage) -> list[str]:
    """Return what is wrong with the files of judgements, and with those of the texts whose ids they name."""
    data, texts = stage.data, _judged_columns(job, stage)
    if not data.soft_labels:
        return ["data.soft_labels is empty: name files of judged texts, for example data.soft_labels=judged.jsonl"]
    problems = []
    if data.id_field or not data.id_texts:  # else no column is known, as the stage says
        problems += _record_problems("soft_labels", data, find_judgements, lambda it: check_columns(it, data, texts))
    if id_field := data.id_field:
        problems += _record_problems("id_texts", data, find_id_texts, lambda it: check_id_texts(it, id_field, texts))
    return problems


def _record_problems(
    key: str, data: SoftLabelsData, find: Callable[[list[str]], list[Path]], check: Callable[[Path], None]
) -> list[str]:
    """Return what is wrong with the files that a setting names, as found and checked by these."""
    try:
        files = find(_outside(getattr(data, key)))
        refuse_other_kinds(files)
        for file in files:
            check(file)
    except CorpusError as error:
        return [f"data.{key}: {error}"]
    return []


def _judged_columns(job: Job, stage: SoftLabelsStage) -> list[str]:
    """Return the columns of the texts that are judged: two where this job's labelled rows are pairs."""
    source = job.stages.get(wired_stage(stage.data.tokens))
    columns = source.data.columns if isinstance(source, LabelledStage) else []
    are_pairs = any(column.partition(":")[0] == TEXTS[1] for column in columns)
    return [stage.data.text_field, TEXTS[1]][: 1 + are_pairs]


def with_data_notes(job: Job) -> Job:
    """Add to a job's notes which files in the folders of its texts nobody reads."""
    notes = []
    for name, stage in job.stages.items():
        unread = _unread(stage)
        notes += [f"{name}: {unread_note(unread)}"] if unread else []
    return job.model_copy(update={"notes": [*job.notes, *notes]})


def _unread(stage: Stage) -> list[Path]:
    if isinstance(stage, LabelledStage):
        data = stage.data
        patterns = _outside(itertools.chain(data.train, data.validation, data.test))
        return unread_labelled_files(patterns)
    if isinstance(stage, SoftLabelsStage):
        judged, texts = _outside(stage.data.soft_labels), _outside(stage.data.id_texts)
        return unread_files([*judged, *texts], [*find_judgements(judged), *find_id_texts(texts)])
    if isinstance(stage, CorpusStage | UnlabelledStage):
        patterns = _outside(stage.data.corpus if isinstance(stage, CorpusStage) else stage.data.unlabelled)
        return unread_files(patterns, find_files(patterns))
    return []


def _outside(patterns: Iterable[str]) -> list[str]:
    """Return the patterns without what earlier stages of the job write."""
    return [pattern for pattern in patterns if not pattern.startswith(WIRE)]
