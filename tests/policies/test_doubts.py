"""What a failure detector's word does to coordination: it moves work, right or wrong, and never an outcome."""

from __future__ import annotations

import msgspec

from policies.config import CoordinationConfig
from policies.gateway import Answer
from policies.work import Gone, Placed, SettledOp
from tests.policies.small_village import RULES, TWO_HOLD_ALL, SmallVillage, ready

PATIENT = CoordinationConfig(lease_s=60.0, plan_every_s=30.0, audit_share=0.0)
"""So long that nothing below waits for a lease or a tick by accident."""


def patient(workers: int, memory_bytes: float) -> SmallVillage:
    """Return a village of patient rules, with its pipelines loaded."""
    village = SmallVillage(workers, memory_bytes, PATIENT)
    village.run(50.0)
    return village


def serving(village: SmallVillage) -> set[str]:
    """Return the heads of the sessions that run."""
    return {node for node, _ in village.running}


def crashed() -> tuple[SmallVillage, str]:
    """Return a village that has just lost the worker at the head of its one session, and that worker."""
    village = patient(3, TWO_HOLD_ALL)
    village.take()
    village.ask("1")
    village.run(1.0)
    (head,) = serving(village)
    village.crash(head)
    village.take(1.0)
    return village, head


def test_a_suspect_gets_no_new_work_and_keeps_what_it_has() -> None:
    """Its session runs on; what comes later goes elsewhere, or waits where there is nobody else."""
    village = ready(2)
    village.take()
    village.ask("1")
    village.run(1.0)
    (suspect,) = serving(village)
    village.see(suspect, "suspect")
    for k in "2345":
        village.ask(k)
    village.run(1.0)
    (other,) = serving(village) - {suspect}
    village.see(other, "suspect")
    village.ask("6")
    village.run(1.0)

    heads = [node for node, _ in village.running]
    assert (heads.count(suspect), heads.count(other)) == (1, 4)
    assert not any("6/" in attempt for attempt in village.desk.ran)
    assert village.seen(Gone) == []


def test_whoever_is_alive_again_gets_work_again() -> None:
    """A request that waited for want of trust starts as soon as the suspicion is refuted."""
    village = ready(1)
    village.see("w1", "suspect")
    village.ask("1")
    village.run(2.0)
    assert village.desk.ran == []
    village.see("w1", "alive")
    village.run(3.0)

    assert [type(message) for message in village.answers("1")] == [Answer]


def test_a_dead_workers_pipeline_is_replaced_at_once() -> None:
    """Long before its lease ends or the next tick the pipeline is gone, a new one stands, the request is answered."""
    village, head = crashed()
    village.see(head, "dead")
    village.run(5.0)

    assert [gone.reason for gone in village.seen(Gone)] == [f"{head}: declared dead"]
    assert {stage.node for stage in village.seen(Placed)[-1].stages} == set(village.workers) - {head}
    assert [type(message) for message in village.answers("1")] == [Answer]


def test_without_a_detectors_word_the_same_crash_waits_for_the_lease() -> None:
    """What the test before is measured against."""
    village, _ = crashed()
    village.run(5.0)

    assert village.seen(Gone) == []
    assert not any(isinstance(message, Answer) for message in village.answers("1"))


def test_a_wrong_verdict_costs_work_and_changes_no_outcome() -> None:
    """The worker lives, its answer comes too late, and the request has one outcome that is paid once."""
    village = ready(2)
    village.take(2.0)
    village.ask("1")
    village.run(1.0)
    (head,) = serving(village)
    village.see(head, "dead")
    village.run(8.0)

    assert [gone.reason for gone in village.seen(Gone)] == [f"{head}: declared dead"]
    (settled,) = village.seen(SettledOp)
    assert (settled.output, settled.attempts) == ("answer to p1", 2)
    assert head not in settled.nodes
    assert sum(village.state.ledger.values()) == 4 * 4
    assert [type(message) for message in village.answers("1")] == [Answer]


def test_one_that_was_wrongly_declared_dead_serves_again() -> None:
    """While the verdict stands its renewals earn it nothing; once it is refuted it is planned with as before."""
    village = ready(1)
    village.see("w1", "dead")
    village.run(20.0)
    assert len(village.seen(Placed)) == 1
    village.see("w1", "alive")
    village.run(RULES.plan_every_s + RULES.lease_s / 2 + 2.0)
    village.ask("1")
    village.run(3.0)

    assert len(village.seen(Placed)) == 2
    assert [type(message) for message in village.answers("1")] == [Answer]


def test_a_new_leader_knows_who_died_before_it_led() -> None:
    """Its pipelines with a dead worker are gone as soon as it leads, although it gave everybody a lease to speak up."""
    village = SmallVillage(2, rules=msgspec.structs.replace(PATIENT, plan_every_s=5.0))
    village.run(20.0)
    old = village.leader
    village.crash("w1")
    village.crash(old)
    village.see("w1", "dead")
    village.run(10.0)

    assert village.leader != old
    assert [gone.reason for gone in village.seen(Gone)] == ["w1: declared dead"]
