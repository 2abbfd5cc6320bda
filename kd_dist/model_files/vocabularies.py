"""The tokens that a folder's tokenizer knows, read from its files without transformers."""

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kd_dist.errors import UserError
from kd_dist.model_files.model_configs import config_file, is_bert_without_type, with_model_type
from kd_dist.model_files.weight_files import json_object, pointer_problem

Vocabulary = dict[int, str]

OTHER_STUDENT = (
    "a student reads the teacher's tokens, so give one with the teacher's vocabulary, or have one made "
    "(student.config=NAME without student.path, or student.teacher_layers)"
)
OTHER_TOKENIZER = "prepare the rows with the tokenizer of this model (tokenizer.path)"

# Families whose tokenizer transformers makes of a vocab.txt by itself.
WORDPIECE_FAMILIES = ("bert", "distilbert", "electra", "ernie")
CLASSES_WITHOUT_VOCAB_TXT = ("Albert", "Roberta", "RoFormer", "XLMRoberta")
ROFORMERS_CLASS = (
    "RoFormerTokenizer"  # needs rjieba; segmentation into words is ours (`data.segment`), then it is BERT's
)
NEEDED_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")

MIN_SHARE_OF_EMBEDDINGS = 0.5  # of a model's embeddings, that its tokenizer must have tokens for


def has_tokenizer(folder: Path) -> bool:
    """Return whether a folder has a file that a vocabulary can be read from."""
    names = ("tokenizer.json", "vocab.txt", "vocab.json")
    return any((folder / name).is_file() for name in names) or any(folder.glob("*.model"))


def require_tokenizer(folder: Path) -> None:
    """Make sure that a folder has a tokenizer: without one transformers makes up an empty vocabulary.

    Raises:
        UserError: It has none, only a pointer of Git LFS, or a vocab.txt that is not BERT's for a family without one.
    """
    if problem := pointer_problem(folder, weights=False):
        raise UserError(f"{folder}/{problem}")
    if not has_tokenizer(folder):
        raise UserError(
            f"{folder} has no tokenizer (tokenizer.json, vocab.txt or a SentencePiece *.model); copy it from where the "
            "model was trained"
        )
    if not is_berts(folder):
        return
    tokens = set(_lines(folder / "vocab.txt").values())
    if missing := [token for token in NEEDED_TOKENS if token not in tokens]:
        raise UserError(f"{folder}/vocab.txt is no vocabulary of BERT's tokenizer: it lacks {', '.join(missing)}")


def tokenizer_class(folder: Path) -> str:
    """Return the class that a folder names for its tokenizer; empty where it names none."""
    return _object(folder / "tokenizer_config.json").get("tokenizer_class") or ""


def needs_berts_class(folder: Path) -> bool:
    """Return whether a folder's tokenizer is BERT's and transformers would not find that out by itself."""
    named = tokenizer_class(folder)
    if is_berts(folder) or named.startswith(ROFORMERS_CLASS):
        return True
    file = config_file(folder)
    if file is None or named:
        return False
    return file.name != "config.json" or is_bert_without_type(_object(file))


def is_berts(folder: Path) -> bool:
    """Return whether a folder's only vocabulary is a vocab.txt that transformers would not take by itself.

    Chinese models often have a vocab.txt beside an ALBERT or RoBERTa configuration: their tokenizer is BERT's.
    """
    others = [folder / "tokenizer.json", folder / "vocab.json", *folder.glob("*.model")]
    if not (folder / "vocab.txt").is_file() or any(file.is_file() for file in others):
        return False
    named = tokenizer_class(folder)
    if named and not named.startswith(CLASSES_WITHOUT_VOCAB_TXT):
        return False
    return _object(folder / "config.json").get("model_type") not in WORDPIECE_FAMILIES


def tokenizer_notes(folder: Path) -> list[str]:
    """Return what was made of a folder whose tokenizer is not its family's, a line each."""
    file = config_file(folder)
    family = with_model_type(_object(file)).get("model_type") if file else None
    if not has_tokenizer(folder) or not is_berts(folder) or family in (*WORDPIECE_FAMILIES, None):
        return []
    return [f"{folder}: only a vocab.txt beside the configuration of a `{family}` model, so BERT's tokenizer is used"]


def read_vocabulary(folder: Path) -> Vocabulary | None:
    """Return the tokens of a tokenizer by id; None where no file says them without a library (SentencePiece alone).

    Raises:
        UserError: A file is damaged.
    """
    if (folder / "tokenizer.json").is_file():
        content = json_object((folder / "tokenizer.json").read_bytes(), folder / "tokenizer.json")
        added = {token["id"]: token["content"] for token in content.get("added_tokens") or []}
        return _of_model(content.get("model") or {}) | added
    added = {number: token for token, number in _object(folder / "added_tokens.json").items()}
    if (folder / "vocab.txt").is_file():
        return _lines(folder / "vocab.txt") | added
    if (folder / "vocab.json").is_file():
        return {number: token for token, number in _object(folder / "vocab.json").items()} | added
    return None


def added_tokens(folder: Path) -> list[str]:
    """Return the tokens that were added to a tokenizer after its vocabulary was made, by id."""
    content = _object(folder / "tokenizer.json")
    base = _of_model(content.get("model") or {})
    added = {token["id"]: token["content"] for token in content.get("added_tokens") or [] if token["id"] not in base}
    added |= {number: token for token, number in _object(folder / "added_tokens.json").items()}
    return [added[number] for number in sorted(added)]


def _of_model(model: Mapping[str, Any]) -> Vocabulary:
    vocabulary = model.get("vocab") or {}
    if isinstance(vocabulary, list):  # Unigram: pairs of token and score
        return {number: token for number, (token, _) in enumerate(vocabulary)}
    return {number: token for token, number in vocabulary.items()}


def _lines(file: Path) -> Vocabulary:
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{file} is not UTF-8 ({error}); copy it again") from error
    while lines and not lines[-1]:
        lines.pop()
    return dict(enumerate(lines))


def _object(file: Path) -> dict[str, Any]:
    return json_object(file.read_bytes(), file) if file.is_file() else {}


def first_difference(
    tokens: Vocabulary, others: Vocabulary, only_conflicts: bool = False
) -> tuple[int, str, str | None] | None:
    """Return the first id of `tokens` that means something else in `others`: id, token, and the other token if any.

    Of a token that a vocab.txt holds twice only one id is ever used, which is not known here: it does not count.
    """
    times = Counter(tokens.values())
    for number in sorted(tokens):
        token, other = tokens[number], others.get(number)
        if times[token] == 1 and other != token and not (only_conflicts and other is None):
            return number, token, other
    return None


def size_of(vocabulary: Vocabulary) -> int:
    """Return how many embeddings a vocabulary needs."""
    return max(vocabulary, default=-1) + 1


def embedding_problem(num_tokens: int, tokenizer: str, num_embeddings: int, model: str, added: list[str]) -> str | None:
    """Return a message on why a tokenizer cannot feed a model; None if it can.

    Args:
        num_tokens: Of the tokenizer: its largest id and one.
        tokenizer: Where the tokenizer comes from.
        num_embeddings: Of the model.
        model: The setting and folder of the model.
        added: Tokens that were added to the tokenizer later.
    """
    if num_tokens > num_embeddings:
        shown = ", ".join(added[:3]) + " ..." * (len(added) > 3)
        which = f" ({len(added)} were added to its vocabulary: {shown})" if added else ""
        return (
            f"the tokenizer in {tokenizer} has {num_tokens:,} tokens{which}, but {model} has {num_embeddings:,} "
            f"embeddings: remove the tokens from {num_embeddings:,} on (added_tokens in tokenizer.json, or the end of "
            f"vocab.txt), or give the model embeddings for them: model.resize_token_embeddings({num_tokens}), then "
            "model.save_pretrained(DIR)"
        )
    if num_tokens < MIN_SHARE_OF_EMBEDDINGS * num_embeddings:
        return (
            f"the tokenizer in {tokenizer} has {num_tokens:,} tokens, but {model} has {num_embeddings:,} embeddings: "
            "it is not the tokenizer that this model was trained with; copy that one from where the model comes from"
        )
    return None


def reading_problem(rows: Path, whose: str, key: str, folder: Path, only_conflicts: bool = False) -> str | None:
    """Return a message on why a model cannot read tokens; None if it can.

    The vocabularies themselves are compared where both are there, else what their sizes say.

    Args:
        rows: The folder of the tokenizer that made the tokens.
        whose: What that is, for messages.
        key: The setting that names the model.
        folder: The folder of the model.
        only_conflicts: Let ids be that the model's vocabulary lacks; a tokenizer that is saved may list more of them.

    Raises:
        UserError: A file of either is damaged.
    """
    tokens, model = read_vocabulary(rows), f"{key}={folder}"
    if not tokens:
        return None
    own = read_vocabulary(folder) if has_tokenizer(folder) and folder.resolve() != rows.resolve() else None
    if own is not None and (problem := vocabulary_difference(tokens, whose, own, model, only_conflicts)):
        return f"{problem}: {OTHER_STUDENT if key == 'student.path' else OTHER_TOKENIZER}"
    num_embeddings = read_embeddings(folder)
    if num_embeddings is None:
        return None
    return embedding_problem(size_of(tokens), str(rows), num_embeddings, model, added_tokens(rows))


def read_embeddings(folder: Path) -> int | None:
    """Return how many tokens the model in a folder has embeddings for, by its configuration."""
    file = config_file(folder)
    config = _object(file) if file else {}
    number = (config.get("backbone") or config).get("vocab_size")
    return number if isinstance(number, int) else None


def vocabulary_difference(
    tokens: Vocabulary, whose: str, others: Vocabulary, model: str, only_conflicts: bool = False
) -> str | None:
    """Return where a model's tokens are not those of the rows; None if it knows all of them by the same ids."""
    found = first_difference(tokens, others, only_conflicts)
    if found is None:
        return None
    number, token, other = found
    there = "nothing" if other is None else json.dumps(other, ensure_ascii=False)
    return (
        f"{model} has another vocabulary than {whose}: {size_of(others):,} tokens, not {size_of(tokens):,}; the first "
        f"that differs is token {number}, {json.dumps(token, ensure_ascii=False)} in {whose} and {there} in {model}"
    )
