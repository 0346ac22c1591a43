"""Routes through a placement: the next node is drawn by interleaved weighted round robin (Helix, section 5).

In each cycle of rounds a node of weight w is served in the first w rounds. Weights are what the maximum flow sends;
nodes may be masked, as Helix masks those above their cache's high-water mark.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import cycle

from policies.jobs import Stage
from policies.problem import Flow

ROUNDS = 100
"""Rounds of a cycle that the heaviest receiver of a node is served in: weights are kept to a hundredth of it."""


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
        """Return the next request's pipeline through nodes that are not masked; nothing if a node has none to go to."""
        stages: list[Stage] = []
        at, layer = "", 0
        while self._choices.get(at, set()) - set(masked):
            at = next(node for node in self._turns[at] if node not in masked)
            if not at:
                return tuple(stages)
            stages.append(Stage(at, layer, self._held[at].last))
            layer = self._held[at].last
        return ()


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
