"""Numbers and permutations depend on their seeds alone, and on all of them."""

import numpy as np

from kd_dist.data.permutation import mix, permuted


def test_the_first_numbers_are_those_of_splitmix64():
    # The first output of Steele's generator with seeds 0 and 1, halved to 63 bits.
    assert mix(0) == 0xE220A8397B1DCDAF >> 1
    assert mix(1) == 0x910A2DEC89025CC1 >> 1


def test_numbers_depend_on_every_value_and_their_order():
    numbers = {mix(*values) for values in ((1,), (1, 0), (0, 1), (1, 2), (2, 1), (1, 2, 3), (1, 3, 2))}
    assert len(numbers) == 7
    bits = np.array([[mix(7, number) >> bit & 1 for bit in range(63)] for number in range(2000)])
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 0.06


def test_a_permutation_is_one_for_every_size_and_key():
    for size in (1, 2, 3, 17, 64, 65, 1000):
        orders = [permuted(np.arange(size), size, key).tolist() for key in range(4)]
        assert all(sorted(order) == list(range(size)) for order in orders)
        assert size < 17 or len(set(map(tuple, orders))) == 4


def test_positions_are_not_changed():
    positions = np.arange(50)
    permuted(positions, 50, 1)
    assert (positions == np.arange(50)).all()
