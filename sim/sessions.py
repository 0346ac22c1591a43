"""What a session does and how long each part of it takes alone, by its executors' own law.

Alone means: as if nothing else wanted the executors, except what the law itself knows of. That is the batch, whose n
streams all advance one token per ``a + b n + c (sum of contexts)`` (`sim.laws`). How parts that want one executor at
the same time share it is not said here but in `sim.compute`; serial servers, which have queues, are in `sim.steps`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from policies.jobs import SessionJob
from sim.laws import DecodeCost, Law, PrefillCost
from sim.sharing import Flow
from sim.world import Node


@dataclass(eq=False)
class Executor:
    """One device's compute.

    Attributes:
        name: its node's.
        law: what its steps cost.
        speed: share of full speed it runs at now: lent share x throttle; 0 pauses it.
        sessions: sessions with a stage here, by number.
        streams, contexts: those of them that decode, and the sum of their mean contexts.
        busy_s: seconds at full speed it has worked since the fleet last asked.
    """

    name: str
    law: Law
    speed: float = 1.0
    sessions: dict[int, Session] = field(default_factory=dict)
    streams: int = 0
    contexts: float = 0.0
    busy_s: float = 0.0


class StageCost(NamedTuple):
    """What one stage of a session costs on its executor, by the law of its model there."""

    executor: Executor
    decode: DecodeCost
    prefill: PrefillCost
    law: Law


class Carry(NamedTuple):
    """A leg of a session: bytes from node to node, by number."""

    source: int
    target: int
    size_bytes: float


class Prefill(NamedTuple):
    """A leg of a session: the prompt through one stage."""

    stage: int


class Decode(NamedTuple):
    """A leg of a session: the tokens after the first one, through all stages in turn."""


class Walking(NamedTuple):
    """A leg of a session: all its passes through serial servers, step by step (`sim.steps`)."""


class Alone(NamedTuple):
    """A leg alone: how long it takes, and the seconds of that at which each resource works for it."""

    seconds: float
    work_s: Mapping[str, float]

    def takes(self) -> dict[str, float]:
        """Return the share of its time at which each resource works for it."""
        return {name: work_s / self.seconds for name, work_s in self.work_s.items()}


@dataclass(eq=False)
class Session:
    """One running session job.

    Attributes:
        hops_s: from stage to stage and back to the head, for one token.
        context: mean over its decoding.
        begins: position of the first token that goes through the stages: they have those before it.
        decided: tokens that this attempt decides; the prefill decides one, each round of decoding another.
        legs: what it has still to do, the present one first.
        alone: the present leg alone; None while it carries, or a stage on its way is paused.
        left: share of the present leg still to do when it was last looked at.
        flow: the present leg's; None while it is paused.
        passes: on serial servers, passes through all stages so far; the prompt's is the first.
        executors: of its stages, each once.
        decoding: whether it is a stream of its executors' batches.
    """

    number: int
    node: Node
    epoch: int
    path: str
    job_id: int
    job: SessionJob
    stages: list[StageCost]
    hops_s: float
    started_ns: int
    legs: list[Carry | Prefill | Decode | Walking]
    begins: int = 0
    alone: Alone | None = None
    left: float = 1.0
    flow: Flow | None = None
    decoding: bool = False
    first_token_ns: int = 0
    passes: int = 0

    def __post_init__(self) -> None:
        self.decided = self.job.new_tokens - len(self.job.forced)
        self.context = prefilled(self.job) + self.decided / 2
        self.executors = list(dict.fromkeys(stage.executor for stage in self.stages))

    def join_batches(self) -> None:
        """Decode from now on, as a stream of each executor."""
        self.decoding = True
        for executor in self.executors:
            executor.streams += 1
            executor.contexts += self.context

    @property
    def said(self) -> int:
        """How many tokens this attempt has decided, as of when its progress was last looked at."""
        if not isinstance(self.legs[0], Decode):
            return self.passes
        return 1 + int((1.0 - self.left) * (self.decided - 1))

    @property
    def entering(self) -> int:
        """How many tokens go through each stage at once, before the first one is decided."""
        return prefilled(self.job) - self.begins

    def taken(self, index: int) -> int:
        """Return how many tokens a stage has keys and values of, as of when its progress was last looked at."""
        if isinstance(self.legs[-1], Walking) and not self.passes:
            return self.begins
        if self.said:
            return prefilled(self.job) + self.said - 1
        passed = next((leg.stage for leg in self.legs if isinstance(leg, Prefill)), len(self.stages))
        return prefilled(self.job) if index < passed else self.begins

    def round_s(self) -> float:
        """Return what a further token takes, alone; 0 before there is any, or while a stage is paused."""
        if isinstance(self.legs[0], Walking):
            return sum(stage.decode.per_stream_s for stage in self.stages) if self.passes else 0.0
        if not isinstance(self.legs[0], Decode) or self.alone is None:
            return 0.0
        return self.alone.seconds / max(1, self.decided - 1)

    def leave(self) -> None:
        """Be gone from all executors."""
        for executor in self.executors:
            executor.sessions.pop(self.number, None)
            if self.decoding:
                executor.streams -= 1
                executor.contexts -= self.context


def prefilled(job: SessionJob) -> int:
    """Return the tokens that go through each stage at once: the prompt, and what an earlier attempt decided."""
    return job.prompt_tokens + len(job.forced)


def alone(session: Session) -> Alone | None:
    """Return a session's present leg alone, at the executors' present speeds; None if one of them is paused.

    Args:
        session: its present leg is a `Prefill` or `Decode`.
    """
    leg = session.legs[0]
    stages = [session.stages[leg.stage]] if isinstance(leg, Prefill) else session.stages
    if any(stage.executor.speed <= 0.0 for stage in stages):
        return None
    if isinstance(leg, Prefill):
        rounds, hops_s, parts = 1, 0.0, [1]
        steps = [_prefill_s(stage) for stage in stages]
    else:
        rounds, hops_s = session.decided - 1, session.hops_s
        steps = [_decode_s(stage) for stage in stages]
        parts = [stage.executor.streams for stage in stages]  # a step serves all streams; each stands for its part
    work_s: dict[str, float] = {}
    for stage, step_s, part in zip(stages, steps, parts, strict=True):
        name = stage.executor.name
        work_s[name] = work_s.get(name, 0.0) + step_s * rounds / part
    return Alone((sum(steps) + hops_s) * rounds, work_s)


def _prefill_s(stage: StageCost) -> float:
    return stage.prefill.scaled_s / stage.executor.speed + stage.prefill.overhead_s


def _decode_s(stage: StageCost) -> float:
    """One token of all streams at one stage."""
    executor, cost = stage.executor, stage.decode
    scaled_s = cost.base_s + cost.per_stream_s * executor.streams + cost.per_context_s * executor.contexts
    return scaled_s / executor.speed + cost.overhead_s
