"""`pretrain` trains any shipped architecture from raw text."""

from pathlib import Path

import pytest

from kd_dist.config.paths import REPOSITORY
from kd_dist.config.recurrent import is_recurrent
from kd_dist.files import read_json
from kd_dist.planning.checks import check_job
from tests.loading import load_job

SHIPPED = sorted((REPOSITORY / "configs" / "models").glob("*.json"))
TRANSFORMERS = [file for file in SHIPPED if not is_recurrent(read_json(file))]


@pytest.mark.parametrize("file", TRANSFORMERS, ids=lambda file: file.stem)
def test_shipped_student_passes_the_checks(file: Path) -> None:
    check_job(load_job("pretrain", [f"student.config={file.stem}"]), reads_files=False)


def test_the_vocabulary_is_trained_unless_a_tokenizer_is_given() -> None:
    assert load_job("pretrain", []).stages["corpus"].tokenizer.path is None
    assert load_job("pretrain", ["tokenizer.path=DIR"]).stages["corpus"].tokenizer.path == "DIR"


def test_a_model_that_is_trained_further_keeps_its_vocabulary() -> None:
    stages = load_job("pretrain", ["student.path=MLM"]).stages
    assert (stages["corpus"].tokenizer.path, stages["pretrain"].student.path) == ("MLM", "MLM")
    assert load_job("pretrain", ["student.path=MLM", "tokenizer.path=DIR"]).stages["corpus"].tokenizer.path == "DIR"
