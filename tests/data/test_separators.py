"""The separator that a table has in place of the expected one is found and named."""

import gzip
import os
from pathlib import Path

import pytest

from kd_dist.data.separators import other_separator, refuse_other_separator, usual_separator
from kd_dist.errors import CorpusError
from tests.data.files import write


@pytest.mark.parametrize("separator", [";", "|", "||", "|||", "_!_", "\x01", "^", "::", " ", ","])
def test_another_separator_than_tabs(separator: str, tmp_path: Path):
    file = write(tmp_path / "a.tsv", "".join(f"{label}{separator}今天\n\n" for label in "xyz"))
    assert other_separator(file, "\t", 2) == separator
    assert other_separator(file, separator, 2) is None


@pytest.mark.parametrize(
    ("content", "columns", "found"),
    [
        ("x\ty, z\nx\tone\n", 2, "\t"),  # in a csv file
        ("x\ta, b, c\nx\td, e\n", 2, "\t"),
        ("7_!_1_!_x_!_一, 二; 三\n8_!_2_!_y_!_四\n", 2, "_!_"),  # more columns than were asked for
        ("x;y\nx\n", 2, None),  # not in most lines
        ("x;y\nx\ny;z\n", 2, ";"),  # a bad row among good ones
        ("x,y\n一 二\n三 四\n", 2, None),  # only spaces of texts
        ("text\n一\n", 2, None),
        ('x,"a; b"\ny,"c; d, e"\n', 2, None),  # within quotes
        ('x,"a;\nb;"\ny,"c;"\n', 2, None),
        ('x,"one two\nthree four"\ny,"five six\nseven eight"\n', 2, None),
    ],
)
def test_what_separates_columns_in_place_of_commas(content: str, columns: int, found: str | None, tmp_path: Path):
    assert other_separator(write(tmp_path / "a.csv", content), ",", columns) == found


def test_a_bad_row_among_good_ones_says_nothing(tmp_path: Path):
    file = write(tmp_path / "a.tsv", "a;b\t一\n" * 3 + "a;b\n")
    assert other_separator(file, "\t", 2) is None


def test_commas_of_texts_separate_nothing(tmp_path: Path):
    file = write(tmp_path / "a.tsv", "x;one, two\nx;three, four\nx, bad\n")
    assert other_separator(file, "\t", 2) == ";"


def test_a_pipe_is_not_read(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    assert other_separator(tmp_path / "pipe", ",", 2) is None


def test_only_the_beginning_is_read(tmp_path: Path):
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"x;y\n" * 60 + b"x\n"))
    assert other_separator(tmp_path / "a.csv.gz", ",", 2) == ";"


@pytest.mark.parametrize(
    ("separator", "message"),
    [
        (";", "semicolons, expected commas; set data.separator=';'"),
        ("\t", r"tabs, expected commas; set data.separator='\t'"),
        ("_!_", "'_!_', expected commas; set data.separator='_!_'"),
        ("\x01", r"'\x01', expected commas; set data.separator=$'\x01'"),
    ],
)
def test_the_setting_is_named_as_it_is_typed(separator: str, message: str, tmp_path: Path):
    file = write(tmp_path / "a.csv", f"x{separator}一\n")
    with pytest.raises(CorpusError) as error:
        refuse_other_separator(file, ",", 2)
    assert str(error.value) == f"{file}: the columns seem to be separated by {message}"


def test_the_usual_separator_goes_by_the_suffix():
    found = [usual_separator(Path(name)) for name in ("a.csv", "A.CSV.GZ", "a.tsv", "a.txt", "a")]
    assert found == [",", ",", "\t", "\t", "\t"]
