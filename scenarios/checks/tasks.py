"""Promises of task coordination: one end a task, dependencies first, sums that add up, and time that goes on."""

from __future__ import annotations

from policies.port import NS_PER_S
from policies.tasks.messages import (
    BACKGROUND,
    CRITICAL,
    Assigned,
    Counts,
    Ended,
    Freed,
    Heard,
    Presence,
    Running,
    Taken,
    Turned,
)
from scenarios.checks.language import AtMost, Check, Ends, Event, Sometimes, decided, told

TAKEN, TURNED = decided("tasks", "taken", Taken), decided("tasks", "turned", Turned)
ASSIGNED, FREED = decided("tasks", "assigned", Assigned), decided("tasks", "freed", Freed)
ENDED = decided("tasks", "ended", Ended)
HEARD, PRESENCE = decided("tasks", "heard", Heard), decided("tasks", "presence", Presence)
COUNTS = decided("tasks", "counts", Counts)
RUNNING = decided("agent", "running", Running)
ASKED_IN_CALM = told("asked_in_calm")
"""A client, after the faults, submits the task that the value names, and asks until it is accepted."""
STEPS = told("steps")
"""The world's steps since it last told; it tells at a fixed interval of virtual time."""

ENOUGH = 5
"""In so many reports tasks must have been done since the one before, until one has to see work (our choice)."""


class EveryTaskEndsOnce(Check):
    """A task has one end; a restart may tell it ``again``, but not another one."""

    def __init__(self) -> None:
        super().__init__("every_task_ends_once", ENDED)
        self.ends: dict[str, str] = {}

    def take(self, event: Event) -> str:
        task, reason, first = event.value.task, event.value.reason, event.value.task not in self.ends
        before = self.ends.setdefault(task, reason)
        if first or (event.value.again and before == reason):
            return ""
        return f"{task} ends as {reason or 'done'!r}, it had ended as {before or 'done'!r}"


class RunsAfterItsDependencies(Check):
    """An agent begins a task when everything that its client made it depend on is done."""

    def __init__(self) -> None:
        super().__init__("a_task_runs_after_its_dependencies", TAKEN, ENDED, RUNNING)
        self.dependencies: dict[str, tuple[str, ...]] = {}
        self.done: set[str] = set()

    def take(self, event: Event) -> str:
        if event.kind == "taken":
            self.dependencies[event.value.task] = event.value.dependencies
        elif event.kind == "ended":
            if not event.value.reason:
                self.done.add(event.value.task)
        else:
            for name in self.dependencies.get(event.value.task, ()):
                if name not in self.done:
                    return f"{event.node} begins {event.value.task} before {name} is done"
        return ""


class NoCircle(Check):
    """What was accepted waits for nothing that waits for it."""

    def __init__(self) -> None:
        super().__init__("accepted_tasks_have_no_circle", TAKEN)
        self.dependencies: dict[str, tuple[str, ...]] = {}

    def take(self, event: Event) -> str:
        task = event.value.task
        self.dependencies[task] = event.value.dependencies
        behind, new = set(), set(event.value.dependencies)
        while new:
            behind |= new
            new = {name for known in new for name in self.dependencies.get(known, ())} - behind
        return f"{task} is accepted and waits for itself" if task in behind else ""


class CountsAddUp(Check):
    """Accepted is done + failed + open, and each is the number of tasks that were announced so."""

    def __init__(self) -> None:
        super().__init__("counts_add_up", TAKEN, ENDED, COUNTS)
        self.taken: set[str] = set()
        self.ends: dict[str, bool] = {}

    def take(self, event: Event) -> str:
        if event.kind == "taken":
            self.taken.add(event.value.task)
        elif event.kind == "ended":
            self.ends[event.value.task] = not event.value.reason
        else:
            counts, done = event.value, sum(self.ends.values())
            said = (counts.accepted, counts.done, counts.failed, counts.open)
            true = (len(self.taken), done, len(self.ends) - done, len(self.taken) - len(self.ends))
            if said != true:
                return f"{event.node} counts (accepted, done, failed, open) {said}, announced were {true}"
        return ""


class NobodyOverItsLimit(Check):
    """No agent holds more tasks at once than ``slots``."""

    def __init__(self, slots: int) -> None:
        super().__init__("nobody_over_its_limit", TAKEN, ASSIGNED, FREED, ENDED)
        self.slots = slots
        self.coordinator = ""
        self.holder: dict[str, str] = {}

    def restarted(self, node: str) -> None:
        if node == self.coordinator:
            self.holder.clear()  # it tells again who holds what

    def take(self, event: Event) -> str:
        task, self.coordinator = event.value.task, event.node
        if event.kind in ("freed", "ended"):
            self.holder.pop(task, None)
            return ""
        agent = event.value.agent
        if not agent:  # told again after a restart, or new: nobody holds it
            self.holder.pop(task, None)
            return ""
        self.holder[task] = agent
        held = sum(other == agent for other in self.holder.values())
        return f"{agent} holds {held} tasks, at most {self.slots}" if held > self.slots else ""


class CriticalBeforeBackground(Check):
    """No background task is assigned while a critical one with the same needs, and nothing to wait for, is not.

    But for a background task that has aged into the first class: it was accepted four times ``ageing_s`` before.
    """

    def __init__(self, ageing_s: float) -> None:
        super().__init__("critical_before_background", TAKEN, ASSIGNED, FREED, ENDED)
        self.lead_ns = int((BACKGROUND - CRITICAL) * ageing_s * NS_PER_S)
        self.taken: dict[str, Taken] = {}
        self.waiting: dict[str, Taken] = {}  # critical ones that nobody holds
        self.done: set[str] = set()

    def take(self, event: Event) -> str:
        value = event.value
        if event.kind == "taken":
            said = self.taken.setdefault(value.task, value)
            self._waits(said, not value.agent)
        elif event.kind == "ended":
            self.waiting.pop(value.task, None)
            if not value.reason:
                self.done.add(value.task)
        elif value.task in self.taken:
            said = self.taken[value.task]
            self._waits(said, event.kind == "freed")
            if event.kind == "assigned" and said.priority == BACKGROUND:
                return self._passed_over(event, said)
        return ""

    def _waits(self, said: Taken, waits: bool) -> None:
        if not waits:
            self.waiting.pop(said.task, None)
        elif said.priority == CRITICAL:
            self.waiting[said.task] = said

    def _passed_over(self, event: Event, said: Taken) -> str:
        for critical in self.waiting.values():
            ready = self.done.issuperset(critical.dependencies)
            if ready and critical.needs == said.needs and critical.at_ns - said.at_ns < self.lead_ns:
                return f"{event.value.agent} gets {said.task} of the background, critical {critical.task} waits"
        return ""


class SilentAgentGetsNothing(Check):
    """An agent gets a task only within ``offline_after_s`` of a sign of life."""

    def __init__(self, offline_after_s: float) -> None:
        super().__init__("a_silent_agent_gets_nothing_new", HEARD, ASSIGNED)
        self.silence_ns = int(offline_after_s * NS_PER_S)
        self.heard_ns: dict[str, int] = {}

    def take(self, event: Event) -> str:
        agent, at_ns = event.value.agent, event.value.at_ns
        if event.kind == "heard":
            self.heard_ns[agent] = at_ns
        elif at_ns - self.heard_ns.get(agent, at_ns) >= self.silence_ns:
            silent_s = (at_ns - self.heard_ns[agent]) / NS_PER_S
            return f"{agent} gets {event.value.task} after {silent_s:.3f} s of silence"
        return ""


class WorkShowsAsUtilization(Check):
    """Where report after report tells of tasks that were done, some report has seen somebody work (liveness)."""

    family = "liveness"

    def __init__(self) -> None:
        super().__init__("work_shows_as_utilization", COUNTS)
        self.done = self.busy_reports = self.working_max = 0

    def take(self, event: Event) -> str:
        self.busy_reports += event.value.done > self.done
        self.done = event.value.done
        self.working_max = max(self.working_max, event.value.working)
        return ""

    def end(self) -> str:
        unseen = self.busy_reports >= ENOUGH and self.working_max == 0
        return f"{self.done} tasks were done, and every report says that nobody worked" if unseen else ""


class AskedInCalmIsDone(Check):
    """What is asked after the faults is done, not only ended (liveness)."""

    family = "liveness"

    def __init__(self) -> None:
        super().__init__("what_is_asked_in_calm_is_done", ASKED_IN_CALM, ENDED)
        self.asked: dict[str, str] = {}

    def take(self, event: Event) -> str:
        if event.kind == "asked_in_calm":
            self.asked.setdefault(event.value, "has no end")
        elif event.value.task in self.asked:
            self.asked[event.value.task] = event.value.reason and f"failed: {event.value.reason}"
        return ""

    def end(self) -> str:
        return next((f"{task} {why}" for task, why in self.asked.items() if why), "")


def every_accepted_task_ends() -> Ends:
    """Every accepted task is done, or fails with a reason."""
    return Ends("every_accepted_task_ends", TAKEN, ENDED, key=lambda e: e.value.task)


def time_goes_on(steps: int) -> AtMost:
    """The world takes at most ``steps`` steps between two looks at its clock: nobody turns round on the spot."""
    return AtMost("time_goes_on", STEPS, amount=lambda e: e.value, limit=steps, says="steps in one interval")


def safety(slots: int, ageing_s: float, offline_after_s: float, steps: int) -> tuple[Check, ...]:
    """Return what no fault may break; the arguments are the rules' numbers."""
    return (
        EveryTaskEndsOnce(), RunsAfterItsDependencies(), NoCircle(), CountsAddUp(), NobodyOverItsLimit(slots),
        CriticalBeforeBackground(ageing_s), SilentAgentGetsNothing(offline_after_s), time_goes_on(steps),
    )  # fmt: skip


def liveness() -> tuple[Check, ...]:
    """Return what must have come about by the end."""
    return every_accepted_task_ends(), WorkShowsAsUtilization(), AskedInCalmIsDone()


def rare() -> tuple[Check, ...]:
    """Return what a campaign must have seen."""
    return (
        Sometimes("an_agent_came_back", PRESENCE, when=lambda e: e.value.there and not e.value.first),
        Sometimes("a_task_was_taken_back", FREED, when=lambda e: True),
        Sometimes("an_agent_fell_silent_with_work", FREED, when=lambda e: "silent" in e.value.reason),
        Sometimes("a_task_failed_after_its_tries", ENDED, when=lambda e: "attempts" in e.value.reason),
        Sometimes("the_queue_was_full", TURNED, when=lambda e: "open" in e.value.reason),
        Sometimes("a_circle_was_refused", TURNED, when=lambda e: "round" in e.value.reason),
        Sometimes("the_coordinator_restarted_amid_work", TAKEN, when=lambda e: e.value.again and e.value.agent != ""),
    )  # fmt: skip
