"""Input files that are missing, empty or misnamed are found before a job starts."""

from pathlib import Path

import pytest

from kd_dist.planning.checks import load_checked_job
from kd_dist.runs.fingerprints import input_files
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


def test_the_corpus_that_says_which_pieces_are_used_must_be_there() -> None:
    message = problems("data.corpus=one.txt", job="cut_vocabulary")
    assert "cut: data.corpus: no text file matches" in message
    assert "one.txt" in message


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
        (["data.separator=;"], "data.train: "),
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


def test_a_folder_of_splits_is_refused(tmp_path: Path) -> None:
    for name in ("train/pos", "test/pos"):
        (tmp_path / "reviews" / name).mkdir(parents=True)
        (tmp_path / "reviews" / name / "1.txt").write_text("一", encoding="utf-8")
    rows, encoder = f"data.train={tmp_path / 'reviews'}", f"encoder.path={model(tmp_path)}"
    message = problems(encoder, rows, job="finetune", plan_only=False)
    assert f"data.train: {tmp_path}/reviews: train, test are splits, not classes" in message
    assert f"data.train={tmp_path}/reviews/train data.test={tmp_path}/reviews/test" in message


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


@pytest.mark.parametrize(
    ("job", "key", "name"),
    [
        ("tinybert_general", "data.corpus", "a.txt"),
        ("finetune", "data.train", "a.csv"),
        ("fastbert_stage1", "data.unlabelled", "a.txt"),
    ],
)
def test_a_file_that_is_not_what_its_name_says(tmp_path: Path, job: str, key: str, name: str) -> None:
    (tmp_path / name).write_bytes(b"PK\x03\x04" + b"xl/workbook.xml".center(60, b"\0"))
    own = [f"encoder.path={model(tmp_path)}"] if job == "finetune" else []
    message = problems(f"{key}={tmp_path / name}", *own, job=job, plan_only=False)
    assert f"{key}: {tmp_path / name}: this is a spreadsheet (.xlsx, .ods), not text; save the sheet" in message


def test_files_that_nobody_reads_are_noted(tmp_path: Path) -> None:
    rows = tmp_path / "rows"
    rows.mkdir()
    (rows / "A.TSV").write_text("a\t一\nb\t二\n", encoding="utf-8")
    (rows / "b.xlsx").touch()
    job = load_checked_job("finetune", [f"data.train={rows}", f"encoder.path={model(tmp_path)}"])
    expected = "labelled: files in the given folders that are of no kind that is read here: "
    assert f"{expected}1 ({rows / 'b.xlsx'})" in job.notes


@pytest.fixture
def judged_rows(tmp_path: Path) -> list[str]:
    """Settings of the job `soft_labels` except the judgements."""
    (tmp_path / "rows.tsv").write_text("a\t一\nb\t二\n", encoding="utf-8")
    return [f"data.train={tmp_path / 'rows.tsv'}", f"donor.path={model(tmp_path)}"]


def test_judgements_must_be_named(judged_rows: list[str]) -> None:
    message = problems(*judged_rows, job="soft_labels", plan_only=False)
    assert message.startswith("outputs: data.soft_labels is empty: name files of judged texts")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("none.csv", None, "no text file matches"),
        ("a.txt", "一\t1\n", "which column is the text, and which a class, must be known"),
        ("a.csv", "txt,a\n一,1\n", "line 1: no column 'text'; the columns are txt, a; did you mean `txt`?"),
        ("a.jsonl", '{"text": "一"}\n', "no column of a class beside 'text'"),
        ("a.csv", "PK\x03\x04xl/workbook.xml", "this is a spreadsheet (.xlsx, .ods), not text"),
    ],
)
def test_judgements_that_cannot_be_read_are_refused(
    judged_rows: list[str], tmp_path: Path, name: str, content: str | None, said: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content, encoding="utf-8")
    message = problems(*judged_rows, f"data.soft_labels={tmp_path / name}", job="soft_labels", plan_only=False)
    assert message.startswith("outputs: data.soft_labels: ")
    assert said in message


def test_judgements_of_pairs_have_two_texts(judged_rows: list[str], tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,a\n一,1\n", encoding="utf-8")
    (tmp_path / "rows.tsv").write_text("a\t一\t二\nb\t二\t三\n", encoding="utf-8")
    settings = [f"data.soft_labels={tmp_path / 'a.csv'}", "data.columns=label,text,text_pair"]
    message = problems(*judged_rows, *settings, job="soft_labels", plan_only=False)
    assert "a.csv, line 1: no column 'text_pair'; the columns are text, a" in message


def test_judgements_of_numbers_are_refused(judged_rows: list[str], tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("text,a\n一,1\n", encoding="utf-8")
    settings = [f"data.soft_labels={tmp_path / 'a.csv'}", "data.task=regression"]
    message = problems(*judged_rows, *settings, job="soft_labels", plan_only=False)
    assert "outputs: data.task=regression has no classes, which soft labels are for" in message


def test_files_beside_judgements_that_nobody_reads_are_noted(judged_rows: list[str], tmp_path: Path) -> None:
    (tmp_path / "judged").mkdir()
    (tmp_path / "judged" / "a.csv").write_text("text,a\n一,1\n", encoding="utf-8")
    (tmp_path / "judged" / "prompt.md").write_text("Which class?", encoding="utf-8")
    job = load_checked_job("soft_labels", [*judged_rows, f"data.soft_labels={tmp_path / 'judged'}"])
    assert any("outputs: files in the given folders" in note and "prompt.md" in note for note in job.notes)


@pytest.fixture
def judged_ids(judged_rows: list[str], tmp_path: Path) -> list[str]:
    """Settings of the job `soft_labels` with judgements of ids, except what their texts are."""
    (tmp_path / "judged.csv").write_text("id,a,b\n7,1,0\n", encoding="utf-8")
    return [*judged_rows, f"data.soft_labels={tmp_path / 'judged.csv'}"]


def test_ids_and_their_texts_are_asked_for_together(judged_ids: list[str], tmp_path: Path) -> None:
    (tmp_path / "texts.csv").write_text("id,text\n7,一\n", encoding="utf-8")
    texts = f"data.id_texts={tmp_path / 'texts.csv'}"
    message = problems(*judged_ids, "data.id_field=id", job="soft_labels", plan_only=False)
    assert message.startswith(
        "outputs: data.id_field=id names rows by an id, and nothing says what their texts are: set "
    )
    message = problems(*judged_ids, texts, job="soft_labels", plan_only=False)
    assert message.startswith(f"outputs: {texts} has the texts of rows, and nothing says by which column")
    assert message.endswith("set data.id_field, for example data.id_field=id")
    load_checked_job("soft_labels", [*judged_ids, texts, "data.id_field=id"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no text file matches"),
        ("idx,text\n7,一\n", "texts.csv, line 1: no column 'id'; the columns are idx, text; did you mean `idx`?"),
        ("id,txt\n7,一\n", "texts.csv, line 1: no column 'text'; the columns are id, txt; did you mean `txt`?"),
        (",text\n7,一\n", "texts.csv, line 1: column 1 has no name, and none is called 'id'"),
        ("PK\x03\x04xl/workbook.xml", "this is a spreadsheet (.xlsx, .ods), not text"),
    ],
)
def test_texts_of_ids_that_cannot_be_read_are_refused(
    judged_ids: list[str], tmp_path: Path, content: str | None, said: str
) -> None:
    if content is not None:
        (tmp_path / "texts.csv").write_text(content, encoding="utf-8")
    settings = [f"data.id_texts={tmp_path / 'texts.csv'}", "data.id_field=id"]
    message = problems(*judged_ids, *settings, job="soft_labels", plan_only=False)
    assert message.startswith("outputs: data.id_texts: ")
    assert said in message


def test_mistakes_in_judgements_and_in_texts_are_told_together(judged_ids: list[str], tmp_path: Path) -> None:
    settings = [f"data.id_texts={tmp_path / 'none.csv'}", "data.id_field=ids"]
    message = problems(*judged_ids, *settings, job="soft_labels", plan_only=False)
    assert "data.soft_labels: " in message
    assert "judged.csv, line 1: no column 'ids'; the columns are id, a, b; did you mean `id`?" in message
    assert "data.id_texts: no text file matches" in message


def test_texts_of_ids_of_pairs_are_two(judged_ids: list[str], tmp_path: Path) -> None:
    (tmp_path / "rows.tsv").write_text("a\t一\t二\nb\t二\t三\n", encoding="utf-8")
    (tmp_path / "texts.csv").write_text("id,text\n7,一\n", encoding="utf-8")
    settings = [f"data.id_texts={tmp_path / 'texts.csv'}", "data.id_field=id", "data.columns=label,text,text_pair"]
    message = problems(*judged_ids, *settings, job="soft_labels", plan_only=False)
    assert "texts.csv, line 1: no column 'text_pair'; the columns are id, text" in message


def test_files_beside_texts_of_ids_that_nobody_reads_are_noted(judged_ids: list[str], tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.csv").write_text("id,text\n7,一\n", encoding="utf-8")
    (tmp_path / "texts" / "prompt.md").write_text("Which class?", encoding="utf-8")
    job = load_checked_job("soft_labels", [*judged_ids, f"data.id_texts={tmp_path / 'texts'}", "data.id_field=id"])
    assert any("outputs: files in the given folders" in note and "prompt.md" in note for note in job.notes)
    stage = job.stages["outputs"]
    assert [str(tmp_path / "texts" / "a.csv"), str(tmp_path / "texts" / "prompt.md")] == [
        row[0] for row in input_files(stage) if "/texts/" in row[0]
    ]


def test_a_vocabulary_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.tsv").write_text("a\t一\n", encoding="utf-8")
    (tmp_path / "vocab.txt").write_text("[PAD]\n一\n", encoding="utf-8")
    rows, key = f"data.train={tmp_path / 'rows.tsv'}", "words_vocabulary.vocabulary.file"
    for job in ("textgcn", "granularity"):
        message = problems(rows, f"{key}={tmp_path / 'none.txt'}", job=job)
        assert message == f"words_vocabulary: vocabulary.file={tmp_path / 'none.txt'}: no such file"
        assert "vocab.txt lacks [UNK], [CLS]" in problems(rows, f"{key}={tmp_path / 'vocab.txt'}", job=job)
