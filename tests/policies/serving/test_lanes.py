"""Tests of policies.serving.lanes: how a pipeline's cache and sessions are dealt to its lanes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.config import BatchedConfig, OneByOneConfig, ShardingConfig
from policies.serving.batching import BLOCK_TOKENS, Batcher, Request
from policies.serving.lanes import lane_count, lane_rules, load_of, reserved_blocks, sessions_max


@given(st.integers(1, 64), st.integers(16, 5000), st.integers(1, 80), st.none() | st.integers(1, 64))
def test_lanes_take_no_more_cache_than_is_reserved_and_hold_a_whole_context_each(
    slots: int, context_tokens: int, stages: int, sessions: int | None
) -> None:
    """All lanes together fit into what stages reserve, and a session of the full context fits into any of them."""
    sharding, serving = ShardingConfig(slots=slots, context_tokens=context_tokens), BatchedConfig(sessions=sessions)
    lanes, rules = lane_count(sharding, stages), lane_rules(serving, sharding, stages)

    assert 1 <= lanes <= stages
    assert lanes * rules.blocks <= reserved_blocks(sharding) <= slots * (context_tokens // BLOCK_TOKENS + 1)
    assert Batcher(rules).fits(context_tokens - 1, 1)


@pytest.mark.parametrize(
    ("serving", "sessions"), [(OneByOneConfig(), 5), (BatchedConfig(), 5), (BatchedConfig(sessions=40), 40)]
)
def test_a_pipeline_takes_its_slots_unless_batches_take_more(serving: BatchedConfig, sessions: int) -> None:
    """Sessions at once are ``slots``, or what batched serving says."""
    assert sessions_max(serving, ShardingConfig(slots=5)) == sessions


def test_a_new_session_goes_to_the_lane_with_the_fewest() -> None:
    """Sessions that wait and sessions that run count alike, and the first of equal lanes is taken."""
    rules = lane_rules(BatchedConfig(), ShardingConfig(slots=4, context_tokens=64), 3)
    lanes = [Batcher(rules) for _ in range(3)]
    found = []
    for number in range(7):
        chosen = min(lanes, key=load_of)
        chosen.offer(Request(str(number), 8, 8))
        if number == 4:
            lanes[1].next()
        found.append(lanes.index(chosen))

    assert found == [0, 1, 2, 0, 1, 2, 0]
