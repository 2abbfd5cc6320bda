"""Load the tokenizer of a model folder or of prepared rows, with no more than transformers."""

import hashlib
from pathlib import Path
from typing import Any

from kd_dist.data.quiet import quietly
from kd_dist.errors import UserError
from kd_dist.model_files.vocabularies import needs_berts_class, require_tokenizer, tokenizer_class

TOKENIZER_FILES = ("tokenizer*", "vocab*", "*.model", "merges.txt", "special_tokens_map.json", "added_tokens.json")

TOKENIZER_CLASS_FILES = (
    "config.json",
    "bert_config.json",
    "*.py",
)  # the class comes from config.json when tokenizer_config.json is silent

WORD_TOKENIZER = "WordTokenizer"
"""The class of tokenizers that segment by themselves, in the code beside them; here `Preprocessing` segments."""


def load_tokenizer(path: str | Path) -> Any:
    """Load the tokenizer of a folder or hub name.

    Raises:
        UserError: The folder has none (transformers would make up an empty vocabulary), or one that cannot pad.
    """
    loader: Any = _class_of(Path(path))
    with quietly():
        # Not to trust is said, or it asks, and reads stdin for the answer.
        tokenizer = loader.from_pretrained(str(path), trust_remote_code=False)
    for name in ("auto_map", "cleaning_steps"):  # code of others or of our own, which no other export is to ask for
        tokenizer.init_kwargs.pop(name, None)
    if tokenizer.pad_token_id is None:
        raise UserError(
            f"the tokenizer in {path} has no token for padding, as those of models that generate text: name one of its "
            f'tokens, "pad_token": "{tokenizer.eos_token or "..."}" in its tokenizer_config.json, and the number of '
            'that token, "pad_token_id", in the config.json of the model'
        )
    return _with_token_types(tokenizer)


def tokenizer_identity(path: str) -> str | list[tuple[str, str]]:
    """Return what tells tokenizers apart: of a folder the hashes of its tokenizer files, of a hub model its name."""
    folder = Path(path)
    if not folder.is_dir():
        return path
    files = {file for pattern in TOKENIZER_FILES + TOKENIZER_CLASS_FILES for file in folder.glob(pattern)}
    return [(file.name, hashlib.sha256(file.read_bytes()).hexdigest()) for file in sorted(files) if file.is_file()]


def _class_of(folder: Path) -> type:
    from transformers import AutoTokenizer, BertTokenizer, PreTrainedTokenizerFast

    if not folder.is_dir():
        return AutoTokenizer
    require_tokenizer(folder)
    if tokenizer_class(folder) == WORD_TOKENIZER:
        return PreTrainedTokenizerFast
    return BertTokenizer if needs_berts_class(folder) else AutoTokenizer


def _with_token_types(tokenizer: Any) -> Any:
    """Let a tokenizer return token types where even a single text has several: XLNet's of transformers 5 does not."""
    names = tokenizer.model_input_names
    if tokenizer.is_fast and "token_type_ids" not in names and any(tokenizer.backend_tokenizer.encode("a").type_ids):
        tokenizer.model_input_names = [*names, "token_type_ids"]
        tokenizer.init_kwargs["model_input_names"] = tokenizer.model_input_names  # or it would not be saved
    return tokenizer
