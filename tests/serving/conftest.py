"""A classifier, its data, and the stage that serves it."""

from pathlib import Path

import pytest

from kd_dist.config.sections.data import PlainTokenData
from kd_dist.config.sections.models import Model
from kd_dist.config.stages import ServeStage
from kd_dist.files import write_json
from tests.evaluation.labelled_tokens import write_tokens
from tests.models.random_models import save_classifier

TEXTS = ["体育新闻", "今天股市大涨，投资者信心增强", "旅游"] * 3


@pytest.fixture
def stage_dir(tiny, tmp_path: Path) -> Path:
    model = save_classifier(tmp_path / "model", tiny.tokenizer, initializer_range=0.5)
    write_json(model / "manifest.json", {"stage": "distill", "scores": {"evaluation/accuracy": 0.875}})
    (model / "README.md").write_text("of the model before", encoding="utf-8")
    tokens = write_tokens(tmp_path / "tokens", TEXTS, [0, 1, 2] * 3, test=3)
    stage = ServeStage(model=Model(path=str(model)), data=PlainTokenData(tokens=str(tokens)))
    directory = tmp_path / "run" / "export"
    directory.mkdir(parents=True)
    write_json(directory / "config.json", stage.model_dump())
    return directory
