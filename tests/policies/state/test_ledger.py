"""The ledger against a bookkeeper that keeps every posting, and the rewards against the documented table."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.commands import Pay, Payment, Receipt
from policies.jobs import Stage
from policies.state import VillageState
from policies.state.ledger import MICRO, MINT, SUPPLY_MAX, Ledger
from policies.state.rewards import rewards
from policies.wire import encode
from sim.keys import KeyRing
from tests.policies.strategies import names

payments = st.builds(Payment, names | st.just(MINT), names | st.just(MINT), st.integers(-5, 60), st.integers(0, 4))
moves = st.one_of(payments, st.lists(st.tuples(names, st.integers(-3, 50)), max_size=3))


@given(st.lists(moves, max_size=30))
def test_the_books_balance_whatever_is_posted(history: list[Payment | list[tuple[str, int]]]) -> None:
    """The naive bookkeeper adds up all that was posted: same balances, sum zero, no overdraft, numbers without gap."""
    ledger, posted, paid = Ledger(), [], []
    for move in history:
        if isinstance(move, Payment):
            if ledger.pay(move):
                posted += [(move.source, -move.micro_credits), (move.to, move.micro_credits)]
                paid.append((move.source, move.number))
        elif ledger.reward("reward", move):
            posted += [*move, (MINT, -sum(amount for _, amount in move))]
        assert ledger.wrong() == ""

    expected: dict[str, int] = {}
    for account, amount in posted:
        expected[account] = expected.get(account, 0) + amount
    assert {k: v for k, v in ledger.balances.items() if v} == {k: v for k, v in expected.items() if v}
    assert all([n for who, n in paid if who == node] == list(range(1, count + 1)) for node, count in
               ledger.numbers.items())  # fmt: skip


@given(st.lists(st.tuples(names, st.integers(-5, 5)), min_size=1, max_size=4))
def test_what_does_not_sum_to_zero_is_not_posted(entries: list[tuple[str, int]]) -> None:
    """Double entry: an unbalanced posting changes nothing at all."""
    ledger = Ledger()
    ledger.reward("first", [("a", 9), ("b", 9), ("c", 9), ("d", 9)])
    before = ledger.saved()

    posted = ledger.post("entries", entries)

    assert posted == (ledger.saved() != before)
    assert not (posted and sum(amount for _, amount in entries))


def test_nothing_is_minted_beyond_the_documented_supply() -> None:
    """The last micro-credit may be minted, the next may not."""
    ledger = Ledger()

    assert ledger.reward("all", [("a", SUPPLY_MAX)])
    assert not ledger.reward("more", [("a", 1)])
    assert ledger.supply == SUPPLY_MAX


def test_a_payment_is_signed_by_the_payer_and_pays_once() -> None:
    """A forged one, a replayed one, one out of order and an overdraft are refused; the signed one moves its amount."""
    ring, state = KeyRing(1), VillageState()
    state.credits.reward("reward", [("a", 100)])

    def pay(signer: str, amount: int, number: int) -> bool:
        payment = Payment("a", "b", amount, number)
        signed = Pay(payment, ring.signature(signer, encode(payment)))
        return state.apply(signed, ring.handle("k1").verify)

    assert not pay("b", 10, 1)
    assert not pay("a", 101, 1)
    assert not pay("a", 10, 2)
    assert pay("a", 10, 1)
    assert not pay("a", 10, 1)
    assert pay("a", 90, 2)
    assert state.balances == {"a": 0, "b": 100, MINT: -100}
    assert state.credits.earned == {"a": 100}


@pytest.mark.parametrize(
    ("earned", "members", "factor"),
    [
        (0, 9, Fraction(1)),
        (99.9, 50, Fraction(1)),
        (100, 50, Fraction(6, 5)),
        (500, 50, Fraction(3, 2)),
        (2000, 50, Fraction(2)),
        (10_000, 50, Fraction(3)),
        (0, 4, Fraction(2)),
        (0, 1, Fraction(5)),
    ],
)
def test_an_hour_of_compute_pays_as_documented(earned: float, members: int, factor: Fraction) -> None:
    """10 credits an hour, times tier and scarcity; the verifier, who starts at the lowest tier, has twice that."""
    scarcity = max(Fraction(1), Fraction(10, members + 1))
    hour = Receipt("c", "1", "out", 360_000, (Stage("a", 0, 1),))
    other = Receipt("c", "1", "out", 360_000, (Stage("b", 0, 1),))

    paid = rewards(hour, other, {"a": int(earned * MICRO)}, members)

    assert paid == (("a", 10 * MICRO * factor), ("b", 20 * MICRO * scarcity))
