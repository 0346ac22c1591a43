"""The coordinator, input by input: who is accepted, who is next, who is there, and what a restart keeps."""

from __future__ import annotations

from statistics import median

import pytest

from policies.config import TasksConfig
from policies.tasks import messages as m
from tests.policies.tasks.desk import Desk, submit


def test_a_task_ends_once():
    """A repeated report of an end, and one of another attempt, are noted and counted no more."""
    desk = Desk()
    desk.register("n1")
    desk.ask(submit("a"))
    for _ in range(3):
        desk.finish("n1", "a")

    assert desk.counts() == (1, 1, 0, 0)
    assert [said.task for said in desk.told if isinstance(said, m.Ended)] == ["a"]
    assert sum(isinstance(said, m.Noted) for _, said in desk.sent) == 3


def test_a_task_waits_for_a_dependency_that_comes_later():
    """A dependency may be submitted after the task that names it, and is done before it begins."""
    desk = Desk()
    desk.register("n1")
    assert desk.ask(submit("b", after=("a",))) == "waiting"
    assert desk.given("n1") == []
    desk.ask(submit("a"))
    assert desk.given("n1") == ["a"]
    desk.finish("n1", "a")
    assert desk.given("n1") == ["a", "b"]


def test_a_circle_is_refused_at_submission():
    """The task that would close a circle is refused with the circle; what it would have closed on fails in the end."""
    desk = Desk()
    desk.register("n1")
    desk.ask(submit("c", after=("b",)))
    desk.ask(submit("b", after=("a",)))

    assert desk.ask(submit("a", after=("c",))) == "dependencies go round: a waits for c waits for b waits for a"
    assert desk.ask(submit("d", after=("d",))) == "dependencies go round: d waits for d"
    desk.wait(500, "n1")
    assert desk.ends() == {"b": "dependency a was never submitted", "c": "dependency b has failed"}


@pytest.mark.parametrize(
    ("operation", "reason"),
    [
        (submit("a", priority=m.HIGH), "another task has this name"),
        (submit("c", after=("a", "a")), "a dependency is named twice"),
        (submit("c", after=("failed",)), "dependency failed has failed"),
        (submit("c"), "3 tasks are open"),
    ],
)
def test_refusals_say_why(operation: m.Submit, reason: str):
    """What cannot be accepted is refused with a reason, and nothing is recorded."""
    desk = Desk(TasksConfig(queue_max=3, tries=1))
    desk.register("n1")
    desk.ask(submit("failed"))
    desk.finish("n1", "failed", reason="no room")
    desk.ask(submit("a"))
    if reason.startswith("3"):
        desk.ask(submit("x"))
        desk.ask(submit("y"))
    before = desk.counts(), dict(desk.disk)

    assert desk.ask(operation) == reason
    assert (desk.counts(), desk.disk) == before


def test_whoever_asks_again_hears_how_the_task_stands():
    """The same submission twice is one task."""
    desk = Desk()
    assert [desk.ask(submit("a")), desk.ask(submit("a"))] == ["waiting", "waiting"]
    desk.register("n1")
    desk.finish("n1", "a")
    assert desk.ask(submit("a")) == "done"
    assert desk.counts() == (1, 1, 0, 0)


def test_a_silent_agent_is_offline_and_its_next_heartbeat_brings_it_back():
    """After five minutes of silence it gets nothing and loses its work; one heartbeat is enough to get work again."""
    desk = Desk()
    desk.register("n1")
    desk.ask(submit("a", estimate_s=3600))
    desk.wait(299)
    assert not any(isinstance(said, m.Presence) and not said.there for said in desk.told)
    desk.wait(6)
    assert m.Presence("n1", False) in desk.told
    assert m.Freed("a", "n1", "n1 is silent") in desk.told
    desk.ask(submit("b"))
    assert desk.given("n1") == ["a"]

    desk.hear("n1", m.Heartbeat(1, ()))
    assert m.Presence("n1", True) in desk.told
    assert desk.given("n1") == ["a", "a", "b"]


def test_a_late_end_counts_once():
    """An agent that was given up reports the end: the task is done, and whoever holds it now is told to drop it."""
    desk = Desk()
    desk.register("n1")
    desk.ask(submit("a", estimate_s=3600))
    desk.wait(306)
    desk.register("n2")
    assert desk.given("n2") == ["a"]
    desk.finish("n1", "a", attempt=1)
    desk.hear("n2", m.Heartbeat(1, (("a", 2),)))
    desk.finish("n2", "a", attempt=2)

    assert desk.counts() == (1, 1, 0, 0)
    assert ("n2", m.Drop("a", 2)) in desk.sent


def test_an_attempt_that_never_was_ends_nothing():
    """A task that waits cannot have been done, whoever says so: a task of its name may have been, and is forgotten."""
    desk = Desk(TasksConfig(ended_max=1))
    desk.register("n1")
    for task in ("a", "b"):
        desk.ask(submit(task))
        desk.finish("n1", task)
    assert list(desk.coordinator.book.tasks) == ["b"]
    desk.wait(400)
    assert desk.ask(submit("a")) == "waiting"
    desk.finish("n1", "a")

    assert desk.coordinator.book.tasks["a"].state == "waiting"
    assert desk.counts() == (3, 2, 0, 1)


def test_who_is_gone_keeps_no_newcomer_out():
    """The roster is bounded; it forgets whoever was silent longest, and nobody who is there or holds a task."""
    desk = Desk(TasksConfig(agents_max=2))
    desk.register("n1")
    desk.register("n2")
    desk.wait(10, "n1")
    desk.register("n3")
    assert list(desk.coordinator.agents) == ["n1", "n2"]
    desk.wait(400, "n1")
    desk.register("n3")
    desk.register("n4")

    assert list(desk.coordinator.agents) == ["n1", "n3"]
    desk.ask(submit("a", needs=("rare",)))
    desk.register("n3", "rare")
    assert desk.given("n3") == ["a"]


def test_an_overdue_attempt_is_taken_back_and_tries_are_bounded():
    """An attempt may take twice its estimate; after four of them the task fails and says so."""
    desk = Desk()
    desk.register("n1")
    desk.ask(submit("a", estimate_s=10))
    desk.wait(19, "n1")
    assert not any(isinstance(said, m.Freed) for said in desk.told)
    desk.wait(100, "n1")
    assert desk.given("n1") == ["a"] * 4
    assert desk.ends() == {"a": "4 attempts, at last: overdue on n1"}


def test_an_agent_that_starts_anew_loses_its_work():
    """What worked in an earlier life is given out again at once."""
    desk = Desk()
    desk.register("n1")
    desk.ask(submit("a"))
    desk.hear("n1", m.Started(1, "a", 1))
    desk.register("n1", boot=2)
    assert m.Freed("a", "n1", "its agent started anew") in desk.told
    assert desk.holding("n1") == [("a", 2)]
    desk.hear("n1", m.Started(1, "a", 2))  # a late copy cannot be of this attempt's life
    assert desk.coordinator.book.tasks["a"].state == "assigned"


def test_an_agent_holds_three_at_most_and_ends_make_room():
    """The documented limit holds whatever an agent asks for, and what ends gives its slot back."""
    desk = Desk()
    desk.hear("n1", m.Register(1, (), 64, False))
    for k in range(5):
        desk.ask(submit(f"t{k}"))
    assert desk.given("n1") == ["t0", "t1", "t2"]
    desk.finish("n1", "t1")
    assert desk.given("n1") == ["t0", "t1", "t2", "t3"]


def test_who_can_is_asked_and_who_cannot_does_not_block():
    """A task goes to an agent that has every capability; one that nobody can do fails when patience ends."""
    desk = Desk()
    desk.register("n1", "coding")
    desk.ask(submit("hard", m.CRITICAL, needs=("coding", "testing")))
    desk.ask(submit("easy", m.BACKGROUND, needs=("coding",)))
    assert desk.given("n1") == ["easy"]
    desk.wait(425, "n1")
    assert desk.ends()["hard"] == "nobody is there who can do coding and testing"


def test_the_most_urgent_is_next_and_nobody_starves():
    """A class counts as a minute of waiting: a background task goes before a critical one that came 4 minutes later."""
    desk = Desk()
    desk.ask(submit("old", m.BACKGROUND))
    desk.wait(200)
    desk.ask(submit("urgent", m.CRITICAL))
    desk.wait(45)
    desk.ask(submit("newest", m.CRITICAL))
    desk.register("n1")
    assert desk.given("n1") == ["urgent", "old", "newest"]


def test_under_overload_what_is_critical_waits_less():
    """Twice as much work as fits: the median wait of the critical class is far below the background's."""
    desk = Desk()
    desk.register("n1")
    submitted_s: dict[str, float] = {}
    for k in range(60):
        name = f"{'critical' if k % 2 else 'background'}{k}"
        submitted_s[name] = desk.now_s
        desk.ask(submit(name, m.CRITICAL if k % 2 else m.BACKGROUND))
        desk.wait(1, "n1")
        if k % 2:
            desk.finish("n1", desk.holding("n1")[0][0])
    while desk.holding("n1"):
        desk.wait(2, "n1")
        desk.finish("n1", desk.holding("n1")[0][0])
    waits = {"critical": [], "background": []}
    for said in desk.told:
        if isinstance(said, m.Assigned):
            waits[said.task.rstrip("0123456789")].append(said.at_ns / 1e9 - submitted_s[said.task])
    assert 10 * median(waits["critical"]) < median(waits["background"])


def test_a_restart_loses_nothing_accepted():
    """After a crash every task stands where it stood: ended, with its agent, or waiting, in the old order."""
    desk = Desk()
    desk.register("n1")
    for k in range(6):
        desk.ask(submit(f"t{k}", m.BACKGROUND if k == 4 else m.NORMAL, estimate_s=600))
    desk.finish("n1", "t0")
    before = desk.counts()
    desk.start()
    assert desk.counts() == before == (6, 1, 0, 5)
    assert desk.given("n1") == ["t0", "t1", "t2", "t3"]

    desk.hear("n1", m.Heartbeat(1, (("t1", 1), ("t2", 1), ("t3", 1))))
    assert desk.sent[-1] == ("n1", m.Unknown())
    desk.register("n1")
    desk.hear("n1", m.Heartbeat(1, (("t1", 1), ("t2", 1), ("t3", 1))))
    desk.finish("n1", "t1")
    desk.finish("n1", "t2")
    assert desk.given("n1") == ["t0", "t1", "t2", "t3", "t5", "t4"]


def test_nobody_is_told_what_is_not_durable():
    """While a write is under way neither the client nor the agent hears of it; a crash then forgets the task."""
    desk = Desk()
    desk.register("n1")
    desk.holds = True
    desk.ask(submit("a"))
    assert (desk.answers, desk.given("n1")) == ({}, [])
    desk.start()
    assert desk.counts() == (0, 0, 0, 0)
    desk.ask(submit("a"))
    desk.register("n1")
    desk.sync()
    assert (desk.answers["a"].state, desk.given("n1")) == ("waiting", ["a"])


def test_a_slow_disk_gets_one_write_at_a_time():
    """Fifty submissions during one sync follow it in a single write, not in fifty."""
    desk = Desk()
    desk.register("n1")
    desk.holds = True
    for k in range(51):
        desk.ask(submit(f"t{k}"))
    assert desk.writes == 1
    desk.sync()
    assert desk.writes == 2
    assert len(desk.answers) == 51


def test_what_is_forgotten_still_counts():
    """Ends beyond the bound are forgotten, but not while an open task asks about them; sums stay right for ever."""
    desk = Desk(TasksConfig(ended_max=2))
    desk.ask(submit("first"))
    desk.register("n1")
    desk.ask(submit("last", needs=("testing",), after=("first",)))
    desk.finish("n1", "first")
    for k in range(5):
        desk.ask(submit(f"t{k}"))
        desk.finish("n1", f"t{k}")
    assert desk.counts() == (7, 6, 0, 1)
    assert sorted(desk.disk) == ["tasks/forgotten", "tasks/t/first", "tasks/t/last", "tasks/t/t4"]
    desk.start()
    assert desk.counts() == (7, 6, 0, 1)
    desk.register("n1", "testing")
    assert desk.given("n1")[-1] == "last"
