"""Threefry-2x32 with 20 rounds, written three times: for one pair of counters, for NumPy arrays, for any namespace.

Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC'11. The words are the same bits
(a test compares them with the published vectors and with one another); what differs is what a call costs. Python's
integers draw one pair in a tenth of the time of 0-d arrays; NumPy's cost of a call outweighs its work on a thousand
words, hence no temporaries there and the constants as ready arrays.
"""

from __future__ import annotations

from typing import Any

import numpy as np

# Rotation distances and the key schedule's parity (Salmon et al. 2011, table 2 and section 4.2).
_TURNS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA
_MASK = 0xFFFFFFFF
_BITS = [np.array(bits, dtype=np.uint32) for bits in range(33)]

Key = tuple[int, int]
"""Two 32-bit words."""


def one_pair(key: Key, c0: int, c1: int) -> tuple[int, int]:
    """Return the two words of one pair of counters, all of them below 2**32."""
    keys = (key[0], key[1], key[0] ^ key[1] ^ _PARITY)
    x0, x1 = (c0 + keys[0]) & _MASK, (c1 + keys[1]) & _MASK
    for block in range(5):
        for bits in _TURNS[block % 2]:
            x0 = (x0 + x1) & _MASK
            x1 = ((x1 << bits) & _MASK | x1 >> (32 - bits)) ^ x0
        x0 = (x0 + keys[(block + 1) % 3]) & _MASK
        x1 = (x1 + keys[(block + 2) % 3] + block + 1) & _MASK
    return x0, x1


def arrays(key: Key, c0: np.ndarray, c1: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return two uint32 words for each pair of counters, both uint32 and broadcast against each other."""
    keys = (key[0], key[1], key[0] ^ key[1] ^ _PARITY)
    shape = np.broadcast_shapes(c0.shape, c1.shape)
    x0, x1, spare = (np.empty(shape, dtype=np.uint32) for _ in range(3))
    np.add(c0, np.array(keys[0], dtype=np.uint32), x0)
    np.add(c1, np.array(keys[1], dtype=np.uint32), x1)
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


def traced(key: tuple[Any, Any], c0: Any, c1: Any, xp: Any) -> tuple[Any, Any]:
    """Return the words in any array namespace; nothing is written in place, so that JAX can trace it."""
    k0, k1 = (xp.asarray(word, dtype=xp.uint32) for word in key)
    keys = (k0, k1, k0 ^ k1 ^ xp.asarray(_PARITY, dtype=xp.uint32))
    x0 = xp.asarray(c0, dtype=xp.uint32) + keys[0]
    x1 = xp.asarray(c1, dtype=xp.uint32) + keys[1]
    for block in range(5):
        for turn in _TURNS[block % 2]:
            x0 = x0 + x1
            left, right = (xp.asarray(bits, dtype=xp.uint32) for bits in (turn, 32 - turn))
            x1 = ((x1 << left) | (x1 >> right)) ^ x0
        x0 = x0 + keys[(block + 1) % 3]
        x1 = x1 + keys[(block + 2) % 3] + xp.asarray(block + 1, dtype=xp.uint32)
    return x0, x1
