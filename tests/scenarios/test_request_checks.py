"""The promises about requests that only a hunt asks: each breaks on a planted history, and holds on the honest one."""

from __future__ import annotations

import pytest

from policies.consensus.messages import Elected
from policies.gateway import Admitted
from policies.jobs import Stage
from policies.problem import Problem, Worker
from policies.wire import Message, encode
from policies.work import Placed, SettledOp
from scenarios.checks import Check, Checks, requests

PATHS = {"leader": "consensus", "admitted": "gateway"}
S = 1_000_000_000


def feed(check: Check, *history: tuple[float, str, Message]) -> str:
    """Feed (time in s, kind, value) of node n0; return what broke."""
    checks = Checks(check)
    for at_s, kind, value in history:
        checks.decided(int(at_s * S), "n0", PATHS.get(kind, "coordination"), kind, encode(value))
    return check.broken


def admit(*times_s: float, client: str = "c") -> list[tuple[float, str, Message]]:
    """Admissions of one client."""
    return [(at_s, "admitted", Admitted(client, str(k))) for k, at_s in enumerate(times_s)]


def test_a_gateway_admits_a_burst_and_its_rate_and_not_one_more() -> None:
    """Three at once and one a second are its right, on average over any spell; other clients have their own."""
    rule = requests.AdmitsWithinItsRate

    assert feed(rule(1.0, 3), *admit(0, 0, 0, 1, 2, 3), *admit(3, 3, 3, client="d")) == ""
    assert feed(rule(1.0, 3), *admit(0, 0, 0, 5, 5, 5)) == ""
    assert "lets 4.00 requests of c through at once, 3 may" in feed(rule(1.0, 3), *admit(5, 5, 5, 5))
    assert feed(rule(1.0, 3), *admit(0, 0, 0, 0.5)).startswith("t=500000000ns")


def test_lost_workers_excuse_a_refusal_after_all_tries_only() -> None:
    """A leader that had the request from the start must have tried as often as it may; a later one need not."""
    refused = (3.0, "settled", SettledOp("c", "0", "workers lost", "", 0, (), 2))
    first, later = (0.0, "leader", Elected(1)), (2.0, "leader", Elected(2))

    assert "n0 refuses c/0 after 2 of 4 attempts" in feed(requests.LostOnlyAfterAllTries(4), first, *admit(1), refused)
    assert feed(requests.LostOnlyAfterAllTries(4), first, *admit(1), later, refused) == ""
    assert feed(requests.LostOnlyAfterAllTries(2), first, *admit(1), refused) == ""


@pytest.mark.parametrize(("memory_bytes", "broken"), [(2500.0, False), (2400.0, True)])
def test_a_stage_needs_its_layers_and_its_end_of_the_model(memory_bytes: float, broken: bool) -> None:
    """Two layers of 1000 bytes with cache, and 500 for the head."""
    workers = tuple(Worker(name, memory_bytes, 0.01, 0.0, 0.0, 1e7, 0.001) for name in "ab")
    problem = Problem("m", 4, 900.0, 100.0, 500.0, 100.0, workers)
    placed = Placed(1, (Stage("a", 0, 2), Stage("b", 2, 4)))

    why = feed(requests.shards_fit_the_memory(problem), (1.0, "placed", placed))
    assert ("needs 2500 bytes, has 2400" in why) is broken
    assert bool(why) is broken
