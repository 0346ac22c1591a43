"""The tail's fit against laws whose quantiles are known, and another library's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from models.distributions.tail import Tail, fit_tail, tail_bound


def test_quantiles_are_those_of_a_pareto_law() -> None:
    """Beyond a threshold the quantile is scipy's Pareto one."""
    tail = Tail(2.0, 0.1, 0.25)

    for exceeded in (0.1, 1e-2, 1e-6):
        assert tail.quantile(exceeded) == pytest.approx(stats.pareto(4.0, scale=2.0).isf(exceeded / 0.1))


def test_a_pareto_tail_is_found_again() -> None:
    """From 100,000 values of a Pareto law, the index and a far quantile come back within a few hundredths."""
    values = stats.pareto(5.0).rvs(100_000, random_state=np.random.default_rng(1))
    tail = fit_tail(values)

    assert tail.inverse_index == pytest.approx(0.2, rel=0.04)
    assert tail.quantile(1e-5) == pytest.approx(stats.pareto(5.0).isf(1e-5), rel=0.1)


@pytest.mark.parametrize("sigma", [0.1, 0.4])
def test_a_lighter_tail_is_overestimated(sigma: float) -> None:
    """Of lognormal values fewer exceed the quantile than it says, and it is within a few times the true one."""
    values = stats.lognorm(sigma).rvs(10_000, random_state=np.random.default_rng(2))
    found, true = fit_tail(values).quantile(1e-6), stats.lognorm(sigma).isf(1e-6)

    assert true < found < true * np.exp(8 * sigma)


def test_the_bound_covers_as_often_as_it_says() -> None:
    """Over samples of a Pareto law in groups, the 95 % bound lies above the true quantile about as often."""
    law = stats.pareto(8.0)
    bounds = [
        tail_bound(
            list(law.rvs((40, 50), random_state=np.random.default_rng(seed))),
            1e-5, confidence=0.95, resamples=60, seed=seed,
        )
        for seed in range(60)
    ]  # fmt: skip

    assert np.mean(np.array(bounds) > law.isf(1e-5)) >= 0.88  # two standard errors below 0.95
    assert np.median(bounds) < 2 * law.isf(1e-5)


def test_equal_values_have_no_tail_beyond_them() -> None:
    """Where nothing differs the bound is the value itself."""
    assert tail_bound([np.full(100, 3.0)] * 4, 1e-5, confidence=0.99, resamples=10, seed=1) == 3.0


def test_what_has_no_tail_is_refused() -> None:
    """A quarter of the sample must be thirty values above 0, and a quantile inside the sample is not this law's."""
    with pytest.raises(ValueError, match="sample of 100: needed are 120 for a tail"):
        fit_tail(np.arange(1.0, 101.0))
    with pytest.raises(ValueError, match="threshold is 0; allowed: above 0"):
        fit_tail(np.zeros(200))
    with pytest.raises(ValueError, match=r"exceeded is 0.5; allowed: above 0, up to 0.1"):
        Tail(1.0, 0.1, 0.2).quantile(0.5)
