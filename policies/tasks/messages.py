"""What agents and their coordinator say to one another, what clients ask, and what is announced.

Paths: the coordinator answers at ``tasks``, an agent at ``agent``.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from policies.jobs import SessionJob
from policies.wire import Message

CRITICAL, HIGH, NORMAL, LOW, BACKGROUND = range(5)
"""The documented five classes of priority, the most important first."""

Name = Annotated[str, Meta(min_length=1, max_length=128)]
Priority = Annotated[int, Meta(ge=CRITICAL, le=BACKGROUND)]
Names = Annotated[tuple[Name, ...], Meta(max_length=64)]
Share = Annotated[float, Meta(ge=0, le=1)]


# agent to coordinator


class Capability(Message, frozen=True):
    """What an agent can do, and how well; 0.8 is the documented score of one that nobody has measured."""

    name: Name
    score: Share = 0.8


class Register(Message, frozen=True, tag="register"):
    """An agent is there, with what it can do. ``boot`` grows from life to life of the agent."""

    boot: int
    capabilities: Annotated[tuple[Capability, ...], Meta(max_length=64)]
    slots: Annotated[int, Meta(ge=1, le=64)]
    specialist: bool


class Heartbeat(Message, frozen=True, tag="heartbeat"):
    """An agent is still there; ``held`` names every (task, attempt) that it answers for."""

    boot: int
    held: tuple[tuple[str, int], ...]


class Started(Message, frozen=True, tag="started"):
    """The attempt runs; it need not be assigned again."""

    boot: int
    task: str
    attempt: int


class Finished(Message, frozen=True, tag="finished"):
    """The attempt is over; an empty ``reason`` means it went well. Repeated until `Noted`."""

    task: str
    attempt: int
    reason: str
    output: str


# coordinator to agent


class Unknown(Message, frozen=True, tag="unknown"):
    """The agent is not known (any more): let it register."""


class Assign(Message, frozen=True, tag="assign"):
    """Run this."""

    task: str
    attempt: int
    work: SessionJob


class Drop(Message, frozen=True, tag="drop"):
    """Give the attempt up: nobody waits for it."""

    task: str
    attempt: int


class Noted(Message, frozen=True, tag="noted"):
    """The attempt's end was heard."""

    task: str
    attempt: int


# requests


class Submit(Message, frozen=True, tag="submit"):
    """Accept a task. Answered with `Answer`; asked again, with how the task stands now.

    ``dependencies`` must be done before it begins; they may be submitted later. ``needs`` are names of capabilities.
    """

    task: Name
    priority: Priority
    needs: Names
    dependencies: Names
    estimate_ms: Annotated[int, Meta(ge=1, le=7 * 86_400_000)]
    work: SessionJob


class Answer(Message, frozen=True, tag="answer"):
    """How a task stands: a state of `policies.tasks.book`, or ``refused``; ``reason`` says why it failed or was not."""

    task: str
    state: str
    reason: str


# announced (decide), for records and checks. What a restart tells once more is marked ``again``.


class Taken(Message, frozen=True, tag="taken"):
    """A task was accepted at ``at_ns``, as the client asked for it; ``agent`` holds it."""

    task: str
    priority: int
    needs: tuple[str, ...]
    dependencies: tuple[str, ...]
    at_ns: int
    agent: str = ""
    again: bool = False


class Turned(Message, frozen=True, tag="turned"):
    """A task was refused."""

    task: str
    reason: str


class Assigned(Message, frozen=True, tag="assigned"):
    """An agent holds a slot for the task since ``at_ns``."""

    task: str
    agent: str
    attempt: int
    at_ns: int


class Freed(Message, frozen=True, tag="freed"):
    """The agent does not hold the task any more; it waits again."""

    task: str
    agent: str
    reason: str


class Ended(Message, frozen=True, tag="ended"):
    """A task is done (an empty ``reason``) or has failed."""

    task: str
    reason: str
    again: bool = False


class Heard(Message, frozen=True, tag="heard"):
    """An agent's lease was renewed at ``at_ns``."""

    agent: str
    at_ns: int


class Presence(Message, frozen=True, tag="presence"):
    """The coordinator believes an agent there, or gone; ``first`` time, or once more."""

    agent: str
    there: bool
    first: bool = False


class Counts(Message, frozen=True, tag="counts"):
    """How many tasks there are and were, and how many of the ``slots`` of agents that are there work."""

    accepted: int
    done: int
    failed: int
    open: int
    working: int
    slots: int


class Running(Message, frozen=True, tag="running"):
    """An agent begins an attempt."""

    task: str
    attempt: int
