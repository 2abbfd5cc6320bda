"""Judgements in files teach like a teacher's outputs: by a row's text, and never through validation or test rows."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kd_dist.config.sections.data import LabelledData, SoftLabelsData
from kd_dist.config.sections.evaluation import Guards
from kd_dist.config.stages import SoftLabelsStage
from kd_dist.data.labelled import prepare
from kd_dist.data.prepared_rows import PreparedRows
from kd_dist.data.token_rows import TokenRows
from kd_dist.errors import CorpusError, RunError
from kd_dist.training.judged_outputs import logits_of
from kd_dist.training.teacher_outputs import StoredOutputs, verify
from tests.conftest import LabelledWorld, TinyWorld
from tests.data.files import write
from tests.stages import run_entry

Run = Callable[..., Path]
Row = tuple[str, str]


@pytest.fixture
def run(tmp_path: Path, labelled: LabelledWorld) -> Run:
    """Runs the stage over records, and returns its folder."""

    def run(records: list[dict[str, Any]], tokens: Path = labelled.tokens, warn: bool = False) -> Path:
        file = write(tmp_path / "judged.jsonl", "".join(f"{json.dumps(one)}\n" for one in records))
        data = SoftLabelsData(soft_labels=[str(file)], tokens=str(tokens), num_workers=1)
        stage = SoftLabelsStage(data=data, guards=Guards(teacher="warn" if warn else "refuse"))
        return run_stage(tmp_path, stage)

    return run


def run_stage(tmp_path: Path, stage: SoftLabelsStage) -> Path:
    folder = tmp_path / "outputs"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(stage.model_dump_json(), encoding="utf-8")
    run_entry(folder)
    return folder


def rows_of(labelled: LabelledWorld, split: str) -> list[Row]:
    """Return (label, text) of the prepared rows."""
    rows = PreparedRows(labelled.tokens)
    found, names = rows.dataset(split), rows.labels.names()
    return [(names[label], text) for label, text in zip(found["labels"][:], found["text"][:], strict=True)]


def judged(rows: list[Row], share: float = 0.9) -> list[dict[str, Any]]:
    """Judge rows rightly, with this probability."""
    other = {"finance": "sport", "sport": "finance"}
    return [{"text": text, label: share, other[label]: 1 - share} for label, text in rows]


def probabilities(folder: Path, tokens: Path, split: str, unlabelled: bool = False) -> np.ndarray:
    """Return what training reads for the rows of a split, as the softmax."""
    verify(folder / "outputs", None, tokens)
    outputs = StoredOutputs(folder / "outputs")
    more = [folder / "tokens"] if unlabelled else []
    rows = TokenRows(tokens, split, 0, outputs, more)
    logits = rows.collate(np.arange(len(rows)))["teacher_logits"]
    return logits.softmax(1).numpy()


def statistics(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "tokens" / "statistics.json").read_text(encoding="utf-8"))


def test_training_reads_the_judgement_of_each_row(labelled: LabelledWorld, run: Run) -> None:
    train, share = rows_of(labelled, "train"), np.linspace(0.6, 0.99, 60)
    records = [one for row, p in zip(train, share, strict=True) for one in judged([row], float(p))]
    folder = run(records[::-1])  # another order than that of the rows
    found = probabilities(folder, labelled.tokens, "train")
    labels = [0 if label == "finance" else 1 for label, _ in train]
    np.testing.assert_allclose(found[np.arange(60), labels], share, atol=1e-4)
    assert statistics(folder)["training_rows_judged"] == 60
    assert len(TokenRows(labelled.tokens, "train", 0, None, [folder / "tokens"])) == 60  # no text without a label


def test_rows_may_be_named_by_an_id(
    labelled: LabelledWorld, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = rows_of(labelled, "train")
    rows = [{"id": f"row {number}", "text": text} for number, (_, text) in enumerate(train)]
    texts = write(tmp_path / "rows.jsonl", "".join(f"{json.dumps(one)}\n" for one in rows))
    answers = [{"id": row["id"], **one} for row, one in zip(rows, judged(train), strict=True)]
    answers = [{key: value for key, value in one.items() if key != "text"} for one in answers]
    lost = [{"id": "row 60", "sport": 1}]
    file = write(tmp_path / "judged.jsonl", "".join(f"{json.dumps(one)}\n" for one in [*answers[::-1], *lost]))
    data = SoftLabelsData(
        soft_labels=[str(file)], tokens=str(labelled.tokens), num_workers=1, id_field="id", id_texts=[str(texts)]
    )
    folder = run_stage(tmp_path, SoftLabelsStage(data=data))
    found = probabilities(folder, labelled.tokens, "train")
    labels = [0 if label == "finance" else 1 for label, _ in train]
    np.testing.assert_allclose(found[np.arange(60), labels], 0.9, atol=1e-4)
    assert statistics(folder)["files"] == [str(file), str(texts)]
    said = capsys.readouterr().out
    assert "61 records; left out: 1 with an id that no text in data.id_texts has" in said
    assert "; 60 of 60 training rows were judged" in said


def test_texts_without_a_label_are_learned_from_as_well(labelled: LabelledWorld, run: Run) -> None:
    texts = [("sport", f"第{number}场比赛") for number in range(7)]
    folder = run(judged(rows_of(labelled, "train")) + judged(texts, 0.7))
    found = probabilities(folder, labelled.tokens, "train", unlabelled=True)
    assert len(found) == 67
    np.testing.assert_allclose(found[60:], [[0.3, 0.7]] * 7, atol=1e-4)
    batch = TokenRows(labelled.tokens, "train", 0, None, [folder / "tokens"]).collate(np.arange(55, 67))
    assert (batch["labels"][5:] == -100).all()


def test_rows_that_nobody_judged_learn_from_their_label(
    labelled: LabelledWorld, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    train = rows_of(labelled, "train")
    folder = run(judged(train[:45]))
    found = probabilities(folder, labelled.tokens, "train")
    expected = [[1.0, 0.0] if label == "finance" else [0.0, 1.0] for label, _ in train[45:]]
    np.testing.assert_allclose(found[45:], expected, atol=1e-4)
    said = capsys.readouterr().out
    assert "45 of 60 training rows were judged (75.0%), the others learn from their labels alone" in said
    assert "judged by the labels, their accuracy is 1.0000" in said


def test_validation_and_test_texts_are_not_learned_from(
    labelled: LabelledWorld, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    held_out = rows_of(labelled, "validation")[:3] + rows_of(labelled, "test")[:2]
    folder = run(judged(rows_of(labelled, "train")) + judged(held_out, 0.8))
    assert len(TokenRows(labelled.tokens, "train", 0, None, [folder / "tokens"])) == 60
    assert "5 are also in validation or test and are not learned from" in capsys.readouterr().out
    found = probabilities(folder, labelled.tokens, "validation")  # they measure the loss
    np.testing.assert_allclose(found[:3].max(1), 0.8, atol=1e-4)
    np.testing.assert_allclose(found[3:].max(1), 1, atol=1e-4)


def test_texts_with_the_same_tokens_are_averaged(labelled: LabelledWorld, run: Run) -> None:
    start = "比赛" * 40  # truncated to the same 48 tokens
    records = [{"text": start + end, "sport": p, "finance": 1 - p} for end, p in (("一", 0.9), ("二", 0.5))]
    folder = run(judged(rows_of(labelled, "train")) + records)
    found = probabilities(folder, labelled.tokens, "train", unlabelled=True)[60:]
    np.testing.assert_allclose(found, [[0.3, 0.7]] * 2, atol=1e-4)


def test_no_validation_row_changes_what_is_taught(tiny: TinyWorld, tmp_path: Path, run: Run) -> None:
    train = write(tmp_path / "train.tsv", "a\t一二三\nb\t四五六\na\t七八九\nb\t十百千\n" * 3)
    validation = write(tmp_path / "validation.tsv", "b\t一二三\n")
    data = LabelledData(train=[str(train)], validation=[str(validation)], remove_leaked=False)
    prepare(data, str(tiny.tokenizer), tmp_path / "tokens", tmp_path / "texts.txt")
    judgements = [{"text": text, "a": p, "b": 1 - p} for text, p in (("四五六", 0), ("七八九", 1), ("十百千", 0))]
    folder = run(judgements, tokens=tmp_path / "tokens", warn=True)
    assert probabilities(folder, tmp_path / "tokens", "train")[0].argmax() == 0


def test_several_labels(tiny: TinyWorld, tmp_path: Path, run: Run) -> None:
    train = write(tmp_path / "train.tsv", "a|b\t一二三\nb\t四五六\na\t七八九\n\t十百千\n" * 4)
    data = LabelledData(
        train=[str(train)], validation=[str(write(tmp_path / "v.tsv", "a\t天\nb\t地\n"))], task="multi_label"
    )
    prepare(data, str(tiny.tokenizer), tmp_path / "tokens", tmp_path / "texts.txt")
    judgements = [{"text": "一二三", "a": 0.9, "b": 0.7}, {"text": "四五六", "b": 0.8}, {"text": "十百千", "a": 0.1}]
    folder = run(judgements, tokens=tmp_path / "tokens")
    rows = TokenRows(tmp_path / "tokens", "train", 0, StoredOutputs(folder / "outputs"))
    found = rows.collate(np.arange(4))["teacher_logits"].sigmoid().numpy()
    np.testing.assert_allclose(found, [[0.9, 0.7], [0, 0.8], [1, 0], [0.1, 0]], atol=1e-4)
    assert statistics(folder)["guard"]["metric"] == "micro_f1"


def test_judgements_no_better_than_the_largest_class_stop_the_run(
    labelled: LabelledWorld, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = [one | {"finance": 1, "sport": 0} for one in judged(rows_of(labelled, "train"))]
    with pytest.raises(RunError) as caught:
        run(wrong)
    message = str(caught.value)
    assert message.startswith("the soft labels' accuracy is 0.5000 on 60 rows")
    assert "whether each class is in the column of its name, or go on regardless with guards.teacher=warn" in message
    run(wrong, warn=True)
    assert "warning: the soft labels' accuracy is 0.5000" in capsys.readouterr().out


def test_judgements_of_other_texts_alone_are_refused(
    labelled: LabelledWorld, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    others = judged([("sport", "第1场比赛")])
    with pytest.raises(RunError) as caught:
        run(others)
    message = str(caught.value)
    assert message.startswith("none of the 60 training rows is among the 1 judged texts")
    assert "the first judged text is '第1场比赛', the first training row '" in message
    assert "Have texts of data.train judged as well" in message
    folder = run(others, warn=True)
    assert "warning: none of the 60 training rows" in capsys.readouterr().out
    assert len(probabilities(folder, labelled.tokens, "train", unlabelled=True)) == 61


def test_a_column_that_is_no_class_is_named(labelled: LabelledWorld, run: Run) -> None:
    with pytest.raises(CorpusError, match=r"judged.jsonl, line 1: not among the classes .* did you mean `sport`"):
        run([{"text": "好", "sports": 1}])


def test_rows_of_another_teacher_are_not_taken_for_judgements(labelled: LabelledWorld, run: Run) -> None:
    folder = run(judged(rows_of(labelled, "train")))
    with pytest.raises(RunError, match="another teacher"):
        verify(folder / "outputs", labelled.teacher, labelled.tokens)


def test_a_second_run_replaces_the_first(labelled: LabelledWorld, run: Run) -> None:
    run(judged(rows_of(labelled, "train"), 0.9))
    folder = run(judged(rows_of(labelled, "train"), 0.8))
    np.testing.assert_allclose(probabilities(folder, labelled.tokens, "train").max(1), 0.8, atol=1e-4)


def test_logits_are_finite_and_give_the_probabilities_back() -> None:
    given = np.array([[1.0, 0, 0], [0.2, 0.3, 0.5]])
    logits = logits_of("single_label", given)
    assert np.isfinite(logits).all()
    np.testing.assert_allclose(logits.sum(1), 0, atol=1e-5)
    back = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(back, given, atol=1e-4)
    several = logits_of("multi_label", given)
    np.testing.assert_allclose(1 / (1 + np.exp(-several)), given, atol=1e-4)
