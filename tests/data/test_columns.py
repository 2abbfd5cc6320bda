"""Columns are found by their place or by their names."""

from pathlib import Path

import pytest

from kd_dist.data.columns import columns_in_header, parse_columns
from kd_dist.errors import CorpusError


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ("label,txt", "`txt` is none of label, text, text_pair, -; did you mean `text`?"),
        ("label,content", "(a column of that name is given as text:content)"),
        ("text,text", "names `text` twice"),
        ("text", "names no `label`"),
        ("label,-", "names no `text`"),
        ("text", "where every label has a column of its own, give labels:*"),
        ("text,labels", "name the columns that are labels, labels:NAME, or labels:* for all others"),
        ("text,label,labels:*", "`label` is the column of all labels, `labels` are one column each; give one"),
        ("labels:*", "names no `text`"),
    ],
)
def test_columns_that_make_no_sense(columns: str, expected: str):
    with pytest.raises(CorpusError) as error:
        parse_columns(columns.split(","))
    assert expected in str(error.value)


def test_columns_have_a_place_and_a_name():
    columns = parse_columns(["-", "text", "label:类别"])
    assert columns.by_name
    assert columns.wanted() == {"text": "text", "label": "类别"}
    assert columns.positions() == {"text": 1, "label": 2}
    assert not parse_columns(["label:label", "text"]).by_name


def test_labels_have_columns_of_their_own():
    header = ["id", "text", "a", "", "b"]
    assert parse_columns(["text", "labels:*", "-:id"]).label_columns(header) == ["a", "b"]
    columns = parse_columns(["text", "labels:b", "labels:c"])
    assert (columns.label_columns(header), columns.wanted()) == (["b", "c"], {"text": "text"})
    with pytest.raises(CorpusError, match=r"no column 'c' in the header .*; name it in data.columns \(labels:NAME\)"):
        columns_in_header(columns, "auto", header, Path("a.tsv"))
    assert parse_columns(["label", "text"]).label_columns(header) == []


def test_two_labels_of_the_same_name():
    columns = parse_columns(["text", "labels:*"])
    with pytest.raises(CorpusError, match=r"a.tsv, line 1: 2 columns are called 'a', but each is a label"):
        columns_in_header(columns, "auto", ["text", "a", "b", "a"], Path("a.tsv"))


@pytest.mark.parametrize(
    ("columns", "role", "by_name", "expected"),
    [
        ("label,text", "text", False, "text,label"),
        ("label,text", "text", True, "text:label,label:text"),
        ("label,-,text,text_pair", "text_pair", False, "text,-,text_pair,label"),
        ("text:a,label:b,-,-:c", "text", True, "label:a,text:b,-,-:c"),
    ],
)
def test_columns_with_the_labels_elsewhere(columns: str, role: str, by_name: bool, expected: str):
    assert parse_columns(columns.split(",")).with_label_in_place_of(role, by_name=by_name) == expected


@pytest.mark.parametrize(
    ("columns", "header", "row", "expected"),
    [
        (["label", "text"], "auto", ["x", "一"], None),
        (["label", "text"], "auto", ["id", " text ", "label"], {"label": 2, "text": 1}),
        (["label", "text"], "auto", ["\ufefflabel", "te\u200bxt"], {"label": 0, "text": 1}),
        (["label", "text"], "auto", ["label\u200b", "\ufefftext"], {"label": 0, "text": 1}),
        (["label", "text"], "no", ["label", "text"], None),
        (["label", "text"], "yes", ["text", "label"], {"label": 1, "text": 0}),
        (["label:y", "text:x"], "auto", ["x", "y"], {"label": 1, "text": 0}),
    ],
)
def test_a_header_is_recognized(columns: list[str], header: str, row: list[str], expected: dict[str, int] | None):
    assert columns_in_header(parse_columns(columns), header, row, Path("a.tsv")) == expected


@pytest.mark.parametrize(
    ("columns", "header", "row", "message"),
    [
        (["label", "text"], "yes", ["x", "一"], r"a.tsv, line 1: no column 'label' in the header .* data.header=no"),
        (["label:y", "text"], "auto", ["x", "text"], r"no column 'y' in the header .*; name it in data.columns"),
        (["label:y", "text"], "no", ["x", "text"], r"data.header=no rules out: give the roles in order"),
    ],
)
def test_a_header_that_does_not_fit(columns: list[str], header: str, row: list[str], message: str):
    with pytest.raises(CorpusError, match=message):
        columns_in_header(parse_columns(columns), header, row, Path("a.tsv"))
