"""Load jieba's dictionary."""

import contextlib
import functools
import logging
import os
from pathlib import Path
from typing import Any


@functools.cache
def word_cutter() -> Any:
    """Return jieba's dictionary, with its `cut`, loaded once per process."""
    import jieba

    # jieba caches its dictionary in /tmp under the same name for every user: another user's file would be in the
    # way, or would be loaded. If the folder cannot be created, jieba works without a cache.
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kd_dist"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    jieba.dt.tmp_dir = str(folder)
    jieba.setLogLevel(logging.WARNING)
    return jieba.dt
