"""Copies are made of what training sees of a text, and cost no more."""

from datasets import load_from_disk
from transformers import (
    AutoTokenizer,
)

from kd_dist.augmentation import augmenter
from kd_dist.data.prepared_rows import PreparedRows
from kd_dist.data.preprocessing import Preprocessing
from tests.augmentation.world import blocks_in, rows_of
from tests.stages import run_entry


def test_copies_end_where_training_sees_no_more(world, stage_of, collected_of, long_rows):
    text = "国家经济工作会议在北京举行人民生活水平有了很大的提高和改善" * 20
    english = "国家 the movie economy " * 40  # several tokens to a word, several characters to a token
    tokens = long_rows(text, english, "国家经济")
    stage_dir = stage_of(tokens=tokens)
    run_entry(stage_dir)
    rows = rows_of(stage_dir)
    originals = [row["text"] for row in rows if not row["copy"]]
    assert originals == [text, english.strip(), "国家经济"]
    preprocessing, tokenizer = Preprocessing.load(tokens), AutoTokenizer.from_pretrained(world.mlm)
    for number, original in enumerate(originals[:2]):
        seen = augmenter.Window(PreparedRows(tokens))(original)
        assert len(tokenizer.tokenize(seen)) == 24
        assert original.startswith(seen)
        assert preprocessing.encode(tokenizer, [seen]) == preprocessing.encode(tokenizer, [original])
        copies = [row["text"] for row in rows if row["row"] == number and row["copy"]]
        assert len(copies) > 2
        assert all(len(copy) < len(seen) + 10 for copy in copies)  # another word may be longer
    collected = collected_of(stage_dir / "shards", tokens)
    run_entry(collected)
    train = load_from_disk(str(collected / "tokens" / "train"))
    assert train["text"][:] == [row["text"] for row in rows]
    assert max(map(len, train["input_ids"])) == 24


def test_the_window_is_as_wide_as_the_words_of_the_vocabulary(world, tmp_path, long_rows):
    vocabulary = AutoTokenizer.from_pretrained(world.mlm).get_vocab()
    words = [word for word in ("国家", "经济", "工作", "人民") if word not in vocabulary]
    vocabulary |= {word: len(vocabulary) + number for number, word in enumerate(words)}
    type(AutoTokenizer.from_pretrained(world.mlm))(vocab=vocabulary).save_pretrained(tmp_path / "words")
    text = " 国家经济工作人民" * 50
    for segment, expected in (("word", 24), ("none", 12), ("char", 12)):
        tokens = long_rows(text, text, tokenizer=tmp_path / "words", segment=segment)
        seen = augmenter.Window(PreparedRows(tokens))(text.strip())
        preprocessing, tokenizer = Preprocessing.load(tokens), AutoTokenizer.from_pretrained(tokens / "tokenizer")
        assert len(seen.replace(" ", "")) == 2 * expected
        assert preprocessing.encode(tokenizer, [seen]) == preprocessing.encode(tokenizer, [text])
        assert augmenter.Window(PreparedRows(tokens))("国家 经济") == "国家 经济"


def test_a_million_characters_cost_what_a_row_costs(world, stage_of, long_rows):
    endless = "国家经济工作会议在北京举行，" * (1_000_000 // 14)
    tokens = long_rows(endless, "国家经济", "x" * 1_000_000)
    stage_dir = stage_of(tokens=tokens, mlm_path=str(world.mlm), multi_piece="mask", word_vectors=None)
    run_entry(stage_dir)
    rows = rows_of(stage_dir)
    assert 0 < blocks_in(stage_dir).tally()["words"] <= 24
    assert max(len(row["text"]) for row in rows if row["copy"]) <= 24  # a mask for each piece: as long as they were
    assert len(rows[0]["text"]) > 990_000


def test_a_pair_is_cut_text_by_text(stage_of, long_rows):
    first, second = "国家经济工作会议" * 30, "人民生活水平"
    columns = ["label", "text", "text_pair"]
    tokens = long_rows(f"{first}\t{second}", f"{second}\t{first}", held_out="国家\t经济", columns=columns)
    stage_dir = stage_of(tokens=tokens)
    run_entry(stage_dir)
    copies = [row for row in rows_of(stage_dir) if row["copy"]]
    assert len(copies) > 8
    assert max(len(row[name]) for row in copies for name in ("text", "text_pair")) < 24 + 10
