"""Work: sessions that are answered wrongly, not run at all, or refused.

What a liar's activations do to a pipeline that it does not head is the executor's business: the twin's is told which
nodes lie (`lies_in_pipelines`), and either world's which nodes shirk (`cheat_of`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any

import msgspec

from policies import port as p
from policies.jobs import Done, Job, Lost, Outcome, SessionJob
from policies.port import NS_PER_S, Effect, Input
from policies.wire import digest, encode
from scenarios.adversaries.behaviours import Behaves, FreeRide, Lazy, Shirk, WrongResults
from scenarios.adversaries.payload import tag_of
from scenarios.adversaries.wrapped import B, Place, Steps, Wrapped

_outcome: Any = msgspec.msgpack.Decoder(Outcome).decode
_job: Any = msgspec.msgpack.Decoder(Job).decode

FOR_EVER_NS = 1 << 62


def lies_in_pipelines(behaviours: Sequence[Behaves]) -> range | None:
    """Return the times (ns of the run) at which a node's activations are wrong, or None."""
    for b in behaviours:
        if isinstance(b, WrongResults) or (isinstance(b, Shirk) and b.cheat != "four_bits"):
            return _times(b)
    return None


def cheat_of(behaviours: Sequence[Behaves]) -> tuple[str, range] | None:
    """Return how a node's executor cheats (`Shirk.cheat`) and at which times (ns of the run), or None."""
    for b in behaviours:
        if isinstance(b, Shirk):
            return b.cheat, _times(b)
    return None


def withheld_by(behaviours: Sequence[Behaves]) -> tuple[str, range] | None:
    """Return what a node does not hand out to who would check it (`Shirk.withholds`), and at which times, or None."""
    for b in behaviours:
        if isinstance(b, Shirk) and b.withholds != "nothing":
            return b.withholds, _times(b)
    return None


def _times(b: Behaves) -> range:
    return range(int(b.from_s * NS_PER_S), FOR_EVER_NS if b.until_s is None else int(b.until_s * NS_PER_S))


class WrongResultsCell(Wrapped[WrongResults]):
    """Its policies are lied to about what their executor produced."""

    def hear(self, given: Input) -> Input | None:
        if given[0] == p.JOB:
            outcome = _outcome(given[3])
            if isinstance(outcome, Done) and outcome.output:
                lie = blake2b(outcome.output.encode(), digest_size=20, person=b"wrong result").hexdigest()
                forged = Done(lie, outcome.tokens, outcome.first_token_ns, outcome.result)
                return (*given[:3], encode(forged))
        return given


class ShirkingCell(Wrapped[Shirk]):
    """Changes nothing that the node says: the cheat is its executor's (`cheat_of`)."""


class IdleCell(Wrapped[B]):
    """Keeps jobs from its executor, and tells its policies an outcome of its own."""

    jobs: tuple[str, ...] = ("session",)
    after_ns = 0

    def __init__(self, cell: Steps, behaviour: B, place: Place, index: int) -> None:
        super().__init__(cell, behaviour, place, index)
        self._kept: dict[str, tuple[str, int, bytes]] = {}

    def say(self, effect: Effect) -> Iterable[Effect]:
        if effect[0] == p.SUBMIT and tag_of(effect[3]) in self.jobs:
            name = str(effect[2])
            self._kept[name] = effect[1:]
            yield self.timer(name, self.now + self.after_ns)
        elif effect[0] != p.CANCEL or self._kept.pop(str(effect[2]), None) is None:
            yield effect

    def on_own(self, given: Input) -> Iterable[Effect]:
        kept = self._kept.pop(given[2], None) if given[0] == p.TIMER else None
        if kept is not None:
            path, job_id, payload = kept
            yield from self.pass_on((p.JOB, path, job_id, encode(self.outcome(_job(payload)))))

    def outcome(self, job: Any) -> Done | Lost:
        """What it says became of a job."""
        raise NotImplementedError


class LazyCell(IdleCell[Lazy]):
    """Reports what it has not done; colluders make up the same answer."""

    def __init__(self, cell: Steps, behaviour: Lazy, place: Place, index: int) -> None:
        super().__init__(cell, behaviour, place, index)
        self.jobs, self.after_ns = behaviour.jobs, int(behaviour.after_s * NS_PER_S)

    def outcome(self, job: Any) -> Done | Lost:
        if not isinstance(job, SessionJob):
            return Done("", 0, 0)
        made_up = digest(encode((self.place.party, job.model, job.prompt, job.new_tokens)))
        return Done(made_up, job.new_tokens, self.after_ns)


class FreeRidingCell(IdleCell[FreeRide]):
    """Gives up at once, and blames nobody."""

    def outcome(self, job: Any) -> Done | Lost:
        return Lost("busy")
