"""Settings of data have bounds, and name their files."""

from typing import Any

import pytest

from kd_dist.config.sections.base import Section
from kd_dist.config.sections.data import AugmentedData, CorpusData, LabelledData, TokenData, UnlabelledData
from tests.config.refusals import assert_one_value_is_refused


@pytest.mark.parametrize(
    ("section", "settings"),
    [
        (CorpusData, {"corpus": ["a"], "max_length": 7}),
        (CorpusData, {"corpus": ["a"], "validation_fraction": 0.6}),
        (LabelledData, {"train": ["a"], "test_fraction": 0}),
        (LabelledData, {"train": ["a"], "label_separator": ""}),
        (LabelledData, {"train": ["a"], "separator": '"'}),
        (LabelledData, {"train": ["a"], "separator": "\r\n"}),
        (LabelledData, {"train": ["a"], "max_rows": 0}),
        (UnlabelledData, {"num_workers": -1}),
        (TokenData, {"tokens": "t", "bucket_steps": 0}),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else value.__name__,
)
def test_a_value_out_of_bounds_is_refused(section: type[Section], settings: dict[str, Any]) -> None:
    assert_one_value_is_refused(section, settings)


def test_none_means_no_value() -> None:
    assert LabelledData(train="a.tsv,b.tsv", max_rows="none").train == ["a.tsv", "b.tsv"]


@pytest.mark.parametrize(
    ("typed", "separator"), [(r"\t", "\t"), ("\t", "\t"), (";", ";"), (" ", " "), ("none", None), ("", None)]
)
def test_a_separator_as_it_is_typed(typed: str, separator: str | None) -> None:
    assert LabelledData(train="a.tsv", separator=typed).separator == separator


@pytest.mark.parametrize(
    ("section", "paths"),
    [
        (LabelledData(train=["t"], test=["e"], hint_words="h"), ["t", "e", "h"]),
        (UnlabelledData(unlabelled=["u"], tokens="k"), ["u", "k"]),
        (AugmentedData(tokens="k", shards="s"), ["k", "s"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_file_and_model_is_declared_as_such(section: Section, paths: list[str]) -> None:
    assert [path for _, path in section.named(section.PATHS + section.MODELS)] == paths
