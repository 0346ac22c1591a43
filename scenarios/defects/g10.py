"""G10, sharding: floor division, which drops the trailing layers."""

from __future__ import annotations

from policies.coordination import Coordination
from policies.jobs import Stage
from policies.problem import Plan, Problem, State
from policies.sharding import token_s
from policies.sharding.memory_ring import by_memory
from policies.state import VillageState


class BelievesItsPlanner(Coordination):
    """Place what a planner says: nobody in the predecessor's village looked at whether it is the whole model."""

    def _new_state(self, snapshot: bytes = b"") -> VillageState:
        self.layers = {}
        return super()._new_state(snapshot)


def plan(problem: Problem, state: State, budget: int) -> Plan:
    """Give every worker the same whole number of layers: its predecessor placed 30 of 32 layers on 5 nodes.

    Breaks `checks.requests.shards_cover_the_model` where the workers do not divide the layers.
    """
    workers = by_memory(problem.workers)[: problem.candidates]
    each = problem.layers // len(workers)
    if not each:
        return Plan((), (), "more workers than layers")
    stages = tuple(Stage(worker.node, k * each, (k + 1) * each) for k, worker in enumerate(workers))
    return Plan((stages,), (token_s(problem, stages),))
