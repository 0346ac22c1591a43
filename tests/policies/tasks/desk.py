"""A coordinator fed by hand: what it says, answers and announces, input by input, with a disk that a test holds."""

from __future__ import annotations

from typing import Any

import msgspec

from policies import port as p
from policies.cell import Cell
from policies.config import TasksConfig
from policies.jobs import SessionJob
from policies.port import NS_PER_S
from policies.tasks import Coordinator
from policies.tasks import messages as m
from policies.wire import Message, encode
from sim.keys import KeyRing

SAYS: Any = msgspec.msgpack.Decoder(m.Unknown | m.Assign | m.Drop | m.Noted).decode
ANNOUNCES: Any = msgspec.msgpack.Decoder(
    m.Taken | m.Turned | m.Assigned | m.Freed | m.Ended | m.Heard | m.Presence | m.Counts
).decode


def submit(
    task: str, priority: int = m.NORMAL, needs: tuple[str, ...] = (), after: tuple[str, ...] = (), estimate_s: int = 60
) -> m.Submit:
    """Make a task."""
    return m.Submit(task, priority, needs, after, 1000 * estimate_s, SessionJob(task, "small", (), "p", "n0", 1, 1, 1))


class Desk:
    """One coordinator with the documented times, unless said otherwise.

    Attributes:
        sent: (agent, message) of everything sent.
        told: everything announced.
        answers: task to the newest answer about it.
        disk: what is durable.
        writes: how many batches were written.
    """

    def __init__(self, config: TasksConfig | None = None) -> None:
        self.config = config or TasksConfig()
        self.disk: dict[str, bytes] = {}
        self.holds = False  # whether writes stay under way
        self.now_s, self.lives, self.writes = 0.0, 0, 0
        self.sent: list[tuple[str, Any]] = []
        self.told: list[Any] = []
        self.answers: dict[str, m.Answer] = {}
        self.under_way: list[p.Effect] = []
        self.start()

    def start(self) -> None:
        """Start, or start again after a crash."""
        self.coordinator = Coordinator(self.config)
        self.cell = Cell({"tasks": self.coordinator}, "n0", (), seed=1, keys=KeyRing(1).handle("n0"))
        self.under_way, self.timers = [], {}
        self.give((p.START, "", dict(self.disk), self.lives))
        self.lives += 1

    def give(self, given: p.Input) -> None:
        """Feed one input, and what follows from it."""
        for effect in self.cell.step(int(self.now_s * NS_PER_S), 0, given):
            kind = effect[0]
            if kind == p.SAVE:
                self.writes += 1
                self.under_way.append(effect)
            elif kind == p.SEND:
                self.sent.append((effect[2].partition("/")[0], SAYS(effect[3])))
            elif kind == p.DECIDE:
                self.told.append(ANNOUNCES(effect[3]))
            elif kind == p.REPLY:
                answer = msgspec.msgpack.decode(effect[4], type=m.Answer)
                self.answers[answer.task] = answer
            elif kind == p.SET_TIMER:
                self.timers[effect[2]] = (effect[3], effect[4])
        if not self.holds:
            self.sync()

    def sync(self) -> None:
        """Let every write reach the disk."""
        while self.under_way:
            _, path, token, batch = self.under_way.pop(0)
            for key, value in batch:
                if value is None:
                    self.disk.pop(key, None)
                else:
                    self.disk[key] = value
            self.give((p.DURABLE, path, token))

    def ask(self, operation: m.Submit) -> str:
        """Let a client submit; return the state answered, or why it was refused."""
        self.give((p.REQUEST, "tasks", "client", operation.task, encode(operation)))
        answer = self.answers.get(operation.task, m.Answer("", "", ""))
        return answer.reason or answer.state

    def hear(self, agent: str, message: Message) -> None:
        """Let an agent speak."""
        self.give((p.MESSAGE, "tasks", agent, encode(message)))

    def register(self, agent: str, *skills: str, boot: int = 1) -> None:
        """Let an agent register."""
        self.hear(agent, m.Register(boot, tuple(m.Capability(skill) for skill in skills), 3, False))

    def wait(self, seconds: float, *beating: str) -> None:
        """Let time pass; those named heartbeat every second, and say that they hold what they were given."""
        for _ in range(int(seconds)):
            self.now_s += 1
            for agent in beating:
                self.hear(agent, m.Heartbeat(1, tuple(self.holding(agent))))
            for name, (due_ns, generation) in list(self.timers.items()):
                if due_ns <= self.now_s * NS_PER_S:
                    self.give((p.TIMER, "tasks", name, generation))

    def holding(self, agent: str) -> list[tuple[str, int]]:
        """Return what an agent was given and not told to drop."""
        held: dict[str, int] = {}
        for who, said in self.sent:
            if who == agent and isinstance(said, m.Assign):
                held[said.task] = said.attempt
            elif who == agent and isinstance(said, m.Drop | m.Noted) and held.get(said.task) == said.attempt:
                del held[said.task]
        return list(held.items())

    def finish(self, agent: str, task: str, attempt: int = 1, reason: str = "") -> None:
        """Let an agent report an end."""
        self.hear(agent, m.Finished(task, attempt, reason, ""))

    def given(self, agent: str) -> list[str]:
        """Return the tasks that an agent was assigned, in order."""
        return [said.task for who, said in self.sent if who == agent and isinstance(said, m.Assign)]

    def ends(self) -> dict[str, str]:
        """Return task to the reason of its end, "" if it is done."""
        return {said.task: said.reason for said in self.told if isinstance(said, m.Ended) and not said.again}

    def counts(self) -> tuple[int, int, int, int]:
        """Return accepted, done, failed, open."""
        return self.coordinator.book.counts()
