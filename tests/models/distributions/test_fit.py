"""Tests of models.distributions.fit: known laws are found again, censoring is allowed for, units stay together."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from models.distributions.families import TABLE
from models.distributions.fit import STANDARD, Sample, choose, distance, fit_law, folds, product_limit
from models.distributions.law import Law

RNG = np.random.default_rng(20260101)
MADE = {
    "log-normal": 20.0 * RNG.lognormal(0.0, 1.0, 2000),
    "Weibull": 100.0 * RNG.weibull(0.5, 2000),
    "exponential": 5.0 * RNG.standard_exponential(2000),
}


@pytest.mark.parametrize("name", MADE)
def test_the_law_behind_a_sample_is_chosen(name: str) -> None:
    """Of 2,000 values from a family, that family is chosen, and lies within the distance that chance allows."""
    found = choose(Sample.of(MADE[name], np.arange(2000) % 50))

    assert found.name == name
    assert found.ks < 1.63 / np.sqrt(2000)  # Kolmogorov's 1 % point


def test_what_no_family_describes_gets_a_table() -> None:
    """Two narrow heaps far apart are nobody's family: the table is chosen, and is nearer by far."""
    values = np.where(RNG.uniform(size=1000) < 0.5, RNG.normal(10.0, 0.5, 1000), RNG.normal(100.0, 2.0, 1000))
    found = choose(Sample.of(values, np.arange(1000) % 40))

    assert found.name == TABLE
    assert found.ks_units < found.ks_units_standard - 0.1


@pytest.mark.parametrize("name", [name for name in STANDARD if name != "gamma"])
def test_distance_is_scipys(name: str) -> None:
    """The distance of an uncensored sample is scipy's Kolmogorov-Smirnov statistic."""
    sample = Sample.of(MADE["Weibull"], np.arange(2000))
    law = fit_law(name, sample)
    assert law is not None

    if name == "normal":  # scipy's statistic against the law cut at 0
        assert distance(law, sample) <= stats.kstest(sample.values, law.cdf).statistic + 1e-12
    else:
        assert distance(law, sample) == pytest.approx(stats.kstest(sample.values, law.cdf).statistic, abs=1e-9)


def test_censored_exponential_has_its_closed_form() -> None:
    """The mean is the time under observation over the ends seen; the mean of those alone is far too short."""
    life, cut = 10.0 * RNG.standard_exponential(3000), 8.0 * RNG.uniform(size=3000)
    sample = Sample.of(np.minimum(life, cut), np.arange(3000), life > cut)
    law = fit_law("exponential", sample)
    assert law is not None

    assert law.parameters[0] == pytest.approx(10.0, rel=0.06)
    assert sample.values[~sample.censored].mean() < 4.0


def test_censored_weibull_is_found_again() -> None:
    """With two thirds of all lives cut off, shape and scale come out within a few standard errors."""
    life, cut = 100.0 * RNG.weibull(1.5, 3000), 90.0 * RNG.uniform(size=3000)
    law = fit_law("Weibull", Sample.of(np.minimum(life, cut), np.arange(3000), life > cut))
    assert law is not None

    assert law.parameters == pytest.approx((1.5, 100.0), rel=0.08)


def test_product_limit_by_hand() -> None:
    """Ends at 1, 3 and 4 with losses at 2 and 5: shares 1/5, 1/5 + 4/5 x 1/3, and so on."""
    sample = Sample.of([1.0, 2.0, 3.0, 4.0, 5.0], np.arange(5), [False, True, False, False, True])
    at, share = product_limit(sample)

    assert at.tolist() == [1.0, 3.0, 4.0]
    assert share == pytest.approx([1 / 5, 7 / 15, 11 / 15])


def test_folds_never_part_a_unit() -> None:
    """No unit is both fitted and scored; of pairs, neither end is."""
    pairs = np.array([(a, b) for a in range(12) for b in range(a)])
    sample = Sample.of(np.ones(len(pairs)), pairs)

    for train, test in folds(sample, np.unique(pairs.astype(str))):
        assert not {*train.units.ravel()} & {*test.units.ravel()}


def test_zeros_are_a_share_of_their_own() -> None:
    """A fifth of zeros is kept as such, and the rest is fitted without them."""
    values = np.concatenate([np.zeros(500), MADE["log-normal"]])
    law = fit_law("log-normal", Sample.of(values, np.arange(2500)))
    assert law is not None

    assert law.zero == pytest.approx(0.2)
    assert law.parameters == pytest.approx((20.0, 1.0), rel=0.06)


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_a_value_that_cannot_be_is_named(value: float) -> None:
    """Negative and infinite values are refused with the value."""
    with pytest.raises(ValueError, match=f"values hold {value}"):
        Sample.of([1.0, value], ["a", "b"])


def test_distance_of_a_wrong_law_is_seen() -> None:
    """A law with twice the median is off by what its own distribution function says."""
    law = Law("exponential", (10.0,))
    sample = Sample.of(MADE["exponential"], np.arange(2000))

    assert distance(law, sample) == pytest.approx(0.25, abs=0.03)  # max of e^-x/2 - e^-x is 1/4
