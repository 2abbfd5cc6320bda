"""The edges of a job, and how its wires are changed."""

import pytest
from pydantic import ValidationError

from kd_dist.config.job import Job, drop_stages, replace_wire
from tests.config.refusals import refusal
from tests.loading import load_job


def test_stage_key_cuts_the_edge() -> None:
    assert load_job("demo", []).edges()["pretrained"] == ["texts", "multilingual"]
    assert load_job("demo", ["pretrained.encoder.path=some/model"]).edges()["pretrained"] == ["texts"]


@pytest.mark.parametrize("wire", ["@nowhere/tokens", "@distill/tokens", "@report/tokens"])
def test_wire_to_a_stage_that_does_not_come_before_is_refused(wire: str) -> None:
    assert f"`{wire.split('/')[0]}` is not a stage before `distill`" in refusal(f"distill.data.tokens={wire}")


def test_a_stage_that_nothing_waits_for_can_be_dropped() -> None:
    job = load_job("augment", [])
    stages = replace_wire(job.stages, "@labelled/tokens", by="tokens")
    rest = job.model_copy(update={"stages": drop_stages(stages, "labelled")})
    assert list(rest.stages) == ["augmentation", "augmented"]
    assert {stage.data.tokens for stage in rest.stages.values()} == {"tokens"}
    assert (rest.wire_problems(), rest.edges()["augmented"]) == ([], ["augmentation"])


def test_dropping_a_stage_that_others_wait_for_is_a_problem_of_wires() -> None:
    job = load_job("augment", [])
    rest = job.model_copy(update={"stages": drop_stages(job.stages, "labelled")})
    assert [problem.split(":")[0] for problem in rest.wire_problems()] == [
        "augmentation.data.tokens",
        "augmented.data.tokens",
    ]


@pytest.mark.parametrize("name", ["../outside", "a/b", "two\nlines", "", "-x", ".hidden", "$(touch x)"])
def test_a_stage_whose_name_is_no_name_of_a_folder_is_refused(name: str) -> None:
    content = load_job("tinybert_general", []).model_dump()
    content["stages"][name] = content["stages"]["report"]
    with pytest.raises(ValidationError, match="should match pattern"):
        Job.model_validate(content)
