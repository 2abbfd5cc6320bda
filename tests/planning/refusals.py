"""Model folders with mistakes, and how jobs and the command line refuse them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from kd_dist.config.paths import REPOSITORY
from kd_dist.errors import UserError
from kd_dist.planning.checks import load_checked_job
from tests.model_folders import write_vocabulary, write_weights

BERT = {"model_type": "bert", "num_hidden_layers": 12, "num_attention_heads": 12, "hidden_size": 768}


def model(folder: Path, name: str = "model", **settings: Any) -> Path:
    """A Hugging Face directory without numbers in its weights; a setting of None leaves the key out."""
    (folder / name).mkdir()
    content = {key: value for key, value in {**BERT, **settings}.items() if value is not None}
    (folder / name / "config.json").write_text(json.dumps(content), encoding="utf-8")
    write_weights(folder / name, content)
    write_vocabulary(folder / name)
    return folder / name


def classifier(folder: Path, **settings: Any) -> str:
    return f"model.path={model(folder, **{'architectures': ['BertForSequenceClassification']} | settings)}"


def refused(folder: Path, *arguments: str, **environment: str) -> str:
    """What the command line says on stderr; asserts exit status 2, no traceback, and an empty runs folder."""
    ended = subprocess.run(
        [sys.executable, str(REPOSITORY / "launch" / "slurm.py"), *arguments],
        cwd=folder,
        env={**os.environ, "HF_HUB_OFFLINE": "1", **environment},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    assert not (folder / "runs").exists(), "work was done before the mistake was found"
    return ended.stderr


def problems(*overrides: str, job: str = "tinybert_general", plan_only: bool = True) -> str:
    with pytest.raises(UserError) as caught:
        load_checked_job(job, list(overrides), plan_only=plan_only)
    assert caught.value.exit_status == 2
    return str(caught.value)
