"""The bound on a committee's failure against exact counting, and the real choice against the bound."""

from __future__ import annotations

from fractions import Fraction
from math import comb, inf

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from policies.commands import Facts
from policies.committee import Candidate, CommitteeError, faults, select
from policies.committee.bound import failure_probability, smallest, table
from policies.committee.check import faulty_of
from policies.committee.electoral import Electoral
from policies.config import CommitteeConfig
from policies.state.council import Elector

ANYBODY = CommitteeConfig(
    size=7, min_trust=0.0, min_stability=0.0, min_networks=1, min_vendors=1, min_regions=1, min_countries=1,
    site_max=100, within_faults=(),
)  # fmt: skip
ELECTOR = Elector("d", 90, 90, Facts("tee", "n", "v", "r", "c"))
CONFIDENCE = 0.999
"""Of each interval below: one honest simulation in a thousand would fall outside; the draws are keyed, so it either
always does or never."""


@given(st.integers(1, 60), st.data())
def test_all_alike_the_bound_is_the_hypergeometric_tail(fleet: int, data: st.DataObject) -> None:
    """Exact counting in rational numbers: all committees with more than f faulty members over all committees."""
    faulty, n = data.draw(st.integers(0, fleet)), data.draw(st.integers(1, fleet))
    bad = sum(comb(faulty, k) * comb(fleet - faulty, n - k) for k in range(faults(n) + 1, n + 1))

    assert failure_probability(fleet, faulty, n) == pytest.approx(float(Fraction(bad, comb(fleet, n))), rel=1e-9)


@pytest.mark.parametrize("odds", [0.2, 0.5, 1.0, 1.5, 4.0])
@pytest.mark.parametrize(("fleet", "faulty", "n"), [(12, 4, 4), (20, 6, 7), (30, 8, 10), (9, 3, 4)])
def test_with_tickets_the_bound_is_that_of_drawing_one_after_another(
    fleet: int, faulty: int, n: int, odds: float
) -> None:
    """Seat by seat, in rational numbers: a faulty device is next with its share of the tickets that are left."""
    weight = Fraction(odds).limit_denominator(1000)
    state = {0: Fraction(1)}  # faulty members so far to probability
    for seat in range(n):
        after: dict[int, Fraction] = {}
        for bad, probability in state.items():
            left_bad, left_good = (faulty - bad) * weight, fleet - faulty - (seat - bad)
            chance = left_bad / (left_bad + left_good)
            after[bad + 1] = after.get(bad + 1, Fraction(0)) + probability * chance
            after[bad] = after.get(bad, Fraction(0)) + probability * (1 - chance)
        state = after

    expected = sum(probability for bad, probability in state.items() if bad > faults(n))
    assert failure_probability(fleet, faulty, n, odds) == pytest.approx(float(expected), rel=1e-6, abs=1e-12)


def device(k: int, trust: float) -> Candidate:
    """A device with its own network, and so on."""
    return Candidate(f"d{k}", trust, 1.0, f"net{k}", "v", "r", "c")


@pytest.mark.parametrize(
    ("honest_trust", "faulty_trust"), [(0.1, 0.1), (0.4, 0.1), (0.1, 0.2)], ids=["blind", "informative", "deceived"]
)
def test_the_choice_itself_fails_as_often_as_the_bound_says(honest_trust: float, faulty_trust: float) -> None:
    """4000 epochs of a fleet of 40 with 10 faulty, committees of 7: the computed probability is in the interval.

    Trust that tells nothing gives the plain tail, trust that is informative less, trust that was deceived more.
    """
    fleet = [device(k, faulty_trust if k < 10 else honest_trust) for k in range(40)]
    faulty = {f"d{k}" for k in range(10)}
    epochs = 4000
    failed = sum(
        len(faulty.intersection(select(fleet, ANYBODY, epoch, b"the beacon of all").members)) > 2
        for epoch in range(epochs)
    )

    computed = failure_probability(40, 10, 7, faulty_trust / honest_trust)
    interval = binomtest(failed, epochs).proportion_ci(CONFIDENCE)  # Clopper-Pearson
    assert interval.low <= computed <= interval.high
    assert (computed < failure_probability(40, 10, 7)) == (faulty_trust < honest_trust)


def test_faulty_devices_of_one_network_never_outnumber_f_whatever_their_share() -> None:
    """With 60 % of the fleet in one network that is faulty as a whole, a blind choice fails mostly, this one never."""
    fleet = [
        Candidate(f"d{k}", 1.0, 1.0, "bad" if k < 60 else f"net{k}", "v", f"r{k}", "c") for k in range(100)
    ]  # fmt: skip
    rules = CommitteeConfig(size=7, min_vendors=1, min_countries=1)
    bad = {f"d{k}" for k in range(60)}

    worst = max(
        len(bad.intersection(select(fleet, rules, epoch, b"the beacon of all").members)) for epoch in range(300)
    )
    assert failure_probability(100, 60, 7) > 0.9
    assert worst == 2


@pytest.mark.parametrize(("share", "target"), [(0.05, 1e-6), (0.1, 1e-3), (0.2, 1e-3)])
def test_the_smallest_committee_meets_its_target_and_the_next_smaller_does_not(share: float, target: float) -> None:
    """The table's rows hold what they say."""
    (row,) = table(500, [share], [target])

    assert row.f == faults(row.n)
    assert row.n == 3 * row.f + 1
    assert failure_probability(500, round(share * 500), row.n) == row.probability <= target
    assert failure_probability(500, round(share * 500), row.n - 3) > target


@pytest.mark.parametrize(
    ("fleet", "share", "faulty"), [(25, 0.1, 3), (5, 0.1, 1), (100, 0.07, 7), (9, 1.0, 9), (9, 0.0, 0), (40, 1 / 3, 14)]
)
def test_a_share_that_is_no_whole_number_of_devices_is_rounded_up(fleet: int, share: float, faulty: int) -> None:
    """As the council rounds it: half a device more may be a liar more, and a bound with one fewer bounds nothing."""
    (row,) = table(fleet, [share], [0.999_999]) if share < 1 / 3 else (None,)

    assert faulty_of(fleet, share) == faulty
    assert row is None or row.probability == failure_probability(fleet, faulty, row.n)
    assert Electoral(ANYBODY, share).choose([ELECTOR] * fleet, 0, bytes(16), ()).faulty == faulty


def test_a_third_of_liars_is_too_many() -> None:
    """No committee helps against a third of the fleet; the refusal says so, as it does for numbers out of range."""
    with pytest.raises(CommitteeError, match=r"faulty=34 of 100 devices: no committee of 3f \+ 1 fails with 0.001"):
        smallest(100, 34, 1e-3)
    few = {"faulty": 3, "n": 4}
    for wrong in ({"faulty": 101, "n": 4}, few | {"odds": 0.0}, few | {"odds": inf}, {"faulty": 3, "n": 101}):
        with pytest.raises(CommitteeError, match=r"allowed are|the fleet has 100"):
            failure_probability(100, **wrong)  # type: ignore[arg-type]
    with pytest.raises(CommitteeError, match="target=2"):
        smallest(100, 3, 2)
