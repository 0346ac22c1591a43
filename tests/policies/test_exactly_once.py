"""One outcome for one ``op_id``: whoever is asked, however often, and whatever breaks in between."""

from __future__ import annotations

from typing import Any

import pytest

from models import draws
from policies import port as p
from policies.gateway import Answer, Come, Redirect, Refused
from policies.wire import encode
from policies.work import Report, SettledOp
from tests.policies.small_village import COMMITTEE, SmallVillage, ready

OUTCOMES = (Answer, Refused)


def outcomes(village: SmallVillage, op_id: str) -> list[Any]:
    """Return the outcomes a client heard of one request."""
    return [m for m in village.answers(op_id) if isinstance(m, OUTCOMES)]


def test_the_same_op_asked_twice_runs_once() -> None:
    """Before it is answered and after: one session, one entry in the ledger, the same answer."""
    village = ready(2)
    village.ask("1")
    village.ask("1")
    village.run(0.5)
    village.ask("1")
    village.run(5.0)
    village.ask("1")
    village.run(1.0)

    assert village.desk.ran == ["anna/1/1"]
    assert len(set(map(encode, outcomes(village, "1")))) == 1
    assert len(outcomes(village, "1")) == 2  # one for those that waited together, one for the late one
    assert sum(village.state.ledger.values()) == 4 * 4


def test_the_same_op_of_two_clients_is_two_requests() -> None:
    """A client's names are its own."""
    village = ready(2)
    village.ask("1", client="anna")
    village.ask("1", client="ben")
    village.run(5.0)

    assert sorted(village.desk.ran) == ["anna/1/1", "ben/1/1"]


def test_another_gateway_gives_the_same_outcome() -> None:
    """Redirected while another leads; the same answer once it leads itself."""
    village = ready(2)
    first = village.leader
    village.ask("1")
    village.run(5.0)
    other = next(k for k in COMMITTEE if k != first)
    village.ask("1", at=other)
    village.run(1.0)
    assert [m for m in village.answers("1") if isinstance(m, Redirect)] == [Redirect(first)]

    village.crash(first)
    village.run(10.0)
    village.ask("1")
    village.run(1.0)
    assert len(outcomes(village, "1")) == 2
    assert len(set(map(encode, outcomes(village, "1")))) == 1
    assert village.desk.ran == ["anna/1/1"]


def test_a_refusal_is_an_outcome_too() -> None:
    """What was refused stays refused, also when a pipeline would be free now."""
    village = ready(0)
    village.ask("1", deadline_s=3.0)
    village.run(15.0)
    village.ask("1")
    village.run(15.0)

    assert outcomes(village, "1") == [Refused("deadline passed")] * 2


def test_a_second_attempt_does_not_complete_a_request_again() -> None:
    """The first answer counts; a late report of the attempt before is settled and changes nothing."""
    village = ready(2)
    village.take()
    village.ask("1")
    village.run(1.0)
    ((head, _),) = village.running
    village.take(1.0)
    village.crash(head)  # its lease ends, the request runs elsewhere
    village.run(30.0)
    before = village.state.digest()
    late = Report("anna", "1", 1, "", "", "late", 4, 0, bytes(64))
    village.world.give(village.world.by_name[village.leader], (p.MESSAGE, "coordination", head, encode(late)))
    village.run(5.0)

    assert village.state.digest() == before
    assert [(s.output, s.attempts) for s in village.seen(SettledOp)] == [("answer to p1", 2)]


def test_a_client_that_is_told_to_come_again_has_no_outcome() -> None:
    """Nothing was recorded, so the same op is a new request later."""
    village = SmallVillage(1)
    village.ask("1", at="k1")
    village.run(0.1)
    assert village.answers("1") == [Come("no leader", 2.0)]

    village.run(20.0)
    village.ask("1")
    village.run(5.0)
    assert len(outcomes(village, "1")) == 1


def draw(seed: int, what: str, index: int, high: int) -> int:
    """Return a keyed draw."""
    return int(draws.integers(seed, what, 0, index, high))


@pytest.mark.parametrize("seed", range(12))
def test_nothing_accepted_is_lost_and_nothing_is_done_twice_in_bad_weather(seed: int) -> None:
    """Loss, copies, crashes of members and workers, clients that ask again anywhere: one outcome for each request."""
    village = ready(4)
    network = village.world.network
    network.config = type(network.config)(backbone_s=0.01, loss=0.05, jitter_sigma=1.0, duplicate=0.05)
    asked = [str(n) for n in range(20)]
    for round_ in range(40):
        village.ask(asked[draw(seed, "op", round_, len(asked))], at=COMMITTEE[draw(seed, "gateway", round_, 3)])
        victim = (*COMMITTEE, *village.workers)[draw(seed, "victim", round_, 7)]
        node = village.world.by_name[victim]
        if not node.up:
            village.restart(victim)
        elif all(village.world.by_name[k].up for k in COMMITTEE) or victim in village.workers:
            village.crash(victim)
        village.run(1.0 + draw(seed, "gap", round_, 4))
    network.config = type(network.config)(backbone_s=0.01, loss=0.0, jitter_sigma=0.3, duplicate=0.0)
    for node in village.world.nodes:
        if not node.up:
            village.restart(node.name)
    village.run(40.0)
    for op_id in asked:
        village.ask(op_id)
        village.run(1.0)
    village.run(60.0)

    answered = 0
    for op_id in asked:
        heard = outcomes(village, op_id)
        assert heard, op_id
        assert len(set(map(encode, heard))) == 1, (op_id, heard)
        refused = isinstance(heard[0], Refused)
        assert heard[0] == Refused("workers lost") if refused else heard[0].output == f"answer to p{op_id}"
        answered += not refused
    assert answered >= len(asked) - 2  # a request may meet four crashes, which is all its tries
    assert village.state.requests == {}
    assert sum(village.state.ledger.values()) == village.state.earned == answered * 4 * 4
    assert len({village.coordination(k).state.digest() for k in COMMITTEE}) == 1
    assert all(line.running == 0 for line in village.coordination().lines.lines.values())
