"""The placement of a few nodes and layers through which the most tokens flow, proven: every node and link by name.

Nodes are placed one after another, the most important first, each on any range of layers or on none: branch and bound
(Land and Doig 1960) whose bounds are cuts, found for hundreds of partial placements at once (`placement_cuts`). Ranges
are entered at any of their layers (partial inference, as in `flow.max_flow`, whose maximum over all placements this
is). A beam looks first for a placement that passes much (`placement_beam`); branch and bound then begins from the best
that was found, goes on with the best bounds first, and proves that nothing passes more.

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
from policies.sharding.placement_beam import NODES_MAX, RANGES_MAX, Beam, ranges_of
from policies.sharding.placement_cuts import Bound, Nodes, nodes_of

GAP = 1e-7
"""Relative gap at which a placement counts as proven."""
LEAST = 1e-9
"""Share of the bound of all placements that counts as a flow."""
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
    ranges = ranges_of(nodes)
    for count, what, most in ((ranges, "ranges", RANGES_MAX), (len(nodes.names), "workers", NODES_MAX)):
        if count > most:
            raise Unproven(f"a placement of {count} {what}; allowed: up to {most}, `placement` plans more, unproven")
    return _Search(nodes, partial_max).largest() if ranges else ()


class _Search(Beam):
    """The best placement found so far, and what is left of the partial placements."""

    def __init__(self, nodes: Nodes, partial_max: int) -> None:
        super().__init__(nodes)
        self.partial_max = self.left = partial_max

    def largest(self) -> tuple[Stage, ...]:
        self.look()
        self.order(max(self.flow, self.most * LEAST))
        self._prove()
        return self.placement()

    def branched(self, bound: Bound, held: IntArray) -> IntArray:
        self.left -= len(held) * len(self.nodes.ranges[held.shape[1]])
        if self.left < 0:
            raise Unproven(f"the best placement is not proven within {self.partial_max} partial placements")
        return super().branched(bound, held)

    def _prove(self) -> None:
        """Raise the flow until no partial placement is left that may pass more."""
        bound = self._bound()
        waiting = [np.zeros((1, 0, 2), dtype=np.int64)]
        while waiting:
            held = waiting.pop()
            if held.shape[1] == len(self.nodes.names):
                if self.keep(held):
                    bound = self._bound()
                continue
            further = self.branched(bound, held)
            waiting += [further[k : k + BATCH] for k in reversed(range(0, len(further), BATCH))]

    def _bound(self) -> Bound:
        return Bound(self.nodes, max(self.flow * (1 + GAP), self.most * LEAST))
