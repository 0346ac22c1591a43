"""First crossings of a line plus exponentials, against dense sampling and SciPy's root finder."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from models.battery.crossing import first_fall

TERMS = st.lists(st.tuples(st.floats(-2.0, 2.0), st.floats(1e-4, 2.0)), min_size=1, max_size=4)


@settings(deadline=None, max_examples=200)
@given(st.floats(-1.0, 1.0), st.floats(-0.01, 0.01), TERMS, st.floats(1.0, 2000.0))
def test_the_first_fall_is_the_first_and_no_fall_is_missed(const, slope, terms, horizon):
    """No sample before the answer lies at or below 0 after one above it; at the answer f is 0 to rounding."""
    weights, rates = np.array([w for w, _ in terms]), np.array([r for _, r in terms])

    def f(t: float) -> float:
        return float(const + slope * t + (weights * np.exp(-rates * t)).sum())

    answer = first_fall(
        np.array([const]), np.array([slope]), weights[:, None], rates[:, None], np.array([horizon]), 1e-15
    )[0]
    times = np.concatenate([[0.0], np.geomspace(1e-4, horizon, 1500), np.linspace(0.0, horizon, 1500)])
    times = np.unique(times)
    levels = const + slope * times + (weights[:, None] * np.exp(-rates[:, None] * times)).sum(axis=0)
    falls = np.flatnonzero((levels[:-1] > 1e-12) & (levels[1:] < -1e-12))
    if np.isfinite(answer):
        assert 0.0 <= answer <= horizon
        assert abs(f(answer)) <= 1e-10
        assert f(0.0) > -1e-14 or (levels[times < answer] > 0.0).any()
    if falls.size:
        sampled = brentq(f, times[falls[0]], times[falls[0] + 1], xtol=1e-13)
        assert answer <= sampled + 1e-7 * (1.0 + sampled)


def test_known_crossings():
    """exp(-t) - 1/2 falls at log 2; a line at its root; two falls of one curve give the first; none gives inf."""
    one = np.ones(1)
    np.testing.assert_allclose(
        first_fall(-0.5 * one, 0 * one, one[None], one[None], 99 * one, 1e-15), np.log(2.0), rtol=1e-15
    )
    np.testing.assert_allclose(
        first_fall(3 * one, -0.5 * one, 0 * one[None], one[None], 99 * one, 1e-15), 6.0, rtol=1e-15
    )
    # 1 - 4 (e^-t - e^-2t) dips below 0 around log 2, where it is 0 by calculus; a little deeper and it falls before.
    weights, rates = np.array([[-4.2], [4.2]]), np.array([[1.0], [2.0]])
    root = np.log(2.0 / (1.0 + np.sqrt(1.0 - 4.0 / 4.2)))
    np.testing.assert_allclose(first_fall(one, 0 * one, weights, rates, 99 * one, 1e-15), root, rtol=1e-12)
    assert np.isinf(first_fall(one, 0 * one, weights * (3.9 / 4.2), rates, 99 * one, 1e-15)[0])
    # The dip, and a line that comes down through 0 long after it: the dip is first; without it the line is met.
    assert first_fall(one, -0.02 * one, weights * 1.2, rates, 99 * one, 1e-15)[0] < 1.0
    np.testing.assert_allclose(first_fall(one, -0.02 * one, weights * 0.5, rates, 99 * one, 1e-15), 50.0, rtol=1e-9)
    assert np.isinf(first_fall(3 * one, -0.5 * one, 0 * one[None], one[None], 5.9 * one, 1e-15)[0])


def test_a_start_at_zero_falls_at_once_or_not_at_all():
    """From 0 to rounding, on either side of it, a falling f has met it at 0; a rising one has not."""
    one = np.ones(1)
    for rounding in (-1e-16, 0.0, 1e-16):
        const, weight = (0.3 + rounding) * one, -0.3 * one[None]
        assert first_fall(const, -0.5 * one, weight, one[None], 9 * one, 1e-15)[0] <= 1e-12
        assert np.isinf(first_fall(const, 0.1 * one, weight, one[None], 9 * one, 1e-15)[0])
