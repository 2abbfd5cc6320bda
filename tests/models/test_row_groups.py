"""Rows that stay go on in full groups that waste little on padding."""

import numpy as np
import pytest
import torch

from kd_dist.models.row_groups import Group, _cut_by_length, regroup


@pytest.mark.parametrize("group_cost", [0, 2, 1000])
@pytest.mark.parametrize("size", [1, 3, 32])
def test_groups_are_cut_where_padding_would_cost_more_than_another_group(size: int, group_cost: int) -> None:
    lengths = np.sort(np.random.default_rng(0).integers(1, 12, 40))[::-1]
    runs = list(_cut_by_length(np.arange(40), lengths, size, group_cost))
    assert np.concatenate(runs).tolist() == list(range(40))
    assert all(1 <= len(run) <= size for run in runs)
    padding = [int((lengths[run[0]] - lengths[run]).sum()) for run in runs]
    assert max(padding) <= group_cost
    for run, padded, following in zip(runs, padding, runs[1:], strict=False):  # it could not have held one row more
        assert len(run) == size or padded + lengths[run[0]] - lengths[following[0]] > group_cost


def group(numbers: list[int], lengths: list[int]) -> Group:
    """Rows whose states are their number at every token, and -1 at padding."""
    numbers_B, lengths_B = np.array(numbers), np.array(lengths)
    hidden_BSD = torch.full((len(numbers), max(lengths), 2), -1.0)
    for row, length in enumerate(lengths):
        hidden_BSD[row, :length] = numbers[row]
    return Group.of(numbers_B, lengths_B, hidden_BSD)


def test_each_row_keeps_its_states_whatever_group_it_comes_into() -> None:
    groups = [group([0, 1, 2], [5, 3, 3]), group([3, 4, 5], [6, 2, 1])]
    stays = np.array([True, False, True, True, False, True])
    found = list(regroup(groups, stays, size=3))
    assert sorted(number for one in found for number in one.numbers_B) == [0, 2, 3, 5]
    for one in found:
        assert one.hidden_BSD.shape[1] == one.lengths_B.max()
        for row, (number, length) in enumerate(zip(one.numbers_B, one.lengths_B, strict=True)):
            assert one.hidden_BSD[row, :length].unique().tolist() == [number]


def test_the_longest_rows_go_together() -> None:
    found = list(regroup([group([0, 1, 2, 3], [1, 4, 2, 3])], np.ones(4, dtype=bool), size=2))
    assert [sorted(one.numbers_B.tolist()) for one in found] == [[1, 3], [0, 2]]


def test_rows_of_one_length_need_no_mask() -> None:
    assert group([0, 1], [3, 3]).mask_BS is None
    mask_BS = group([0, 1], [3, 1]).mask_BS
    assert mask_BS is not None
    assert mask_BS.tolist() == [[True, True, True], [True, False, False]]
