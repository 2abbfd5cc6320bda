"""Several labels take longer to learn: the floor of steps is doubled, for teacher and students alike."""

from pathlib import Path

import pytest

from kd_dist.config.lengths import NOTE
from tests.loading import load_job

SEVERAL = "data.task=multi_label"


def floors(name: str, *settings: str) -> dict[str, int]:
    stages = load_job(name, list(settings)).stages
    return {key: stage.train.min_steps for key, stage in stages.items() if stage.kind == "train"}


@pytest.mark.parametrize(
    ("name", "single"),
    [
        ("finetune", {"finetune": 900}),
        ("tinybert_task", {"distill": 1200, "alone": 1200}),
        ("rnn", {"distill": 1200, "alone": 1200}),
        ("granularity", {"words": 1200, "characters": 1200}),
    ],
)
def test_classifiers_get_twice_the_steps_at_least(name: str, single: dict[str, int]) -> None:
    assert floors(name) == single
    assert floors(name, SEVERAL) == {stage: 2 * floor for stage, floor in single.items()}
    assert NOTE in load_job(name, [SEVERAL]).notes
    assert NOTE not in load_job(name, []).notes


def test_layers_have_no_labels_and_the_student_alone_has_the_sum() -> None:
    settings = [SEVERAL, "layers.train.epochs=4"]
    assert floors("tinybert_task", *settings) == {"layers": 400, "distill": 2400, "alone": 2800}


@pytest.mark.parametrize(
    ("setting", "floor"), [("train.min_steps=50", 50), ("finetune.train.min_steps=50", 50), ("train.steps=7", 900)]
)
def test_a_length_that_was_given_is_kept(setting: str, floor: int) -> None:
    assert floors("finetune", SEVERAL, setting) == {"finetune": floor}
    assert NOTE not in load_job("finetune", [SEVERAL, setting]).notes


def test_a_run_that_is_repeated_keeps_its_lengths(tmp_path: Path) -> None:
    job = load_job("finetune", [SEVERAL, "train.min_steps=50"])
    (tmp_path / "job.json").write_text(job.model_dump_json(), encoding="utf-8")
    assert load_job("finetune", [], tmp_path / "job.json") == job
