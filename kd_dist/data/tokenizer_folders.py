"""Load the tokenizer of a model folder or of prepared rows, with no more than transformers."""

from pathlib import Path
from typing import Any

from kd_dist.data.quiet import quietly
from kd_dist.model_files.vocabularies import needs_berts_class, require_tokenizer


def load_tokenizer(path: str | Path) -> Any:
    """Load the tokenizer of a folder or hub name.

    Raises:
        UserError: The folder has none; transformers would make up an empty vocabulary.
    """
    from transformers import AutoTokenizer, BertTokenizer

    folder = Path(path)
    if folder.is_dir():
        require_tokenizer(folder)
    loader = BertTokenizer if folder.is_dir() and needs_berts_class(folder) else AutoTokenizer
    with quietly():
        # Not to trust is said, or it asks, and reads stdin for the answer.
        tokenizer = loader.from_pretrained(str(path), trust_remote_code=False)
    tokenizer.init_kwargs.pop("auto_map", None)  # code of others, which no export is to ask for
    return tokenizer
