"""Routes through a placement: the next node is drawn by interleaved weighted round robin (Helix, section 5).

In each cycle of rounds a node of weight w is served in the first w rounds. Weights are what the maximum flow sends;
nodes may be masked, as Helix masks those above their cache's high-water mark. Nodes from which only masked ones lead
on are masked with them.

`Fixed` draws whole pipelines in the same way, for planners that place nothing else. `Shortest` is Petals' client, and
SWARM's is in `swarm`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import cycle
from typing import Protocol

from policies.jobs import Stage
from policies.problem import Flow, Problem
from policies.sharding.petals import route

ROUNDS = 100
"""Rounds of a cycle that the heaviest receiver of a node is served in: weights are kept to a hundredth of it."""


class Drawing(Protocol):
    """Draws each request's pipeline."""

    def pipeline(self, masked: Collection[str] = ()) -> tuple[Stage, ...]:
        """Return the next request's pipeline through nodes that are not masked; nothing if there is none."""
        ...


class Router:
    """Draws pipelines through a placement."""

    def __init__(self, placement: Sequence[Stage], flows: Sequence[Flow]) -> None:
        self._held = {stage.node: stage for stage in placement}
        receivers: dict[str, list[Flow]] = {}
        for flow in flows:
            receivers.setdefault(flow.sender, []).append(flow)
        self._turns = {sender: cycle(turns(found)) for sender, found in receivers.items()}
        self._choices = {sender: {flow.receiver for flow in found} for sender, found in receivers.items()}

    def pipeline(self, masked: Collection[str] = ()) -> tuple[Stage, ...]:
        """Return the next request's pipeline through nodes that are not masked; nothing if there is none."""
        closed = self._closed(masked)
        if closed >= self._choices.get("", set()):
            return ()
        stages: list[Stage] = []
        at, layer = "", 0
        while not stages or at:
            at = next(node for node in self._turns[at] if node not in closed)
            if at:
                stages.append(Stage(at, layer, self._held[at].last))
                layer = self._held[at].last
        return tuple(stages)

    def _closed(self, masked: Collection[str]) -> set[str]:
        """Return the masked nodes and those that lead to nothing else, which end at earlier and earlier layers."""
        closed = set(masked)
        for stage in sorted(self._held.values(), key=lambda stage: -stage.last):
            if self._choices.get(stage.node, set()) <= closed:
                closed.add(stage.node)
        return closed


class Fixed:
    """Draws whole pipelines by their weights, over and over.

    Args:
        pipelines: at least one.
        weights: of each, above 0; for instance what its slowest stage passes.
    """

    def __init__(self, pipelines: Sequence[tuple[Stage, ...]], weights: Sequence[float]) -> None:
        self._pipelines = pipelines
        flows = [Flow("", str(number), weight) for number, weight in enumerate(weights)]
        self._turns = [int(turn) for turn in turns(flows)]
        self._next = 0

    def pipeline(self, masked: Collection[str] = ()) -> tuple[Stage, ...]:
        """Return the next pipeline of which no node is masked; nothing if there is none."""
        for number in range(len(self._turns)):
            turn = (self._next + number) % len(self._turns)
            stages = self._pipelines[self._turns[turn]]
            if all(stage.node not in masked for stage in stages):
                self._next = turn + 1
                return stages
        return ()


class Shortest:
    """Draws the shortest way through what is not masked (`petals.route`), whatever is under way there."""

    def __init__(self, problem: Problem, placement: Sequence[Stage]) -> None:
        self._problem, self._placement = problem, placement
        self._found: dict[frozenset[str], tuple[Stage, ...]] = {}

    def pipeline(self, masked: Collection[str] = ()) -> tuple[Stage, ...]:
        """Return the shortest pipeline; nothing if there is none."""
        key = frozenset(masked)
        if key not in self._found:
            self._found[key] = route(self._problem, self._placement, key)
        return self._found[key]


def turns(flows: Sequence[Flow]) -> list[str]:
    """Return one cycle of receivers: round by round, each as long as its weight lasts."""
    heaviest = max(flow.tokens_per_s for flow in flows)
    weights = [max(1, round(ROUNDS * flow.tokens_per_s / heaviest)) for flow in flows]
    return [
        flow.receiver
        for number in range(ROUNDS)
        for flow, weight in zip(flows, weights, strict=True)
        if weight > number
    ]


def disjoint(placement: Sequence[Stage], flows: Sequence[Flow], budget: int) -> list[tuple[Stage, ...]]:
    """Return pipelines drawn one after another, each through workers that none before it uses."""
    router, used = Router(placement, flows), set[str]()
    found: list[tuple[Stage, ...]] = []
    while len(found) < budget and (stages := router.pipeline(used)):
        found.append(stages)
        used |= {stage.node for stage in stages}
    return found
