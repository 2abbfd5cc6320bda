"""The rehearsal: a small version of the job that runs for real, and stops the submission when it fails."""

import json
import re
import tempfile
from pathlib import Path

import pytest

from kd_dist.config.job import Job
from kd_dist.config.sections.data import CorpusData, PlainTokenData
from kd_dist.config.sections.evaluation import Evaluate, Guards
from kd_dist.config.sections.models import Encoder, Tokenizer
from kd_dist.config.sections.resources import ShardResources
from kd_dist.config.stage import Stage
from kd_dist.config.stages import AugmentStage, CorpusStage, EvaluateStage, SampleTextStage
from kd_dist.errors import UserError
from kd_dist.planning.checks import load_checked_job
from launch.rehearsal import reduced, rehearse
from tests.conftest import LabelledWorld
from tests.loading import load_job


def job(**stages: Stage) -> Job:
    return Job(name="small", description="small", stages=stages, result=next(iter(stages)))


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the rehearsal puts its run."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_training_is_two_steps_on_one_rank() -> None:
    settings = ["resources.nodes=4", "resources.gpus_per_node=8", "train.epochs=20", "train.micro_batch_size=8"]
    before = load_job("tinybert_general", settings)
    stage = reduced(before).stages["distill"]
    assert (stage.train.total_steps(10**9), stage.resources.world_size(), stage.problems("distill")) == (2, 1, [])
    assert stage.optim == before.stages["distill"].optim


def test_data_is_little_and_nothing_is_refused_or_timed() -> None:
    rows = PlainTokenData(tokens="tokens")
    stages = reduced(
        job(
            prepare=CorpusStage(data=CorpusData(corpus=["a.txt"]), tokenizer=Tokenizer()),
            augment=AugmentStage(encoder=Encoder(path="a"), data=rows, resources=ShardResources(shards=512)),
            evaluate=EvaluateStage(evaluate=Evaluate(models={"a": "a"}), data=rows, guards=Guards()),
        )
    ).stages
    assert stages["prepare"].data.max_lines == 2000
    assert (stages["augment"].augment.copies, stages["augment"].resources.shards) == (1, 1)
    assert (stages["evaluate"].evaluate.speed, stages["evaluate"].guards.teacher) == (False, "warn")


def test_a_graph_is_learned_for_two_epochs_from_few_rows_and_its_vocabulary_from_all() -> None:
    before = load_job("textgcn", [])
    stages = reduced(before).stages
    assert (stages["textgcn"].train.epochs, stages["labelled"].data.max_rows) == (2, 64)
    assert stages["words_vocabulary"] == before.stages["words_vocabulary"]


def test_successful_rehearsal_leaves_nothing(temporary: Path, capfd: pytest.CaptureFixture[str]) -> None:
    rehearse(job(texts=SampleTextStage(), more=SampleTextStage()))
    assert re.search(r"rehearsal: texts\nrehearsal: more\nrehearsal: all stages ran, \d+ s\n", capfd.readouterr().out)
    assert list(temporary.iterdir()) == []


def test_a_labelled_pipeline_is_rehearsed(
    labelled: LabelledWorld, temporary: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    files = [f"data.{split}={labelled.files / split}.tsv" for split in ("train", "validation", "test")]
    settings = [f"teacher.path={labelled.teacher}", f"student.config={labelled.student}", "data.max_length=48"]
    rehearse(load_checked_job("tinybert_task", [*files, *settings]))
    shown = capfd.readouterr().out
    stages = ["labelled", "perturbed", "check", "outputs", "distill", "alone", "evaluation", "serving", "report"]
    assert re.findall(r"^rehearsal: (\w+)$", shown, re.MULTILINE) == stages
    assert "rehearsal: all stages ran" in shown
    assert list(temporary.iterdir()) == []


def test_failed_rehearsal_says_why_and_is_kept(
    temporary: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.txt").write_text("\n", encoding="utf-8")
    data = CorpusData(corpus=[str(tmp_path / "empty.txt")])
    with pytest.raises(UserError, match="the rehearsal failed, see above: nothing was submitted") as caught:
        rehearse(job(texts=SampleTextStage(), prepare=CorpusStage(data=data, tokenizer=Tokenizer())))
    assert caught.value.exit_status == 2
    assert "error: no text in" in capfd.readouterr().err
    (run_dir,) = temporary.glob("*/small/rehearsal")
    assert str(run_dir) in str(caught.value)
    assert json.loads((run_dir / "job.json").read_text(encoding="utf-8"))["name"] == "small"
