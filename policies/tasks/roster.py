"""The roster: which agents there are, until when each is believed there, and how well one fits a task."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from policies.tasks.messages import CRITICAL, Capability, Submit

CAPABILITY, SUCCESS, FREE, SPECIALIST = 0.4, 0.3, 0.2, 0.1
"""The documented weights of fitness: how well it can, how often it did, how free it is, critical for a specialist."""


@dataclass(eq=False)
class Agent:
    """What the coordinator knows of an agent.

    Attributes:
        boot: its life; 0 until it has registered.
        heard_ns: when its lease was last renewed.
        there: whether it is believed there.
        scores: capability to how well it does that.
        slots: tasks it may hold.
        held: names of the tasks that hold its slots.
        done, lost: attempts of it that ended well, and the others.
    """

    name: str
    heard_ns: int
    boot: int = 0
    there: bool = True
    scores: dict[str, float] = field(default_factory=dict)
    slots: int = 0
    specialist: bool = False
    held: set[str] = field(default_factory=set)
    done: int = 0
    lost: int = 0

    def learn(self, boot: int, capabilities: Iterable[Capability], slots: int, specialist: bool) -> None:
        """Take in what it says of itself."""
        self.boot, self.slots, self.specialist = boot, slots, specialist
        self.scores = {capability.name: capability.score for capability in capabilities}

    @property
    def free(self) -> int:
        """How many more tasks it may hold."""
        return self.slots - len(self.held)

    def can(self, submit: Submit) -> bool:
        """Whether it has every capability that a task needs."""
        return all(name in self.scores for name in submit.needs)

    def fitness(self, submit: Submit) -> float:
        """Return how well it fits a task that it can do, from 0 to 1, by the documented weights.

        Success of an agent that has not ended an attempt yet counts as 1 (our choice: let it try).
        """
        capability = sum(self.scores[name] for name in submit.needs) / len(submit.needs) if submit.needs else 1.0
        success = self.done / (self.done + self.lost) if self.done + self.lost else 1.0
        special = float(self.specialist and submit.priority == CRITICAL)
        return CAPABILITY * capability + SUCCESS * success + FREE * self.free / self.slots + SPECIALIST * special
