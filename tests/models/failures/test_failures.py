"""Tests of models.failures against analytic cases: availability, bursts, hazards under load."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from models.distributions import Law
from models.failures import BURSTS, FITS, Bursts, availability, life_under_load, load_factor, sizes_of_bursts

WEIBULL = Law("Weibull", (1.7, 100.0))
U = (np.arange(200) + 0.5) / 200


def test_availability_of_exponential_laws_is_the_textbooks() -> None:
    """Mean up over mean up and down: 90 h and 10 h give nine tenths."""
    assert availability(Law("exponential", (90.0,)), Law("exponential", (10.0,))) == pytest.approx(0.9, abs=1e-3)


def test_sizes_of_bursts_by_hand() -> None:
    """Failures of one group within the window of the last are one burst; a member counts once, other groups apart."""
    group = np.array([0, 0, 0, 0, 1, 0])
    member = np.array([1, 2, 2, 3, 4, 1])
    time_h = np.array([0.0, 0.5, 0.9, 1.8, 0.2, 3.3])

    assert sizes_of_bursts(group, member, time_h, 1.0).tolist() == [3, 1, 1]


def test_a_burst_law_draws_its_shares_and_knows_its_beta() -> None:
    """Sizes come as often as the law says; beta is the share of failures that do not come alone."""
    law = Bursts((0.8, 0.1, 0.1), 1.0, "made up")
    drawn = law.size(1, "burst", np.arange(50_000), 0)

    assert np.bincount(drawn)[1:] / 50_000 == pytest.approx([0.8, 0.1, 0.1], abs=0.01)
    assert law.mean == pytest.approx(1.3)
    assert law.beta == pytest.approx(0.5 / 1.3)


@pytest.mark.parametrize(("factor", "shape"), [(1.0, 1.7), (3.0, 1.7), (0.2, 0.5)])
def test_a_constant_factor_is_proportional_hazards(factor: float, shape: float) -> None:
    """A Weibull life under a constant factor is a Weibull life with its scale divided by factor ** (1 / shape)."""
    life = life_under_load(Law("Weibull", (shape, 100.0)), U, [], [factor])
    reference = stats.weibull_min(shape, scale=100.0 * factor ** (-1.0 / shape))

    assert life == pytest.approx(reference.ppf(U), rel=1e-4)  # a fifth of the hazard asks for survivals of 1e-12


def test_a_change_of_load_changes_only_what_follows() -> None:
    """Exponential, mean 10; at 5 the load triples: survival to 7 is exp(-(5 + 3 x 2) / 10); no load, no failures."""
    law = Law("exponential", (10.0,))
    life = life_under_load(law, U, [5.0], [1.0, 3.0])
    early = 1.0 - np.exp(-0.5) > U

    assert life[early] == pytest.approx(law.quantile(U[early]))
    assert life_under_load(law, np.array([1.0 - np.exp(-1.1)]), [5.0], [1.0, 3.0]) == pytest.approx([7.0])
    assert life_under_load(law, np.array([1.0 - np.exp(-1.7)]), [5.0], [3.0, 1.0]) == pytest.approx([7.0])
    assert np.all(np.isinf(life_under_load(law, U[~early], [5.0], [1.0, 0.0])))


def test_load_multiplies_by_a_power() -> None:
    """Nominal load is 1; twice the load at exponent 2 is four times the hazard."""
    assert load_factor([1.0, 2.0, 0.0], 1.0, 2.0).tolist() == [1.0, 4.0, 0.0]


@pytest.mark.parametrize(
    ("until", "factors", "text"),
    [([1.0], [1.0], "1 of them; allowed: 2"), ([2.0, 1.0], [1.0] * 3, "allowed: rising"), ([], [-1.0], "is -1.0")],
)
def test_what_is_no_course_of_load_is_named(until: list[float], factors: list[float], text: str) -> None:
    """Too few factors, times that fall and negative factors are refused."""
    with pytest.raises(ValueError, match=text):
        life_under_load(WEIBULL, U, until, factors)


def test_logs_are_as_published() -> None:
    """Old Titan GPUs: a third fail in 2,081 days; disks and nodes fail in bursts, nodes more so."""
    titan = FITS["life.gpu-old.titan"]

    assert titan.censored > 10_000
    assert float(titan.law.cdf(365.0 * 2)) < 0.02  # the paper's survival of 0.99 at two years, batches together
    assert 0.25 < float(titan.law.cdf(2000.0)) < 0.45
    assert BURSTS["disk-enclosure.alpine"].beta < BURSTS["node-system.lanl"].beta < 0.5
