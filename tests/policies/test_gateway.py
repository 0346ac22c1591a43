"""The gateway: redirects, admission by a token bucket, and outcomes passed on."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import local
from policies import port as p
from policies.cell import Cell
from policies.config import GatewayConfig
from policies.gateway import Answer, Come, Gateway, Part, Redirect, Refused, Submit, Withdraw
from policies.gateway.bucket import Buckets, TokenBucket
from policies.local import Ask, Busy, Leadership, Settlement, Tokens
from policies.port import NS_PER_S, Policy
from policies.wire import encode
from sim.keys import KeyRing

SUBMIT = Submit("m", "p", 3, 4, 2, 60.0)


class Door(Policy):
    """Stands where coordination and consensus are: keeps what is asked, says what a test wants said."""

    requests = (Leadership, Settlement, Busy, Tokens)

    def __init__(self) -> None:
        self.asked: list[Ask] = []

    def on_local(self, sender: str, message: Ask) -> None:
        self.asked.append(message)

    def on_request(self, client: str, op_id: str, operation: Any) -> None:
        self.port.tell("gateway", operation)


class Desk:
    """A gateway's Cell, and what it replied."""

    def __init__(self, *, leads: bool = True, liars: bool = False, **config: Any) -> None:
        self.door = Door()
        policies = {"gateway": Gateway(GatewayConfig(**config), liars=liars), "coordination": self.door}
        self.cell = Cell(policies, "k1", ("k2",), seed=1, keys=KeyRing(1).handle("k1"))
        self.cell.step(0, 0, (p.START, "", {}, 0))
        if leads:
            self.say(Leadership(1, "k1"))

    def ask(self, client: str, op_id: str, now_s: float = 1.0) -> list[tuple[str, str, bytes]]:
        """A client submits; return (client, op, reply)."""
        now = int(now_s * NS_PER_S)
        return self.replies(self.cell.step(now, 5 * NS_PER_S, (p.REQUEST, "gateway", client, op_id, encode(SUBMIT))))

    def say(self, message: Any) -> list[tuple[str, str, bytes]]:
        """Coordination or consensus says something."""
        return self.replies(self.cell.step(0, 0, (p.REQUEST, "coordination", "", "", encode(message))))

    @staticmethod
    def replies(effects: tuple[Any, ...]) -> list[tuple[str, str, bytes]]:
        """Return the replies among effects; each must be the last of its request."""
        assert all(e[5] for e in effects if e[0] == p.REPLY)
        return [(e[2], e[3], e[4]) for e in effects if e[0] == p.REPLY]


# -- the token bucket --------------------------------------------------------------------------------

arrivals = st.lists(st.integers(0, 20 * NS_PER_S), max_size=40).map(sorted)


@given(arrivals, st.integers(1, 100), st.integers(1, 8))
def test_the_bucket_is_the_virtual_scheduling_of_gcra(at_ns: list[int], per_10_s: int, burst: int) -> None:
    """It conforms exactly when ITU-T I.371's theoretical arrival time does, up to rounding at the very edge."""
    rate = per_10_s / 10
    bucket = TokenBucket(rate, burst)
    interval, tolerance, theoretical = 1 / rate, (burst - 1) / rate, 0.0
    for now in at_ns:
        t = now / NS_PER_S
        expected = t >= theoretical - tolerance
        if abs(t - (theoretical - tolerance)) < 1e-9:
            return  # a tie, which rounding settles
        assert bucket.take(now) == expected
        if expected:
            theoretical = max(t, theoretical) + interval


@given(arrivals, st.floats(0.1, 10), st.integers(1, 8))
def test_no_window_lets_more_through_than_burst_and_rate(at_ns: list[int], rate: float, burst: int) -> None:
    """Between any two moments: at most burst + rate times their distance."""
    bucket = TokenBucket(rate, burst)
    taken = [now for now in at_ns if bucket.take(now)]

    for first in range(len(taken)):
        for last in range(first, len(taken)):
            assert last - first + 1 <= burst + rate * (taken[last] - taken[first]) / NS_PER_S + 1e-6


def test_a_bucket_fills_no_further_than_its_burst() -> None:
    """After a long rest there is one burst, not two."""
    bucket = TokenBucket(1.0, 3)

    assert [bucket.take(1000 * NS_PER_S) for _ in range(5)] == [True, True, True, False, False]
    assert [bucket.take(1001 * NS_PER_S) for _ in range(2)] == [True, False]


asks = st.lists(st.tuples(st.sampled_from("abcde"), st.integers(0, 2 * NS_PER_S)), max_size=60)


@given(asks, st.floats(0.1, 10), st.integers(1, 4), st.integers(1, 4))
def test_a_bounded_table_lets_nobody_through_faster(
    asked: list[tuple[str, int]], rate: float, burst: int, names_max: int
) -> None:
    """Whoever is forgotten meanwhile: of each name at most burst + rate times the distance of any two moments."""
    buckets, now, taken = Buckets(lambda: TokenBucket(rate, burst), names_max), 0, dict[str, list[int]]()
    for client, wait_ns in asked:
        now += wait_ns
        if buckets.take(client, now):
            taken.setdefault(client, []).append(now)
        assert len(buckets) <= names_max

    for at in taken.values():
        for first in range(len(at)):
            for last in range(first, len(at)):
                assert last - first + 1 <= burst + rate * (at[last] - at[first]) / NS_PER_S + 1e-6


def test_a_flood_of_names_gives_a_busy_client_no_new_burst() -> None:
    """Its empty bucket stays, full ones go, and where none is full newcomers wait until one is."""
    buckets = Buckets(lambda: TokenBucket(1.0, 2), 3)
    assert [buckets.take("busy", 0) for _ in range(3)] == [True, True, False]
    assert buckets.take("once", 0)
    assert [buckets.take(f"made up {number}", 0) for number in range(5)] == [True, False, False, False, False]
    assert not buckets.take("busy", 0)
    assert not buckets.take("newcomer", NS_PER_S - 1)
    assert [buckets.take(name, NS_PER_S) for name in ("newcomer", "second", "third")] == [True, True, False]
    assert [buckets.take("busy", NS_PER_S) for _ in range(2)] == [True, False]


def test_a_newcomer_waits_for_the_first_bucket_that_is_full() -> None:
    """A made-up name's bucket is full after one token's time, though the other one that stands takes ten times that."""
    buckets = Buckets(lambda: TokenBucket(1.0, 10), 2)
    assert all(buckets.take("busy", 0) for _ in range(10))
    assert [buckets.take(f"made up {second}", second * NS_PER_S) for second in range(3)] == [True] * 3
    assert not buckets.take("newcomer", 3 * NS_PER_S - 1)
    assert buckets.take("newcomer", 3 * NS_PER_S)


def test_a_gateway_remembers_a_bounded_number_of_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond it a new name is told to come again, and those that are known go on."""
    monkeypatch.setattr("policies.gateway.gateway.CLIENTS_MAX", 2)
    desk = Desk(requests_per_min=60, burst=2)
    assert [desk.ask(client, "op") for client in ("anna", "ben")] == [[], []]
    assert desk.ask("made up", "op") == [("made up", "op", encode(Come("rate limit", 1.0)))]
    assert desk.ask("anna", "op-2") == []
    assert len(desk.door.asked) == 3


# -- a leader that says nothing ----------------------------------------------------------------------


def test_a_client_that_comes_back_from_a_silent_leader_is_taken_in_where_members_may_lie() -> None:
    """At first it is sent on, and again if it comes at once; after a second its request is this gateway's."""
    desk = Desk(leads=False, liars=True)
    desk.say(Leadership(1, "k2"))

    sent_on = [("anna", "1", encode(Redirect("k2")))]
    assert desk.ask("anna", "1", 1.0) == desk.ask("anna", "1", 1.5) == sent_on
    assert desk.ask("anna", "1", 2.0) == []
    assert [ask.op_id for ask in desk.door.asked] == ["1"]
    (reply,) = desk.say(Settlement("anna", "1", "", "out", 4, 7, "w"))
    assert reply == ("anna", "1", encode(Answer("out", 4, 7, "w")))


def test_under_another_leader_a_client_is_sent_on_again() -> None:
    """What the last one left unsaid is not held against it."""
    desk = Desk(leads=False, liars=True)
    desk.say(Leadership(1, "k2"))
    desk.ask("anna", "1", 1.0)
    desk.say(Leadership(2, "k3"))

    assert desk.ask("anna", "1", 9.0) == [("anna", "1", encode(Redirect("k3")))]


def test_where_nobody_lies_a_client_is_always_sent_on() -> None:
    """A leader that says nothing has crashed, and consensus sees to another."""
    desk = Desk(leads=False)
    desk.say(Leadership(1, "k2"))

    assert [desk.ask("anna", "1", float(second)) for second in (1, 5, 60)] == [
        [("anna", "1", encode(Redirect("k2")))]
    ] * 3


# -- admission ---------------------------------------------------------------------------------------


def test_only_the_leaders_gateway_takes_requests_in() -> None:
    """Others redirect; while nobody leads, the client comes again."""
    desk = Desk(leads=False)
    assert desk.ask("anna", "1") == [("anna", "1", encode(Come("no leader", 2.0)))]

    desk.say(Leadership(1, "k2"))
    assert desk.ask("anna", "1") == [("anna", "1", encode(Redirect("k2")))]
    assert desk.door.asked == []

    desk.say(Leadership(2, "k1"))
    assert desk.ask("anna", "1") == []
    assert desk.door.asked == [Ask("anna", "1", "m", "p", "k1", 3, 4, 2, 65 * NS_PER_S)]


def test_each_client_has_its_own_rate() -> None:
    """One client's haste is answered with when to come again, and costs no other client anything."""
    desk = Desk(requests_per_min=60.0, burst=2)

    assert [desk.ask("anna", str(n)) for n in range(3)] == [[], [], [("anna", "2", encode(Come("rate limit", 1.0)))]]
    assert desk.ask("ben", "1") == []
    assert desk.ask("anna", "2", now_s=2.0) == []


@pytest.mark.parametrize(
    ("outcome", "reply"),
    [
        (Settlement("anna", "1", "", "out", 4, 7, "w1"), Answer("out", 4, 7, "w1")),
        (Settlement("anna", "1", "deadline passed", "", 0, 0, ""), Refused("deadline passed")),
        (Busy("anna", "1", "queue full"), Come("queue full", 2.0)),
    ],
)
def test_an_outcome_goes_to_the_client_that_waits_once(outcome: Any, reply: Any) -> None:
    """Each kind as its own reply; one that nobody waits for goes nowhere."""
    desk = Desk()
    assert desk.say(outcome) == []
    desk.ask("anna", "1")
    desk.ask("anna", "1")

    assert desk.say(outcome) == [("anna", "1", encode(reply))]
    assert desk.say(outcome) == []


@pytest.mark.parametrize(("leader", "reply"), [("k2", Redirect("k2")), ("", Come("no leader", 2.0))])
def test_a_lost_leadership_sends_the_waiting_on(leader: str, reply: Any) -> None:
    """All that wait here hear where to go, in a fixed order, and the new leader's word is not repeated."""
    desk = Desk()
    desk.ask("ben", "1")
    desk.ask("anna", "2")

    assert desk.say(Leadership(2, leader)) == [("anna", "2", encode(reply)), ("ben", "1", encode(reply))]
    assert desk.say(Settlement("anna", "2", "", "out", 4, 7, "w1")) == []


def test_a_request_without_bounds_does_not_reach_the_gateway() -> None:
    """An infinite deadline is malformed: counted, dropped, and the node lives."""
    desk = Desk()
    endless = ["submit", "m", "p", 3, 4, 2, float("inf")]

    assert desk.cell.step(0, 0, (p.REQUEST, "gateway", "anna", "1", encode(endless))) == ()
    assert desk.cell.malformed == 1
    assert desk.door.asked == []


@pytest.mark.parametrize(("client", "op_id"), [("a" * 257, "1"), ("anna", "1" * 257)])
def test_a_name_that_the_state_would_not_keep_is_dropped_with_a_note(client: str, op_id: str) -> None:
    """As a command it is none, and its client would wait for an outcome that nothing brings."""
    desk = Desk()

    (note,) = desk.cell.step(0, 0, (p.REQUEST, "gateway", client, op_id, encode(SUBMIT)))
    assert note[0] == p.NOTE
    assert "name_too_long" in note
    assert desk.door.asked == []
    assert desk.ask("a" * 256, "1" * 256) == []
    assert len(desk.door.asked) == 1


def test_tokens_are_passed_on_to_the_client_that_waits_and_are_no_outcome() -> None:
    """They are not the last reply; the outcome still comes, and after it nothing does."""
    desk = Desk()
    desk.ask("anna", "1")
    tokens = encode(Tokens("anna", "1", 2, (7, 8)))
    replies = [e for e in desk.cell.step(0, 0, (p.REQUEST, "coordination", "", "", tokens)) if e[0] == p.REPLY]
    assert [(e[2], e[3], e[4], e[5]) for e in replies] == [("anna", "1", encode(Part(2, (7, 8))), False)]
    assert len(desk.say(Settlement("anna", "1", "", "out", 4, 7, "w1"))) == 1
    assert desk.say(Tokens("anna", "1", 4, (9,))) == []


@pytest.mark.parametrize("leads", [True, False])
def test_a_withdrawn_request_hears_nothing_more(leads: bool) -> None:
    """The leader's gateway tells coordination and forgets who waits; another says nothing, not even where to go."""
    desk = Desk(leads=leads)
    desk.ask("anna", "1")
    effects = desk.cell.step(2 * NS_PER_S, 0, (p.REQUEST, "gateway", "anna", "1", encode(Withdraw())))
    assert desk.replies(effects) == []
    assert (local.Withdraw("anna", "1") in desk.door.asked) == leads
    assert desk.say(Settlement("anna", "1", "withdrawn", "", 0, 0, "")) == []
