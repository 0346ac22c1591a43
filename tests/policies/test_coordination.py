"""Coordination: leases, reassignment, lost messages, audits, priorities, deadlines, and a change of leader."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import port as p
from policies.commands import Accept, Receipt
from policies.config import CoordinationConfig
from policies.coordination.efforts import Efforts
from policies.coordination.requests import STRIKES_MAX
from policies.gateway import Answer, Part, Refused, Withdraw
from policies.local import Lend
from policies.port import NS_PER_S
from policies.wire import encode
from policies.work import Assign, Began, Emitted, Gone, Leave, Placed, Report, Settled, SettledOp
from sim.keys import KeyRing
from tests.policies.small_village import COMMITTEE, LEND, RULES, TWO_HOLD_ALL, SmallVillage, ready

TAKEN = Lend(False, 0.0, 0.0, "owner is back")


def rules(**changes: Any) -> CoordinationConfig:
    """Return the village's rules, changed."""
    return msgspec.structs.replace(RULES, **changes)


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


# -- workers that lie --------------------------------------------------------------------------------


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


# -- order, limits, deadlines ------------------------------------------------------------------------


def accepted(op_id: str, priority: int, at_s: float) -> Accept:
    """Return a request of a class, accepted at a time."""
    return Accept("anna", op_id, "m", "p", "k1", 1, 1, priority, int(at_s * NS_PER_S), 0)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 600)), min_size=1, max_size=30), st.integers(1, 120))
def test_the_queue_is_by_class_and_waiting_lifts_a_class(asked: list[tuple[int, int]], ageing_s: int) -> None:
    """The next one has the least class less the classes that waiting lifted it; ties are settled by name."""
    efforts = Efforts(ageing_s * NS_PER_S)
    for number, (priority, at_s) in enumerate(asked):
        efforts.add(accepted(f"{number:02d}", priority, at_s))
    now_s = 600
    order = []
    while (effort := efforts.next()) is not None:
        order.append(int(effort.accepted.op_id))
        efforts.unqueue(effort)

    naive = sorted(range(len(asked)), key=lambda n: (asked[n][0] * ageing_s - (now_s - asked[n][1]), f"{n:02d}"))
    assert order == naive


@given(st.lists(st.tuples(st.sampled_from(["add", "take", "requeue", "forget"]), st.integers(0, 5)), max_size=40))
def test_the_queue_holds_each_request_at_most_once(program: list[tuple[str, int]]) -> None:
    """However requests are queued, taken and forgotten, its length is what a set would say."""
    efforts, waiting = Efforts(NS_PER_S), set()
    for what, number in program:
        key = ("anna", str(number))
        if what == "add" and key not in efforts.all:
            efforts.add(accepted(str(number), number % 3, number))
            waiting.add(key)
        elif what == "take" and (effort := efforts.next()) is not None:
            efforts.unqueue(effort)
            waiting.remove(effort.key)
        elif what == "requeue" and key in efforts.all:
            efforts.queue(efforts.all[key])
            waiting.add(key)
        elif what == "forget":
            efforts.forget(key)
            waiting.discard(key)
        assert len(efforts) == len(waiting)
        assert (efforts.next() is None) == (not waiting)


def test_urgent_requests_overtake_and_patient_ones_are_not_forgotten() -> None:
    """Over one slot: the urgent one first, but one that waited two classes' worth before it."""
    village = ready(1, slots=1, rules=rules(ageing_s=5.0))
    village.take(4.0)
    village.ask("running")
    village.run(1.0)
    village.ask("old", priority=3)
    village.run(0.1)
    village.ask("late", priority=2)
    village.ask("urgent", priority=0)
    village.run(60.0)

    assert [op.split("/")[1] for op in village.desk.ran] == ["running", "urgent", "late", "old"]
    village = ready(1, slots=1, rules=rules(ageing_s=0.1))
    village.take(4.0)
    for op_id, priority in (("running", 0), ("old", 3), ("urgent", 0)):
        village.ask(op_id, priority=priority)
        village.run(1.0)
    village.run(60.0)
    assert [op.split("/")[1] for op in village.desk.ran] == ["running", "old", "urgent"]


def test_a_full_queue_says_come_again_and_records_nothing() -> None:
    """Beyond queue_max a client is told to wait; its request is not owed an outcome."""
    village = ready(1, slots=1, rules=rules(queue_max=2))
    village.take()
    for number in range(5):
        village.ask(str(number))
        village.run(0.5)

    assert [m.reason for m in village.answers("3") + village.answers("4")] == ["queue full"] * 2
    assert [op for _, op in village.state.requests] == ["0", "1", "2"]


def test_what_comes_at_once_does_not_exceed_the_queue() -> None:
    """Requests that the log has not taken in yet have their place in the queue already."""
    village = ready(1, slots=1, rules=rules(queue_max=2))
    village.take()
    for number in range(5):
        village.ask(str(number))
    village.run(0.5)

    assert [m.reason for op in "234" for m in village.answers(op)] == ["queue full"] * 3
    assert [op for _, op in village.state.requests] == ["0", "1"]


def test_a_request_past_its_deadline_is_refused_in_the_queue() -> None:
    """At the next tick, with an outcome that is recorded."""
    village = ready(1, slots=1)
    village.take()
    village.ask("running", deadline_s=1000.0)
    village.ask("late", deadline_s=3.0)
    village.run(12.0)

    assert village.answers("late") == [Refused("deadline passed")]
    assert ("anna", "late") in village.state.outcomes


def test_a_head_that_goes_on_renewing_but_never_answers_does_not_hold_a_request_for_ever() -> None:
    """A lease's length after the deadline it is refused, and its slot is free again."""
    village = ready(1)
    village.take()
    village.ask("1", deadline_s=5.0)
    village.run(12.0)
    assert village.answers("1") == []
    village.run(12.0)

    assert village.answers("1") == [Refused("deadline passed")]
    assert village.running == {}
    assert all(line.running == 0 for line in village.coordination().lines.lines.values())


def test_a_slot_that_a_refusal_frees_is_used_at_once() -> None:
    """A running request that is refused past its deadline makes room for the next, which need not wait for a tick."""
    village = ready(1, slots=1, rules=rules(plan_every_s=20.0))
    village.run(20.0)
    village.take()
    village.ask("1", deadline_s=5.0)
    village.run(1.0)
    village.ask("2")
    village.take(1.0)
    while not village.answers("1"):
        village.run(0.5)
    village.run(2.0)

    assert village.answers("1") == [Refused("deadline passed")]
    assert [type(m) for m in village.answers("2")] == [Answer]


@pytest.mark.parametrize("after_s", [0.001, 1.0])
def test_a_withdrawn_request_is_refused_and_its_session_ends(after_s: float) -> None:
    """Whether it runs or is only being accepted: one refusal in the log, nothing runs, the slot is free."""
    village = ready(1)
    village.take()
    village.ask("1")
    village.run(after_s)
    leader = village.world.by_name[village.leader]
    village.world.give(leader, (p.REQUEST, "gateway", "anna", "1", encode(Withdraw())))
    village.run(3.0)

    assert [settled.refused for settled in village.seen(SettledOp)] == ["withdrawn by its client"]
    assert village.answers("1") == []
    assert village.running == {}
    assert village.coordination().lines.lines
    assert all(line.running == 0 for line in village.coordination().lines.lines.values())


def test_withdrawing_what_was_never_asked_or_is_answered_writes_nothing() -> None:
    """It has no rate, so that the log would be whoever's who says it often enough."""
    village = ready(1)
    village.ask("1")
    village.run(5.0)
    applied = village.state.applied
    for op_id in ("1", "1", "never"):
        node = village.world.by_name[village.leader]
        village.world.give(node, (p.REQUEST, "gateway", "anna", op_id, encode(Withdraw())))
    village.run(5.0)

    assert village.state.applied == applied
    assert [type(m) for m in village.answers("1")] == [Answer]


def test_only_the_head_of_a_running_attempt_is_believed_about_its_tokens() -> None:
    """The client hears what it says, and again when it asks again; of another node, attempt or place nothing."""
    village = ready(2, rules=rules(stream=True))
    village.take()
    village.ask("1")
    village.run(1.0)
    ((head, _),) = village.running
    other = next(name for name in village.workers if name != head)
    for sender, attempt, token in ((head, 1, 7), (other, 1, 8), (head, 2, 9)):
        said = Emitted("anna", "1", village.attempt(attempt), 0, (token,))
        village.world.give(village.world.by_name[village.leader], (p.MESSAGE, "coordination", sender, encode(said)))
    village.run(1.0)

    assert village.answers("1") == [Part(0, (7,))]

    for position, tokens in ((1, (6,)), (4, (5,)), (-1, (4,))):  # the answer has four
        said = Emitted("anna", "1", village.attempt(1), position, tokens)
        village.world.give(village.world.by_name[village.leader], (p.MESSAGE, "coordination", head, encode(said)))
    village.ask("1")
    village.run(1.0)
    assert village.answers("1")[1:] == [Part(1, (6,)), Part(0, (7, 6))]  # who asks again hears all from the first


def test_a_session_that_goes_on_after_its_request_was_settled_is_ended_at_its_next_word() -> None:
    """As one that an earlier leader began: the leader of today knows nothing of it, and its slot is to be free."""
    village = ready(1)
    village.ask("1")
    village.run(5.0)
    assert [type(m) for m in village.answers("1")] == [Answer]

    told: list[tuple[str, str]] = []
    village.lose = lambda sender, to, tag: told.append((to, tag)) is not None
    said = Emitted("anna", "1", village.attempt(7), 0, (7,))
    village.world.give(village.world.by_name[village.leader], (p.MESSAGE, "coordination", "w1", encode(said)))
    village.run(0.1)

    assert ("w1/worker", "settled") in told


def test_tries_end() -> None:
    """A request whose attempts are all lost is refused after as many as the rules allow."""
    village = ready(1, rules=rules(tries=3))
    village.take()
    village.ask("1")
    for attempt in (1, 2, 3):
        village.run(8.0)  # the head is heard of again within half a lease
        lost = Report("anna", "1", village.attempt(attempt), "fell over", "w1", "", 0, 0, b"")
        village.world.give(village.world.by_name[village.leader], (p.MESSAGE, "coordination", "w1", encode(lost)))
    village.run(2.0)

    assert village.answers("1") == [Refused("workers lost")]
    assert village.seen(SettledOp)[0].attempts == 3


# -- a change of leader ------------------------------------------------------------------------------


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
