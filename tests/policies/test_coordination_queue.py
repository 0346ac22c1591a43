"""Coordination's queue: order by class and age, limits, deadlines, withdrawals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import port as p
from policies.commands import Accept
from policies.coordination.efforts import Efforts
from policies.gateway import Answer, Part, Refused, Withdraw
from policies.jobs import EXPIRED
from policies.port import NS_PER_S
from policies.wire import encode
from policies.work import Emitted, Report, SettledOp
from tests.policies.small_village import ready, rules


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


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_head_is_told_a_request_s_class_and_the_time_that_is_left(lost: int) -> None:
    """However often its assignment is lost on the way: the head's deadline is the leader's, later by the way there."""
    village = ready(1)
    told: list[str] = []
    village.lose = lambda sender, to, tag: tag == "assign" and (told.append(to), len(told) <= lost)[1]
    village.take()
    village.ask("1", priority=3, deadline_s=50.0)
    village.run(8.0)
    ((_, job),) = village.running.items()

    due_ns = village.state.requests[("anna", "1")].deadline_wall_ns - village.world.start_wall_ns
    assert job.rank == 3
    assert job.deadline_ns is not None
    assert due_ns <= job.deadline_ns < due_ns + NS_PER_S


def test_waiting_lifts_the_class_that_a_head_is_told() -> None:
    """A request that waited two classes' worth in the queue comes to its head two classes higher."""
    village = ready(1, slots=1, rules=rules(ageing_s=5.0))
    village.take(12.0)
    village.ask("running")
    village.run(1.0)
    village.ask("old", priority=3)
    village.run(12.0)

    assert [job.rank for job in village.running.values() if job.op.startswith("anna/old")] == [1]


@pytest.mark.parametrize("over", [True, False])
def test_what_expired_at_its_head_is_refused_once_and_never_too_early(over: bool) -> None:
    """The leader's own clock decides: a head that lets a request go before its deadline has lost an attempt."""
    village = ready(1, rules=rules(plan_every_s=20.0))
    village.run(20.0)
    village.take()
    village.ask("1", deadline_s=5.0)
    village.run(6.0 if over else 1.0)
    said = Report("anna", "1", village.attempt(1), EXPIRED, "", "", 0, 0, b"")
    village.world.give(village.world.by_name[village.leader], (p.MESSAGE, "coordination", "w1", encode(said)))
    village.run(1.0)

    assert village.answers("1") == ([Refused(EXPIRED)] if over else [])
    assert village.desk.ran == [f"anna/1/{n}" for n in ([1] if over else [1, 2])]
    assert sum(line.running for line in village.coordination().lines.lines.values()) == (0 if over else 1)


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
