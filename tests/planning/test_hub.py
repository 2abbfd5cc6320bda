"""Which models are fetched from the hub, and which are left alone."""

import json
from pathlib import Path

import pytest

from kd_dist.config.job import Job
from kd_dist.config.objectives.tinybert import TinyBertObjective
from kd_dist.config.sections.augmentation import Augment
from kd_dist.config.sections.data import PlainTokenData, TokenData
from kd_dist.config.sections.evaluation import Evaluate
from kd_dist.config.sections.models import Encoder, Student, Teacher
from kd_dist.config.stage import Stage
from kd_dist.config.stages import AugmentStage, EvaluateStage, SampleTextStage, TrainStage
from kd_dist.errors import UserError
from kd_dist.planning.hub import with_fetched_models
from tests.model_folders import write_vocabulary, write_weights


def job(**stages: Stage) -> Job:
    return Job(name="a", description="a", stages={"texts": SampleTextStage(), **stages}, result="texts")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub that has every model: what is asked of it becomes a folder of that name, weights without numbers."""

    def fetch(name: str, **_: object) -> str:
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
        heads = ["BertForMaskedLM", "BertForSequenceClassification"]
        config = {"architectures": heads, "model_type": "bert", "num_hidden_layers": 4, "num_attention_heads": 12}
        (tmp_path / name / "config.json").write_text(json.dumps(config | {"hidden_size": 312}))
        write_weights(tmp_path / name, config | {"hidden_size": 312})
        write_vocabulary(tmp_path / name)
        return str(tmp_path / name)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    return tmp_path


def test_every_model_that_a_section_names_is_fetched(hub: Path) -> None:
    rows = PlainTokenData(tokens="@texts/tokens")
    models = {"teacher": "a/teacher", "student": "@texts/export"}
    fetched = with_fetched_models(
        job(
            augment=AugmentStage(encoder=Encoder(path="a/teacher"), data=rows, augment=Augment(mlm_path="a/mlm")),
            evaluate=EvaluateStage(evaluate=Evaluate(models=models), data=rows),
        )
    ).stages
    assert fetched["augment"].augment.mlm_path == str(hub / "a" / "mlm")
    assert fetched["evaluate"].evaluate.models == models | {"teacher": str(hub / "a" / "teacher")}


def test_pretrained_student_is_fetched_but_its_architecture_is_a_file_of_ours(hub: Path) -> None:
    stage = TrainStage(
        teacher=Teacher(path="a/teacher"),
        student=Student(path="a/student"),
        data=TokenData(tokens="@texts/tokens"),
        objective=TinyBertObjective(),
    )
    student = with_fetched_models(job(distill=stage)).stages["distill"].student
    assert (student.path, student.config) == (str(hub / "a" / "student"), "tinybert_4l_312")


def test_model_that_cannot_be_fetched_is_named_by_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise OSError("no way to the hub")

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    rows = PlainTokenData(tokens="@texts/tokens")
    with pytest.raises(UserError, match="evaluate.models=a/teacher is not a local folder.*no way to the hub"):
        with_fetched_models(job(evaluate=EvaluateStage(evaluate=Evaluate(models={"t": "a/teacher"}), data=rows)))
