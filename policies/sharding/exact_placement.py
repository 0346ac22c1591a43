"""The placement of a few nodes and layers through which the most tokens flow, proven: every node and link by name.

Nodes are placed one after another, the most important first, each on any range of layers or on none: branch and bound
(Land and Doig 1960) whose bounds are cuts, found for hundreds of partial placements at once (`placement_cuts`). Ranges
are entered at any of their layers (partial inference, as in `flow.max_flow`, whose maximum over all placements this
is). Bounds are close only for a target near the largest flow, so a beam looks first for a placement that passes a
target, from what bounds allow downwards; branch and bound then begins from the best that was found, goes on with the
best bounds first, and proves that nothing passes more.

The search ends after a number of partial placements, never after seconds: what is then not proven is not answered, nor
are more choices or nodes tried than these limits allow; `placement` plans those, unproven.
"""

from __future__ import annotations

import numpy as np

from models.arrays import IntArray
from policies.jobs import Stage
from policies.problem import Plan, Problem, State
from policies.sharding.answer import pipelines_plan, shortfall
from policies.sharding.flow import Rates
from policies.sharding.placement import lone_rates, placed_plan
from policies.sharding.placement_cuts import TIE, Bound, Nodes, flows, nodes_of, ranked

RANGES_MAX, NODES_MAX = 200, 12
"""Choices of all nodes together (168 are eight nodes that hold any range of six layers); nodes, of whose cuts there are
2^n: of twelve they take 2 s, of sixteen 24 s (measured)."""
GAP = 1e-7
"""Relative gap at which a placement counts as proven."""
LEAST = 1e-9
"""Share of the bound of all placements that counts as a flow."""
BEAM, STEP, STEPS, RAISE = 64, 0.9, 25, 0.005
"""Partial placements that a beam keeps; targets it tries, each so much of the one before; and by how much it then asks
for more, while it finds that. Our choices all."""
BATCH = 512
"""Partial placements that branch at once."""


class Unproven(ValueError):
    """There are too many choices, or the partial placements allowed did not suffice."""


def plan(problem: Problem, state: State, budget: int) -> Plan:
    """Place by compute and cache as `placement.plan` does; ``budget`` is the limit of partial placements."""
    by_node = lone_rates(problem)
    if not by_node:
        return pipelines_plan(problem, [], shortfall(problem, problem.workers))
    try:
        return placed_plan(problem, by_node, largest_placement(problem, by_node, budget))
    except Unproven as error:
        return pipelines_plan(problem, [], str(error))


def largest_placement(problem: Problem, by_node: Rates, partial_max: int) -> tuple[Stage, ...]:
    """Return a placement that no other exceeds by more than `GAP` of its flow; empty if nothing flows.

    Raises:
        Unproven: one line that says how many choices there are, and what is allowed.
    """
    nodes = nodes_of(problem, by_node)
    ranges = sum(len(choices) - 1 for choices in nodes.ranges)
    for count, what, most in ((ranges, "ranges", RANGES_MAX), (len(nodes.names), "workers", NODES_MAX)):
        if count > most:
            raise Unproven(f"a placement of {count} {what}; allowed: up to {most}, `placement` plans more, unproven")
    return _Search(nodes, partial_max).largest() if ranges else ()


class _Search:
    """The best placement found so far, and what is left of the partial placements."""

    def __init__(self, nodes: Nodes, partial_max: int) -> None:
        self.most = Bound(nodes, float(nodes.rates.sum())).root()
        self.most = Bound(nodes, self.most).root()
        self.nodes, self.partial_max, self.left = nodes, partial_max, partial_max
        self.flow, self.best = 0.0, np.zeros((len(nodes.names), 2), dtype=np.int64)
        self._order(self.most)

    def _order(self, target: float) -> None:
        """Put the nodes first on which most depends, for a target."""
        order = np.argsort(-Bound(self.nodes, target).importance(), kind="stable")
        self.nodes, self.best = self.nodes.ordered(order.tolist()), self.best[order]

    def largest(self) -> tuple[Stage, ...]:
        target = self.most
        for _ in range(STEPS):
            self._dive(Bound(self.nodes, target))
            target *= STEP
            if self.flow >= target:
                break
        while self.flow and self._dive(Bound(self.nodes, self.flow * (1 + RAISE))):
            pass
        self._order(max(self.flow, self.most * LEAST))
        self._prove()
        held = zip(self.nodes.names, self.best.tolist(), strict=True)
        return tuple(sorted((Stage(node, a, z) for node, (a, z) in held if z), key=lambda stage: stage.node))

    def _dive(self, bound: Bound) -> bool:
        """Place all nodes, the best partial placements only; say whether the flow grew."""
        held = np.zeros((1, 0, 2), dtype=np.int64)
        for _ in self.nodes.names:
            held = self._branched(bound, held)[:BEAM]
        grew = better = self._keep(held)
        while better:
            better = self._keep(self._neighbours())
        return grew

    def _neighbours(self) -> IntArray:
        """Return the placements where one node holds something else than in the best."""
        choices = self.nodes.ranges
        found = np.tile(self.best, (sum(len(own) for own in choices), 1, 1))
        at = np.repeat(np.arange(len(choices)), [len(own) for own in choices])
        found[np.arange(len(found)), at] = np.concatenate(choices)
        return found

    def _prove(self) -> None:
        """Raise the flow until no partial placement is left that may pass more."""
        bound = self._bound()
        waiting = [np.zeros((1, 0, 2), dtype=np.int64)]
        while waiting:
            held = waiting.pop()
            if held.shape[1] == len(self.nodes.names):
                if self._keep(held):
                    bound = self._bound()
                continue
            further = self._branched(bound, held)
            waiting += [further[k : k + BATCH] for k in reversed(range(0, len(further), BATCH))]

    def _bound(self) -> Bound:
        return Bound(self.nodes, max(self.flow * (1 + GAP), self.most * LEAST))

    def _branched(self, bound: Bound, held: IntArray) -> IntArray:
        """Return the placements with one node more that may pass the target, those with the best bounds first."""
        self.left -= len(held) * len(self.nodes.ranges[held.shape[1]])
        if self.left < 0:
            raise Unproven(f"the best placement is not proven within {self.partial_max} partial placements")
        kept, bounds = bound.branched(held)
        return kept[ranked(-bounds / bound.target)]

    def _keep(self, held: IntArray) -> bool:
        """Keep the best of some whole placements if it is better, and say so."""
        found = flows(self.nodes, held)
        if not len(found) or found.max() <= self.flow * (1 + TIE):
            return False
        first = int(np.argmax(found >= found.max() * (1 - TIE)))
        self.flow, self.best = float(found[first]), held[first]
        return True
