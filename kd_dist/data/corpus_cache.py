"""Cache prepared corpora by what they are made from."""

import errno
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kd_dist.data.corpus_rows import prepare
from kd_dist.data.kept_blocks import FOLDER
from kd_dist.data.prepared_rows import PreparedRows
from kd_dist.data.tokenizer_folders import tokenizer_identity
from kd_dist.errors import CorpusError
from kd_dist.files import link, short_hash

FORMAT_VERSION = 4  # raise it when the same options and files would give other rows: old caches are then left alone


def fingerprint(*, files: Sequence[Path], tokenizer_path: str, **options: Any) -> str:
    """Return a short name for the corpus that `prepare` makes from these files, tokenizer and options.

    Files count by name, size and modification time, wherever they are; a tokenizer folder by the bytes of its tokenizer
    files, a hub model by its name. `num_workers`, which does not change the result, and options that are None do not
    count.
    """
    identities = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    options = {key: value for key, value in options.items() if key != "num_workers" and value is not None}
    parts = [FORMAT_VERSION, identities, tokenizer_identity(tokenizer_path), options]
    return short_hash(parts)


def cached_prepare(cache_dir: Path, place: Path, **arguments: Any) -> dict[str, Any]:
    """Prepare a corpus in `cache_dir/<fingerprint>` unless it exists, and make `place` a link to it.

    The link is relative and replaced atomically.

    Args:
        arguments: those of `prepare`, except the output folder.

    Returns:
        The statistics, with `cached`: whether nothing had to be built.

    Raises:
        CorpusError: what `prepare` raises, and a `place` that is not a link.
    """
    if place.exists() and not place.is_symlink():
        raise CorpusError(f"{place} is not a link to a prepared corpus; move it away or choose another place")
    target = cache_dir / fingerprint(**arguments)
    cached = target.exists()
    if not cached:
        _build(target, place, arguments)
    shutil.rmtree(place.with_name(FOLDER), ignore_errors=True)  # of a try that was killed when all was done
    statistics = PreparedRows(target).statistics
    _replace_link(place, target)
    return {**statistics, "cached": cached}


def _build(target: Path, place: Path, arguments: dict[str, Any]) -> None:
    """Build the corpus beside `place`, where a later try sweeps what a killed one left, unless that is another disk."""
    for path in (target, place):
        path.parent.mkdir(parents=True, exist_ok=True)
    is_one_disk = target.parent.stat().st_dev == place.parent.stat().st_dev
    try:
        prepare(
            output_dir=target,
            scratch=place if is_one_disk else target,
            kept=place.with_name(FOLDER),
            identity=target.name,
            **arguments,
        )
    except OSError as error:
        # Another process built the same corpus in the meantime: its copy is as good.
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY) or not PreparedRows(target).exist():
            raise


def _replace_link(path: Path, target: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    link(path, Path(os.path.relpath(target.resolve(), path.parent.resolve())))
