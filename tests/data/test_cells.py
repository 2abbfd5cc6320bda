"""Rows of tsv and csv, with the line in which each begins, and records below a header."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kd_dist.data.cells import read_cells, read_table
from kd_dist.errors import CorpusError
from tests.data.files import write

CELL = st.text(st.characters(exclude_categories=("Cs", "Cc")) | st.sampled_from('",\n\t'))


@given(rows=st.lists(st.lists(CELL, min_size=2, max_size=3), max_size=5))
@settings(deadline=None, max_examples=100)
def test_csv_is_read_as_it_was_written(rows: list[list[str]], tmp_path_factory: pytest.TempPathFactory):
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    file = write(tmp_path_factory.mktemp("csv") / "a.csv", stream.getvalue())
    assert [cells for _, cells in read_cells(file)] == rows


def test_the_line_is_that_in_which_a_row_begins(tmp_path: Path):
    csv_file = write(tmp_path / "a.csv", '1,"one, ""two""\nthree"\n\n0,four\n')
    assert list(read_cells(csv_file)) == [(1, ["1", 'one, "two"\nthree']), (3, []), (4, ["0", "four"])]
    tsv_file = write(tmp_path / "a.tsv", '1\t"open\n\n0\tsay "x"\n')
    assert list(read_cells(tsv_file)) == [(1, ["1", '"open']), (2, []), (3, ["0", 'say "x"'])]


def test_quotes_that_do_not_match(tmp_path: Path):
    with pytest.raises(CorpusError, match=r"a.csv, line 2: not csv \(unexpected end of data\); a quote inside a cell"):
        list(read_cells(write(tmp_path / "a.csv", 'x,一\nx,"二')))


def test_columns_are_found_by_their_names(tmp_path: Path):
    file = write(tmp_path / "a.csv", "\n id , text,text\n1,一,二\n\n2\n3,三,,\n")
    found = [(record.place, record.values) for record in read_table(file, ["text", "id"], "")]
    assert found == [
        ("line 3", {"text": "一", "id": "1"}),
        ("line 4", {"text": "", "id": ""}),
        ("line 5", {"text": "", "id": "2"}),
        ("line 6", {"text": "三", "id": "3"}),
    ]
    assert list(read_table(write(tmp_path / "empty.csv", "\n"), ["text"], "")) == []


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "title\nx\n", r"a.csv, line 1: no column 'text'; the columns are title; choose"),
        ("a.csv", "text\nx\na,b\n", r"a.csv, line 3: 2 columns, expected 1 .*commas needs quotes"),
        ("a.tsv", "id\ttext\n1\tx\ty\n", r"a.tsv, line 2: 3 columns, expected 2 .*a text must not contain a tab"),
    ],
)
def test_tables_that_do_not_fit_their_header(name: str, content: str, message: str, tmp_path: Path):
    with pytest.raises(CorpusError, match=message):
        list(read_table(write(tmp_path / name, content), ["text"], "choose another"))


@pytest.mark.parametrize("separator", [";", "|", "\t", "\x01", ","])
def test_quotes_count_in_csv_whatever_separates_its_columns(separator: str, tmp_path: Path):
    content = f'x{separator}"one{separator} ""two""\nthree"\n'
    file = write(tmp_path / "a.csv", content)
    assert list(read_cells(file, separator)) == [(1, ["x", f'one{separator} "two"\nthree'])]


def test_a_separator_of_several_characters_or_without_quotes(tmp_path: Path):
    expected = [(1, ["x", '"a', ' b"']), (2, ["y"])]
    assert list(read_cells(write(tmp_path / "a.csv", 'x||"a|| b"\ny\n'), "||")) == expected
    assert list(read_cells(write(tmp_path / "a.txt", 'x;"a; b"\ny\n'), ";")) == expected


@pytest.mark.parametrize("name", ["a.csv", "a.tsv"])
def test_rows_that_end_in_cr_alone(name: str, tmp_path: Path):
    separator = "," if name == "a.csv" else "\t"
    (tmp_path / name).write_bytes(f"x{separator}一\r\ry{separator}二\r".encode())
    assert list(read_cells(tmp_path / name)) == [(1, ["x", "一"]), (2, []), (3, ["y", "二"])]


def test_a_cell_with_cr_inside_quotes(tmp_path: Path):
    (tmp_path / "a.csv").write_bytes(b'x,"one\rtwo"\ry,three\r')
    assert list(read_cells(tmp_path / "a.csv")) == [(1, ["x", "one\ntwo"]), (3, ["y", "three"])]


def test_quotes_behind_a_byte_order_mark(tmp_path: Path):
    file = write(tmp_path / "a.csv", '\ufeff"x","a, b"\n\ufeff"y","c, d"\n')
    assert [cells for _, cells in read_cells(file)] == [["x", "a, b"], ["y", "c, d"]]
