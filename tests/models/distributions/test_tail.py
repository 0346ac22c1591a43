"""The tail's fit against laws whose quantiles are known, and another library's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from models.distributions.tail import Tail, fit_tail, tail_bound


@pytest.mark.parametrize("shape", [0.0, 0.2])
def test_quantiles_are_those_of_the_law(shape: float) -> None:
    """Beyond a threshold the quantile is scipy's generalised Pareto one."""
    tail = Tail(2.0, 0.1, 0.5, shape)

    for exceeded in (0.1, 1e-2, 1e-6):
        assert tail.quantile(exceeded) == pytest.approx(stats.genpareto(shape, 2.0, 0.5).isf(exceeded / 0.1))


def test_a_pareto_tail_is_found_again() -> None:
    """From 200,000 values of a Pareto law, shape and a far quantile come back within a few hundredths."""
    values = stats.genpareto(0.25).rvs(200_000, random_state=np.random.default_rng(1))
    tail = fit_tail(values)

    assert tail.shape == pytest.approx(0.25, abs=0.04)
    assert tail.quantile(1e-4) == pytest.approx(stats.genpareto(0.25).isf(1e-4), rel=0.1)


def test_a_tail_with_an_end_is_taken_for_an_exponential_one() -> None:
    """Uniform values end at 1; the bound goes beyond, since an end that was seen binds nobody."""
    tail = fit_tail(np.random.default_rng(2).random(10_000))

    assert tail.shape == 0.0
    assert tail.quantile(1e-5) > 1.0


def test_the_bound_covers_as_often_as_it_says() -> None:
    """Over samples of a normal law, the 95 % bound on a far quantile lies above it nearly always."""
    true = stats.norm.isf(1e-5)
    bounds = [
        tail_bound(
            list(np.random.default_rng(seed).standard_normal((40, 25))), 1e-5, confidence=0.95, resamples=60, seed=seed
        )
        for seed in range(40)
    ]

    assert np.mean(np.array(bounds) > true) >= 0.95
    assert np.median(bounds) < 2 * true


def test_equal_values_have_no_tail_beyond_them() -> None:
    """Where nothing differs the bound is the value itself."""
    assert tail_bound([np.full(100, 3.0)] * 4, 1e-5, confidence=0.99, resamples=10, seed=1) == 3.0


def test_too_small_a_sample_is_refused() -> None:
    """A quarter of the sample must be thirty values, and a quantile inside the sample is not this law's."""
    with pytest.raises(ValueError, match="sample of 100: needed are 120 for a tail"):
        fit_tail(np.arange(100.0))
    with pytest.raises(ValueError, match=r"exceeded is 0.5; allowed: above 0, up to 0.1"):
        Tail(0.0, 0.1, 1.0, 0.0).quantile(0.5)
