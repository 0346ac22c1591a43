"""The transports' checks, fed by hand: each fails at the announcement that breaks it, and at none before."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from policies.transport.messages import (
    EVERYONE,
    Accepted,
    Acknowledged,
    Dead,
    Delivered,
    Heard,
    Result,
    Routed,
    Tried,
)
from policies.wire import Message, encode
from scenarios.checks import Check, Checks
from scenarios.checks import transport as checks

L = "a>b@0/1"
ALL = "a>*@0/1"
Said = tuple[str, Message]
"""Who said what; the k-th thing is said at k s."""


def kept(*said: Said, check: Check) -> str:
    """Return what broke a check, "" if nothing did."""
    asked = Checks(check)
    for second, (node, message) in enumerate(said):
        asked.decided(second * 1_000_000_000, node, "", type(message).__name__.lower(), encode(message))
    asked.end(len(said) * 1_000_000_000)
    return check.broken


YES, NO = Result(L, "b", "radio", True, ""), Result(L, "b", "radio", False, "")
CASES: list[tuple[Check, Sequence[Said], str]] = [
    (checks.nothing_accepted_is_lost(""), [("a", Accepted(L, "k", "b"))], "a>b@0/1 began at t=0ns on a"),
    (checks.nothing_accepted_is_lost(""), [("a", Accepted(L, "k", "b")), ("a", Dead(L, "expired"))], ""),
    (checks.nothing_accepted_is_lost(""), [("b", Delivered(L, b"", False)), ("a", Accepted(L, "k", "b"))], ""),
    (checks.everything_arrives(""), [("a", Accepted(L, "k", "b")), ("a", Dead(L, "expired"))], "has not arrived"),
    (checks.what_is_given_up_has_a_reason(""), [("a", Dead(L, "expired"))], ""),
    (checks.what_is_given_up_has_a_reason(""), [("a", Dead(L, ""))], "a gives a>b@0/1 up and does not say why"),
    (checks.DeliveredOnce(""), [("b", Delivered(L, b"", False)), ("b", Delivered(L, b"", True))], ""),
    (checks.DeliveredOnce(""), [("b", Delivered(ALL, b"", False)), ("c", Delivered(ALL, b"", False))], ""),
    (checks.DeliveredOnce(""), [("b", Delivered(L, b"", False))] * 2, "t=1000000000ns: b delivers a>b@0/1"),
    (checks.AcknowledgedIsDelivered(""), [("b", Delivered(L, b"", True)), ("a", Acknowledged(L))], ""),
    (checks.AcknowledgedIsDelivered(""), [("a", Acknowledged(L)), ("b", Delivered(L, b"", False))], "t=0ns: a takes"),
    (checks.acknowledged_is_delivered_in_the_end(""), [("a", Acknowledged(L)), ("b", Delivered(L, b"", False))], ""),
    (checks.acknowledged_is_delivered_in_the_end(""), [("a", Acknowledged(L))], "which it never is"),
    (checks.EveryoneHears("", lambda origin: "abc"), [("a", Accepted(ALL, "k", EVERYONE)),
                                                      ("b", Delivered(ALL, b"", False))], "by 1 nodes: c"),
    (checks.EveryoneHears("", lambda origin: "ab"), [("a", Accepted(ALL, "k", EVERYONE)),
                                                     ("b", Delivered(ALL, b"", False))], ""),
    (checks.TriesBackOff("", 1.0, 2.0, 4), [("a", Tried(L, k)) for k in (1, 2)], ""),
    (checks.TriesBackOff("", 1.0, 2.0, 4), [("a", Tried(L, k)) for k in (1, 2, 3)], "t=2000000000ns: a tries a>b@0/1"),
    (checks.TriesBackOff("", 0.1, 0.5, 3), [("a", Tried(L, k)) for k in (1, 3)], ""),
    (checks.TriesBackOff("", 0.1, 0.5, 3), [("a", Tried(L, k)) for k in (1, 2, 3, 4)], "a counts try 4 of a>b@0/1"),
    (checks.TriesBackOff("", 0.1, 0.5, 3), [("a", Tried(L, 2))] * 2, "a counts try 2 of a>b@0/1 after 2"),
    (checks.GoesNotTooFar("", 2), [("c", Heard(L, "a")), ("d", Heard(L, "c"))], ""),
    (checks.GoesNotTooFar("", 2), [("c", Heard(L, "a")), ("d", Heard(L, "c")), ("b", Heard(L, "d"))], "on its hop 3"),
    (checks.BreakerRests("", 2, 3.0), [("a", NO), ("a", YES), ("a", NO), ("a", Routed(L, "b", "radio"))], ""),
    (checks.BreakerRests("", 2, 3.0), [("a", NO), ("a", NO), ("a", Routed(L, "b", "radio"))], "which has failed"),
    (checks.BreakerRests("", 2, 1.0), [("a", NO), ("a", NO), ("a", Routed(L, "b", "radio"))], ""),
    (checks.BreakerRests("", 2, 3.0), [("a", NO), ("a", NO), ("a", Routed(L, "b", "wire"))], ""),
]  # fmt: skip


@pytest.mark.parametrize(("check", "said", "why"), CASES)
def test_a_check_breaks_when_its_promise_is_broken_and_only_then(check: Check, said: Sequence[Said], why: str) -> None:
    """The line names the moment, the node and the letter."""
    broken = kept(*said, check=check)

    assert why in broken
    assert bool(broken) == bool(why)


def test_a_restarted_bus_may_try_at_once() -> None:
    """Its breakers were in memory: the new ones are closed, and other nodes' stay as they are."""
    check = checks.BreakerRests("", 2, 30.0)
    asked = Checks(check)
    for node in "ac":
        for _ in range(2):
            asked.decided(0, node, "", "result", encode(NO))
    asked.restarted("a")
    asked.decided(1, "a", "", "routed", encode(Routed(L, "b", "radio")))
    assert check.holds

    asked.decided(2, "c", "", "routed", encode(Routed(L, "b", "radio")))
    assert not check.holds


@pytest.mark.parametrize(
    ("slow", "why"), [((), "t=100000000ns: n0 tries n0>n1@0/1 again after 0.05 s"), (("n0",), ""), (("n1",), "t=1")]
)
def test_only_a_node_that_was_slowed_down_may_seem_impatient(slow: tuple[str, ...], why: str) -> None:
    """Its tries leave up to a step late, so their distance says nothing; other nodes are held to their waits."""
    check = checks.TriesBackOff("", 0.1, 30.0, 5)
    asked = Checks(check)
    for node in slow:
        asked.tell(0, node, "slow")
    for at_ns, tries in ((50_000_000, 1), (100_000_000, 2)):
        asked.decided(at_ns, "n0", "", "tried", encode(Tried("n0>n1@0/1", tries)))

    assert check.broken.startswith(why)
    assert bool(check.broken) == bool(why)
