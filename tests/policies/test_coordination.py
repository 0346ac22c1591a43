"""Coordination: from nothing to an answer, devices that go, and messages that are lost."""

from __future__ import annotations

import pytest

from policies import port as p
from policies.gateway import Answer
from policies.local import Lend
from policies.wire import encode
from policies.work import Began, Gone, Placed, Report, SettledOp
from tests.policies.small_village import LEND, TWO_HOLD_ALL, SmallVillage, ready

TAKEN = Lend(False, 0.0, 0.0, "owner is back")


def test_workers_are_placed_and_a_request_is_answered() -> None:
    """From nothing: an election, members, pipelines, and one answer with the stages that earned it."""
    village = ready(4, memory_bytes=TWO_HOLD_ALL)
    village.ask("1")
    village.run(5.0)

    assert list(village.state.members) == sorted(village.state.members, key=list(village.state.members).index)
    assert set(village.state.members) == set(village.workers)
    assert len(village.seen(Placed)) == 2
    assert [type(m) for m in village.answers("1")] == [Answer]
    (settled,) = village.seen(SettledOp)
    assert (settled.output, settled.attempts, len(settled.nodes)) == ("answer to p1", 1, 2)
    assert sum(village.state.ledger.values()) == 4 * 4  # tokens times layers


# -- devices that go ---------------------------------------------------------------------------------


def test_a_silent_worker_loses_its_lease_and_its_request_runs_elsewhere() -> None:
    """The pipeline is dissolved when the lease ends, and the request is answered by the other one."""
    village = ready(2)
    village.take()
    village.ask("1")
    village.run(1.0)
    ((head, _),) = village.running
    village.take(1.0)
    village.lose = lambda sender, to, tag: sender == head
    village.run(30.0)

    assert [(gone.reason.split(": ")) for gone in village.seen(Gone)] == [[head, "lease expired"]]
    assert [type(m) for m in village.answers("1")] == [Answer]
    assert village.seen(SettledOp)[0].attempts == 2
    assert head not in village.seen(SettledOp)[0].nodes


def test_a_stage_that_dies_costs_an_attempt_not_the_request() -> None:
    """The head reports which node failed; the request is run again, and the node gets no more until it is heard of."""
    village = ready(4, memory_bytes=TWO_HOLD_ALL)
    village.take()
    village.ask("1")
    village.run(1.0)
    (job,) = village.running.values()
    village.take(1.0)
    village.crash(job.stages[1].node)
    village.run(5.0)

    assert [type(m) for m in village.answers("1")] == [Answer]
    assert job.stages[1].node not in village.seen(SettledOp)[0].nodes


def test_a_head_that_restarts_within_its_lease_does_not_hold_its_request_for_ever() -> None:
    """It renews with an empty memory: what ran on it is gone, and is run again."""
    village = ready(1)
    village.take()
    village.ask("1")
    village.run(1.0)
    village.crash("w1")
    village.take(1.0)
    village.restart("w1")
    village.run(30.0)

    assert village.seen(Gone) == []
    assert [type(m) for m in village.answers("1")] == [Answer]
    assert all(line.running == 0 for line in village.coordination().lines.lines.values())


def test_a_head_that_restarts_and_first_refuses_another_request_loses_both() -> None:
    """Its refusal already took the line out of work; its renewal still says what became of what ran before."""
    village = ready(1)
    village.take()
    village.ask("before")
    village.run(1.0)
    village.crash("w1")
    village.ask("after")
    village.run(1.0)
    village.take(1.0)
    village.world.start(village.world.by_name["w1"])
    village.run(3.0)  # it is not lent yet, and hears the assignment that is sent again
    village.lend("w1", LEND)
    village.run(30.0)

    assert [type(m) for op_id in ("before", "after") for m in village.answers(op_id)] == [Answer, Answer]
    assert village.seen(Gone) == []


def test_attempts_are_not_burnt_on_a_worker_that_says_it_cannot() -> None:
    """A head that lost its shard unnoticed refuses once, not until the tries are used up."""
    village = ready(1)
    village.worker("w1").loaded = 0  # its memory was taken, and no renewal said so yet
    village.ask("1")
    village.run(30.0)

    assert [type(m) for m in village.answers("1")] == [Answer]
    assert village.seen(SettledOp)[0].attempts == 2


def test_a_device_that_leaves_in_order_hands_its_work_over_at_once() -> None:
    """Its owner comes back: the session stops, the pipeline goes, the request runs elsewhere without a lease's wait."""
    village = ready(2)
    village.take()
    village.ask("1")
    village.run(1.0)
    ((head, _),) = village.running
    village.take(1.0)
    village.lend(head, TAKEN)
    village.run(5.0)

    assert village.running == {}
    assert [gone.reason for gone in village.seen(Gone)] == [f"{head}: owner is back"]
    assert [type(m) for m in village.answers("1")] == [Answer]


def test_a_device_that_comes_back_is_placed_again() -> None:
    """Leave, then lend: a new placement of the same member."""
    village = ready(1)
    village.lend("w1", TAKEN)
    village.run(10.0)
    assert village.state.placements == {}
    village.lend("w1", LEND)
    village.run(20.0)

    assert len(village.state.placements) == 1
    assert list(village.state.members) == ["w1"]


# -- messages that are lost --------------------------------------------------------------------------


def test_a_worker_that_lends_too_little_when_it_is_to_load_again_makes_way() -> None:
    """It restarts, lends a quarter of what it was planned with, and loads nothing: another takes its place."""
    village = ready(3, memory_bytes=TWO_HOLD_ALL)
    (placed,) = village.seen(Placed)
    less = placed.stages[0].node
    village.crash(less)
    village.world.start(village.world.by_name[less])
    village.lend(less, Lend(True, 1.0, 0.25, "idle"))
    village.run(30.0)
    (line,) = village.coordination().lines.lines.values()
    assert set(line.nodes) == set(village.workers) - {less}
    village.ask("1")
    village.run(5.0)
    assert isinstance(village.answers("1")[-1], Answer)


@pytest.mark.parametrize("tag", ["assign", "began", "report", "settled", "load_shard", "leased", "renew", "join"])
def test_a_message_that_is_lost_a_few_times_is_made_good(tag: str) -> None:
    """Whichever it is, requests are answered once all the same, and nothing keeps being sent again."""
    village = SmallVillage(2)
    left = [3]

    def lose(sender: str, to: str, said: str) -> bool:
        if said != tag or not left[0]:
            return False
        left[0] -= 1
        return True

    village.lose = lose
    village.run(40.0)
    for op_id in ("1", "2", "3"):
        village.ask(op_id)
    village.run(60.0)

    assert [type(m) for op_id in ("1", "2", "3") for m in village.answers(op_id)] == [Answer] * 3
    assert village.coordination().unheard == {}
    assert [village.worker(w).reports for w in village.workers] == [{}, {}]
    assert len(village.state.ledger) <= 2
    assert sum(village.state.ledger.values()) == 3 * 4 * 4


def test_only_the_assigned_worker_confirms_an_assignment() -> None:
    """A Began or Report of somebody else does not stop the sending again."""
    village = ready(2)
    village.lose = lambda sender, to, tag: tag == "assign"
    village.ask("1")
    village.run(0.5)
    ((key, (node, _)),) = village.coordination().unheard.items()
    other = next(w for w in village.workers if w != node)
    for message in (Began(*key), Report(*key, "", "", "lie", 4, 0, b"")):
        given_ = (p.MESSAGE, "coordination", other, encode(message))
        village.world.give(village.world.by_name[village.leader], given_)
    village.lose = lambda sender, to, tag: False
    village.run(10.0)

    assert [(type(m), m.output) for m in village.answers("1")] == [(Answer, "answer to p1")]
