"""Replicated state told by processes: the twin's own check asks it, and retries that hear something else are found."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from policies.commands import Accept, Complete, Receipt
from policies.jobs import Stage
from policies.state import VillageState
from policies.wire import encode
from real_backends import replicas
from real_backends.clients import Asked
from real_backends.gather import _check_retries
from scenarios.checks import VillageChecks
from scenarios.clients import Finish
from scenarios.workload import Request
from tests.policies.strategies import believe


class _Coordination:
    """Stands where a committee member's coordination stands."""

    def __init__(self, *tokens: int) -> None:
        self.state = VillageState()
        for k, count in enumerate(tokens):
            self.state.apply(Accept("c", f"op-{k}", "m", "p", "desk-0", 1, count, 2, 0, 1), believe)
            stages = (Stage("desk-0", 0, 3), Stage("desk-1", 3, 8))
            self.state.apply(Complete(Receipt("c", f"op-{k}", "out", count, stages), 0, b""), believe)


def _told(coordination: Any) -> dict[str, Any]:
    """Return a node's report as it arrives over the wire."""
    plain = msgspec.msgpack.decode(encode(replicas.report({"coordination": coordination})))
    return {"replica": plain}


def test_a_replica_answers_as_the_state_does() -> None:
    """What arrives gives the digest, ledger and sum of the state it was made from."""
    coordination = _Coordination(24, 10)
    found = replicas.replicas({"desk-0": _told(coordination), "desk-3": {"replica": {}}})

    assert list(found) == ["desk-0"]
    assert found["desk-0"].digest() == coordination.state.digest()
    assert replicas.ledger(found) == {"desk-1": 170, "desk-0": 102}
    assert found["desk-0"].earned == sum(found["desk-0"].ledger.values())
    assert replicas.ledger({}) == {}


@pytest.mark.parametrize(("change", "broken"), [({}, ""), ({"earned": 1}, "desk-1: the ledger sums to 192, 1"),
                                                ({"balances": {"": -3, "a": 3, "b": -1, "c": 1}}, "account b holds -1"),
                                                ({"balances": {"a": 1}}, "sum to 1 micro-credits"),
                                                ({"wrong_books": "61 were earned"}, "desk-1: 61 were earned"),
                                                ({"state_digest": "x"}, "applied 2 commands and differ")])  # fmt: skip
def test_the_ledger_check_reads_replicas(change: dict[str, Any], broken: str) -> None:
    """Two equal replicas hold; a ledger that does not sum up or a state that differs at the same command is named."""
    told = _told(_Coordination(24))
    other = {"replica": {**told["replica"], **change}}
    checks = VillageChecks(8)
    checks.ask_states(dict(replicas.replicas({"desk-0": told, "desk-1": other})))

    broke = [check for check in (checks.ledger, checks.overdraft, checks.equal) if not check.holds]
    assert [broken in check.broken for check in broke] == [True] * bool(broken)


@pytest.mark.parametrize(("status", "output", "holds"), [("answered", "out", True), ("answered", "new", False),
                                                         ("refused", "", False)])  # fmt: skip
def test_a_retry_that_hears_something_else_is_found(status: str, output: str, holds: bool) -> None:
    """The same request asked again must have the same outcome at every gateway."""
    request = Request("op", "c", 2, 0.0, 1.0, 1, 1)
    first = Asked(request, [1], finish=Finish("answered", "", "out", 1, 1, 1))
    again = Asked(request, [1], finish=Finish(status, "", output, 1, 1, 1))
    checks = VillageChecks(8)
    _check_retries(checks, [(1, first, again)])

    assert checks.one_outcome.holds is holds
    assert checks.one_outcome.events == 1
