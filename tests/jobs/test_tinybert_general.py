"""The settings that `tinybert_general` offers, and their defaults."""

import pytest

from kd_dist.config.jobs import find_job
from tests.loading import load_job

PROMISED = [
    "teacher.path",
    "student.config",
    "data.corpus",
    "data.max_length",
    "data.pack",
    "train.steps",
    "train.epochs",
    "train.global_batch_size",
    "train.micro_batch_size",
    "train.seed",
    "optim.learning_rate",
    "optim.warmup_fraction",
    "engine.zero_stage",
    "engine.precision",
    "resources.nodes",
    "resources.gpus_per_node",
    "resources.timeout_minutes",
    "cadence.log_every_n_steps",
    "cadence.save_every_n_steps",
    "cadence.evaluate_every_n_steps",
    "objective.layer_map",
    "objective.compat",
    "objective.projection",
    "objective.temperature",
]


@pytest.mark.parametrize("key", PROMISED)
def test_tinybert_general_has(key: str) -> None:
    assert key in {key for stage in find_job("tinybert_general").stages.values() for key in stage.options()}


def test_tinybert_general_defaults() -> None:
    stages = find_job("tinybert_general").stages
    assert stages["corpus"].data.corpus == ["data/*.txt"]
    assert stages["corpus"].tokenizer.path == stages["distill"].teacher.path == "google-bert/bert-base-chinese"


def test_the_tokenizer_follows_the_teacher_unless_it_is_given() -> None:
    def tokenizer(*settings: str) -> str | None:
        return load_job("tinybert_general", ["teacher.path=DIR", *settings]).stages["corpus"].tokenizer.path

    assert (tokenizer(), tokenizer("tokenizer.path=MLM")) == ("DIR", "MLM")
