"""One way through all nodes: it covers the model once, and as many requests fit on it as it was cut for."""

from __future__ import annotations

import pytest

from experiments.shard.instances import instance
from policies.sharding.deep import one_way


@pytest.mark.parametrize("streams", [1, 8, 64])
def test_one_way_covers_the_model_and_holds_its_requests(streams: int) -> None:
    """On random pools: layers one behind another, each on one node, with the caches of all; none where room lacks."""
    ways = 0
    for number in range(60):
        problem = instance(number)
        workers = {worker.node: worker for worker in problem.workers}
        each = problem.layer_bytes + streams * problem.kv_bytes_layer
        room = {node: int(max(0.0, w.memory_bytes - 2 * problem.head_bytes) // each) for node, w in workers.items()}
        held = sorted(one_way(problem, streams), key=lambda stage: stage.first)

        assert bool(held) == (sum(room.values()) >= problem.layers)
        if held:
            ways += 1
            assert [stage.first for stage in held] == [0, *(stage.last for stage in held[:-1])]
            assert held[-1].last == problem.layers
            assert all(0 < stage.last - stage.first <= room[stage.node] for stage in held)
    assert ways > 0


def test_more_requests_never_have_more_room() -> None:
    """What can be cut for many requests can be cut for fewer."""
    for number in range(60):
        problem = instance(number)
        cut = [bool(one_way(problem, streams)) for streams in (1, 4, 16, 64, 256)]
        assert cut == sorted(cut, reverse=True)
