"""A fingerprint changes with everything that a result depends on, and with nothing else."""

from pathlib import Path

import pytest

from kd_dist.config.sections.data import PlainTokenData
from kd_dist.config.sections.evaluation import Evaluate
from kd_dist.config.stages import EvaluateStage
from kd_dist.runs.fingerprints import fingerprints, input_files
from tests.runs.runs import job


def test_files_of_every_model_are_inputs(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}", encoding="utf-8")
    models = {"teacher": str(tmp_path / "model"), "student": "@distill/export", "other": "organisation/name"}
    stage = EvaluateStage(evaluate=Evaluate(models=models), data=PlainTokenData(tokens="@prepare/tokens"))
    assert [row[0] for row in input_files(stage)] == [str(tmp_path / "model" / "config.json")]


@pytest.mark.parametrize("name", ["a.txt", "nested/b.txt"])
def test_changed_corpus_file_changes_every_stage_after_it(settings: list[str], corpus: Path, name: str) -> None:
    before = fingerprints(job(settings))
    (corpus / name).write_text("别的\n", encoding="utf-8")
    after = fingerprints(job(settings))
    assert all(before[stage] != after[stage] for stage in before)


@pytest.mark.parametrize("pattern", ["**/*.txt", "nested", "*/b.txt"])
def test_changed_file_behind_a_pattern_is_noticed(settings: list[str], corpus: Path, pattern: str) -> None:
    settings[0] = f"data.corpus={corpus / pattern}"
    before = fingerprints(job(settings))
    (corpus / "nested" / "b.txt").write_text("别的\n", encoding="utf-8")
    assert fingerprints(job(settings)) != before


def test_changed_architecture_changes_the_stage_that_trains_it(settings: list[str], student: Path) -> None:
    before = fingerprints(job(settings))
    student.write_text(student.read_text(encoding="utf-8").replace("312", "384"), encoding="utf-8")
    after = fingerprints(job(settings))
    assert [name for name in before if before[name] != after[name]] == ["distill", "report"]


@pytest.mark.parametrize(
    ("change", "changed"),
    [
        ("data.max_length=64", ["corpus", "distill", "report"]),
        ("train.seed=1", ["distill", "report"]),
        ("resources.nodes=2", []),
        ("cadence.log_every_n_steps=1", []),
        ("data.num_workers=3", []),
    ],
)
def test_setting_changes_the_stages_that_depend_on_it(settings: list[str], change: str, changed: list[str]) -> None:
    before, after = fingerprints(job(settings)), fingerprints(job(settings, change))
    assert [name for name in before if before[name] != after[name]] == changed
