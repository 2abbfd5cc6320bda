"""Make a tokenizer clean raw texts, and segment them where its vocabulary has words."""

import shutil
from pathlib import Path
from typing import Any

from tokenizers import Regex, normalizers
from tokenizers.models import WordPiece

from kd_dist.data.cleaning import INVISIBLE
from kd_dist.data.preprocessing import Preprocessing
from kd_dist.data.tokenizer_folders import WORD_TOKENIZER, load_tokenizer
from kd_dist.files import read_json, write_json

CODE = Path(__file__).with_name("word_tokenizer.py")

WHITE_SPACE = "[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"  # what `str.split` splits at


def segments_words(tokenizer: Any, preprocessing: Preprocessing) -> bool:
    """Return whether texts are segmented into words in a way that a served tokenizer can do by itself."""
    return preprocessing.segment == "word" and isinstance(tokenizer.backend_tokenizer.model, WordPiece)


def save_cleaning_tokenizer(directory: Path, preprocessing: Preprocessing) -> None:
    """Make the tokenizer of a model clean raw texts, as the texts that the model was trained on were cleaned.

    Where these were segmented into words, it does so as well, by code that is saved beside it.

    Clean texts give the same tokens as before. The class becomes the general one, which loads the tokenizer as the file
    has it; the classes of the model families build their own and would lose the cleaning.
    """
    tokenizer = load_tokenizer(directory)
    backend = tokenizer.backend_tokenizer
    own = [] if backend.normalizer is None else [backend.normalizer]
    backend.normalizer = normalizers.Sequence([*_cleaning(), *own])
    tokenizer.save_pretrained(str(directory))
    file = directory / "tokenizer_config.json"
    general = {"tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": tokenizer.model_input_names}
    general |= {"padding_side": tokenizer.padding_side}  # which XLNet's class knows without saying
    if segments_words(tokenizer, preprocessing):
        shutil.copy(CODE, directory)
        general |= {
            "tokenizer_class": WORD_TOKENIZER,
            "auto_map": {"AutoTokenizer": [None, f"{CODE.stem}.{WORD_TOKENIZER}"]},
            "cleaning_steps": len(_cleaning()),
        }
    write_json(file, read_json(file) | general)


def _cleaning() -> list[normalizers.Normalizer]:
    """Return the steps of `cleaning.clean`; some 70 rare letters differ, which are newer than the tokenizer's NFKC."""
    invisible = INVISIBLE.pattern.replace("\ud800-\udfff", "")  # surrogates do not get as far as a tokenizer
    return [
        normalizers.Replace(Regex(invisible), ""),
        normalizers.NFKC(),
        normalizers.Replace(Regex(f"{WHITE_SPACE}+"), " "),
        normalizers.Strip(),
    ]
