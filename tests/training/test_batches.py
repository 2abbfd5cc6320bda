"""Batches are a pure function of seed and step, cover every row once an epoch, and have like lengths."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kd_dist.data.permutation import permuted
from kd_dist.data.token_rows import TokenRows
from kd_dist.training.batches import BatchPlan
from tests.conftest import TinyWorld


def plan(lengths: np.ndarray, **options: int) -> BatchPlan:
    defaults = {"global_batch_size": 16, "micro_batch_size": 4, "bucket_steps": 8, "seed": 3}
    return BatchPlan(lengths, **(defaults | options))


def lengths_of(rows: int) -> np.ndarray:
    return np.random.default_rng(0).integers(5, 128, rows).astype(np.uint16)


@given(size=st.integers(1, 3000), key=st.integers(0, 2**62))
@settings(max_examples=40, deadline=None)
def test_permutation_reaches_every_place_once(size: int, key: int) -> None:
    assert sorted(permuted(np.arange(size), size, key)) == list(range(size))


def test_permutation_is_the_same_for_any_part_of_the_positions() -> None:
    whole = permuted(np.arange(1000), 1000, 5)
    assert (permuted(np.arange(400, 420), 1000, 5) == whole[400:420]).all()


def test_permutation_looks_random() -> None:
    shuffled = permuted(np.arange(20_000), 20_000, 5)
    assert abs(np.corrcoef(np.arange(20_000), shuffled)[0, 1]) < 0.03
    # One fixed point is expected, whatever the size.
    assert (shuffled == np.arange(20_000)).sum() < 8


@pytest.mark.parametrize("rows", [7, 160, 1000, 1001])
def test_every_row_comes_once_an_epoch(rows: int) -> None:
    batches = plan(lengths_of(rows), bucket_steps=1)
    steps = rows  # `rows` steps of 16 are 16 whole epochs
    counts = np.bincount(np.concatenate([batches.rows(step) for step in range(1, steps + 1)]), minlength=rows)
    assert (counts == 16).all()


def test_epochs_have_different_orders() -> None:
    batches = plan(lengths_of(160), bucket_steps=1)
    first = np.concatenate([batches.rows(step) for step in range(1, 11)])
    second = np.concatenate([batches.rows(step) for step in range(11, 21)])
    assert sorted(first) == sorted(second)
    assert (first != second).any()


def test_a_step_is_the_same_whether_reached_or_jumped_to() -> None:
    lengths = lengths_of(5000)
    walked = plan(lengths)
    for step in range(1, 100):
        walked.rows(step)
    assert (walked.rows(100) == plan(lengths).rows(100)).all()


def test_micro_batches_and_their_seeds_do_not_depend_on_the_number_of_ranks() -> None:
    batches = plan(lengths_of(5000))
    alone = batches.micro_batches(7, 0, 1)
    for world_size in (2, 4):
        for rank in range(world_size):
            for mine in batches.micro_batches(7, rank, world_size):
                same = alone[mine.index]
                assert (mine.rows == same.rows).all()
                assert mine.seed == same.seed
    assert len({mine.seed for mine in alone}) == 4


def test_ranks_of_a_turn_have_like_lengths_and_padding_is_small() -> None:
    lengths = lengths_of(50_000)
    batches = plan(lengths, global_batch_size=64, micro_batch_size=8, bucket_steps=64)
    padded = tokens = spread = 0
    for step in range(1, 129):
        turns = [batches.micro_batches(step, rank, 4) for rank in range(4)]
        for together in zip(*turns, strict=True):
            longest = [int(lengths[micro.rows].max()) for micro in together]
            spread = max(spread, max(longest) - min(longest))
        rows = batches.rows(step).reshape(-1, 8)
        padded += int((lengths[rows].max(1) * 8).sum())
        tokens += int(lengths[rows].sum())
    assert 1 - tokens / padded < 0.02  # unsorted rows of these lengths would be 40 % padding
    assert spread <= 4


def test_steps_of_a_window_are_not_in_order_of_length() -> None:
    lengths = lengths_of(50_000)
    batches = plan(lengths, bucket_steps=64)
    means = [float(lengths[batches.rows(step)].mean()) for step in range(1, 65)]
    assert abs(np.corrcoef(np.arange(64), means)[0, 1]) < 0.5


def test_step_one_million_of_a_hundred_million_rows_opens_at_once() -> None:
    lengths = np.lib.stride_tricks.as_strided(np.array([64], np.uint16), shape=(100_000_000,), strides=(0,))
    started = time.perf_counter()
    rows = plan(lengths, global_batch_size=1024, bucket_steps=64).rows(1_000_000)
    assert len(np.unique(rows)) == 1024
    assert time.perf_counter() - started < 1.0


def test_collate_pads_to_the_longest_row_and_masks_the_rest(tiny: TinyWorld) -> None:
    rows = TokenRows(tiny.tokens, "train", pad_token_id=0)
    order = np.array([5, 0, 17])
    batch = rows.collate(order)
    lengths = rows.lengths[order]
    assert batch["input_ids"].shape == (3, lengths.max())
    assert batch["attention_mask"].sum(1).tolist() == lengths.tolist()
    assert (batch["input_ids"][batch["attention_mask"] == 0] == 0).all()
    for index, row in enumerate(order):
        expected = rows._rows[int(row) : int(row) + 1].column("input_ids")[0].as_py()
        assert batch["input_ids"][index, : lengths[index]].tolist() == expected
