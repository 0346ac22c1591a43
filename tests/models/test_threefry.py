"""Tests of models.threefry: its three forms against the published vectors and against one another."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import threefry

WORDS = st.integers(0, 2**32 - 1)

# Random123 (Salmon et al. 2011), file kat_vectors, lines "threefry2x32 20": counter, key, result.
KNOWN = [
    ((0x00000000, 0x00000000), (0x00000000, 0x00000000), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    ((0x243F6A88, 0x85A308D3), (0x13198A2E, 0x03707344), (0xC4923A9C, 0x483DF7A0)),
]


@pytest.mark.parametrize(("counter", "key", "result"), KNOWN)
def test_published_vectors(counter: tuple[int, int], key: tuple[int, int], result: tuple[int, int]) -> None:
    """The published known answers come out, for one pair and for arrays."""
    counters = np.full(3, counter[0], dtype=np.uint32), np.array(counter[1], dtype=np.uint32)

    assert threefry.one_pair(key, *counter) == result
    assert [words.tolist() for words in threefry.arrays(key, *counters)] == [[word] * 3 for word in result]
    assert [words.tolist() for words in threefry.traced(key, *counters, np)] == [[word] * 3 for word in result]


@given(key=st.tuples(WORDS, WORDS), entity=st.lists(WORDS, min_size=1, max_size=9), index=WORDS)
def test_one_pair_and_arrays_give_the_same_words(key: tuple[int, int], entity: list[int], index: int) -> None:
    """A pair of counters has the same words alone and among others, and the counters given are left as they were."""
    c0, c1 = np.array(entity, dtype=np.uint32), np.array([[index], [7]], dtype=np.uint32)
    words = threefry.arrays(key, c0, c1)

    assert [tuple(pair) for pair in zip(words[0][0].tolist(), words[1][0].tolist(), strict=True)] == [
        threefry.one_pair(key, one, index) for one in entity
    ]
    assert c0.tolist() == entity
    assert c1.tolist() == [[index], [7]]


def test_jax_gives_the_same_words() -> None:
    """The form that JAX traces draws the words of the form that NumPy runs."""
    jax = pytest.importorskip("jax", reason="jax is not installed")
    with jax.enable_x64(True):
        entity, index = np.arange(1000, dtype=np.uint32), np.arange(7, dtype=np.uint32)[:, None]
        words = threefry.arrays((11, 12), entity, index)
        jitted = jax.jit(lambda a, b: threefry.traced((11, 12), a, b, jax.numpy))(entity, index)

        assert np.array_equal(words[0], jitted[0])
        assert np.array_equal(words[1], jitted[1])
