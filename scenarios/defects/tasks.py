"""G01-G04, G21, G22: what the predecessor's coordinators of agents and devices did with tasks, each put back by itself.

The rows are those of the list of known defects. G21 and G22 were its edge manager's and its fog scheduler's; the same
questions are answered here by one coordinator: who is there, who holds room, and what becomes of a lost agent's work.
"""

from __future__ import annotations

from typing import Any

from policies.tasks import messages as m
from policies.tasks.book import Book, Task
from policies.tasks.coordinator import Coordinator
from policies.tasks.roster import Agent


class TurnsRound(Coordinator):
    """The queue loop puts work that cannot be assigned back at its end and goes on at once.

    Its predecessor's loop never yielded, so one task with an unfinished dependency froze it for ever. A step that
    never ends would take the whole world with it, so here each turn of the loop is a step: a timer of no length.
    """

    def _pass(self) -> None:
        super()._pass()
        if any(not task.agent for task in self.book.open.values()):
            self.port.set_timer("queue", 0)

    def on_timer(self, name: str) -> None:
        """Turn once more."""
        if name == "queue":
            self._pass()
            self.out.flush()
        else:
            super().on_timer(name)


class HearsNoHeartbeat(Coordinator):
    """Nothing renews a lease: every agent is offline after its time-out and never returns.

    Its predecessor had a time-out for agents and no method by which one could say that it is there.
    """

    def _on_heartbeat(self, name: str, message: m.Heartbeat) -> None:
        pass


class _DropsForward(Book):
    def unmet(self, submit: m.Submit) -> set[str]:
        return {name for name in super().unmet(submit) if name in self.tasks}


class DropsForwardDependencies(Coordinator):
    """A dependency on a task that was not submitted yet is dropped, so that the task runs too early.

    Its predecessor looked a dependency up when the task came, and went on without it.
    """

    book_class = _DropsForward


class _AllowsCircles(Book):
    def circle(self, submit: m.Submit) -> tuple[str, ...]:
        return ()


class AllowsCircles(Coordinator):
    """Circles of dependencies are accepted, and wait for themselves.

    Its predecessor did not look.
    """

    book_class = _AllowsCircles


class EndsTwice(Coordinator):
    """A repeated report of an end counts once more.

    Its predecessor did not look whether a task had ended already when a completion came.
    """

    def _awaited(self, name: str) -> Task | None:
        task = self.book.tasks.get(name)
        if task is not None and not task.open:
            self.out.decide("ended", m.Ended(name, task.reason))
            return None
        return task


class CountsTwice(Coordinator):
    """A task that is asked for again is counted again, though it is the same.

    Its predecessor counted submissions and called them tasks.
    """

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.repeated = 0

    def _asked_again(self, task: Task) -> None:
        self.repeated += 1

    def _counts(self) -> m.Counts:
        true = super()._counts()
        return m.Counts(true.accepted + self.repeated, true.done, true.failed, true.open, true.working, true.slots)


class NeverWorks(Coordinator):
    """No attempt is ever marked as working, so that utilization is 0 under any load.

    Its predecessor had the state and never set it.
    """

    def _begin(self, task: Task, boot: int) -> None:
        pass


class _FirstComeFirstServed(Book):
    def rank_ns(self, task: Task) -> int:
        return task.number


class IgnoresPriority(Coordinator):
    """First come, first served: what is critical waits as long as the background.

    Its predecessor's queue was plain FIFO; priority made agents fitter, and the task no earlier.
    """

    book_class = _FirstComeFirstServed


class RefreshesItself(Coordinator):
    """Whoever looks at the leases renews them itself, so that a silent agent never goes offline.

    Its predecessor's manager set the time it had last seen a device whenever it went over its devices.
    """

    def _look_at_leases(self) -> None:
        for agent in self.agents.values():
            agent.heard_ns = self.port.now


class ReservesNothing(Coordinator):
    """What an agent holds is not taken from its room, so that the fittest gets everything.

    Its predecessor put ten deployments on one phone.
    """

    def _room(self, agent: Agent) -> int:
        return agent.slots


class ForgetsTheLost(Coordinator):
    """Nothing is taken back from an agent that vanished, started anew, or takes for ever.

    Its predecessor never queued such tasks again, and never used its multiplier for time-outs.
    """

    def _take_back(self, task: Task, reason: str) -> None:
        pass


DEFECTS: dict[str, type[Coordinator]] = {
    "g01": TurnsRound,
    "g02": HearsNoHeartbeat,
    "g03_forward": DropsForwardDependencies,
    "g03_circle": AllowsCircles,
    "g03_twice": EndsTwice,
    "g03_counts": CountsTwice,
    "g04_working": NeverWorks,
    "g04_fifo": IgnoresPriority,
    "g21_refresh": RefreshesItself,
    "g21_reserve": ReservesNothing,
    "g22": ForgetsTheLost,
}
EXPECTS: dict[str, str] = {
    "g01": "time_goes_on",
    "g02": "what_is_asked_in_calm_is_done",
    "g03_forward": "a_task_runs_after_its_dependencies",
    "g03_circle": "accepted_tasks_have_no_circle",
    "g03_twice": "every_task_ends_once",
    "g03_counts": "counts_add_up",
    "g04_working": "work_shows_as_utilization",
    "g04_fifo": "critical_before_background",
    "g21_refresh": "a_silent_agent_gets_nothing_new",
    "g21_reserve": "nobody_over_its_limit",
    "g22": "every_accepted_task_ends",
}
"""Defect to the promise that it breaks."""
