"""Adversaries around a Cell: what leaves and what comes in is changed as promised, and nothing before their time."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from policies import port as p
from policies.jobs import Done, Lost, Outcome, Progress
from policies.wire import encode
from scenarios.adversaries import ADVERSARIES, LIES

_outcome: Any = msgspec.msgpack.Decoder(Outcome).decode  # type: ignore[arg-type]
EFFECTS = (
    (p.SEND, "worker", "n1", b"x"), (p.REPLY, "gateway", "c", "op", b"x", True), (p.DECIDE, "worker", "k", b"x"),
    (p.SET_TIMER, "worker", "t", 5, 1), (p.SAVE, "worker", 1, ()), (p.SUBMIT, "worker", 1, b"x"),
)  # fmt: skip


class Inner:
    """Stands in for a Cell: keeps its inputs, answers with one effect of most kinds, and signs twice a step."""

    def __init__(self) -> None:
        self.given: list[Any] = []
        self.crypto_ops = 0

    def step(self, now: int, wall: int, given: tuple[Any, ...]) -> tuple[Any, ...]:
        self.given.append(given)
        self.crypto_ops += 2
        return EFFECTS


@pytest.mark.parametrize("behaviour", sorted(ADVERSARIES))
def test_an_adversary_is_honest_before_its_time_and_pays_for_its_signatures(behaviour: str) -> None:
    """Until ``from_ns`` inputs and effects pass unchanged; the cost of signing is the Cell's, counted once."""
    inner = Inner()
    liar = ADVERSARIES[behaviour](inner, 100)
    done = (p.JOB, "worker", 1, encode(Done("right", 5, 7)))

    assert liar.step(99, 0, done) == EFFECTS
    assert inner.given == [done]
    assert liar.crypto_ops == 2
    liar.crypto_ops = 0  # the world has charged it
    liar.step(99, 0, done)
    assert (liar.crypto_ops, inner.crypto_ops) == (2, 0)


def test_a_silent_node_works_on_and_says_nothing() -> None:
    """From its time on sends and replies are dropped, everything else remains."""
    inner = Inner()
    silent = ADVERSARIES["silent"](inner, 100)

    assert silent.step(100, 0, (p.TIMER, "worker", "t", 1)) == EFFECTS[2:]
    assert inner.given == [(p.TIMER, "worker", "t", 1)]


def test_a_liar_replaces_outputs_and_only_outputs() -> None:
    """A session's output is replaced by another of the same form, always the same one; the rest passes."""
    inner = Inner()
    liar = ADVERSARIES[LIES](inner, 100)
    passing = [Progress(3), Lost("gone", "n1"), Done("", 0, 0, b"plan")]
    for outcome in (Done("right", 5, 7), Done("right", 5, 7), Done("other", 5, 7), *passing):
        assert liar.step(100, 0, (p.JOB, "worker", 1, encode(outcome))) == EFFECTS
    liar.step(100, 0, (p.MESSAGE, "worker", "n1", b"x"))

    first, second, third, *rest = [_outcome(given[3]) for given in inner.given[:-1]]
    assert first == second
    assert len({first.output, third.output, "right", "other"}) == 4
    assert (len(first.output), first.tokens, first.first_token_ns) == (40, 5, 7)
    assert rest == passing
    assert inner.given[-1] == (p.MESSAGE, "worker", "n1", b"x")
