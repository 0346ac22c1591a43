"""Coordination through a change of leader: leases, pipelines and accepted requests."""

from __future__ import annotations

import pytest

from policies import port as p
from policies.gateway import Answer
from policies.wire import encode
from policies.work import Assign, Gone, Leave, Placed, Settled
from tests.policies.small_village import COMMITTEE, TWO_HOLD_ALL, ready, rules


def test_an_earlier_leader_cannot_end_what_a_later_one_began() -> None:
    """It still assigns its own attempt, and says that it is settled: the later leader's goes on."""
    village = ready(1)
    old = village.leader
    village.take()
    village.ask("1")
    village.run(0.5)
    (job,) = village.running.values()
    earlier = int(job.op.rpartition("/")[2])
    village.crash(old)
    village.run(15.0)
    village.ask("1")
    village.run(1.0)
    again = Assign("anna", "1", earlier, job.model, job.stages, job.prompt, job.source, 8, 4, 64)
    for late in (again, Settled("anna", "1", earlier)):
        village.world.give(village.world.by_name["w1"], (p.MESSAGE, "worker", old, encode(late)))
        village.run(1.0)

    assert len(village.desk.ran) == 1  # the later leader took over the session that was under way
    assert len(village.running) == 1


def test_a_worker_that_is_heard_of_after_its_pipeline_is_gone_is_planned_with() -> None:
    """An earlier leader placed it, so the later one expects it; the plan that was made without it is not the last."""
    village = ready(3, memory_bytes=TWO_HOLD_ALL, rules=rules(plan_every_s=2.0))
    ((first, second),) = [[stage.node for stage in placed.stages] for placed in village.seen(Placed)]
    village.lose = lambda sender, to, tag: sender == second
    village.crash(first)
    village.crash(village.leader)
    while not any(village.world.by_name[k].up and village.coordination(k).leading for k in COMMITTEE):
        village.run(0.1)
    leave = Leave("owner is back")
    village.world.give(village.world.by_name[village.leader], (p.MESSAGE, "coordination", first, encode(leave)))
    village.run(3.0)
    village.lose = lambda sender, to, tag: False
    village.run(15.0)

    (line,) = village.coordination().lines.lines.values()
    assert set(line.nodes) == set(village.workers) - {first}
    assert village.coordination().lines.ready(line)


@pytest.mark.parametrize("when_s", [0.02, 0.05, 0.1, 0.3, 1.0])
def test_what_was_accepted_survives_the_leader(when_s: float) -> None:
    """Whenever the leader dies, a client that asks again gets one answer, and the ledger one entry."""
    village = ready(2)
    first = village.leader
    village.ask("1")
    village.run(when_s)
    village.crash(first)
    village.run(10.0)
    village.ask("1")
    village.run(40.0)

    heard = [m for m in village.answers("1") if isinstance(m, Answer)]
    assert len({m.output for m in heard}) == 1
    assert village.leader != first
    assert sum(village.state.ledger.values()) == 4 * 4
    village.restart(first)
    village.run(10.0)
    digests = {village.coordination(k).state.digest() for k in COMMITTEE}
    assert len(digests) == 1


def test_a_new_leader_keeps_pipelines_whose_workers_are_there() -> None:
    """Nothing is dissolved and nothing loaded again because the leader changed."""
    village = ready(2)
    placed = dict(village.state.placements)
    village.crash(village.leader)
    village.run(40.0)

    assert village.state.placements == placed
    assert village.seen(Gone) == []


def test_a_committee_that_restarts_as_one_finds_its_pipelines_again() -> None:
    """All three lose their memory; the log brings everything back, and no worker loads anything again."""
    village = ready(2)
    village.ask("1")
    village.run(3.0)
    placed = dict(village.state.placements)
    for name in COMMITTEE:
        village.crash(name)
    for name in COMMITTEE:
        village.restart(name)
    loads = []
    village.lose = lambda sender, to, tag: tag == "load_shard" and loads.append(to) is not None
    village.run(40.0)
    village.ask("1")
    village.ask("2")
    village.run(5.0)

    assert village.state.placements == placed
    assert loads == []
    assert [type(m) for m in village.answers("1") + village.answers("2")] == [Answer] * 3
    assert sum(village.state.ledger.values()) == 2 * 4 * 4
