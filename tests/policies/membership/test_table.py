"""The table of a group, the news that fill it, and Lifeguard's rules, each on its own."""

from __future__ import annotations

from math import ceil, log10

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.membership.lifeguard import Health, Suspicion, shortest_suspicion_ns
from policies.membership.messages import ALIVE, DEAD, SUSPECT, Update
from policies.membership.spread import News
from policies.membership.table import Table, softened
from policies.port import NS_PER_S
from policies.wire import encode

NAMES = st.sampled_from(["a", "b", "c"])
UPDATES = st.lists(st.tuples(NAMES, st.integers(0, 4), st.sampled_from([ALIVE, SUSPECT, DEAD]), NAMES), max_size=12)


def table_after(updates: list[Update]) -> dict[str, tuple[int, int]]:
    table = Table(("a", "b"), 10)
    for member, life, status, _ in updates:
        table.learn(member, life, status)
    return table.entries


@given(UPDATES, st.randoms(use_true_random=False))
def test_news_in_any_order_and_any_number_of_times_ends_in_one_table(updates: list[Update], random: object) -> None:
    """Order and repetition of gossip do not matter."""
    shuffled = updates * 2
    random.shuffle(shuffled)  # type: ignore[attr-defined]

    assert table_after(shuffled) == table_after(updates)


@pytest.mark.parametrize(
    ("known", "said", "wins"),
    [
        ((1, ALIVE), (1, SUSPECT), True),  # SWIM, section 4.2: a suspicion overrides alive of the same incarnation
        ((1, SUSPECT), (1, ALIVE), False),
        ((1, SUSPECT), (2, ALIVE), True),
        ((2, ALIVE), (1, SUSPECT), False),
        ((1, SUSPECT), (2, SUSPECT), True),
        ((1, SUSPECT), (1, DEAD), True),  # confirm overrides both
        ((1, DEAD), (1, ALIVE), False),
        ((1, DEAD), (1, SUSPECT), False),
        ((1, DEAD), (2, ALIVE), True),  # memberlist: only a later life comes back
    ],
)
def test_what_outweighs_what_is_as_published(known: tuple[int, int], said: tuple[int, int], wins: bool) -> None:
    """The order of preference of the SWIM paper, with memberlist's return from the dead."""
    table = Table((), 5)
    table.learn("a", *known)

    assert table.learn("a", *said) is wins


def test_the_same_news_twice_is_news_once() -> None:
    """Else it would be passed on for ever."""
    table = Table((), 5)

    assert [table.learn("a", 1, SUSPECT) for _ in range(2)] == [True, False]


def test_names_beyond_the_bound_and_impossible_updates_are_not_taken_in() -> None:
    """A flood of invented names fills the table to its bound; a status that is none changes nothing."""
    table = Table(("a",), 3)
    for i in range(10):
        table.learn(f"x{i}", 1, ALIVE)
    assert len(table.entries) == 3

    assert not table.learn("a", 9, 7)
    assert not table.learn("a", -1, DEAD)
    assert softened(("a", 1, DEAD, "b")) == ("a", 1, SUSPECT, "b")


@given(st.integers(1, 200), st.integers(1, 40), st.integers(256, 2000))
def test_each_update_is_passed_on_so_many_times_and_no_message_exceeds_its_bytes(
    group: int, updates: int, packet: int
) -> None:
    """Once everything is passed on nothing is left, and each went out 4 ceil(log10(n + 1)) times."""
    news = News(packet, 4)
    for i in range(updates):
        news.add((f"member-{i}", 1, ALIVE, "me"))
    counts: dict[str, int] = {}
    while taken := news.take(group):
        assert sum(len(encode(update)) for update in taken) <= packet
        for update in taken:
            counts[update[0]] = counts.get(update[0], 0) + 1

    assert counts == dict.fromkeys((f"member-{i}" for i in range(updates)), 4 * ceil(log10(group + 1)))
    assert not news.waiting


def test_newer_news_take_the_place_of_older_and_the_least_told_go_first() -> None:
    """At most one update a member waits; a fresh one is told before one that many know."""
    news = News(60, 4)
    news.add(("a", 1, ALIVE, "x"))
    news.take(10)
    news.add(("b", 1, SUSPECT, "x"))
    news.add(("a", 2, ALIVE, "x"))
    assert sorted(update[:2] for update in news.take(10)) == [("a", 2), ("b", 1)]
    news.add(("c", 1, DEAD, "x"))

    assert next(iter(news.take(10)))[0] == "c"


def test_news_that_fit_no_message_hold_up_no_others() -> None:
    """A name of hundreds of bytes would stand first in line for ever."""
    news = News(256, 4)
    news.add(("x" * 300, 1, ALIVE, "me"))
    news.add(("a", 1, ALIVE, "me"))

    assert news.take(10) == (("a", 1, ALIVE, "me"),)
    assert list(news.waiting) == ["a"]


@pytest.mark.parametrize(("others", "lasts_s"), [(0, 30.0), (1, 16.0), (2, 7.810), (3, 2.0), (4, 2.0)])
def test_a_suspicion_lasts_as_long_as_in_memberlists_own_table(others: int, lasts_s: float) -> None:
    """From 30 s alone to 2 s with three confirmations (memberlist, suspicion_test.go: the same figures)."""
    suspicion = Suspicion(0, "me", 2 * NS_PER_S, 30 * NS_PER_S, 3)
    for i in range(others):
        suspicion.confirm(f"other {i}")
    suspicion.confirm("me")

    assert suspicion.due_ns() / NS_PER_S == pytest.approx(lasts_s, abs=1e-3)


def test_a_suspicion_counts_each_other_once_and_no_more_than_it_needs() -> None:
    """What counts is worth passing on; what does not is not."""
    suspicion = Suspicion(0, "a", 1, 10, 2)

    assert [suspicion.confirm(by) for by in ("a", "b", "b", "c", "d")] == [False, True, False, True, False]


@pytest.mark.parametrize(("n", "lasts_s"), [(5, 3.0), (10, 3.0), (50, 5.096), (100, 6.0), (500, 8.096), (1000, 9.0)])
def test_the_shortest_suspicion_grows_with_the_logarithm_of_the_group(n: int, lasts_s: float) -> None:
    """Three periods times log10(n), and no less than three (memberlist, util_test.go: 5096 ms at 50 and so on)."""
    assert shortest_suspicion_ns(3, n, NS_PER_S) / NS_PER_S == pytest.approx(lasts_s, abs=2e-3)


def test_local_health_stays_between_none_and_its_bound() -> None:
    """It neither goes below healthy nor reaches the bound (Lifeguard, section IV-A: 0 to S)."""
    health = Health(8)
    health.change(-1)
    assert health.score == 0
    health.change(100)

    assert health.score == 7
