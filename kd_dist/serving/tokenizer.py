"""Make a tokenizer clean raw texts."""

from pathlib import Path

from tokenizers import Regex, normalizers
from transformers import AutoTokenizer

from kd_dist.data.cleaning import INVISIBLE
from kd_dist.files import read_json, write_json

WHITE_SPACE = "[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"  # what `str.split` splits at


def save_cleaning_tokenizer(directory: Path) -> None:
    """Make the tokenizer of a model clean raw texts, as the texts that the model was trained on were cleaned.

    Clean texts give the same tokens as before. The class becomes the general one, which loads the tokenizer as the file
    has it; the classes of the model families build their own and would lose the cleaning.
    """
    tokenizer = AutoTokenizer.from_pretrained(str(directory), trust_remote_code=False)
    backend = tokenizer.backend_tokenizer
    own = [] if backend.normalizer is None else [backend.normalizer]
    backend.normalizer = normalizers.Sequence([*_cleaning(), *own])
    tokenizer.save_pretrained(str(directory))
    file = directory / "tokenizer_config.json"
    general = {"tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": tokenizer.model_input_names}
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
