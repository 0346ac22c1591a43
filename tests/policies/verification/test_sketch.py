"""Sketches keep lengths, cannot be prepared for, and say what two blocks are apart."""

from __future__ import annotations

from hashlib import shake_128

import numpy as np
import pytest
from scipy import stats

from policies.verification.sketch import (
    PROJECTIONS,
    digest_of,
    leaf_of,
    project,
    read_leaf,
    signs,
    sketch_error,
)


def block_of(seed: int, rows: int = 16, width: int = 96) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, width)).astype(np.float32)


def test_squared_lengths_follow_the_chi_square_law() -> None:
    """A projection's squared length over the vector's is a chi square over its degrees of freedom, as published."""
    vector = block_of(1, 1, 512)
    found = [
        float(np.sum(project(vector, signs(b"law", bytes([n % 256, n // 256]), 512)) ** 2) / np.sum(vector**2))
        for n in range(800)
    ]

    assert np.mean(found) == pytest.approx(1.0, abs=4 * np.sqrt(2 / PROJECTIONS / 800))
    assert stats.kstest(np.array(found) * PROJECTIONS, stats.chi2(PROJECTIONS).cdf).pvalue > 1e-3


def test_signs_are_shakes_and_change_with_block_and_context() -> None:
    """The stream is SHAKE-128's; another digest or context gives unrelated signs, about half of them equal."""
    one = signs(b"c", b"d" * 32, 64)

    assert set(np.unique(one)) == {-1.0, 1.0}
    assert one.shape == (64, PROJECTIONS)
    for other in (signs(b"c", b"e" * 32, 64), signs(b"x", b"d" * 32, 64)):
        assert 0.4 < np.mean(one == other) < 0.6
    assert shake_128(b"").hexdigest(4) == "7f9c2ba4"  # FIPS 202's value for the empty message


def test_what_cancels_under_known_signs_shows_under_the_blocks_own() -> None:
    """A difference that vanishes under the right block's signs is seen: the false block has signs of its own."""
    right = block_of(2)
    known = signs(b"c", digest_of(right), right.shape[1])
    noise = block_of(3)
    hidden = noise - noise @ known @ np.linalg.pinv(known.astype(np.float64)).astype(np.float32)
    false = right + hidden

    assert sketch_error(project(false, known), project(right, known), right) < 1e-5
    own = signs(b"c", digest_of(false), right.shape[1])
    assert sketch_error(project(false, own), project(right, own), right) > 0.3


def test_the_error_is_the_worst_positions_and_about_the_true_one() -> None:
    """One wrong position of sixteen counts in full, and the sketch shows its relative difference within a factor."""
    right = block_of(4)
    false = right.copy()
    false[5] *= 1.25
    onto = signs(b"c", digest_of(false), right.shape[1])

    assert 0.25 / 2.5 < sketch_error(project(false, onto), project(right, onto), right) < 0.25 * 2.5


def test_a_leaf_is_read_back_and_a_broken_one_refused() -> None:
    """Digest and sketch come back bit for bit; another length or a value that is not finite is one clear error."""
    block = block_of(6, 3)
    leaf = leaf_of(b"c", block)
    digest, sketch = read_leaf(leaf, 3)

    assert digest == digest_of(block)
    assert np.array_equal(sketch, project(block, signs(b"c", digest, block.shape[1])))
    with pytest.raises(ValueError, match="2 positions have 160"):
        read_leaf(leaf, 2)
    with pytest.raises(ValueError, match="not finite"):
        read_leaf(leaf[:-4] + np.float32(np.nan).tobytes(), 3)
