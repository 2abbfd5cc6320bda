"""Read files of vocabularies that a user gives, without transformers."""

from pathlib import Path

from kd_dist.data.lines import numbered_lines
from kd_dist.errors import CorpusError

SPECIAL_TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]

SETTING = "vocabulary.file"


def read_vocabulary(file: Path) -> list[str]:
    """Read the tokens of a vocab.txt, whose lines are their ids from 0.

    Raises:
        CorpusError: There is no such file, a token is in it twice, or a special one is missing.
    """
    if not file.is_file():
        raise CorpusError(f"{SETTING}={file}: no such file")
    places: dict[str, int] = {}
    for number, token in numbered_lines(file):
        if token in places:
            raise CorpusError(f"{file}, line {number}: {token!r} is in line {places[token]} already ({SETTING})")
        places[token] = number
    if missing := [token for token in SPECIAL_TOKENS if token not in places]:
        raise CorpusError(
            f"{SETTING}={file} lacks {', '.join(missing)}: give the vocab.txt of a BERT model, one token a line"
        )
    return list(places)
