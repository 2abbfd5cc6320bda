"""`finetune` turns one encoder into a classifier that is scored, exported and reported."""

import pytest

from tests.loading import load_job


@pytest.mark.parametrize("key", ["encoder.path", "teacher.path"])
def test_the_tokenizer_is_that_of_the_encoder(key: str) -> None:
    stages = load_job("finetune", [f"{key}=DIR"]).stages
    assert (stages["finetune"].encoder.path, stages["labelled"].tokenizer.path) == ("DIR", "DIR")
    assert load_job("finetune", [f"{key}=DIR", "tokenizer.path=MLM"]).stages["labelled"].tokenizer.path == "MLM"


def test_the_classifier_that_is_scored_is_the_one_that_is_exported() -> None:
    job = load_job("finetune", ["encoder.path=DIR"])
    assert job.stages["evaluation"].evaluate.models == {"teacher": job.stages["serving"].model.path}
    assert job.edges()["report"] == ["evaluation", "serving"]
