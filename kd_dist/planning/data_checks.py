"""Find input files that are missing or misnamed, without reading them."""

from pathlib import Path

from kd_dist.config.job import Job
from kd_dist.config.stages import WIRE, CorpusStage, LabelledStage, UnlabelledStage
from kd_dist.data.columns import parse_columns
from kd_dist.data.discovery import find_files, labelled_files
from kd_dist.data.readers import find_plain_texts
from kd_dist.errors import CorpusError


def labelled_problems(job: Job, stage: LabelledStage) -> list[str]:
    """Return what is wrong with the columns and the files of labelled data."""
    problems = []
    try:
        parse_columns(stage.data.columns)
    except CorpusError as error:
        problems.append(str(error))
    for split in ("train", "validation", "test"):
        patterns = [pattern for pattern in getattr(stage.data, split) if not pattern.startswith(WIRE)]
        try:
            next(iter(labelled_files(patterns)), None)
        except CorpusError as error:
            problems.append(f"data.{split}: {error}")
    for key in ("label_names", "hint_words"):
        path = getattr(stage.data, key)
        if path is not None and not Path(path).is_file():
            problems.append(f"data.{key}={path}: no such file")
    if not stage.data.train:
        problems.append("data.train is empty: name labelled files, for example data.train=train.tsv")
    return problems


def corpus_problems(job: Job, stage: CorpusStage) -> list[str]:
    """Return what is wrong with the files of a corpus."""
    problems = []
    patterns = [pattern for pattern in stage.data.corpus if not pattern.startswith(WIRE)]
    if not stage.data.corpus:
        problems.append("data.corpus is empty: name text files, for example data.corpus='corpus/*.txt.gz'")
    try:
        if patterns and not any(file.stat().st_size for file in find_files(patterns)):
            problems.append(f"data.corpus={','.join(patterns)}: these files have no text, all are empty")
    except CorpusError as error:
        problems.append(f"data.corpus: {error}")
    return problems


def unlabelled_problems(job: Job, stage: UnlabelledStage) -> list[str]:
    """Return what is wrong with the files of texts without labels."""
    if not stage.data.unlabelled:
        return ["data.unlabelled is empty: name files of texts, for example data.unlabelled='texts/*.parquet'"]
    patterns = [pattern for pattern in stage.data.unlabelled if not pattern.startswith(WIRE)]
    try:
        if patterns:
            find_plain_texts(patterns)
    except CorpusError as error:
        return [f"data.unlabelled: {error}"]
    return []
