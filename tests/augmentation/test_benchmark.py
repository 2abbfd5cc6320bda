"""The benchmark compares the published form with ours on equal copies."""

import json
import os
import subprocess
import sys

import pytest

from benchmarks import augmentation
from kd_dist.config.paths import REPOSITORY
from kd_dist.config.sections.augmentation import Augment
from kd_dist.errors import RunError


def test_the_benchmark_compares_two_forms_of_the_same_copies(world, tiny, tmp_path):
    titles = tmp_path / "titles.txt"
    sentences = tiny.corpus.read_text(encoding="utf-8").replace("，", "\n").replace("。", "\n").splitlines()
    titles.write_text("".join(f"{text}\t1\n" for text in sentences if 8 < len(text) < 20), encoding="utf-8")
    script, output = REPOSITORY / "benchmarks" / "augmentation.py", tmp_path / "result.json"
    command = [sys.executable, script, "--mlm", world.mlm, "--titles", titles, "--output", output]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    finished = subprocess.run(
        [*map(str, command), "--rows", "8", "--rounds", "2"], capture_output=True, text=True, env=environment
    )
    assert finished.returncode == 0, finished.stderr
    assert "in both forms" in finished.stdout
    result = json.loads(output.read_text(encoding="utf-8"))
    assert result["equal_copies"] > 0
    assert len(result["rounds"]) == 2
    assert result["ratio"]["lowest"] <= result["ratio"]["of_medians"] <= result["ratio"]["highest"]


def test_forms_that_differ_are_noticed():
    settings = Augment(copies=3, probability=1.0)
    forms = {
        name: lambda sentences, words=words: [{0: [words]} for _ in sentences]
        for name, words in (("published", "甲"), ("ours", "乙"))
    }
    with pytest.raises(RunError, match="different copies"):
        augmentation.check_equality(forms, ["国家经济"], settings)
    with pytest.raises(RunError, match="neither form makes a copy"):
        augmentation.check_equality(dict.fromkeys(forms, lambda sentences: [{} for _ in sentences]), ["国家"], settings)
