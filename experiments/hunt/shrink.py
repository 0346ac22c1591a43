"""Shrinking: from a trial that breaks a promise to the smallest one found that breaks the same promise.

Faults are taken out by delta debugging (Zeller and Hildebrandt, "Simplifying and isolating failure-inducing input",
IEEE TSE 28(2), 2002); then lies, requests, nodes and time are cut, and each fault is made plainer. Every step is kept
only if the run still breaks the same check, so the result is a failure by construction.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import msgspec

from experiments.hunt.arena import CORRECT, Arena
from experiments.hunt.outcome import Outcome
from scenarios import faults as f
from scenarios.faults import Fault
from scenarios.schema import ScenarioError
from scenarios.trial import Trial

RUNS_MAX = 400
"""Runs a shrinking may take; at tens of runs a second it is over in some ten seconds."""
SHORTER = (0.1, 0.5, 0.8)


@dataclass
class Shrunk:
    """What shrinking came to.

    Attributes:
        trial: the smallest that still breaks the check.
        outcome: what it came to.
        runs: how many it took.
    """

    trial: Trial
    outcome: Outcome
    runs: int


class Shrinker:
    """Shrinks one trial; a defect's stays one in which the correct policy keeps the promise.

    Args:
        arena: where it runs.
        trial: what broke.
        check: the promise that must stay broken.
        runs_max: the budget.
        progress: called after each run with (runs, faults left).
    """

    def __init__(
        self, arena: Arena, trial: Trial, check: str, *, runs_max: int = RUNS_MAX,
        progress: Callable[[int, int], None] = lambda runs, faults: None,
    ) -> None:  # fmt: skip
        self.arena, self.check, self.runs_max, self.progress = arena, check, runs_max, progress
        self.best, self.runs = trial, 0
        self.outcome = arena.run(trial)
        self.known: set[bytes] = set()

    def shrink(self) -> Shrunk:
        """Shrink until nothing helps, or the budget is spent."""
        before = None
        while before != self.best and self.runs < self.runs_max:
            before = self.best
            self._fewer_faults()
            for candidates in (_fewer_lies, self._fewer_requests, self._fewer_nodes, self._shorter, _plainer):
                self._descend(candidates)
        return Shrunk(self.best, self.outcome, self.runs)

    def _breaks(self, trial: Trial) -> bool:
        """Run a candidate; keep it if it breaks the same check."""
        key = msgspec.msgpack.encode(trial)
        if key in self.known or self.runs >= self.runs_max:
            return False
        self.known.add(key)
        try:
            self.arena.check(trial)
        except ScenarioError:
            return False  # it names somebody who is no longer there
        self.runs += 1
        outcome = self.arena.run(trial)
        self.progress(self.runs, len(self.best.faults))
        if outcome.check != self.check or not self._shows_the_defect(trial):
            return False
        self.best, self.outcome = trial, outcome
        return True

    def _shows_the_defect(self, trial: Trial) -> bool:
        """Whether a defect's case is about the defect: the correct policy must keep the promise in it."""
        if trial.policy == CORRECT:
            return True
        return self.arena.run(msgspec.structs.replace(trial, policy=CORRECT)).check != self.check

    def _descend(self, candidates: Callable[[Trial], Iterator[Trial]]) -> None:
        """Take the first candidate that still breaks, again and again."""
        while any(self._breaks(candidate) for candidate in candidates(self.best)):
            pass

    def _fewer_faults(self) -> None:
        """Delta debugging: try each part of the schedule alone, then all but each part, with ever finer parts."""
        parts = 2
        while self.best.faults:
            faults = self.best.faults
            pieces = _split(faults, parts)
            rest = [tuple(one for other in pieces if other is not piece for one in other) for piece in pieces]
            if any(self._breaks(msgspec.structs.replace(self.best, faults=some)) for some in [(), *pieces, *rest]):
                parts = max(2, min(parts - 1, len(self.best.faults)))
            elif parts >= len(faults):
                return
            else:
                parts = min(2 * parts, len(faults))

    @property
    def _live(self) -> bool:
        """Whether what broke is that something did not come about by the end: then time and work must stay."""
        return self.outcome.at_s >= self.best.end_s

    def _fewer_requests(self, trial: Trial) -> Iterator[Trial]:
        """Ask less; of what never came about at least one request is left."""
        for fewer in sorted({0, 1, 2, trial.requests // 2, trial.requests - 1}):
            if int(self._live) <= fewer < trial.requests:
                yield msgspec.structs.replace(trial, requests=fewer)

    def _fewer_nodes(self, trial: Trial) -> Iterator[Trial]:
        """Leave out the last node, and name it nowhere."""
        if trial.nodes > self.arena.fewest:
            gone = trial.names[-1]
            faults = tuple(left for one in trial.faults if (left := _without(one, gone)) is not None)
            liars = {name: lies for name, lies in trial.liars.items() if name != gone}
            yield msgspec.structs.replace(trial, nodes=trial.nodes - 1, faults=faults, liars=liars)

    def _shorter(self, trial: Trial) -> Iterator[Trial]:
        """End earlier: a broken promise of safety needs no calm, and nothing after it."""
        if self._live:
            for share in SHORTER:
                yield msgspec.structs.replace(trial, storm_s=_up(trial.storm_s * share))
            return
        if 0 < self.outcome.at_s < trial.storm_s:
            yield msgspec.structs.replace(trial, storm_s=_up(self.outcome.at_s), calm_s=0.0)
        for share in SHORTER:
            yield msgspec.structs.replace(trial, storm_s=_up(trial.storm_s * share))
            if trial.calm_s:
                yield msgspec.structs.replace(trial, calm_s=_up(trial.calm_s * share))


def _up(seconds: float) -> float:
    """Round up to a hundredth, for people."""
    return max(0.01, -(-seconds * 100 // 1) / 100)


def _split(faults: Sequence[Fault], parts: int) -> list[tuple[Fault, ...]]:
    edges = [len(faults) * k // parts for k in range(parts + 1)]
    return [tuple(faults[a:b]) for a, b in pairwise(edges) if b > a]


def _without(fault: Fault, node: str) -> Fault | None:
    """Return a fault that no longer names a node; None if it is about that node alone."""
    field = fault.victims[0]
    value: Any = getattr(fault, field)
    if isinstance(value, str):
        return None if value == node else fault
    if isinstance(fault, f.Cut):
        pairs = tuple(pair for pair in fault.pairs if node not in pair)
        return msgspec.structs.replace(fault, pairs=pairs) if pairs else None
    left = tuple(who for who in value if who != node)
    return msgspec.structs.replace(fault, **{field: left}) if left or not value else None


def _fewer_lies(trial: Trial) -> Iterator[Trial]:
    """Make a liar honest, or leave out one of its lies, or let them begin at the start."""
    for name, lies in trial.liars.items():
        others = {liar: does for liar, does in trial.liars.items() if liar != name}
        yield msgspec.structs.replace(trial, liars=others)
        for k in range(len(lies) if len(lies) > 1 else 0):
            yield msgspec.structs.replace(trial, liars={**others, name: lies[:k] + lies[k + 1 :]})
        if any(one.from_s for one in lies):
            whole = tuple(msgspec.structs.replace(one, from_s=0.0) for one in lies)
            yield msgspec.structs.replace(trial, liars={**others, name: whole})


def _plainer(trial: Trial) -> Iterator[Trial]:
    """Make one fault plainer: its usual settings, rounder times, a shorter spell, fewer pairs."""
    for k, fault in enumerate(trial.faults):
        for change in _changes(fault):
            faults = (*trial.faults[:k], msgspec.structs.replace(fault, **change), *trial.faults[k + 1 :])
            yield msgspec.structs.replace(trial, faults=faults)


def _changes(fault: Any) -> Iterator[dict[str, Any]]:
    for name, plain in (("writes", "lost"), ("one_way", False), ("nodes", ()), ("drift_ppm", 0.0), ("offset_s", 0.0)):
        if getattr(fault, name, plain) != plain:
            yield {name: plain}
    if isinstance(fault, f.Cut) and len(fault.pairs) > 1:
        for pair in fault.pairs:
            yield {"pairs": tuple(other for other in fault.pairs if other != pair)}
    for name in ("at_s", "for_s", "down_s", "by_s", "share", "factor"):
        value = getattr(fault, name, None)
        for digits in (0, 1, 2):
            if value and value > 0 and (rounder := round(value, digits)) != value and rounder > 0:
                yield {name: rounder}
