"""Input files that are missing, empty or misnamed are found before a job starts."""

from pathlib import Path

import pytest

from tests.planning.refusals import classifier, model, problems


@pytest.mark.parametrize("value", ["", "[]"])
def test_no_corpus_is_refused(value: str) -> None:
    assert "data.corpus is empty: name text files" in problems(f"data.corpus={value}")


def test_corpus_of_empty_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    assert f"data.corpus={tmp_path}: these files have no text" in problems(f"data.corpus={tmp_path}")


def test_corpus_folder_without_text_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "image.png").write_bytes(b"1")
    assert "no text file matches" in problems(f"data.corpus={tmp_path}")


def test_every_missing_corpus_is_named(corpus: Path) -> None:
    message = problems(f"data.corpus={corpus},one.txt,two.txt")
    assert "one.txt" in message
    assert "two.txt" in message
    assert f"'{corpus}'" not in message


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["data.train="], "data.train is empty: name labelled files, for example data.train=train.tsv"),
        (["data.columns=label,words"], "words"),
        (["data.hint_words=none.txt"], "none.txt: no such file"),
        (["data.label_names=none.txt"], "none.txt: no such file"),
        (["data.validation=none.tsv"], "data.validation: "),
    ],
)
def test_labelled_data_that_cannot_be_read_is_refused(tmp_path: Path, settings: list[str], said: str) -> None:
    (tmp_path / "rows.tsv").write_text("a\t一\n", encoding="utf-8")
    rows = f"data.train={tmp_path / 'rows.tsv'}"
    encoder = model(tmp_path)
    message = problems(f"encoder.path={encoder}", rows, *settings, job="finetune", plan_only=False)
    assert message.startswith("labelled: ")
    assert said in message


def test_a_backbone_that_learns_needs_labelled_rows(tmp_path: Path, texts: str) -> None:
    said = "objective.backbone=joint trains the last classifier on labels, which data.unlabelled has not: set"
    message = problems(classifier(tmp_path), texts, "objective.backbone=joint", job="fastbert_stage1")
    assert message.startswith(f"self_distill: {said}")
    rows = tmp_path / "rows.tsv"
    rows.write_text("a\t一\nb\t二\n", encoding="utf-8")
    settings = [f"encoder.path={model(tmp_path, 'encoder')}", f"data.train={rows}", "objective.backbone=joint"]
    assert said in problems(*settings, texts, job="fastbert")


def test_texts_without_labels_must_be_there(tmp_path: Path) -> None:
    path = classifier(tmp_path)
    message = problems(path, f"data.unlabelled={tmp_path / 'none.txt'}", job="fastbert_stage1", plan_only=False)
    assert message.startswith("unlabelled: data.unlabelled: ")
    assert "none.txt" in message
