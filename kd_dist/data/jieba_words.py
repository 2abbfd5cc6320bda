"""jieba's dictionary, loaded once."""

import contextlib
import functools
import logging
import os
from pathlib import Path
from typing import Any


@functools.cache
def word_cutter() -> Any:
    """jieba's dictionary and `cut`, loaded once."""
    import jieba

    # jieba caches its dictionary in the shared /tmp under one name for everybody: another user's file would be in the
    # way, or be loaded. When the folder cannot be made jieba goes on without a cache.
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kd_dist"
    with contextlib.suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    jieba.dt.tmp_dir = str(folder)
    jieba.setLogLevel(logging.WARNING)
    return jieba.dt
