"""The placement of a few nodes that a beam finds: every node and link by name, whatever the nodes next to it hold.

Nodes are placed one after another, the most important first, each on any range of layers or on none; of the partial
placements those with the largest bounds are kept (`placement_cuts`), and the best whole one is changed node by node
while its flow grows. Bounds are close only for a target near the largest flow, so the beam asks for a target, from what
bounds allow downwards. `exact_placement` goes on from here to a proof, and `placement` begins here too, as what it
otherwise begins from is of a plainer kind.
"""

from __future__ import annotations

import numpy as np

from models.arrays import IntArray
from policies.jobs import Stage
from policies.problem import Problem
from policies.sharding.flow import Rates
from policies.sharding.placement_cuts import TIE, Bound, Nodes, flows, nodes_of, ranked

RANGES_MAX, NODES_MAX = 200, 12
"""Choices of all nodes together (168 are eight nodes that hold any range of six layers); nodes, of whose cuts there are
2^n: of twelve they take 2 s, of sixteen 24 s (measured)."""
BEAM, STEP, STEPS, RAISE = 64, 0.9, 25, 0.005
"""Partial placements that a beam keeps; targets it tries, each so much of the one before; and by how much it then asks
for more, while it finds that. Our choices all."""


def beamed(problem: Problem, by_node: Rates) -> tuple[Stage, ...]:
    """Return the placement that a beam finds; empty if nothing flows, or there are more choices than it is made for."""
    nodes = nodes_of(problem, by_node)
    if not nodes.names or ranges_of(nodes) > RANGES_MAX or len(nodes.names) > NODES_MAX:
        return ()
    beam = Beam(nodes)
    beam.look()
    return beam.placement()


def ranges_of(nodes: Nodes) -> int:
    """Return the choices of all nodes together."""
    return sum(len(choices) - 1 for choices in nodes.ranges)


class Beam:
    """The best placement found so far.

    Attributes:
        most: what no placement exceeds.
        flow: of the best.
    """

    def __init__(self, nodes: Nodes) -> None:
        self.most = Bound(nodes, float(nodes.rates.sum())).root()
        self.most = Bound(nodes, self.most).root()
        self.nodes = nodes
        self.flow, self.best = 0.0, np.zeros((len(nodes.names), 2), dtype=np.int64)
        self.order(self.most)

    def order(self, target: float) -> None:
        """Put the nodes first on which most depends, for a target."""
        order = np.argsort(-Bound(self.nodes, target).importance(), kind="stable")
        self.nodes, self.best = self.nodes.ordered(order.tolist()), self.best[order]

    def look(self) -> None:
        """Look for a placement that passes much."""
        target = self.most
        for _ in range(STEPS):
            self._dive(Bound(self.nodes, target))
            target *= STEP
            if self.flow >= target:
                break
        while self.flow and self._dive(Bound(self.nodes, self.flow * (1 + RAISE))):
            pass

    def placement(self) -> tuple[Stage, ...]:
        """Return the best one."""
        held = zip(self.nodes.names, self.best.tolist(), strict=True)
        return tuple(sorted((Stage(node, a, z) for node, (a, z) in held if z), key=lambda stage: stage.node))

    def branched(self, bound: Bound, held: IntArray) -> IntArray:
        """Return the placements with one node more that may pass the target, those with the best bounds first."""
        kept, bounds = bound.branched(held)
        return kept[ranked(-bounds / bound.target)]

    def keep(self, held: IntArray) -> bool:
        """Keep the best of some whole placements if it is better, and say so."""
        found = flows(self.nodes, held)
        if not len(found) or found.max() <= self.flow * (1 + TIE):
            return False
        first = int(np.argmax(found >= found.max() * (1 - TIE)))
        self.flow, self.best = float(found[first]), held[first]
        return True

    def _dive(self, bound: Bound) -> bool:
        """Place all nodes, the best partial placements only; say whether the flow grew."""
        held = np.zeros((1, 0, 2), dtype=np.int64)
        for _ in self.nodes.names:
            held = self.branched(bound, held)[:BEAM]
        grew = better = self.keep(held)
        while better:
            better = self.keep(self._neighbours())
        return grew

    def _neighbours(self) -> IntArray:
        """Return the placements where one node holds something else than in the best."""
        choices = self.nodes.ranges
        found = np.tile(self.best, (sum(len(own) for own in choices), 1, 1))
        at = np.repeat(np.arange(len(choices)), [len(own) for own in choices])
        found[np.arange(len(found)), at] = np.concatenate(choices)
        return found
