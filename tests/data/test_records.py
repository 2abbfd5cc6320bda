"""Names of columns, and what is said of one that is missing."""

from kd_dist.data.records import column_name, no_column


def test_a_missing_column_is_named_with_those_that_are_there():
    message = no_column("text", ["label", "texts"], "set it")
    assert message == "no column 'text'; the columns are label, texts; did you mean `texts`?; set it"
    assert no_column("text", [], "set it") == "no column 'text'; the columns are none; set it"
    assert len(no_column("text", map(str, range(9999)), "")) < 300


def test_what_is_invisible_is_no_part_of_a_name():
    assert column_name("\ufeff\ufeff la\u200bbel\u3000") == "label"
