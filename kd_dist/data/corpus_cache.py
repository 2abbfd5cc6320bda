"""Prepared corpora, cached by what they were made of."""

import errno
import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kd_dist.data.corpus_rows import prepare
from kd_dist.errors import CorpusError
from kd_dist.files import link, read_json

FORMAT_VERSION = 3  # raise it when the same options and files would give other rows: old caches are then left alone

TOKENIZER_FILES = ("tokenizer*", "vocab*", "*.model", "merges.txt", "special_tokens_map.json", "added_tokens.json")

TOKENIZER_CLASS_FILES = (
    "config.json",
    "bert_config.json",
    "*.py",
)  # the class comes from config.json when tokenizer_config.json is silent


def fingerprint(*, files: Sequence[Path], tokenizer_path: str, **options: Any) -> str:
    """Return a short name for what `prepare` makes of these files, tokenizer and options.

    Files count with name, size and modification time, wherever they lie; a tokenizer folder with the bytes of its
    tokenizer files, a hub name as such. `num_workers` changes nothing in the result and does not count; an option
    that is None is as if it were not there.
    """
    identities = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    options = {key: value for key, value in options.items() if key != "num_workers" and value is not None}
    parts = [FORMAT_VERSION, identities, _tokenizer_identity(tokenizer_path), options]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def _tokenizer_identity(tokenizer_path: str) -> str | list[tuple[str, str]]:
    folder = Path(tokenizer_path)
    if not folder.is_dir():
        return tokenizer_path
    files = {file for pattern in TOKENIZER_FILES + TOKENIZER_CLASS_FILES for file in folder.glob(pattern)}
    return [(file.name, hashlib.sha256(file.read_bytes()).hexdigest()) for file in sorted(files) if file.is_file()]


def cached_prepare(cache_dir: Path, place: Path, **arguments: Any) -> dict[str, Any]:
    """Run `prepare(**arguments)` into `cache_dir/<fingerprint>` unless that exists; point the symbolic link `place`
    at it.

    The link is relative and is replaced atomically. Returns the statistics, with "cached": true when nothing had to
    be built. Raises what `prepare` raises, and CorpusError when `place` is a folder or file of its own.
    """
    if place.exists() and not place.is_symlink():
        raise CorpusError(f"{place} is not a link to a prepared corpus; move it away or choose another place")
    target = cache_dir / fingerprint(**arguments)
    cached = target.exists()
    if not cached:
        _build(target, arguments)
    statistics = read_json(target / "statistics.json")
    _replace_link(place, target)
    return {**statistics, "cached": cached}


def _build(target: Path, arguments: dict[str, Any]) -> None:
    try:
        prepare(output_dir=target, **arguments)
    except OSError as error:
        # Another process built the same corpus in the meantime: its copy is as good.
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY) or not (target / "statistics.json").exists():
            raise


def _replace_link(path: Path, target: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    link(path, Path(os.path.relpath(target.resolve(), path.parent.resolve())))
