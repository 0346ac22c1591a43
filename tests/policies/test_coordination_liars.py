"""Coordination among workers that lie: audits, reports that cannot be true, and blame."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from policies import port as p
from policies.commands import Receipt
from policies.coordination.requests import STRIKES_MAX
from policies.gateway import Answer, Refused
from policies.wire import encode
from policies.work import Report, SettledOp
from sim.keys import KeyRing
from tests.policies.small_village import SmallVillage, ready, rules


def test_an_audit_outvotes_a_liar_and_evicts_it_after_its_strikes() -> None:
    """With every request run twice and a third opinion at hand, no lie is settled and the liar goes."""
    village = ready(3, rules=rules(audit_share=1.0))
    village.desk.liars = {"w1"}
    for number in range(12):
        village.ask(str(number))
        village.run(10.0)

    outputs = {settled.op_id: settled.output for settled in village.seen(SettledOp)}
    assert outputs == {str(n): f"answer to p{n}" for n in range(12)}
    assert village.state.members == {"w1": False, "w2": True, "w3": True}
    assert all("w1" not in {s.node for s in placed.stages} for placed in village.state.placements.values())
    assert village.coordination().strikes == {"w1": STRIKES_MAX}


@pytest.mark.parametrize("liar", ["w1", "w2"])
def test_two_answers_of_one_pipeline_are_one_vote(liar: str) -> None:
    """Between a liar and an honest worker nobody wins by being run again: the request is refused, nobody is struck."""
    village = ready(2, rules=rules(audit_share=1.0))
    village.desk.liars = {liar}
    village.ask("1")
    village.run(20.0)

    assert village.answers("1") == [Refused("workers disagree on the answer")]
    assert village.coordination().strikes == {}
    assert village.state.ledger == {}


def test_an_answer_that_nobody_contradicts_stands_where_no_other_pipeline_is_free() -> None:
    """An audit waits for a second opinion and asks nobody twice; at the deadline the only answer stands."""
    village = ready(2, rules=rules(audit_share=1.0), slots=1)
    village.take()
    village.ask("endless")  # takes one line for ever
    village.run(1.0)
    village.take(1.0)
    village.ask("1", deadline_s=30.0)
    village.run(20.0)
    assert village.answers("1") == []

    village.run(20.0)

    assert [m.output for m in village.answers("1")] == ["answer to p1"]
    assert sum(village.state.ledger.values()) == 4 * 4


def test_a_head_that_counts_its_tokens_otherwise_has_given_another_answer() -> None:
    """No second pipeline can vouch for its receipt, and a third opinion settles the request."""
    village = ready(3, rules=rules(audit_share=1.0))
    village.take()
    village.ask("1")
    village.run(1.0)
    ((head, _), job) = next(iter(village.running.items()))
    village.take(1.0)
    report = Report("anna", "1", village.attempt(1), "", "", "answer to p1", 3, 0, bytes(64))
    report = msgspec.structs.replace(report, signature=signed(village, head, job.stages, report))
    village.world.give(village.world.by_name[village.leader], (p.MESSAGE, "coordination", head, encode(report)))
    village.run(10.0)

    assert [(type(m), m.tokens) for m in village.answers("1")] == [(Answer, 4)]
    assert village.coordination().strikes == {head: 1}
    assert village.coordination().efforts.all == {}


@pytest.mark.parametrize("what", ["signature", "tokens"])
def test_a_report_that_cannot_be_true_is_a_lost_attempt(what: str) -> None:
    """A forged signature, or more tokens than were asked for, earns nothing and holds nothing up."""
    village = ready(2)
    village.take()
    village.ask("1")
    village.run(1.0)
    ((head, _), job) = next(iter(village.running.items()))
    village.take(1.0)
    report = Report("anna", "1", village.attempt(1), "", "", "lie", 10**9 if what == "tokens" else 4, 0, bytes(64))
    if what == "tokens":
        report = msgspec.structs.replace(report, signature=signed(village, head, job.stages, report))
    village.world.give(village.world.by_name[village.leader], (p.MESSAGE, "coordination", head, encode(report)))
    village.run(10.0)

    assert [(type(m), m.output) for m in village.answers("1")] == [(Answer, "answer to p1")]
    assert sum(village.state.ledger.values()) == 4 * 4


def test_a_head_that_runs_sessions_nobody_gave_it_earns_nothing() -> None:
    """One that no client asked for, and one that another pipeline was given: it is told to end them, and no more."""
    village = ready(2)
    village.take()
    village.ask("1")
    village.run(1.0)
    ((head, job),) = ((head, job) for (head, _), job in village.running.items())
    other = next(stages for w in village.workers if (stages := village.coordination().lines.of_node[w]) and w != head)
    stages = village.coordination().lines.lines[other].stages
    told: list[tuple[str, str]] = []
    village.lose = lambda sender, to, tag: bool(told.append((to, tag)))
    for op_id in ("1", "9"):
        report = Report("anna", op_id, village.attempt(1), "", "", "its own", 4, 0, b"")
        receipt = Receipt("anna", op_id, report.output, report.tokens, stages)
        report = msgspec.structs.replace(report, signature=KeyRing(1).signature(stages[0].node, encode(receipt)))
        given_ = (p.MESSAGE, "coordination", stages[0].node, encode(report))
        village.world.give(village.world.by_name[village.leader], given_)
    village.run(0.1)

    assert stages[0].node != job.stages[0].node
    assert told.count((f"{stages[0].node}/worker", "settled")) == 2
    assert (village.state.ledger, village.state.balances) == ({}, {})
    assert village.seen(SettledOp) == []


def signed(village: SmallVillage, head: str, stages: Any, report: Report) -> bytes:
    """Return the head's true signature of what the report claims."""
    return KeyRing(1).signature(head, encode(Receipt("anna", "1", report.output, report.tokens, stages)))


def test_a_head_can_blame_only_its_own_line() -> None:
    """A report that names a stranger takes no other pipeline out of work."""
    village = ready(2)
    village.take()
    village.ask("1")
    village.run(1.0)
    ((head, _),) = village.running
    other = next(w for w in village.workers if w != head)
    given_ = (
        p.MESSAGE,
        "coordination",
        head,
        encode(Report("anna", "1", village.attempt(1), "lost", other, "", 0, 0, b"")),
    )
    village.world.give(village.world.by_name[village.leader], given_)
    village.run(0.5)

    workers = village.coordination().lines.workers
    assert workers[other].loaded == village.coordination().lines.of_node[other]
