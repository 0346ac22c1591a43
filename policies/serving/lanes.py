"""The lanes of a pipeline: several batches under way at once, so that its stages work at the same time.

A batch is at one stage at a time; while it is there, others can be at the rest. So the sessions of a pipeline are dealt
to as many lanes as it has stages, each with its share of the cache and one batch under way (the virtual engines of
vLLM's pipeline parallelism). Then it runs at min(1 / slowest stage, lanes / (stages + hops)). There are no more lanes
than sessions for which cache is reserved: each lane can hold one of the full context.
"""

from __future__ import annotations

from collections.abc import Sequence

from policies.config import BatchedConfig, ServingRules, ShardingConfig
from policies.serving.batching import BLOCK_TOKENS, Batcher, BatchRules
from policies.serving.blocks import Name


def sessions_max(serving: ServingRules, sharding: ShardingConfig) -> int:
    """Return how many sessions a pipeline takes at once; those that find no room in its cache wait with its head."""
    if isinstance(serving, BatchedConfig) and serving.sessions is not None:
        return serving.sessions
    return sharding.slots


def reserved_blocks(sharding: ShardingConfig) -> int:
    """Return the blocks, each in all layers, that every stage has reserved: room for `slots` full contexts."""
    return sharding.slots * -(-sharding.context_tokens // BLOCK_TOKENS)


def lane_count(sharding: ShardingConfig, stages: int) -> int:
    """Return how many batches are under way in a pipeline of so many stages."""
    return min(stages, sharding.slots)


def lane_rules(serving: BatchedConfig, sharding: ShardingConfig, stages: int) -> BatchRules:
    """Return the limits of one lane of a pipeline.

    Every stage has reserved the cache of `slots` contexts in each of its layers, whole blocks for each, or the plan
    would not have fitted: the tightest stage holds that, and none is asked for more. Blocks are shared within a lane:
    what another one caches may be gone before a batch of this one, which is on its way, arrives.
    """
    return BatchRules(
        blocks=reserved_blocks(sharding) // lane_count(sharding, stages),
        tokens_max=serving.tokens_max,
        requests_max=min(sessions_max(serving, sharding), serving.tokens_max),
        share=serving.share_prefixes,
    )


def load_of(batcher: Batcher) -> int:
    """Return how many requests a lane has."""
    return len(batcher.running) + batcher.waiting


def lane_for(lanes: Sequence[tuple[Batcher, Sequence[Name]]]) -> int:
    """Return the lane of a new session, by number: of those with fewest requests, the first that caches most of it.

    Args:
        lanes: each with the names that the session's full blocks have in it.
    """
    loads = [(load_of(batcher), -batcher.pool.known(names)) for batcher, names in lanes]
    return loads.index(min(loads))
