"""The blocks of all shards become rows as the data has them, without leaks; damage is named."""

import json
import shutil

import numpy as np
import pytest
from datasets import load_from_disk
from transformers import (
    AutoTokenizer,
)

from kd_dist.data.preprocessing import Preprocessing
from kd_dist.data.token_rows import TokenRows
from kd_dist.errors import RunError
from tests.augmentation.world import rows_of
from tests.stages import run_entry


@pytest.mark.parametrize("which", ["tokens", "pairs"])
def test_collected_rows_have_the_shape_of_the_data_they_came_from(world, stage_of, collected_of, which):
    tokens = getattr(world, which)
    stage_dir = stage_of(tokens=tokens)
    run_entry(stage_dir)
    collected = collected_of(stage_dir / "shards", tokens)
    run_entry(collected)
    run_entry(collected)  # again, over what is there
    output = collected / "tokens"
    assert {path.name for path in output.iterdir()} == {path.name for path in tokens.iterdir()}
    before, after = (load_from_disk(str(folder / "train")) for folder in (tokens, output))
    assert after.features == before.features
    rows = rows_of(stage_dir)
    texts = [name for name in ("text", "text_pair") if name in before.column_names]
    assert [after[name][:] for name in (*texts, "labels")] == [
        [row[name] for row in rows] for name in (*texts, "labels")
    ]
    preprocessing, tokenizer = Preprocessing.load(output), AutoTokenizer.from_pretrained(output / "tokenizer")
    encodings = preprocessing.encode(tokenizer, *([row[name] for row in rows] for name in texts))
    assert after["input_ids"][:] == [encoding.input_ids for encoding in encodings]
    if "token_type_ids" in after.column_names:
        assert after["token_type_ids"][:] == [encoding.token_type_ids for encoding in encodings]
    lengths = [len(encoding.input_ids) for encoding in encodings]
    assert np.load(output / "train_lengths.npy").tolist() == lengths
    batch = TokenRows(output, "train", tokenizer.pad_token_id).collate(np.array([0, 1]))
    assert batch["input_ids"].shape[1] == max(lengths[:2])
    assert len(TokenRows(output, "validation", 0)) == len(TokenRows(tokens, "validation", 0))


def test_reports_count_what_became_of_the_rows(world, stage_of, collected_of):
    stage_dir = stage_of()
    run_entry(stage_dir)
    collected = collected_of(stage_dir / "shards", world.tokens)
    run_entry(collected)
    rows = rows_of(stage_dir)
    read = {
        name: [
            json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
            for folder in (world.tokens, collected / "tokens")
        ]
        for name in ("statistics", "data_report")
    }
    (old, new), (old_report, report) = read["statistics"], read["data_report"]
    assert new.keys() - old.keys() == {"augmentation"}
    assert old_report["train"].keys() == report["train"].keys()
    assert new["train_rows"] == report["train"]["rows"] == len(rows)
    assert new["validation_rows"] == old["validation_rows"]
    assert new["tokens"] == old["tokens"] - old_report["train"]["tokens"] + report["train"]["tokens"]
    assert report["train"]["labels"] == {str(n): sum(row["labels"] == n for row in rows) for n in range(3)}
    assert report["train"]["characters"] == sum(len(row["text"]) for row in rows)
    augmentation = new["augmentation"]
    assert augmentation["rows"] == old["train_rows"]
    assert augmentation["tried"] == 4 * augmentation["rows"] == len(rows) - augmentation["rows"] + augmentation["equal"]


def test_a_copy_that_stands_in_validation_is_left_out(world, stage_of, collected_of, tmp_path):
    shutil.copytree(world.tokens, tmp_path / "tokens", copy_function=shutil.copy2)
    stage_dir = stage_of(tokens=tmp_path / "tokens")
    run_entry(stage_dir)
    rows = rows_of(stage_dir)
    leaked = next(row["text"] for row in rows if row["copy"])
    validation = load_from_disk(str(world.tokens / "validation"))
    replaced = validation.map(lambda row, index: {"text": leaked if index == 0 else row["text"]}, with_indices=True)
    shutil.rmtree(tmp_path / "tokens" / "validation")
    replaced.save_to_disk(tmp_path / "tokens" / "validation")
    collected = collected_of(stage_dir / "shards", tmp_path / "tokens")
    run_entry(collected)
    texts = load_from_disk(str(collected / "tokens" / "train"))["text"][:]
    assert texts == [row["text"] for row in rows if row["text"] != leaked]
    report = json.loads((collected / "tokens" / "data_report.json").read_text(encoding="utf-8"))
    assert report["augmentation"]["leaked"] == len(rows) - len(texts)


def test_missing_and_damaged_blocks_are_named(world, stage_of, collected_of):
    stage_dir = stage_of(shards=5)
    for shard in range(5):
        run_entry(stage_dir, shard)
    shards = stage_dir / "shards"
    collected = collected_of(shards, world.tokens)
    (shards / "block_00000001.parquet").unlink()
    (shards / "block_00000003.parquet").write_bytes(b"PAR1 and no more")
    message = r"block_00000003.parquet is damaged .*, block 1 is missing, block 3 is missing; remove COMPLETE"
    with pytest.raises(RunError, match=message):
        run_entry(collected)
    for shard in range(5):
        run_entry(stage_dir, shard)
    flipped = bytearray((shards / "block_00000002.parquet").read_bytes())
    flipped[200] ^= 1  # inside the data, where only reading it all can tell
    (shards / "block_00000002.parquet").write_bytes(flipped)
    with pytest.raises(RunError, match=r"block_00000002.parquet is damaged"):
        run_entry(collected)
    assert not (collected / "tokens").exists()
    assert not list(collected.glob(".tokens*"))


def test_shards_of_other_rows_are_refused(world, stage_of, collected_of):
    stage_dir = stage_of()
    run_entry(stage_dir)
    with pytest.raises(RunError, match="was not made from the rows in"):
        run_entry(collected_of(stage_dir / "shards", world.pairs))
    with pytest.raises(RunError, match=r"manifest.json cannot be read .* remove COMPLETE"):
        run_entry(collected_of(stage_dir / "nothing", world.tokens))
