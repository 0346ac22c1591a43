"""The book of tasks: which there are, how each stands, what it waits for, and who is next.

Pure bookkeeping, without a word to anybody. A task *waits*, is *assigned* to an agent, *works* there, and ends *done*
or *failed*; one that is taken back from its agent waits again. An end is final. Of the waiting tasks those whose
dependencies are all done are *ready*, in the order in which they are to be assigned.

Ageing is continuous: waiting ``ageing`` lifts a task by one class. Since all age alike, the order of two tasks never
changes, and is that of one number: when the task was accepted, plus one ``ageing`` for every class below the first.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import msgspec

from policies.tasks.graph import circle
from policies.tasks.messages import Submit
from policies.wire import Message, encode

WAITING, ASSIGNED, WORKING, DONE, FAILED = "waiting", "assigned", "working", "done", "failed"
FORGOTTEN = "forgotten"  # the key of what was forgotten; tasks' keys begin with ``t/``


class Record(Message, frozen=True):
    """A task on disk. Times are not kept: after a restart every wait begins anew, and so does ageing."""

    number: int
    submit: Submit
    state: str
    attempt: int
    agent: str
    reason: str


_record = msgspec.msgpack.Decoder(Record).decode
_totals = msgspec.msgpack.Decoder(tuple[int, int, int]).decode


@dataclass(eq=False)
class Task:
    """One accepted task.

    Attributes:
        number: how many were accepted before it.
        at_ns: when it was accepted, or when the coordinator last started.
        attempt: how often it was assigned.
        agent: who holds it, or held it when it was done.
        boot: the life of the agent in which the attempt works.
        due_ns: the attempt is overdue from here.
        lacks_since_ns: since when what it waits for does not exist; -1 where it does.
        reason: why it failed.
    """

    number: int
    submit: Submit
    at_ns: int
    state: str = WAITING
    attempt: int = 0
    agent: str = ""
    boot: int = 0
    due_ns: int = 0
    lacks_since_ns: int = -1
    reason: str = ""

    @property
    def name(self) -> str:
        """The name its client gave it."""
        return self.submit.task

    @property
    def open(self) -> bool:
        """Whether it has no end yet."""
        return self.state not in (DONE, FAILED)

    def record(self) -> bytes:
        """Return what is to be durable; whether an attempt works yet, its agent will say again."""
        state = ASSIGNED if self.state == WORKING else self.state
        return encode(Record(self.number, self.submit, state, self.attempt, self.agent, self.reason))


class Book:
    """All tasks of a coordinator.

    Args:
        ageing_ns: waiting this long lifts a task by one class.
        ended_max: ends that are remembered. A task that was forgotten counts as never submitted.

    Attributes:
        tasks: name to task, in order of acceptance.
        open: those of them without an end.
        forgotten: how many were accepted at all, and how many done and failed ones were forgotten.
    """

    def __init__(self, ageing_ns: int, ended_max: int) -> None:
        self.ageing_ns, self.ended_max = ageing_ns, ended_max
        self.tasks: dict[str, Task] = {}
        self.open: dict[str, Task] = {}
        self.ended: dict[str, None] = {}  # oldest end first
        self.accepted = 0
        self.forgotten = [0, 0]  # done, failed
        self._failed = 0
        self._unmet: dict[str, set[str]] = {}  # waiting task to its dependencies that are not done
        self._dependents: dict[str, set[str]] = {}  # task to the open tasks that name it
        self._ready: list[tuple[int, int, str]] = []

    # -- accepting -----------------------------------------------------------------------------------

    def circle(self, submit: Submit) -> tuple[str, ...]:
        """Return the circle of dependencies that this task would close, or ()."""
        waits = {name: task.submit.dependencies for name, task in self.open.items()}
        return circle(submit.task, submit.dependencies, waits)

    def accept(self, submit: Submit, now_ns: int) -> Task:
        """Write down a new task."""
        task = Task(self.accepted, submit, now_ns)
        self.accepted += 1
        self._enter(task)
        return task

    def _enter(self, task: Task) -> None:
        self.tasks[task.name] = self.open[task.name] = task
        for name in task.submit.dependencies:
            self._dependents.setdefault(name, set()).add(task.name)
        if task.state == WAITING:
            self._wait(task)

    def unmet(self, submit: Submit) -> set[str]:
        """Return the dependencies that are not done, whether or not anybody submitted them yet."""
        return {name for name in submit.dependencies if self._state(name) != DONE}

    def _state(self, name: str) -> str:
        return self.tasks[name].state if name in self.tasks else ""

    # -- waiting -------------------------------------------------------------------------------------

    def rank_ns(self, task: Task) -> int:
        """Return the task's place in the order of assignment; the lowest is first."""
        return task.at_ns + task.submit.priority * self.ageing_ns

    def _key(self, task: Task) -> tuple[int, int, str]:
        return self.rank_ns(task), task.number, task.name

    def _wait(self, task: Task) -> None:
        task.state, task.agent, task.lacks_since_ns = WAITING, "", -1
        unmet = self.unmet(task.submit)
        if unmet:
            self._unmet[task.name] = unmet
        else:
            insort(self._ready, self._key(task))

    def ready(self) -> list[Task]:
        """Return who may be assigned, in order."""
        return [self.tasks[name] for _, _, name in self._ready]

    def absent(self, task: Task) -> str:
        """Return a dependency of a task that nobody has submitted, or ""."""
        return min((name for name in self._unmet.get(task.name, ()) if name not in self.tasks), default="")

    def _leave_queue(self, task: Task) -> None:
        if self._unmet.pop(task.name, None) is None:
            place = bisect_left(self._ready, self._key(task))
            del self._ready[place]

    # -- with an agent -------------------------------------------------------------------------------

    def assign(self, task: Task, agent: str, due_ns: int) -> None:
        """Give a ready task to an agent."""
        self._leave_queue(task)
        task.state, task.agent, task.due_ns = ASSIGNED, agent, due_ns
        task.attempt += 1

    def take_back(self, task: Task) -> None:
        """Let a task wait again."""
        self._wait(task)

    # -- ending --------------------------------------------------------------------------------------

    def end(self, task: Task, state: str, reason: str) -> list[Task]:
        """End an open task; return the tasks that cannot be done any more because it failed."""
        if task.state == WAITING:
            self._leave_queue(task)
        task.state, task.reason = state, reason
        self._note_end(task)
        waiting = [self.tasks[name] for name in sorted(self._dependents.get(task.name, ()))]
        if state == FAILED:
            return waiting
        for other in waiting:
            unmet = self._unmet.get(other.name, set())
            unmet.discard(task.name)
            if not unmet and self._unmet.pop(other.name, None) is not None:
                insort(self._ready, self._key(other))
        return []

    def _note_end(self, task: Task) -> None:
        self.ended[task.name] = None
        self._failed += task.state == FAILED
        del self.open[task.name]
        for name in task.submit.dependencies:
            self._dependents[name].discard(task.name)
            if not self._dependents[name]:
                del self._dependents[name]

    def forget(self) -> list[str]:
        """Forget the oldest ends beyond ``ended_max`` that no open task asks about; return their names."""
        gone: list[str] = []
        for name in self.ended:
            if len(self.ended) - len(gone) <= self.ended_max:
                break
            if name not in self._dependents:
                gone.append(name)
        for name in gone:
            failed = self.tasks.pop(name).state == FAILED
            self.forgotten[failed] += 1
            self._failed -= failed
            del self.ended[name]
        return gone

    # -- counting ------------------------------------------------------------------------------------

    def counts(self) -> tuple[int, int, int, int]:
        """Return how many were accepted, are done, have failed, and are open."""
        done, failed = self.forgotten
        remembered = len(self.ended) - self._failed
        return self.accepted, done + remembered, failed + self._failed, len(self.open)

    # -- restarts ------------------------------------------------------------------------------------

    def totals(self) -> bytes:
        """Return what is to be durable of what was forgotten."""
        return encode((self.accepted, *self.forgotten))

    def restore(self, saved: Mapping[str, bytes], now_ns: int) -> None:
        """Read an empty book's tasks from the disk."""
        if FORGOTTEN in saved:
            self.accepted, *self.forgotten = _totals(saved[FORGOTTEN])
        tasks = sorted(_saved_tasks(saved, now_ns), key=lambda task: task.number)
        self.tasks = {task.name: task for task in tasks}  # all first: who is ready depends on the others
        for task in tasks:
            self.accepted = max(self.accepted, task.number + 1)
            self._enter(task)
        for task in tasks:
            if not task.open:
                self._note_end(task)


def _saved_tasks(saved: Mapping[str, bytes], now_ns: int) -> Iterator[Task]:
    for key, value in saved.items():
        if key != FORGOTTEN:
            kept = _record(value)
            yield Task(
                kept.number, kept.submit, now_ns, kept.state, kept.attempt, kept.agent, due_ns=now_ns,
                reason=kept.reason,
            )  # fmt: skip
