"""Files of judgements name their columns, and whatever is wrong with them is said before they are read."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kd_dist.config.sections.data import SoftLabelsData
from kd_dist.data.judgement_files import check_columns, find_judgements
from kd_dist.errors import CorpusError
from tests.data.files import write


def settings(**given: object) -> SoftLabelsData:
    return SoftLabelsData(tokens="rows", **given)


def refusal(file: Path, *text_columns: str, **given: object) -> str:
    with pytest.raises(CorpusError) as caught:
        check_columns(file, settings(**given), text_columns or ["text"])
    return str(caught.value)


@pytest.mark.parametrize("name", ["a.txt", "a.md"])
def test_files_without_names_of_columns_are_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, "好\t0.5\n")
    with pytest.raises(CorpusError, match="which column is the text, and which a class, must be known"):
        find_judgements([str(tmp_path / name)])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="no text file matches"):
        find_judgements([str(tmp_path / "none.csv")])


def test_folders_are_searched(tmp_path: Path) -> None:
    files = [write(tmp_path / "judged" / name, "text,a\n好,1\n") for name in ("1.csv", "2.tsv.gz", "3.jsonl")]
    write(tmp_path / "judged" / "notes.txt", "notes")
    assert find_judgements([str(tmp_path / "judged")]) == files


def test_a_file_without_the_text_says_which_columns_there_are(tmp_path: Path) -> None:
    message = refusal(write(tmp_path / "a.csv", "Text,sport\n好,1\n"))
    assert f"{tmp_path}/a.csv, line 1: no column 'text'; the columns are Text, sport; did you mean `Text`?" in message
    assert "data.text_field" in message


def test_another_separator_is_named(tmp_path: Path) -> None:
    message = refusal(write(tmp_path / "a.csv", "text;sport;finance\n好;1;0\n坏;0;1\n"))
    assert "the columns seem to be separated by semicolons, expected commas; write the file" in message


def test_both_texts_of_a_pair_are_asked_for(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", '{"text": "好", "sport": 1}\n')
    assert "no column 'text_pair'" in refusal(file, "text", "text_pair")


def test_a_file_without_classes_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["好"], "id": [1]}), tmp_path / "a.parquet")
    message = refusal(tmp_path / "a.parquet", ignored_columns=["id"])
    assert "no column of a class beside 'text', 'id'" in message
    assert refusal(write(tmp_path / "b.tsv", "text\n好\n")).startswith(f"{tmp_path}/b.tsv, line 1: no column of a")


@pytest.mark.parametrize(("name", "content"), [("a.csv", ""), ("a.csv", "\n\n"), ("a.json", "[]"), ("a.jsonl", "\n")])
def test_an_empty_file_is_refused(tmp_path: Path, name: str, content: str) -> None:
    assert "there is no record in it" in refusal(write(tmp_path / name, content))


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    message = refusal(write(tmp_path / "a.csv", "text,sport,sport\n好,1,0\n"))
    assert "line 1: 2 columns are called 'sport'" in message
