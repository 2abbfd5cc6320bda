"""`granularity` trains one encoder on words and on characters, and measures both on the same texts."""

import json
from pathlib import Path

import pytest

from kd_dist.config.seeds import with_seeds
from kd_dist.data.prepared_rows import PreparedRows
from kd_dist.errors import UserError
from tests.jobs.runs import run_job
from tests.loading import load_job
from tests.model_folders import write_vocabulary

CLASSES = {"finance": "国家经济的发展", "sport": "今天的比赛精彩"}


def test_both_branches_have_the_same_settings_but_for_their_words() -> None:
    stages = load_job("granularity", ["student.config=bilstm", "train.epochs=2"]).stages
    words, characters = stages["words"], stages["characters"]
    assert words.student.config == "bilstm"
    assert words.model_copy(update={"data": characters.data}) == characters
    cut = {"words_labelled": "word", "characters_labelled": "char"}
    assert {name: stages[name].data.segment for name in cut} == cut
    assert len({str(stages[name].data.model_copy(update={"segment": ""})) for name in cut}) == 1
    assert stages["characters_vocabulary"].vocabulary.words == 0


def test_branches_that_would_read_the_same_are_refused() -> None:
    with pytest.raises(UserError, match="data.segment=char cuts the texts of both branches alike.*set words_labelled"):
        load_job("granularity", ["data.segment=char"])


def test_seeds_repeat_both_branches() -> None:
    models = with_seeds(load_job("granularity", []), 2).stages["evaluation"].evaluate.models
    assert sorted(models) == ["characters", "characters@43", "words", "words@43"]


def test_a_given_tokenizer_needs_no_vocabulary(tmp_path: Path) -> None:
    write_vocabulary(tmp_path)
    job = load_job("granularity", [f"words_labelled.tokenizer.path={tmp_path}"])
    assert "words_vocabulary" not in job.stages
    assert "characters_vocabulary" in job.stages
    assert job.notes == ["words_vocabulary: left out, since tokenizer.path is given"]


def test_the_job_goes_from_files_to_a_page(tmp_path: Path) -> None:
    rows = [f"{label}\t{text}{number}" for number in range(20) for label, text in CLASSES.items()]
    (tmp_path / "rows.tsv").write_text("\n".join(rows), encoding="utf-8")
    settings = [
        "data.train=rows.tsv",
        "train.steps=2",
        "student.config=bert_tiny_2l_64",
        "data.max_length=32",
        "evaluate.speed=false",
    ]
    run_dir, _ = run_job("granularity", tmp_path, *settings)
    found = json.loads((run_dir / "results.json").read_text(encoding="utf-8"))
    models = {row["model"]: row for row in found if row["stage"] == "evaluation"}
    assert list(models) == ["words", "characters"]
    assert models["words"]["parameters"] > models["characters"]["parameters"]
    words, characters = (PreparedRows(run_dir / f"{unit}_labelled" / "tokens") for unit in models)
    assert words.dataset("test")["text"][:] == characters.dataset("test")["text"][:]
    assert words.preprocessing.segment == "word"
    assert 0 < words.statistics["tokens"] < characters.statistics["tokens"]
    assert "characters" in (run_dir / "report" / "index.html").read_text(encoding="utf-8")
