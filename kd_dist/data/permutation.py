"""Random numbers and permutations that are functions of their seeds alone."""

import numpy as np


def mix(*values: int) -> int:
    """Hash a few integers to a 63-bit number (SplitMix64, Steele et al. 2014)."""
    state = 0
    for value in values:
        state = (state + value + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 31
    return state >> 1


def permuted(positions: np.ndarray, size: int, key: int, rounds: int = 6) -> np.ndarray:
    """Apply a random permutation of `range(size)` to positions, in time and memory that do not depend on `size`.

    A Feistel network permutes the range of the smallest square of a power of two that is at least `size`. It is applied
    again to results outside of `range(size)` (Black and Rogaway 2002, "Ciphers with arbitrary finite domains").

    Args:
        positions: integers below `size`.
        key: selects the permutation.
    """
    half_bits = max(1, ((size - 1).bit_length() + 1) // 2)
    keys = [np.uint64(mix(key, number)) for number in range(rounds)]
    result = _feistel(positions.astype(np.uint64), half_bits, keys)
    while (outside := result >= size).any():
        result[outside] = _feistel(result[outside], half_bits, keys)
    return result.astype(np.int64)


def _feistel(values: np.ndarray, half_bits: int, keys: list[np.uint64]) -> np.ndarray:
    bits, low = np.uint64(half_bits), np.uint64((1 << half_bits) - 1)
    left, right = values >> bits, values & low
    for key in keys:
        hashed = (right + key) * np.uint64(0x9E3779B97F4A7C15)
        hashed = (hashed ^ (hashed >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
        left, right = right, left ^ ((hashed ^ (hashed >> np.uint64(32))) & low)
    return (left << bits) | right
