"""Tests of models.distributions.law: inverses against scipy's, tables, zeros, residual lives, keyed draws."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from models.distributions import FAMILIES, PROBABILITIES, TABLE, Law

LAWS = {
    "normal": (Law("normal", (50.0, 5.0)), stats.norm(50.0, 5.0)),
    "log-normal": (Law("log-normal", (3.0, 0.8)), stats.lognorm(0.8, scale=3.0)),
    "exponential": (Law("exponential", (7.0,)), stats.expon(scale=7.0)),
    "Weibull": (Law("Weibull", (0.5, 300.0)), stats.weibull_min(0.5, scale=300.0)),
    "log-logistic": (Law("log-logistic", (2.0, 9.0)), stats.fisk(2.0, scale=9.0)),
    "Burr XII": (Law("Burr XII", (2.0, 0.7, 9.0)), stats.burr12(2.0, 0.7, scale=9.0)),
}
STEPS = Law(TABLE, tuple(np.repeat([2.0, 5.0, 9.0], [20, 25, 20]).tolist()), zero=0.2)


def test_every_family_is_compared() -> None:
    """No family is left out of the comparison with scipy."""
    assert set(LAWS) == set(FAMILIES)


@pytest.mark.parametrize("name", LAWS)
def test_a_family_is_scipys(name: str) -> None:
    """Quantile and distribution function are those of scipy.stats, far tails included."""
    law, reference = LAWS[name]
    p = np.array([1e-9, 1e-3, 0.2, 0.5, 0.9, 0.999, 1.0 - 1e-9])
    x = np.maximum(reference.ppf(p), 0.0)

    assert law.quantile(p) == pytest.approx(x, rel=1e-7)
    assert law.cdf(x) == pytest.approx(reference.cdf(x), abs=1e-12)


@given(st.integers(0, 2**32 - 1), st.sampled_from([*LAWS, "table"]))
def test_a_quantile_rises_and_inverts_the_distribution_function(seed: int, name: str) -> None:
    """A larger probability never gives less, and at every quantile the law has at least that probability."""
    law = STEPS if name == "table" else LAWS[name][0]
    p = np.sort(np.random.default_rng(seed).uniform(1e-6, 1.0 - 1e-6, 40))
    x = law.quantile(p)

    assert np.all(np.diff(x) >= 0.0)
    assert np.all(law.cdf(x * (1.0 + 1e-9)) >= p - 1e-9)
    assert np.all(law.cdf(x * (1.0 - 1e-9), below=True) <= p + 1e-9)


def test_a_table_has_atoms_and_zeros() -> None:
    """Equal quantiles are a value with its own probability; a fifth of zeros is a fifth of draws."""
    drawn = STEPS.sample(3, "x", np.arange(20_000), 0)

    assert float((drawn == 0.0).mean()) == pytest.approx(0.2, abs=0.01)
    assert float((np.abs(drawn - 5.0) < 1e-9).mean()) == pytest.approx(0.8 * 24 / 60, abs=0.01)
    assert float(STEPS.cdf(0.0)) == 0.2
    assert float(STEPS.cdf(0.0, below=True)) == 0.0
    assert float(STEPS.cdf(9.0)) == 1.0


def test_what_is_not_reached_is_infinite() -> None:
    """A table of lives that covers a third of them gives infinity for the others."""
    law = Law(TABLE, tuple(np.linspace(1.0, 65.0, 65).tolist()), reach=1.0 / 3.0)

    assert np.isfinite(law.quantile(0.33))
    assert law.quantile(0.34) == np.inf
    assert float(law.cdf(1e9)) == pytest.approx(1.0 / 3.0)


def test_residual_life_of_an_exponential_has_no_age() -> None:
    """What is left of an exponential life does not depend on its age; of a Weibull life it is the conditional law."""
    u = np.array([0.1, 0.5, 0.9])

    assert LAWS["exponential"][0].remaining(20.0, u) == pytest.approx(-7.0 * np.log1p(-u))
    left = LAWS["Weibull"][0].remaining(100.0, 0.5)
    survival = stats.weibull_min(0.5, scale=300.0).sf
    assert survival(100.0 + left) / survival(100.0) == pytest.approx(0.5)


def test_nothing_is_older_than_a_table() -> None:
    """An age beyond the last quantile is refused with the age."""
    with pytest.raises(ValueError, match=r"age is 9\.0"):
        STEPS.remaining(9.0, 0.5)


@pytest.mark.parametrize("name", [*LAWS, "table"])
def test_numpy_and_jax_draw_the_same(name: str) -> None:
    """The same key gives the same value to a few units in the last place under both libraries."""
    jax = pytest.importorskip("jax")
    law = STEPS if name == "table" else LAWS[name][0]
    with jax.enable_x64(True):
        drawn = jax.jit(lambda who: law.sample(5, "x", who, 1, jax.numpy))(jax.numpy.arange(200))

        assert np.asarray(drawn) == pytest.approx(law.sample(5, "x", np.arange(200), 1), rel=1e-12)


@pytest.mark.parametrize(
    ("family", "parameters", "text"),
    [
        ("gauss", (1.0,), "family is 'gauss'"),
        ("Weibull", (1.0,), "1 parameters; allowed: 2"),
        ("Weibull", (-1.0, 2.0), r"shape is -1\.0"),
        (TABLE, tuple(np.linspace(2.0, 1.0, PROBABILITIES.size).tolist()), "quantiles fall"),
    ],
)
def test_what_is_no_law_is_named(family: str, parameters: tuple[float, ...], text: str) -> None:
    """A wrong family, number of parameters, sign or order is refused in one line."""
    with pytest.raises(ValueError, match=text):
        Law(family, parameters)
