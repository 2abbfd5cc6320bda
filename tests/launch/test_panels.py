"""The panels of a job are those of its stages; what runs log is tied to them in tests/training/test_trainer.py."""

import pytest

from kd_dist.config.jobs import find_job, job_names, job_with_settings
from kd_dist.config.paths import REPOSITORY
from kd_dist.config.stages import TrainStage
from kd_dist.files import read_json
from launch.panels import sections_of


def titles(job: str, *settings: str) -> dict[str, list[str]]:
    sections = sections_of(job_with_settings(job, list(settings)))
    return {name: [panel.title for panel in panels] for name, panels in sections.items()}


@pytest.mark.parametrize("job", job_names())
def test_every_job_that_trains_has_a_dashboard_without_empty_sections(job: str) -> None:
    trains = any(isinstance(stage, TrainStage) for stage in find_job(job).stages.values())
    found = titles(job)
    assert all(found.values())
    assert ("Preemptions" in found) is trains


def test_panels_follow_from_stages_objectives_and_settings() -> None:
    assert titles("tinybert_general")["Loss terms"] == ["Attention", "Hidden", "Embeddings", "Weighted terms"]
    assert titles("tinybert_general", "objective.attention=none")["Loss terms"][0] == "Hidden"
    assert "Loss terms" not in titles("finetune")  # the one term is the loss
    assert titles("finetune", "data.task=regression")["Quality on held-out rows"][0] == "Spearman"
    assert "Early exit" in titles("fastbert")
    assert "Early exit" not in titles("fastbert", "evaluate.speeds=")


def test_models_are_compared_by_what_an_evaluation_measures() -> None:
    rows = [row for row in read_json(REPOSITORY / "results" / "demo" / "results.json") if row["stage"] == "evaluation"]
    measured = {f"{row['model']}/{key}" for row in rows for key in row}
    panels = sections_of(find_job("demo"))["Students against teacher"]
    assert [panel.title for panel in panels] == ["Accuracy", "Macro f1", "Parameters", "Samples per second"]
    assert {key for panel in panels for key in panel.keys} <= measured
