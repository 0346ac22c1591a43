"""An agent: registers with its coordinator, says every so often that it is there, and runs what it is given.

It trusts nobody's count but its own: what does not fit into its slots is not begun, and is asked of it again later.
A crash forgets all but how many lives it has had; the coordinator hears of a new life and takes its tasks back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from policies.config import TasksConfig
from policies.jobs import Done, Lost
from policies.port import NS_PER_S, Policy
from policies.tasks import messages as m
from policies.wire import Message

COORDINATOR = "tasks"  # the path of the coordinator
REMEMBERED = 256  # attempts that ended, which a late copy of their `Assign` shall not begin again


@dataclass
class Attempt:
    """One attempt of a task, until its end was noted."""

    number: int
    job: int
    finished: m.Finished | None = None


class TaskAgent(Policy):
    """Runs tasks on one node.

    Args:
        config: the village's rules.
        coordinator: the node that coordinates.
        capabilities: what it can do.
        specialist: whether it is fit for what is critical.

    Attributes:
        attempts: task to its attempt.
    """

    messages = (m.Unknown, m.Assign, m.Drop, m.Noted)

    def __init__(
        self, config: TasksConfig, coordinator: str, capabilities: Sequence[m.Capability], specialist: bool = False
    ) -> None:
        self.config, self.coordinator = config, coordinator
        self.capabilities, self.specialist = tuple(capabilities), specialist
        self.attempts: dict[str, Attempt] = {}
        self.over: dict[tuple[str, int], None] = {}
        self.boot = 0

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        """Begin another life."""
        self.attempts, self.over = {}, {}
        self.boot = int(saved.get("boot", b"0")) + 1
        self.port.save("boot", b"%d" % self.boot)
        self._register()
        self.port.set_timer("heartbeat", int(self.config.heartbeat_s * NS_PER_S))

    def _register(self) -> None:
        self._say(m.Register(self.boot, self.capabilities, self.config.slots, self.specialist))

    def on_timer(self, name: str) -> None:
        """Say that it is there, and again what was not noted."""
        self.port.set_timer("heartbeat", int(self.config.heartbeat_s * NS_PER_S))
        self._say(m.Heartbeat(self.boot, tuple((task, one.number) for task, one in self.attempts.items())))
        for attempt in self.attempts.values():
            if attempt.finished is not None:
                self._say(attempt.finished)

    def on_message(self, sender: str, message: Any) -> None:
        """The coordinator speaks."""
        if sender != self.coordinator:
            return
        if isinstance(message, m.Unknown):
            self._register()
        elif isinstance(message, m.Assign):
            self._on_assign(message)
        elif (attempt := self.attempts.get(message.task)) is not None and attempt.number == message.attempt:
            self._forget(message.task, attempt)

    def _on_assign(self, message: m.Assign) -> None:
        attempt = self.attempts.get(message.task)
        if attempt is not None and attempt.number < message.attempt:
            self._forget(message.task, attempt)
            attempt = None
        if (message.task, message.attempt) in self.over or (attempt and attempt.number > message.attempt):
            return
        if attempt is None:
            if sum(one.finished is None for one in self.attempts.values()) >= self.config.slots:
                return
            self.attempts[message.task] = Attempt(message.attempt, self.port.submit(message.work))
            self.port.decide("running", m.Running(message.task, message.attempt))
        self._say(m.Started(self.boot, message.task, message.attempt))

    def _forget(self, task: str, attempt: Attempt) -> None:
        self.port.cancel(attempt.job)
        del self.attempts[task]
        self.over[task, attempt.number] = None
        if len(self.over) > REMEMBERED:
            del self.over[next(iter(self.over))]

    def on_job(self, job_id: int, outcome: Any) -> None:
        """An attempt ended."""
        for task, attempt in self.attempts.items():
            if attempt.job == job_id and isinstance(outcome, Done | Lost):
                reason, output = ("", outcome.output) if isinstance(outcome, Done) else (outcome.reason, "")
                attempt.finished = m.Finished(task, attempt.number, reason, output)
                self._say(attempt.finished)
                return

    def _say(self, message: Message) -> None:
        self.port.send(f"{self.coordinator}/{COORDINATOR}", message)
