"""Tests of models.draws against SciPy and JAX."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.special import ndtri

from models import draws

WORDS = st.integers(0, 2**32 - 1)


def test_jax_uniforms_have_the_same_bits() -> None:
    """NumPy and JAX, eager and jitted, draw identical uniforms, and normals to rounding."""
    jax = pytest.importorskip("jax", reason="jax is not installed")
    with jax.enable_x64(True):
        xp = jax.numpy
        entity, index = np.arange(1000), np.arange(7)[:, None]
        ours = draws.uniform(5, "plug", entity, index)
        theirs = jax.jit(lambda a, b: draws.uniform(5, "plug", a, b, xp))(entity, index)
        normal = draws.normal(5, "plug", entity, index, xp)

        assert np.array_equal(ours, theirs)
        assert np.allclose(draws.normal(5, "plug", entity, index), normal, rtol=1e-13, atol=1e-14)


def test_jax_without_64_bit_floats_is_refused() -> None:
    """A namespace that silently gives float32 is an error, not a coarser draw."""
    jax = pytest.importorskip("jax", reason="jax is not installed")
    with (
        jax.enable_x64(False),
        pytest.warns(UserWarning, match="float64"),
        pytest.raises(ValueError, match="float64 came out as"),
    ):
        draws.uniform(1, "plug", np.arange(3), 0, jax.numpy)


@given(seed=st.integers(0, 2**64 - 1), entity=WORDS, index=WORDS)
def test_a_draw_does_not_depend_on_its_neighbours(seed: int, entity: int, index: int) -> None:
    """A value drawn alone equals the same value drawn within a chunk."""
    others = np.array([0, entity, 2**32 - 1])

    chunk = draws.uniform(seed, "a", others, index)

    assert chunk[1] == draws.uniform(seed, "a", entity, index)
    assert np.all((chunk >= 0.0) & (chunk < 1.0))


def test_purposes_and_seeds_are_apart() -> None:
    """Changing the seed, the purpose, or swapping entity and index gives unrelated values."""
    base = draws.uniform(1, "a", np.arange(5000), 3)
    others = [
        draws.uniform(2, "a", np.arange(5000), 3),
        draws.uniform(1, "b", np.arange(5000), 3),
        draws.uniform(1, "a", 3, np.arange(5000)),
        draws.uniform(2**40 + 1, "a", np.arange(5000), 3),
    ]

    assert all(abs(np.corrcoef(base, other)[0, 1]) < 0.06 for other in others)
    assert all(np.mean(base == other) < 0.01 for other in others)


@pytest.mark.parametrize(
    ("sample", "law"),
    [
        (lambda i: draws.uniform(9, "u", i, 0), stats.uniform()),
        (lambda i: draws.normal(9, "n", i, 0), stats.norm()),
        (lambda i: draws.exponential(9, "e", i, 0), stats.expon()),
        (lambda i: draws.lognormal(9, "l", i, 0, 3.0, 0.7), stats.lognorm(0.7, scale=3.0)),
    ],
    ids=["uniform", "normal", "exponential", "lognormal"],
)
def test_draws_follow_their_law(sample: Any, law: Any) -> None:
    """Twenty thousand draws pass a Kolmogorov-Smirnov test against SciPy's law."""
    assert stats.kstest(sample(np.arange(20_000)), law.cdf).pvalue > 1e-3


@given(st.floats(2.0**-53, 1.0 - 2.0**-53))
def test_normal_quantile_is_scipys(probability: float) -> None:
    """The normal quantile agrees with SciPy's to 1e-13 over the whole range that is drawn from."""
    assert draws.normal_quantile(np.float64(probability), np) == pytest.approx(ndtri(probability), rel=1e-13, abs=1e-15)


@given(high=st.integers(1, 2**32), entity=WORDS)
def test_integers_stay_below_high(high: int, entity: int) -> None:
    """Integers lie in [0, high)."""
    assert 0 <= int(draws.integers(3, "i", entity, 0, high)) < high


def test_integers_are_even() -> None:
    """Every value of a small range is drawn about as often (chi-square)."""
    counts = np.bincount(draws.integers(3, "i", np.arange(60_000), 1, 6))

    assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: draws.uniform(-1, "a", 0, 0), "seed is -1"),
        (lambda: draws.uniform(2**64, "a", 0, 0), "seed is"),
        (lambda: draws.uniform(1, "a", -3, 0), "entity is -3"),
        (lambda: draws.uniform(1, "a", 0, 2**32), "index is 4294967296"),
        (lambda: draws.uniform(1, "a", 0.5, 0), "entity is 0.5"),
        (lambda: draws.integers(1, "a", 0, 0, 0), "high is 0"),
    ],
)
def test_what_is_not_allowed_is_named(call: Callable[[], object], text: str) -> None:
    """Values out of range raise an error that names the field and the value."""
    with pytest.raises(ValueError, match=text):
        call()
