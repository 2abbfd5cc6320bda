"""Load tokenizers, or train one."""

import functools
import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from kd_dist.data.blocks import TextStatistics, blocks
from kd_dist.data.tokenizer_folders import load_tokenizer
from kd_dist.data.vocabulary_files import SPECIAL_TOKENS
from kd_dist.errors import CorpusError, UserError


def load_fast_tokenizer(tokenizer_path: str) -> Any:
    """Load a tokenizer from a folder or a hub, and require that it gives offsets.

    Raises:
        CorpusError: there is no tokenizer, or only a slow one.
    """
    try:
        tokenizer = load_tokenizer(tokenizer_path)
    except UserError as error:
        raise CorpusError(str(error)) from error
    except (OSError, ValueError) as error:
        raise CorpusError(f"no tokenizer can be loaded from {tokenizer_path}: {error}") from error
    if not tokenizer.is_fast:
        raise CorpusError(f"{tokenizer_path}: a slow tokenizer without offsets; convert it to a tokenizer.json")
    return tokenizer


worker_tokenizer = functools.lru_cache(maxsize=1)(load_fast_tokenizer)  # for processes that tokenize batch by batch


def train_tokenizer(
    files: Sequence[Path], output_dir: Path, vocabulary_size: int, text_field: str, max_lines: int | None = None
) -> None:
    """Train a lower-casing BERT WordPiece tokenizer on cleaned text and save it for `AutoTokenizer`.

    This is for machines without a model hub. Every Chinese character is a piece of its own, and [PAD] [UNK] [CLS] [SEP]
    [MASK] are 0 to 4. The same text gives the same vocabulary. The files are read twice, for characters and for words.

    Args:
        vocabulary_size: the largest size; a short text gives fewer pieces.
        text_field: the column of the text in files that have columns.
        max_lines: stop reading after this many lines.

    Raises:
        CorpusError: there is no text, or no room beside the special tokens.
    """
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import BertTokenizer

    room = vocabulary_size - len(SPECIAL_TOKENS)
    if room < 1:
        raise CorpusError(
            f"vocabulary_size={vocabulary_size} leaves no room beside {len(SPECIAL_TOKENS)} special tokens"
        )
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    alphabet = _alphabet(blocks(files, text_field, TextStatistics(), max_lines), tokenizer, room)
    characters = [piece for piece in alphabet if len(piece) == 1]
    # The trainer breaks ties by hash order; fixed ids for the whole alphabet make the result repeatable.
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocabulary_size,
        special_tokens=SPECIAL_TOKENS + alphabet,
        initial_alphabet=characters,
        limit_alphabet=len(characters),
        show_progress=False,
    )
    lines = itertools.chain.from_iterable(blocks(files, text_field, TextStatistics(), max_lines))
    tokenizer.train_from_iterator(lines, trainer)
    BertTokenizer(vocab=tokenizer.get_vocab(), model_max_length=512).save_pretrained(output_dir)


def _alphabet(texts: Iterable[list[str]], tokenizer: Any, room: int) -> list[str]:
    """Return the most frequent characters, each with its "##" form if it can continue a word; at most `room`."""
    counts: Counter[str] = Counter()
    for block in texts:
        counts.update(tokenizer.normalizer.normalize_str("".join(block)))
    alphabet: list[str] = []
    for character in sorted(filter(str.strip, counts), key=lambda character: (-counts[character], character)):
        joined = tokenizer.normalizer.normalize_str(f"a{character}")
        continues = len(tokenizer.pre_tokenizer.pre_tokenize_str(joined)) == 1
        pieces = [character, f"##{character}"] if continues else [character]
        if len(alphabet) + len(pieces) > room:
            break
        alphabet += pieces
    return alphabet
