"""The mixer: which pipelines of which models stand side by side, chosen for the classes of service that share them.

For every number of the best model's pipelines, from as many as fit down to none, the workers that are left hold the
next model's, and so on. Of these mixes `policies.degradation` says which is best; what stands already is one of them,
and of equal ones it stays. What stands of a model is kept before anything new is planned, so that little moves. A
smaller model takes no more workers than it is needed for: those left over may hold a better one when others come.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from policies.degradation import KEEPS, Mix, Share, degrade, up, worth
from policies.jobs import Stage
from policies.mixing import Line, Mixed, Mixing, as_model
from policies.problem import Plan, Problem, Worker
from policies.promises import AVAILABILITY
from policies.sharding.answer import overflow
from policies.sharding.cost import token_s
from policies.wire import WireError, encode

Planner = Callable[[bytes, int], bytes]
Lines = tuple[tuple[tuple[Stage, ...], ...], ...]
"""Pipelines by model, the best model first."""

_mixing = msgspec.msgpack.Decoder(Mixing).decode
_plan = msgspec.msgpack.Decoder(Plan).decode


def mixer(planners: Mapping[str, Planner]) -> Planner:
    """Return the mixer as jobs run it, over these planners."""

    def planner(question: bytes, budget: int) -> bytes:
        """Answer an encoded `Mixing` with an encoded `Mixed`; ``budget`` bounds the pipelines of each model."""
        try:
            asked = _mixing(question)
        except msgspec.MsgspecError as error:
            raise WireError(f"mixing: {error}") from None
        if asked.planner not in planners:
            raise ValueError(f"planner is {asked.planner!r}; allowed: {', '.join(sorted(planners))}")
        return encode(_Mixer(asked, planners[asked.planner], budget).best())

    return planner


class _Mixer:
    """One question."""

    def __init__(self, asked: Mixing, planner: Planner, budget: int) -> None:
        self.asked, self.planner, self.budget = asked, planner, budget
        self.known = {worker.node: worker for worker in asked.workers}
        self.choices: list[Lines] = []
        self.reason = "no workers"

    def best(self) -> Mixed:
        """Return the best mix; what stands comes first, and so stays where nothing is better."""
        asked = self.asked
        fixed, movable = self._standing()
        self.choices = [_joined(fixed, movable)]
        self._try(asked.workers, movable, fixed, ())
        offer = degrade(asked.services, asked.away, [_mix(lines) for lines in self.choices])
        if offer is None:
            return Mixed((), 0.0, (), self.reason)
        found = tuple(
            Line(card.model, stages, self._token_s(card, stages))
            for card, pipelines in zip(asked.cards, self.choices[offer.number], strict=True)
            for stages in pipelines
        )
        return Mixed(found, offer.availability, offer.kept)

    def _standing(self) -> tuple[Lines, Lines]:
        """Return what stands and may not go, as its workers are not all among those asked about; and what may."""
        by_model: dict[bool, list[tuple[tuple[Stage, ...], ...]]] = {False: [], True: []}
        for card in self.asked.cards:
            own = [stages for model, stages in self.asked.standing if model == card.model]
            for movable, found in by_model.items():
                found.append(tuple(s for s in own if movable == all(stage.node in self.known for stage in s)))
        return tuple(by_model[False]), tuple(by_model[True])

    def _try(self, workers: Sequence[Worker], standing: Lines, fixed: Lines, chosen: Lines) -> bool:
        """Add every mix that begins with what is ``chosen`` of the first models, most of the next model first.

        Stops, and says so, at the first that lacks nothing: each later one has less of the best model.
        """
        rank = len(chosen)
        if rank == len(self.asked.cards):
            self.choices.append(self._needed(fixed, chosen))
            return self._lacks_nothing(self.choices[-1])
        card, free = self.asked.cards[rank], {worker.node for worker in workers}
        kept = [stages for stages in standing[rank] if all(stage.node in free for stage in stages)]
        kept = [stages for stages in kept if not overflow(self._problem(card, workers), stages)]
        whole = kept + self._plan(card, [worker for worker in workers if worker.node not in _nodes(kept)])
        for count in range(len(whole), -1, -1):
            left = [worker for worker in workers if worker.node not in _nodes(whole[:count])]
            if self._try(left, standing, fixed, (*chosen, tuple(whole[:count]))):
                return True
        return False

    def _needed(self, fixed: Lines, chosen: Lines) -> Lines:
        """Return a mix without the lines that are worth nothing to anybody: those workers wait for better use."""
        lines = _joined(fixed, chosen)
        for rank in range(len(chosen) - 1, 0, -1):
            for own in reversed(chosen[rank]):
                fewer = (*lines[:rank], tuple(stages for stages in lines[rank] if stages != own), *lines[rank + 1 :])
                if self._worth(fewer) > self._worth(lines):
                    break
                lines = fewer
        return lines

    def _worth(self, lines: Lines) -> tuple[float, ...]:
        return worth(self.asked.services, self.asked.away, _mix(lines))

    def _plan(self, card: Problem, workers: Sequence[Worker]) -> list[tuple[Stage, ...]]:
        if not workers:
            return []
        plan = _plan(self.planner(encode(self._problem(card, workers)), self.budget))
        self.reason = plan.infeasible or self.reason
        return list(plan.pipelines)

    def _problem(self, card: Problem, workers: Sequence[Worker]) -> Problem:
        own = tuple(as_model(card, self.asked.cards[0], worker) for worker in workers)
        return msgspec.structs.replace(card, workers=own)

    def _token_s(self, card: Problem, stages: tuple[Stage, ...]) -> float:
        """Return a line's seconds a token; 0 of one that stands on workers that were not asked about."""
        if not all(stage.node in self.known for stage in stages):
            return 0.0
        return token_s(self._problem(card, [self.known[stage.node] for stage in stages]), stages)

    def _lacks_nothing(self, lines: Lines) -> bool:
        """Whether every class that holds on to its promise has it."""
        strict = [AVAILABILITY[service] for service in self.asked.services if KEEPS[service] == "promise"]
        return any(lines) and up(_mix(lines), self.asked.away) >= max(strict, default=0.0)


def _joined(fixed: Lines, lines: Lines) -> Lines:
    return tuple(a + b for a, b in zip(fixed, lines, strict=True))


def _mix(lines: Lines) -> Mix:
    return tuple(Share(max((len(stages) for stages in own), default=1), len(own)) for own in lines)


def _nodes(pipelines: Sequence[Sequence[Stage]]) -> set[str]:
    return {stage.node for stages in pipelines for stage in stages}
