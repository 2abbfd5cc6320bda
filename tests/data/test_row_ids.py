"""Judgements find the texts of their rows by ids, however these are written, and no id has two texts."""

import json
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kd_dist.data.judgement_files import check_id_texts
from kd_dist.data.row_ids import RowTexts, id_of
from kd_dist.errors import CorpusError
from tests.data.files import write


def texts_of(judged: Path, *files: Path, text_columns: tuple[str, ...] = ("text",)) -> dict[str, tuple[str, ...]]:
    return RowTexts.of([judged], "id", list(map(str, files)), text_columns).texts


def refusal(judged: Path, *files: Path) -> str:
    with pytest.raises(CorpusError) as caught:
        texts_of(judged, *files)
    return str(caught.value)


@pytest.mark.parametrize("value", [7, "7", " 7\u200b", "７", 7.0, "7.0", Decimal("7.00")])
def test_a_number_is_the_same_id_however_it_is_written(value: Any) -> None:
    assert id_of({"id": value}, "id", "here") == "7"


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("007", "007"),
        ("1.10", "1.10"),
        (7.5, "7.5"),
        ("v1.0", "v1.0"),
        (-3.0, "-3"),
        ("a  b", "a b"),
        (10**18, f"1{'0' * 18}"),
    ],
)
def test_other_ids_stay_what_they_are(value: Any, found: str) -> None:
    assert id_of({"id": value}, "id", "here") == found


@pytest.mark.parametrize(
    "values", [{}, {"id": None}, {"id": ""}, {"id": " \u200b"}, {"id": math.nan}, {"id": Decimal("NaN")}]
)
def test_records_without_an_id(values: dict[str, Any]) -> None:
    assert id_of(values, "id", "here") == ""


@pytest.mark.parametrize("value", [True, [7], {"a": 7}, b"7"])
def test_what_cannot_be_an_id_names_its_place(value: Any) -> None:
    with pytest.raises(CorpusError, match=rf"^here: 'id' holds {type(value).__name__}, expected an id"):
        id_of({"id": value}, "id", "here")


def test_a_float_that_stands_for_several_numbers_is_refused() -> None:
    assert id_of({"id": float(2**53 - 1)}, "id", "here") == str(2**53 - 1)
    for value in (1234567890123456789.0, "1234567890123456800.0", math.inf):
        with pytest.raises(CorpusError, match="here: 'id' holds .* as a float.*write ids as text or as integers"):
            id_of({"id": value}, "id", "here")


@pytest.mark.parametrize(("value", "found"), [("1e+05", "100000"), ("1.25e+02", "125"), ("1e5", "1e5"), ("+7", "+7")])
def test_round_numbers_as_r_writes_them_are_numbers_and_other_text_stays(value: str, found: str) -> None:
    assert id_of({"id": value}, "id", "here") == found


def test_short_floats_are_refused_before_work(tmp_path: Path) -> None:
    ids = pa.array([16777217.0, 1.0], pa.float32())  # reads as 16777216
    pq.write_table(pa.table({"id": ids, "text": ["好", "坏"]}), tmp_path / "rows.parquet")
    with pytest.raises(CorpusError, match="'id' is a column of short floats.*write ids as text or as integers"):
        check_id_texts(tmp_path / "rows.parquet", "id", ["text"])


def test_long_texts_of_one_id_are_shown_where_they_differ(tmp_path: Path) -> None:
    judged = write(tmp_path / "judged.csv", "id,a\n1,1\n")
    rows = write(tmp_path / "rows.csv", f"id,text\n1,{'今' * 90}天\n1,{'今' * 90}日\n")
    said = refusal(judged, rows)
    assert f"has the text ...'{'今' * 20}日', but ...'{'今' * 20}天' in" in said


def test_columns_of_numbers_with_gaps_are_floats_in_tables(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": [7.0, None, 8.0], "a": [1.0, 1.0, 0.0]}), tmp_path / "judged.parquet")
    rows = write(tmp_path / "rows.csv", "id,text\n7,好\n,空\n8.0,坏\n9,不\n")
    assert texts_of(tmp_path / "judged.parquet", rows) == {"7": ("好",), "8": ("坏",)}  # 9 was not judged


def test_both_texts_of_a_pair_are_found(tmp_path: Path) -> None:
    rows = write(tmp_path / "rows.tsv", "text\tid\tlabel\ttext_pair\nＡ  好\t1\tx\t坏\n只\t2\tx\t\n")
    judged = write(tmp_path / "judged.csv", "id,a\n1,1\n2,1\n")
    assert texts_of(judged, rows, text_columns=("text", "text_pair")) == {"1": ("A 好", "坏")}


def test_an_id_with_two_texts_names_both_places(tmp_path: Path) -> None:
    judged = write(tmp_path / "judged.csv", "id,a\n1,1\n")
    first = write(tmp_path / "1.csv", "id,text\n2,一\n1,好\n1.0, 好 \n")  # the same text
    second = write(tmp_path / "2.jsonl", json.dumps({"id": 1, "text": "坏"}) + "\n")
    assert texts_of(judged, first) == {"1": ("好",)}
    assert refusal(judged, first, second).startswith(
        f"{second}, line 1: the id '1' has the text '坏', but '好' in {first}, line 3; give each text an id of its own"
    )


def test_rows_that_nobody_judged_may_share_an_id(tmp_path: Path) -> None:
    rows = write(tmp_path / "rows.csv", "id,text\n0,一\n0,二\n1,好\n")
    assert texts_of(write(tmp_path / "judged.csv", "id,a\n1,1\n"), rows) == {"1": ("好",)}


def test_ids_none_of_which_has_a_text_are_shown_beside_those_that_have(tmp_path: Path) -> None:
    judged = write(tmp_path / "judged.csv", "id,a\n,1\n7,1\n")
    rows = write(tmp_path / "rows.jsonl", '{"id": "row-7", "text": "好"}\n')
    assert refusal(judged, rows).startswith(
        "no id in data.soft_labels is that of a text in data.id_texts: column 'id' begins with '7' in "
        f"{judged}, line 3, and with 'row-7' in {rows}, line 1; give the files"
    )
    empty = write(tmp_path / "empty.csv", "id,text\n,好\n")
    assert f"and with nothing in {empty}; give" in refusal(judged, empty)


def test_a_missing_column_of_texts_is_named_with_the_nearest(tmp_path: Path) -> None:
    judged = write(tmp_path / "judged.csv", "id,a\n7,1\n")
    rows = write(tmp_path / "rows.csv", "idx,text\n7,好\n")
    assert f"{rows}, line 1: no column 'id'; the columns are idx, text; did you mean `idx`?" in refusal(judged, rows)
