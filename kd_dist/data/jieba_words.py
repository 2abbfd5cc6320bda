"""Load jieba's dictionary."""

import functools
import logging
from typing import Any

from kd_dist.runs.caches import cache_folder


@functools.cache
def word_cutter() -> Any:
    """Return jieba's dictionary, with its `cut`, loaded once per process."""
    import jieba

    # jieba caches its dictionary in /tmp under the same name for every user: another user's file would be in the
    # way, or would be loaded. Where it cannot write, it works without a cache, but would log a traceback.
    jieba.dt.tmp_dir = str(cache_folder())
    jieba.setLogLevel(logging.CRITICAL)
    return jieba.dt
