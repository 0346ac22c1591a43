"""The law of spot checks against simulation-free references: Bayes by counting, and a numeric search of the optimum."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from models.inference.catalogue import CATALOGUE
from policies.verification.law import Redundancy, cheapest, check_cost, found_within, lying, spot_checks

SHAPE = CATALOGUE["llama-3.1-8b"].shape


def test_the_rate_is_where_a_search_finds_the_least_expense() -> None:
    """Checks and harm summed over every session, exactly, are least near the law's rate and hardly less elsewhere."""
    lies, harm, cost, found, horizon = 0.02, 50.0, 0.3, 0.99, 20_000

    def expense(rate: float) -> float:
        slipped = (1 - (1 - rate * found) ** horizon) / (rate * found)
        return rate * cost * horizon + lies * harm * slipped

    best = minimize_scalar(expense, bounds=(1e-5, 1.0), method="bounded", options={"xatol": 1e-9})
    chosen = spot_checks(lies, harm=harm, cost=cost, found=found, horizon=horizon)

    assert chosen.rate == pytest.approx(best.x, rel=0.01)
    assert expense(chosen.rate) <= 1.0001 * best.fun
    assert chosen.falsified == pytest.approx(1 / (chosen.rate * found))
    assert chosen.cost == pytest.approx(chosen.rate * cost)


@given(st.floats(0.001, 0.5), st.integers(0, 20), st.floats(0.0, 1.0))
def test_trust_is_earned_by_checks_that_were_passed(prior: float, passed: int, found: float) -> None:
    """Bayes' rule one check at a time gives the same, and a check that finds more earns more."""
    belief = prior
    for _ in range(passed):
        belief = belief * (1 - found) / (belief * (1 - found) + 1 - belief)

    assert lying(prior, passed, found) == pytest.approx(belief, abs=1e-12)
    assert lying(prior, passed, found) <= prior + 1e-12


def test_the_trusted_are_checked_less_but_never_below_the_floor() -> None:
    """Rates fall with every check that was passed, down to the floor."""
    rates = [
        spot_checks(lying(0.05, n, 0.5), harm=10, cost=1, found=0.99, horizon=100, floor=0.02).rate for n in range(20)
    ]

    assert rates == sorted(rates, reverse=True)
    assert rates[0] > 0.05
    assert rates[-1] == 0.02


def test_few_false_blocks_need_many_checks() -> None:
    """The chance of noticing is the complement of missing every time."""
    assert found_within(1, 1.0, 0.99) == pytest.approx(0.99)
    assert found_within(10, 0.1, 1.0) == pytest.approx(1 - 0.9**10)
    assert found_within(0, 0.5, 1.0) == 0.0


def test_a_recheck_reads_the_weights_once_where_decoding_read_them_for_every_token() -> None:
    """On 8 layers of an 8B model, 512 + 512 tokens: about half the operations, a few hundredths of the bytes."""
    cost = check_cost(SHAPE, 8, 512, 512, from_tokens=False)

    assert 0.4 < cost.flops / cost.served_flops < 0.6
    assert cost.moved_bytes < 0.01 * cost.served_bytes
    # By hand: 1,023 positions of 8 layers, 8 key heads of 128, keys and values of 2 bytes; 64 blocks of 1,056 bytes.
    assert cost.kept_bytes == 1023 * 8 * 2 * 8 * 128 * 2 + 64 * 1056
    assert cost.sent_bytes > check_cost(SHAPE, 8, 512, 512, from_tokens=True).sent_bytes


def test_the_cheapest_way_that_notices_enough_is_taken() -> None:
    """Costs count in proportion to the rate that each way needs; what no way notices is refused."""
    recheck, twice = Redundancy("recheck", 0.1, 0.99), Redundancy("run twice", 1.0, 1.0)

    assert cheapest([recheck, twice], 0.5) == (recheck, 0.5 / 0.99)
    assert cheapest([recheck, twice], 0.995) == (twice, 0.995)
    with pytest.raises(ValueError, match=r"noticed is 0.995; allowed: above 0, up to 0.99"):
        cheapest([recheck], 0.995)


def test_numbers_that_no_law_has_are_refused() -> None:
    """One line names the number and what is allowed."""
    with pytest.raises(ValueError, match=r"lies is 2; allowed: 0 to 1"):
        spot_checks(2, harm=1, cost=1, found=1, horizon=1)
    with pytest.raises(ValueError, match="cost=0"):
        spot_checks(0.1, harm=1, cost=0, found=1, horizon=1)
