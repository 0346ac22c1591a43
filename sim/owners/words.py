"""Threefry-2x32 in place: the words of `models.draws.threefry2x32` (a test compares them), at half its cost.

A crowd draws a thousand words at a time, where NumPy's cost of a call outweighs its work: hence no temporaries, and
the constants as ready arrays.
"""

from __future__ import annotations

import numpy as np

_TURNS = ((13, 15, 26, 6), (17, 29, 16, 24))  # as in models.draws
_PARITY = 0x1BD11BDA
_MASK = 0xFFFFFFFF
_BITS = [np.array(bits, dtype=np.uint32) for bits in range(33)]


def words(key: tuple[int, int], entity: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return two uint32 words for each (entity, index), both uint32 of one shape."""
    keys = (key[0], key[1], key[0] ^ key[1] ^ _PARITY)
    x0 = np.add(entity, np.array(keys[0], dtype=np.uint32))
    x1 = np.add(index, np.array(keys[1], dtype=np.uint32))
    spare = np.empty_like(x0)
    for block in range(5):
        for bits in _TURNS[block % 2]:
            np.add(x0, x1, x0)
            np.left_shift(x1, _BITS[bits], spare)
            np.right_shift(x1, _BITS[32 - bits], x1)
            np.bitwise_or(x1, spare, x1)
            np.bitwise_xor(x1, x0, x1)
        np.add(x0, np.array(keys[(block + 1) % 3], dtype=np.uint32), x0)
        np.add(x1, np.array((keys[(block + 2) % 3] + block + 1) & _MASK, dtype=np.uint32), x1)
    return x0, x1
