"""Least squares by gradient: estimates and their errors against closed forms."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from experiments.compose import UsageError
from experiments.fitting import fit, independent_count

jnp = pytest.importorskip("jax.numpy")


def line(noise: float, seed: int = 3, count: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y = 2 + 3 x + noise."""
    x = np.linspace(0.0, 1.0, count)
    return x, 2.0 + 3.0 * x + noise * np.random.default_rng(seed).standard_normal(count)


def test_a_line_has_the_errors_of_linear_regression() -> None:
    """Estimates and standard errors of a line are those of numpy.polyfit."""
    x, y = line(0.1)

    found = fit(lambda p: p[0] + p[1] * x - y, [0.0, 0.0], ["a", "b"])

    slope_first, covariance = np.polyfit(x, y, 1, cov=True)
    assert found.values == pytest.approx(slope_first[::-1], rel=1e-9)
    assert found.standard_errors == pytest.approx(np.sqrt(np.diag(covariance))[::-1], rel=1e-6)
    assert found.converged


def test_repeated_rows_do_not_narrow_the_errors() -> None:
    """Ten copies of every row, counted as correlated, give the errors of one copy (to the degrees of freedom)."""
    x, y = line(0.1)
    once = fit(lambda p: p[0] + p[1] * x - y, [0.0, 0.0], ["a", "b"])
    xs, ys = np.repeat(x, 10), np.repeat(y, 10)

    many = fit(lambda p: p[0] + p[1] * xs - ys, [0.0, 0.0], ["a", "b"], independent=x.size)

    assert many.standard_errors == pytest.approx(once.standard_errors, rel=1e-6)


def test_a_parameter_that_the_data_do_not_see_has_no_error() -> None:
    """Its standard error is infinite, unless a penalty says something of it."""
    x, y = line(0.1)

    blind = fit(lambda p: p[0] + p[1] * x - y + 0.0 * p[2], [0.0, 0.0, 1.0], ["a", "b", "c"])
    held = fit(lambda p: p[0] + p[1] * x - y, [0.0, 0.0, 1.0], ["a", "b", "c"], penalty=lambda p: p[2:] - 5.0)

    assert np.isinf(blind.standard_errors[2])
    assert held.values[2] == pytest.approx(5.0)
    assert np.isfinite(held.standard_errors[2])
    assert held.residuals.size == x.size


def test_a_law_that_is_not_finite_is_said_so() -> None:
    """A start from which nothing can be computed is refused."""
    with pytest.raises(ValueError, match="not finite at the start"):
        fit(lambda p: jnp.log(p), [-1.0], ["a"])


def test_correlated_rows_are_worth_what_theory_says() -> None:
    """A first-order autoregression with coefficient r is worth n (1 - r) / (1 + r) independent rows."""
    rng, r, count = np.random.default_rng(5), 0.9, 20_000
    shocks = rng.standard_normal(count)
    series = np.empty(count)
    series[0] = shocks[0]
    for row in range(1, count):
        series[row] = r * series[row - 1] + shocks[row]

    assert independent_count([series]) == pytest.approx(count * (1 - r) / (1 + r), rel=0.2)
    assert independent_count([series, series]) == pytest.approx(2 * independent_count([series]), rel=1e-9)


def test_a_fit_without_a_jax_that_loads_is_refused_in_one_line(broken: Callable[[str], None]) -> None:
    """One that is installed and broken is as good as missing: its own words, and what to install."""
    broken("jax")

    with pytest.raises(UsageError, match=r"fits need jax: libjax\.so is of another version: pip install .*\[jax\]'$"):
        fit(lambda p: p, [0.0], ["a"])
