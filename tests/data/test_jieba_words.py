"""jieba's dictionary is loaded once, and its cache is the user's own."""

import os
import subprocess
import sys
from pathlib import Path

from kd_dist.data.jieba_words import word_cutter


def test_words_join_to_the_text():
    cutter = word_cutter()
    assert cutter is word_cutter()
    assert list(cutter.cut("今天天气很好")) == ["今天天气", "很", "好"]


def test_the_cache_is_in_the_folder_of_the_user(tmp_path: Path):
    code = "from kd_dist.data.jieba_words import word_cutter; print('/'.join(word_cutter().cut('北京大学')))"
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout == "北京大学\n"
    assert done.stderr == ""
    assert list((tmp_path / "kd_dist").iterdir())
