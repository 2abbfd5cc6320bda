"""Files of judgements name their columns, and whatever is wrong with them is said before they are read."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kd_dist.config.sections.data import SoftLabelsData
from kd_dist.data.judgement_files import check_columns, check_id_texts, find_id_texts, find_judgements
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


def test_an_id_may_stand_in_place_of_the_text(tmp_path: Path) -> None:
    check_columns(write(tmp_path / "a.csv", "id,sport\n7,1\n"), settings(id_field="id"), ["text"])
    message = refusal(write(tmp_path / "b.csv", "idx,text,sport\n7,好,1\n"), id_field="id")
    assert f"{tmp_path}/b.csv, line 1: no column 'id'; the columns are idx, text, sport; did you mean `idx`?" in message
    assert message.endswith(
        "set data.id_field to the one that holds the id, in data.soft_labels and in data.id_texts alike"
    )
    assert "no column of a class beside 'id', 'text'" in refusal(
        write(tmp_path / "c.csv", "id,text\n7,好\n"), id_field="id"
    )


def test_a_column_without_a_name_is_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", ",sport,finance\n7,1,0\n")
    assert refusal(file, id_field="id").startswith(
        f"{file}, line 1: column 1 has no name, and none is called 'id'; those with a name are sport, finance; name it "
    )
    message = refusal(write(file, ",text,sport\n0,好,1\n"))
    assert message.startswith(f"{file}, line 1: column 1 has no name; those with a name are text, sport; name it there")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("idx,text\n7,好\n", "line 1: no column 'id'; the columns are idx, text; did you mean `idx`?"),
        ("id,txt\n7,好\n", "line 1: no column 'text'; the columns are id, txt; did you mean `txt`?"),
        (",text\n7,好\n", "line 1: column 1 has no name, and none is called 'id'"),
        ("7,好\n8,坏\n", "line 1: no column 'id'; the columns are 7, 好; set data.id_field"),
        ("id;text\n7;好\n8;坏\n", "line 1: the columns seem to be separated by semicolons, expected commas"),
        ("id,text,id\n7,好,8\n", "line 1: 2 columns are called 'id'; give each its own name"),
        ("", "there is no record in it"),
    ],
)
def test_texts_without_their_columns_are_refused(tmp_path: Path, content: str, said: str) -> None:
    file = write(tmp_path / "rows.csv", content)
    with pytest.raises(CorpusError) as caught:
        check_id_texts(file, "id", ["text"])
    assert str(caught.value).startswith(str(file))
    assert said in str(caught.value)


def test_texts_may_have_columns_of_other_things(tmp_path: Path) -> None:
    check_id_texts(write(tmp_path / "rows.csv", ",id,text,label,label\n0,7,好,a,b\n"), "id", ["text"])


def test_files_of_texts_name_their_columns(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="which column is the id, and which the text, must be known"):
        find_id_texts([str(write(tmp_path / "a.txt", "7\t好\n"))])
