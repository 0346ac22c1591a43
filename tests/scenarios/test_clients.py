"""What a client does: outcomes end a request, silence moves on with more patience, and every request ends."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from policies.gateway import Accepted, Answer, Come, Redirect, Refused
from scenarios.clients import GIVE_UP_FACTOR, PATIENCE_MAX, Attempt, Finish, first_attempt, on_reply, on_silence

GATEWAYS = ["g0", "g1", "g2"]


def test_an_outcome_ends_the_request() -> None:
    """An answer and a refusal are final and carry what was said and how often was asked."""
    attempt = Attempt(1, number=3)

    assert on_reply(attempt, Answer("out", 7, 9, "w"), 5.0, GATEWAYS) == Finish("answered", "", "out", 7, 9, 3)
    assert on_reply(attempt, Refused("late"), 5.0, GATEWAYS) == Finish("refused", "late", "", 0, 0, 3)
    assert on_reply(attempt, Accepted(), 5.0, GATEWAYS) is None


def test_a_redirect_is_followed_at_once_but_not_in_a_tight_circle() -> None:
    """The named gateway is asked; an unknown one stands for the next; from the fourth on there is a pause."""
    attempt: Any = first_attempt(0)
    for number in range(2, 7):
        attempt = on_reply(attempt, Redirect("g2" if number % 2 else "g1"), 5.0, GATEWAYS)
        assert isinstance(attempt, Attempt)
        assert attempt.gateway == (2 if number % 2 else 1)
        assert attempt.number == number
        assert attempt.after_s == (0.0 if number < 5 else 0.5)

    assert on_reply(Attempt(1), Redirect("unknown"), 5.0, GATEWAYS).gateway == 2  # type: ignore[union-attr]


def test_a_client_told_to_come_again_does_if_there_is_time() -> None:
    """It waits as told, elsewhere only where nobody leads; without time for it the refusal is the end."""
    again = on_reply(Attempt(1), Come("rate limit", 2.0), 5.0, GATEWAYS)
    elsewhere = on_reply(Attempt(1), Come("no leader", 2.0), 5.0, GATEWAYS)

    assert (again, elsewhere) == (Attempt(1, number=2, after_s=2.0), Attempt(2, number=2, after_s=2.0))
    assert on_reply(Attempt(1), Come("rate limit", 2.0), 2.0, GATEWAYS) == Finish("refused", "rate limit", "", 0, 0, 1)


def test_patience_doubles_with_every_silence_up_to_a_bound() -> None:
    """Waiting times are retry_s times 1, 2, 4, then the bound."""
    waits = [Attempt(0, silences=n).wait_s(10.0) for n in range(6)]

    assert waits == [10.0, 20.0, 40.0, 80.0, 10.0 * PATIENCE_MAX, 10.0 * PATIENCE_MAX]


@given(st.floats(1, 1000), st.floats(0.1, 100))
def test_a_client_that_hears_nothing_tries_every_gateway_and_gives_up(deadline_s: float, retry_s: float) -> None:
    """In silence it goes round the gateways, and stops within one wait after twice its deadline."""
    attempt: Any = first_attempt(0)
    now_s, wait_s, asked = 0.0, 0.0, []
    while isinstance(attempt, Attempt):
        asked.append(attempt.gateway)
        wait_s = attempt.wait_s(retry_s)
        now_s += wait_s
        attempt = on_silence(attempt, deadline_s - now_s, deadline_s)

    assert attempt.status == "lost"
    assert attempt.attempts == len(asked)
    assert asked == list(range(len(asked)))
    assert GIVE_UP_FACTOR * deadline_s < now_s <= GIVE_UP_FACTOR * deadline_s + wait_s


@given(st.lists(st.sampled_from(["come", "no leader", "silence"]), max_size=60), st.floats(0.5, 50))
def test_whatever_it_hears_without_an_outcome_a_client_stops_in_time(words: list[str], retry_s: float) -> None:
    """Time passes with every word but an outcome, and after twice the deadline a silence is the last."""
    attempt: Any = first_attempt(0)
    now_s, deadline_s = 0.0, 60.0
    for word in [*words, *["silence"] * 1000]:
        if word == "silence":
            now_s += attempt.wait_s(retry_s)
            attempt = on_silence(attempt, deadline_s - now_s, deadline_s)
        else:
            attempt = on_reply(attempt, Come(word, 2.0), deadline_s - now_s, GATEWAYS)
            now_s += 2.0
        if isinstance(attempt, Finish):
            break

    assert isinstance(attempt, Finish)
    assert now_s <= GIVE_UP_FACTOR * deadline_s + PATIENCE_MAX * retry_s + 2.0
