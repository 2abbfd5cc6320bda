"""Perturbed rows are made of the tokens of labelled rows alone, keep their form, and depend on nothing but the seed."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kd_dist.augmentation import perturbed, same_kind
from kd_dist.augmentation.perturbed import Perturbations, perturb
from kd_dist.augmentation.same_kind import ReplacedCopies
from kd_dist.config.sections.augmentation import Perturb
from kd_dist.config.sections.data import LabelledData
from kd_dist.config.stages import PerturbedStage
from kd_dist.data.labelled import prepare
from kd_dist.data.prepared_rows import PreparedRows
from kd_dist.data.token_rows import TokenRows
from kd_dist.data.tokenizer_folders import load_tokenizer
from kd_dist.errors import RunError
from tests.conftest import LabelledWorld, TinyWorld
from tests.stages import run_entry

Make = Callable[..., PreparedRows]


@pytest.fixture
def make(labelled: LabelledWorld, tmp_path: Path) -> Make:
    """Perturbs labelled rows, by default those of the small labelled world."""

    def make(tokens: Path = labelled.tokens, name: str = "tokens", **settings: Any) -> PreparedRows:
        perturb(PreparedRows(tokens), Perturb(**settings), tmp_path / name)
        return PreparedRows(tmp_path / name)

    return make


@pytest.fixture
def pairs(tiny: TinyWorld, tmp_path: Path) -> Path:
    """Rows of two texts each; at 16 tokens some of them are cut."""
    lines = [line[:24] for line in tiny.corpus.read_text(encoding="utf-8").splitlines() if len(line) > 8][:60]
    rows = [f"{number % 2}\t{line[:6]}\t{line[4:]}" for number, line in enumerate(lines)]
    (tmp_path / "pairs.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    columns = ["label", "text", "text_pair"]
    data = LabelledData(train=[str(tmp_path / "pairs.tsv")], columns=columns, max_length=16)
    prepare(data, str(tiny.tokenizer), tmp_path / "pairs", tmp_path / "texts.txt")
    return tmp_path / "pairs"


def test_copies_are_as_many_as_asked_for_and_each_row_has_its_share(labelled: LabelledWorld, make: Make) -> None:
    number = PreparedRows(labelled.tokens).num_rows("train")
    assert make(copies=3).num_rows("train") == 3 * number
    few = make(copies=3, max_rows=number + 7)
    assert (few.num_rows("train"), len(few.dataset("train")), len(few.lengths("train"))) == (number + 7,) * 3


def test_a_row_keeps_its_frame_its_length_and_tokens_that_rows_have(labelled: LabelledWorld, make: Make) -> None:
    made, tokenizer = make(copies=8), load_tokenizer(labelled.tokens / "tokenizer")
    source = PreparedRows(labelled.tokens)
    known = {token for row in source.dataset("train")["input_ids"] for token in row} | {tokenizer.mask_token_id}
    for ids in made.dataset("train")["input_ids"]:
        assert (ids[0], ids[-1]) == (tokenizer.cls_token_id, tokenizer.sep_token_id)
        assert 3 <= len(ids) <= source.statistics["max_length"]
        assert not {tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id} & set(ids[1:-1])
        assert set(ids) <= known


def test_nearly_every_copy_is_new_and_all_three_ways_are_taken(labelled: LabelledWorld, make: Make) -> None:
    tokenizer = load_tokenizer(labelled.tokens / "tokenizer")
    originals = {tuple(row) for row in PreparedRows(labelled.tokens).dataset("train")["input_ids"]}
    copies = [tuple(row) for row in make(copies=8).dataset("train")["input_ids"]]
    assert sum(copy not in originals for copy in copies) > 0.9 * len(copies)
    masked = sum(tokenizer.mask_token_id in copy for copy in copies)
    shortened = sum(any(_is_part(copy, row) for row in originals) for copy in copies)
    assert masked > 0.2 * len(copies)
    assert shortened > 0.2 * len(copies)
    assert masked + shortened < 0.9 * len(copies)


def _is_part(copy: tuple[int, ...], row: tuple[int, ...]) -> bool:
    """Return whether a row with some tokens left out is the copy."""
    rest = iter(row)
    return len(copy) < len(row) and all(token in rest for token in copy)


def test_the_seed_alone_decides_whatever_the_blocks(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make(copies=2).dataset("train")["input_ids"][:]
    monkeypatch.setattr(perturbed, "BLOCK", 7)
    assert make(copies=2, name="again").dataset("train")["input_ids"][:] == first
    assert make(copies=2, name="other", seed=1).dataset("train")["input_ids"][:] != first


def test_both_texts_of_a_pair_are_perturbed_and_keep_their_types(pairs: Path, make: Make) -> None:
    tokenizer = load_tokenizer(pairs / "tokenizer")
    rows = make(pairs, copies=4).dataset("train")
    for ids, types in zip(rows["input_ids"], rows["token_type_ids"], strict=True):
        middle = ids.index(tokenizer.sep_token_id)
        assert ids.count(tokenizer.sep_token_id) == 2
        assert types == [0] * (middle + 1) + [1] * (len(ids) - middle - 1)
        assert len(ids) <= 16


def test_a_tokenizer_without_a_mask_masks_nothing(labelled: LabelledWorld) -> None:
    tokenizer = load_tokenizer(labelled.tokens / "tokenizer")
    mask, tokenizer.mask_token = tokenizer.mask_token_id, None
    rows = PreparedRows(labelled.tokens).dataset("train").select_columns(["input_ids"])
    made = Perturbations(rows, tokenizer, max_length=48, seed=0)
    assert mask not in {token for block in made.blocks(200) for row in block for token in row["input_ids"]}


PEOPLE, PLACES = ("老师", "学生", "孩子"), ("医院", "学校", "公园")

MOVED = tuple(f"{place}的" for place in PLACES)  # a row begins so only if a place was drawn for its first noun


def noun_rows(tmp_path: Path, tiny: TinyWorld, pairs: bool = False) -> Path:
    """Write rows in which people come first and places last, each with a number of its own; of pairs both do."""
    lines = []
    for number, (person, place) in enumerate((person, place) for person in PEOPLE for place in PLACES):
        text = f"{person}的{place}{number}"
        lines += [f"{number % 2}\t{text}\t{text}" if pairs else f"{number % 2}\t{text}"] * 3
    (tmp_path / "rows.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    columns = ["label", "text", "text_pair"][: 2 + pairs]
    data = LabelledData(train=[str(tmp_path / "rows.tsv")], columns=columns, max_length=40)
    prepare(data, str(tiny.tokenizer), tmp_path / "rows", tmp_path / "texts.txt")
    return tmp_path / "rows"


def texts_of(made: PreparedRows) -> list[list[str]]:
    """Return the texts of each row, as the tokens spell them."""
    tokenizer = load_tokenizer(made.tokenizer_folder)
    rows = made.dataset("train")["input_ids"]
    return [tokenizer.decode(ids[1:-1]).replace(" ", "").split(tokenizer.sep_token) for ids in rows]


def share_moved(made: PreparedRows, place: int = 0) -> float:
    texts = texts_of(made)
    return sum(row[place].startswith(MOVED) for row in texts) / len(texts)


def test_words_are_replaced_where_that_is_asked_for_as_often_as_it_is(
    tmp_path: Path, tiny: TinyWorld, make: Make
) -> None:
    rows = noun_rows(tmp_path, tiny)
    assert share_moved(make(rows, copies=60)) == 0
    seldom, always = (share_moved(make(rows, copies=60, replace_words=p, name=str(p))) for p in (0.2, 1.0))
    assert 0.07 < always < 0.18  # half of a quarter of the copies
    assert 0.01 < seldom < 0.5 * always


def test_the_words_that_stay_are_those_of_the_row(tmp_path: Path, tiny: TinyWorld) -> None:
    source = PreparedRows(noun_rows(tmp_path, tiny))
    copies, tokenizer = ReplacedCopies(source, probability=1.0), load_tokenizer(source.tokenizer_folder)
    for at, text in enumerate(source.dataset("train")["text"]):
        for seed in range(5):
            row = copies(at, random.Random(seed))
            assert row is None or tokenizer.decode(row["input_ids"][1:-1]).replace(" ", "").endswith(text[-1])


def test_words_of_both_texts_of_a_pair_are_replaced(tmp_path: Path, tiny: TinyWorld, make: Make) -> None:
    rows = noun_rows(tmp_path, tiny, pairs=True)
    tokenizer = load_tokenizer(rows / "tokenizer")
    assert share_moved(make(rows, copies=40), 1) == 0
    made = make(rows, copies=40, replace_words=1.0, name="replaced")
    assert all(0.06 < share_moved(made, place) < 0.2 for place in (0, 1))
    for ids, types in zip(made.dataset("train")["input_ids"], made.dataset("train")["token_type_ids"], strict=True):
        middle = ids.index(tokenizer.sep_token_id)
        assert types == [0] * (middle + 1) + [1] * (len(ids) - middle - 1)


def test_a_copy_whose_words_stay_is_perturbed_in_another_way(tmp_path: Path, tiny: TinyWorld, make: Make) -> None:
    rows = noun_rows(tmp_path, tiny)
    originals = {tuple(row) for row in PreparedRows(rows).dataset("train")["input_ids"]}

    def unchanged(**settings: Any) -> int:
        made = make(rows, copies=40, name=str(settings), **settings).dataset("train")["input_ids"]
        return sum(tuple(row) in originals for row in made)

    assert unchanged(replace_words=0.02) < 1.3 * unchanged() + 5


def test_words_of_a_sorted_file_are_counted_throughout(
    tmp_path: Path, tiny: TinyWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = PreparedRows(noun_rows(tmp_path, tiny))  # in the order of the file: the first person comes first
    monkeypatch.setattr(same_kind, "MAX_ROWS", 6)
    copies, tokenizer = ReplacedCopies(source, probability=1.0), load_tokenizer(source.tokenizer_folder)
    rows = filter(
        None, (copies(at, random.Random(seed)) for at in range(source.num_rows("train")) for seed in range(9))
    )
    drawn = {tokenizer.decode(row["input_ids"][1:-1]).replace(" ", "")[:2] for row in rows}
    assert drawn >= set(PEOPLE[1:])


def test_replaced_copies_are_no_held_out_rows(tmp_path: Path, tiny: TinyWorld) -> None:
    source = PreparedRows(noun_rows(tmp_path, tiny))
    held_out = {text for split in ("validation", "test") for text in source.dataset(split)["text"]}
    copies, tokenizer = ReplacedCopies(source, probability=1.0), load_tokenizer(source.tokenizer_folder)
    made = [copies(at, random.Random(seed)) for at in range(source.num_rows("train")) for seed in range(40)]
    assert held_out
    assert not held_out & {tokenizer.decode(row["input_ids"][1:-1]).replace(" ", "") for row in made if row}


def test_rows_without_texts_cannot_have_words_replaced(labelled: LabelledWorld, make: Make) -> None:
    alone = make(copies=1, name="alone")
    with pytest.raises(RunError, match=r"perturb\.replace_words needs the texts of rows, and .*alone has tokens alone"):
        ReplacedCopies(alone, probability=0.5)


def test_the_stage_writes_rows_that_follow_the_labelled_ones(
    labelled: LabelledWorld, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    stage = PerturbedStage(data={"tokens": str(labelled.tokens)}, perturb=Perturb(copies=2))
    (tmp_path / "perturbed").mkdir()
    (tmp_path / "perturbed" / "config.json").write_text(stage.model_dump_json(), encoding="utf-8")
    run_entry(tmp_path / "perturbed")
    assert "120 perturbed copies of 60 rows" in capsys.readouterr().out
    rows = TokenRows(labelled.tokens, "train", 0, unlabelled=[tmp_path / "perturbed" / "tokens"])
    assert len(rows) == 180
    assert (rows.collate(np.arange(60, 180))["labels"] == -100).all()
    held_out = TokenRows(tmp_path / "perturbed" / "tokens", "test", 0)
    assert len(held_out) == PreparedRows(labelled.tokens).num_rows("test")
