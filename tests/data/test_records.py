"""What is said of a column that is missing."""

from kd_dist.data.records import no_column


def test_a_missing_column_is_named_with_those_that_are_there():
    message = no_column("text", ["label", "texts"], "set it")
    assert message == "no column 'text'; the columns are label, texts; did you mean `texts`?; set it"
    assert no_column("text", [], "set it") == "no column 'text'; the columns are none; set it"
    assert len(no_column("text", map(str, range(9999)), "")) < 300
