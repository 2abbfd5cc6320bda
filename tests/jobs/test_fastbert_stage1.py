"""`fastbert_stage1` trains branches on texts without labels."""

from kd_dist.config.jobs import find_job
from tests.loading import load_job


def test_stage_1_alone_needs_a_classifier_and_texts_but_no_labels() -> None:
    job = load_job("fastbert_stage1", ["model.path=DIR", "data.unlabelled=more.txt"])
    assert list(job.stages) == ["unlabelled", "self_distill", "report"]
    assert job.stages["unlabelled"].model.path == job.stages["self_distill"].model.path == "DIR"
    assert job.stages["self_distill"].data.tokens == "@unlabelled/tokens"
    assert job.stages["self_distill"].objective == find_job("fastbert").stages["self_distill"].objective
