"""Files of the repository are found by name, and paths become absolute."""

from pathlib import Path

import pytest

from kd_dist.config.job import Job
from kd_dist.config.paths import matching_paths, model_config_file, with_absolute_paths
from kd_dist.config.sections.data import LabelledData, PlainTokenData
from kd_dist.config.sections.evaluation import Evaluate
from kd_dist.config.sections.models import TokenizerSource
from kd_dist.config.stage import Stage
from kd_dist.config.stages import EvaluateStage, LabelledStage
from kd_dist.errors import UserError
from tests.loading import load_job


def test_misspelt_student_is_answered_with_the_nearest() -> None:
    with pytest.raises(UserError, match="did you mean `tinybert_4l_312`") as caught:
        model_config_file("tinybert_4l_321")
    assert caught.value.exit_status == 2


def one_stage(stage: Stage) -> Job:
    return Job(name="one", description="one stage", stages={"one": stage}, result="one")


def test_every_path_becomes_absolute_even_before_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = LabelledData(train=["a/*.tsv", "b.tsv"], hint_words="hints.txt")
    stage = with_absolute_paths(one_stage(LabelledStage(data=data, tokenizer=TokenizerSource(path="a/b")))).stages[
        "one"
    ]
    assert stage.data.train == [str(tmp_path / "a" / "*.tsv"), str(tmp_path / "b.tsv")]
    assert (stage.data.hint_words, stage.data.label_names) == (str(tmp_path / "hints.txt"), None)


def test_models_become_absolute_where_they_are_folders_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    models = {"teacher": "here", "student": "@distill/export", "other": "organisation/name"}
    stage = EvaluateStage(evaluate=Evaluate(models=models), data=PlainTokenData(tokens="@prepare/tokens"))
    changed = with_absolute_paths(one_stage(stage)).stages["one"]
    assert changed.evaluate.models == models | {"teacher": str(tmp_path / "here")}
    assert changed.data.tokens == "@prepare/tokens"


def test_relative_paths_of_a_job_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "student.json").touch()
    settings = ["data.corpus=corpus,later/*.txt", "student.config=student.json"]
    stages = with_absolute_paths(load_job("tinybert_general", settings)).stages
    assert stages["corpus"].data.corpus == [str(tmp_path / "corpus"), str(tmp_path / "later" / "*.txt")]
    assert stages["distill"].student.config == str(tmp_path / "student.json")


def test_names_of_shipped_and_hub_models_stay() -> None:
    stage = with_absolute_paths(load_job("tinybert_general", [])).stages["distill"]
    assert (stage.student.config, stage.teacher.path) == ("tinybert_4l_312", "google-bert/bert-base-chinese")


def test_a_pattern_stands_for_paths(tmp_path: Path) -> None:
    for name in ("a.tsv", "B.TSV", "[c].tsv", "d.TSV"):
        (tmp_path / name).touch()

    def names(pattern: str) -> list[str]:
        return [Path(path).name for path in matching_paths(str(tmp_path / pattern))]

    assert names("*.tsv") == ["B.TSV", "[c].tsv", "a.tsv", "d.TSV"]
    assert names("[c].tsv") == ["[c].tsv"]  # a file of that name is no glob
    assert names("d.tsv") == []  # neither is a name that is misspelt
    assert names("a*") == ["a.tsv"]
    assert matching_paths(str(tmp_path)) == [str(tmp_path)]
