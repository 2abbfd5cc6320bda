"""Judgements become probabilities of the classes by name; what is changed or left out is counted."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kd_dist.config.sections.data import SoftLabelsData
from kd_dist.data.judgements import Judgements, in_words, read_judgements
from kd_dist.data.labels import Labels
from kd_dist.errors import CorpusError
from tests.data.files import write

SINGLE = Labels("single_label", {"finance": 0, "sport": 1, "Web 2.0": 2})
MULTI = Labels("multi_label", SINGLE.ids)


def read(*files: Path, labels: Labels = SINGLE, pairs: bool = False, **given: Any) -> Judgements:
    data = SoftLabelsData(tokens="rows", soft_labels=list(map(str, files)), **given)
    return read_judgements(data, labels, pairs)


def json_lines(path: Path, *records: dict[str, Any]) -> Path:
    return write(path, "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records))


def of(found: Judgements, *texts: str) -> list[float]:
    return np.round(found.probabilities[texts].astype(float), 4).tolist()


def refusal(*files: Path, **given: Any) -> str:
    with pytest.raises(CorpusError) as caught:
        read(*files, **given)
    return str(caught.value)


# ------------------------------------------------------------------------------------------------------------- formats


def test_every_format_is_read_and_classes_are_found_by_name(tmp_path: Path) -> None:
    rows = {"sport": [0.2, 0.9], "text": ["好", "坏"], "Web 2.0": [0.3, 0.1], "finance": [0.5, 0.0]}
    lines = [dict(zip(rows, values, strict=True)) for values in zip(*rows.values(), strict=True)]
    pq.write_table(pa.table(rows), tmp_path / "a.parquet")
    csv = "\n".join([",".join(rows), *(",".join(map(str, line.values())) for line in lines)])
    files = [
        tmp_path / "a.parquet",
        json_lines(tmp_path / "a.jsonl", *lines),
        write(tmp_path / "a.json", json.dumps(lines)),
        write(tmp_path / "a.csv", csv),
        write(tmp_path / "a.tsv", csv.replace(",", "\t")),
    ]
    for file in files:
        found = read(file)
        assert of(found, "好") == [0.5, 0.2, 0.3], file
        assert of(found, "坏") == [0.0, 0.9, 0.1], file
    assert +found.counts == {"records": 2}
    assert found.lacking == {}
    assert found.scales == {str(files[-1]): "probabilities, numbers from 0 to 0.9"}


def test_texts_and_names_are_cleaned_as_those_of_labelled_rows(tmp_path: Path) -> None:
    record = {"text": " Ａ\u200b  好 ", "ｆｉｎａｎｃｅ": 1, " sport": 0, "Web\u3000２.0": 0}
    assert of(read(json_lines(tmp_path / "a.jsonl", record)), "A 好") == [1, 0, 0]


def test_classes_may_stand_in_an_object_of_their_own(tmp_path: Path) -> None:
    records = [{"text": "好", "scores": {"finance": 0.2, "sport": 0.8}, "usage": {"tokens": 7}}]
    found = read(json_lines(tmp_path / "a.jsonl", *records), ignored_columns="usage")
    assert of(found, "好") == pytest.approx([0.2, 0.8, 0], abs=1e-3)
    pq.write_table(pa.table({"text": ["好"], "scores": [{"finance": 0.2, "sport": 0.8}]}), tmp_path / "a.parquet")
    assert of(read(tmp_path / "a.parquet"), "好") == pytest.approx([0.2, 0.8, 0], abs=1e-3)
    twice = json_lines(tmp_path / "b.jsonl", {"text": "好", "sport": 1, "scores": {"sport": 0.5}})
    assert f"{twice}, line 1: 'sport' is in it twice" in refusal(twice)


def test_pairs_and_the_name_of_the_text(tmp_path: Path) -> None:
    file = json_lines(tmp_path / "a.jsonl", {"title": "好", "text_pair": "坏", "finance": 1, "sport": 0, "Web 2.0": 0})
    assert of(read(file, pairs=True, text_field="title"), "好", "坏") == [1, 0, 0]


# ------------------------------------------------------------------------------------------------------------- numbers


def test_sums_that_are_not_one_are_normalized_and_counted(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", "text,finance,sport,Web 2.0\n一,0.5,0.5,1\n二,0.33,0.33,0.33\n三,0.2,0.2,0.1\n")
    found = read(file)
    assert of(found, "一") == [0.25, 0.25, 0.5]
    assert of(found, "二") == pytest.approx([1 / 3] * 3, abs=1e-3)  # rounding, not counted
    assert of(found, "三") == [0.4, 0.4, 0.2]
    assert "2 whose probabilities did not add up to 1, normalized" in in_words(found.counts)


def test_numbers_below_0_or_above_1_are_logits(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", "text,finance,sport,Web 2.0\n一,0,0,0.6931472\n二,-5,3.5,-Infinity\n")
    found = read(file)
    assert of(found, "一") == [0.25, 0.25, 0.5]
    assert of(found, "二") == [0.0002, 0.9998, 0]
    assert found.scales[str(file)] == "logits, made probabilities by softmax, numbers from -inf to 3.5"


def test_large_logits_do_not_overflow(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", "text,finance,sport,Web 2.0\n一,1e5,-1e5,0\n")
    assert of(read(file), "一") == [1, 0, 0]
    assert of(read(file, labels=MULTI), "一") == [1, 0, 0.5]


def test_positive_logits_say_how_to_make_them_shares(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", "text,finance,sport,Web 2.0\n一,3,1,1\n二,2,2,2\n")
    assert "set data.scale=probabilities if they are shares" in read(file).scales[str(file)]
    assert of(read(file, scale="probabilities"), "一") == [0.6, 0.2, 0.2]


def test_percentages_are_shares(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", "text,finance,sport,Web 2.0\n一,90,10,0\n二,20,20,60\n")
    found = read(file)
    assert (of(found, "一"), of(found, "二")) == ([0.9, 0.1, 0], [0.2, 0.2, 0.6])
    assert found.scales[str(file)].startswith("probabilities")


def test_probabilities_of_0_and_1_can_be_logits(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", "text,finance,sport,Web 2.0\n一,1,0,0\n")
    assert of(read(file, scale="logits"), "一") == pytest.approx([0.5761, 0.2119, 0.2119], abs=1e-4)


@pytest.mark.parametrize(("number", "labels"), [("-0.1", SINGLE), ("-0.1", MULTI), ("1.5", MULTI)])
def test_what_cannot_be_a_probability_is_refused(tmp_path: Path, number: str, labels: Labels) -> None:
    file = write(tmp_path / "a.csv", f"text,finance,sport,Web 2.0\n一,1,0,0\n二,{number},1,0\n")
    message = refusal(file, labels=labels, scale="probabilities")
    assert message.startswith(f"{file}, line 3: 'finance' holds {number}, which is no probability")


def test_several_labels_are_not_normalized(tmp_path: Path) -> None:
    file = json_lines(tmp_path / "a.jsonl", {"text": "一", "finance": 0.9, "sport": 0.8}, {"text": "二", "sport": 0})
    found = read(file, labels=MULTI)
    assert of(found, "一") == pytest.approx([0.9, 0.8, 0])
    assert of(found, "二") == [0, 0, 0]
    assert found.lacking == {"finance": 1, "Web 2.0": 2}
    logits = json_lines(tmp_path / "b.jsonl", {"text": "一", "finance": math.log(3), "sport": -2})
    found = read(logits, labels=MULTI)
    assert of(found, "一") == pytest.approx([0.75, 0.1192, 0])
    assert "made probabilities by sigmoid" in found.scales[str(logits)]


# ----------------------------------------------------------------------------------------------------- what is missing


def test_classes_that_are_not_named_share_the_rest(tmp_path: Path) -> None:
    records = [{"text": "一", "finance": 0.8}, {"text": "二", "finance": 0.8, "sport": 0.4}]
    found = read(json_lines(tmp_path / "a.jsonl", *records))
    assert of(found, "一") == [0.8, 0.1, 0.1]
    assert of(found, "二") == pytest.approx([0.6667, 0.3333, 0])
    assert found.lacking == {"sport": 1, "Web 2.0": 2}
    assert found.counts["normalized"] == 1


def test_logits_that_are_not_named_are_impossible_classes(tmp_path: Path) -> None:
    records = [{"text": "一", "finance": 2, "sport": 2}, {"text": "二", "finance": 3}]
    found = read(json_lines(tmp_path / "a.jsonl", *records))
    assert of(found, "一") == [0.5, 0.5, 0]
    assert ("二",) not in found.probabilities
    assert "left out: 1 without a class that is possible, or with the logit of one class alone" in in_words(
        found.counts
    )


def test_bad_cells_and_empty_texts_are_left_out_and_counted(tmp_path: Path) -> None:
    lines = ["一,0.5,0.5,0", "二,,0.5,0.5", "三,nan,0.5,0.5", "四,inf,0,0", "五,0.5", "\u200b,1,0,0", "六,0,0,0"]
    found = read(write(tmp_path / "a.csv", "\n".join(["text,finance,sport,Web 2.0", *lines]) + "\n"))
    assert list(found.probabilities) == [("一",)]
    assert in_words(found.counts) == (
        "7 records; left out: 1 without a text, 4 with an empty cell, NaN or infinity, 1 without a class that is "
        "possible, or with the logit of one class alone"
    )


def test_null_in_json_and_parquet_is_an_empty_cell(tmp_path: Path) -> None:
    columns = {"text": ["一", "二"], "finance": [None, 1.0], "sport": [1.0, 0.0], "Web 2.0": [0.0, 0.0]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    lines = json_lines(tmp_path / "a.jsonl", {"text": "三", "finance": None, "sport": 1}, {"text": None, "sport": 1})
    found = read(tmp_path / "a.parquet", lines)
    assert list(found.probabilities) == [("二",)]
    assert (found.counts["without_number"], found.counts["without_text"]) == (2, 1)


def test_nothing_but_bad_rows_is_refused_with_their_counts(tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", "text,finance,sport,Web 2.0\n一,,,\n,1,0,0\n")
    message = refusal(file)
    assert f"no judgement in {file}: 2 records; left out: 1 without a text, 1 with an empty cell" in message


def test_texts_that_are_judged_twice(tmp_path: Path) -> None:
    first = write(tmp_path / "a.csv", "text,finance,sport,Web 2.0\n一,1,0,0\n一,1,0,0\n二,1,0,0\n")
    second = write(tmp_path / "b.csv", "text,finance,sport,Web 2.0\n二,-9,9,-9\n 二 ,1,0,0\n")  # logits, in all
    found = read(first, second)
    assert of(found, "一") == [1, 0, 0]
    assert of(found, "二") == pytest.approx([(1 + 0.5761) / 3, (1 + 0.2119) / 3, 0.2119 / 3], abs=1e-3)
    assert (found.counts["equal"], found.counts["averaged"]) == (1, 2)
    assert found.scales[str(first)].startswith("probabilities")
    assert found.scales[str(second)].startswith("logits")


# ----------------------------------------------------------------------------------------------------------------- ids


def test_rows_that_are_named_by_an_id_are_judged_by_their_text(tmp_path: Path) -> None:
    judged = write(tmp_path / "a.csv", "text,id,finance,sport,Web 2.0\n别的,7,1,0,0\n,8,0,1,0\n")
    rows = json_lines(tmp_path / "rows.jsonl", {"id": 8, "text": "坏", "label": "sport"}, {"id": "7", "text": " 好 "})
    found = read(judged, id_field="id", id_texts=[str(rows)])
    assert of(found, "好") == [1, 0, 0]  # whatever text stands beside the judgement
    assert of(found, "坏") == [0, 1, 0]
    assert in_words(found.counts) == "2 records"


def test_pairs_are_named_by_an_id(tmp_path: Path) -> None:
    judged = json_lines(tmp_path / "a.jsonl", {"id": 7, "sport": 1, "text_pair": "不"})
    rows = write(tmp_path / "rows.csv", "id,title,text_pair\n7,好,坏\n")
    found = read(judged, pairs=True, text_field="title", id_field="id", id_texts=[str(rows)])
    assert of(found, "好", "坏") == [0, 1, 0]


def test_records_whose_row_is_not_known_are_counted(tmp_path: Path) -> None:
    records = [
        {"id": 7, "sport": 1},
        {"id": 8, "sport": 1},
        {"id": None, "sport": 1},
        {"sport": 1},
        {"id": 9, "sport": 1},
    ]
    records += [{"id": 7, "sport": None}, {"id": "7", "sport": 1}]
    rows = write(tmp_path / "rows.csv", "id,text\n7,好\n9,\n")
    found = read(json_lines(tmp_path / "a.jsonl", *records), id_field="id", id_texts=[str(rows)])
    assert list(found.probabilities) == [("好",)]
    assert in_words(found.counts) == (
        "7 records; left out: 2 without an id, 2 with an id that no text in data.id_texts has, 1 with an empty cell, "
        "NaN or infinity; 1 of texts that were judged before, equally"
    )


def test_judgements_none_of_which_has_an_id_are_refused_with_their_count(tmp_path: Path) -> None:
    judged = write(tmp_path / "a.csv", "id,sport\n,1\n")
    rows = write(tmp_path / "rows.csv", "id,text\n7,好\n")
    message = refusal(judged, id_field="id", id_texts=[str(rows)])
    assert message == f"no judgement in {judged}: 1 records; left out: 1 without an id"


def test_rows_with_the_same_text_are_a_text_that_was_judged_twice(tmp_path: Path) -> None:
    judged = write(tmp_path / "a.csv", "id,finance,sport,Web 2.0\n7,1,0,0\n8,0,1,0\n")
    found = read(judged, id_field="id", id_texts=[str(write(tmp_path / "rows.csv", "id,text\n7,好\n8,好\n"))])
    assert of(found, "好") == [0.5, 0.5, 0]
    assert found.counts["averaged"] == 1


# ------------------------------------------------------------------------------------------------------------- mistakes


def test_unknown_names_are_told_together_with_the_nearest(tmp_path: Path) -> None:
    file = json_lines(tmp_path / "a.jsonl", {"text": "一", "finance": 1}, {"text": "二", "sprot": 1, "id": 7})
    message = refusal(file)
    assert message.startswith(f"{file}, line 2: not among the classes of the labelled rows: 'sprot'; did you mean ")
    assert "`sport`?, 'id'; the classes are 'finance', 'sport', 'Web 2.0'" in message
    assert message.endswith("data.ignored_columns=sprot,id")
    assert of(read(file, ignored_columns=["sprot", "id"]), "一") == [1, 0, 0]


def test_two_spellings_of_a_class_are_refused(tmp_path: Path) -> None:
    file = json_lines(tmp_path / "a.jsonl", {"text": "一", "sport": 1, "sport ": 0})
    assert f"{file}, line 1: the columns 'sport', 'sport ' are the same class" in refusal(file)


@pytest.mark.parametrize(
    ("value", "said"), [("high", "holds 'high'"), ("0,7", "holds '0,7'"), (True, "holds bool"), ([1], "holds list")]
)
def test_a_cell_that_is_no_number_names_its_place(tmp_path: Path, value: Any, said: str) -> None:
    file = json_lines(tmp_path / "a.jsonl", {"text": "一", "sport": 1}, {"text": "二", "sport": value})
    assert refusal(file) == f"{file}, line 2: 'sport' {said}, expected a probability or a logit"


def test_a_text_that_is_a_number_names_its_place(tmp_path: Path) -> None:
    file = json_lines(tmp_path / "a.jsonl", {"text": 7, "sport": 1})
    assert refusal(file).startswith(f"{file}, line 1: 'text' holds int, expected text")


def test_numbers_have_no_classes(tmp_path: Path) -> None:
    file = json_lines(tmp_path / "a.jsonl", {"text": "一", "sport": 1})
    assert "data.task=regression has no classes" in refusal(file, labels=Labels("regression", {}))
