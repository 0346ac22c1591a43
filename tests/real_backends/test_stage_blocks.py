"""A stage's blocks: as many as the plan reserved, and none is kept for a session whose end nobody could tell of."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from models.inference import SHAPES
from policies import village
from policies.config import BatchedConfig, OneByOneConfig, PolicyConfig, ServingRules, ShardingConfig
from policies.jobs import Done, Lost
from real_backends import stages, step_frames
from real_backends.cluster import until
from tests.real_backends.session_nodes import NEW_TOKENS, STAGES, Node, end_of, run_nodes, session_job, submit

pytest.importorskip("torch", reason="torch is not installed: pip install 'villagetwin[torch]'")

TIGHT = PolicyConfig(sharding=ShardingConfig(slots=1, context_tokens=32), serving=OneByOneConfig())
"""Two blocks: one session of 16 tokens and more, and no other beside it."""


def deaf_to_ends(node: Node) -> None:
    """Let a node hear nothing of sessions that end."""
    take = node.host.on_frame

    def deaf(*frame: Any) -> None:
        if not (frame[1] == stages.STAGE and isinstance(stages._decode(frame[2]), step_frames.Close)):
            take(*frame)

    node.host.on_frame = deaf  # type: ignore[method-assign]


class _Later:
    """A clock that is ahead of another one."""

    def __init__(self, clock: Any) -> None:
        self.clock, self.ahead_ns = clock, 0

    def now(self) -> int:
        return int(self.clock.now()) + self.ahead_ns


@pytest.mark.parametrize("serving", [OneByOneConfig(), BatchedConfig()], ids=["one by one", "batched"])
def test_a_stage_allocates_what_the_plan_reserved_for_it(tmp_path: Path, serving: ServingRules) -> None:
    """Its pool has the bytes that the planner counted, and its sessions hold the blocks of their tokens."""
    policy = PolicyConfig(sharding=ShardingConfig(slots=3, context_tokens=64), serving=serving)
    a_layer = village.card(SHAPES["desk-tiny"], policy).kv_bytes_layer

    async def act(nodes: dict[str, Node]) -> None:
        assert isinstance((await end_of(nodes["a"], session_job()))[-1], Done)
        for stage in STAGES:
            found, layers = nodes[stage.node].host.stages, stage.last - stage.first
            assert found.shards.pool_bytes == layers * a_layer
            blocks = -(-(16 + NEW_TOKENS - 1) // 16)  # the prompt is 16 tokens; the last token is not fed
            assert found.kv_peak_bytes == layers * a_layer * blocks * 16 // (3 * 64)

    asyncio.run(run_nodes(tmp_path, act, policy=policy))


def test_a_session_whose_end_was_lost_gives_its_blocks_to_the_next(tmp_path: Path) -> None:
    """While its head may still go on it keeps them, and the next session is refused; after that they are taken."""

    async def act(nodes: dict[str, Node]) -> None:
        held = nodes["c"].host.stages
        clock = held.clock = _Later(held.clock)
        deaf_to_ends(nodes["c"])
        assert isinstance((await end_of(nodes["a"], session_job()))[-1], Done)
        lost = (await end_of(nodes["a"], session_job()))[-1]
        assert isinstance(lost, Lost)
        assert "are free" in lost.reason
        assert lost.node == "c"
        clock.ahead_ns = stages.GIVEN_UP_NS
        assert isinstance((await end_of(nodes["a"], session_job()))[-1], Done)

    asyncio.run(run_nodes(tmp_path, act, policy=TIGHT))


@pytest.mark.parametrize("serving", [OneByOneConfig(), BatchedConfig()], ids=["one by one", "batched"])
def test_a_head_that_went_down_holds_no_block(tmp_path: Path, serving: ServingRules) -> None:
    """What it headed is forgotten by the other stages; another head's sessions stay."""

    async def act(nodes: dict[str, Node]) -> None:
        held = nodes["c"].host.stages
        deaf_to_ends(nodes["c"])
        assert isinstance((await end_of(nodes["a"], session_job()))[-1], Done)
        (shard,) = held.shards.held.values()
        kept = shard.kv_bytes()
        nodes["c"].host.on_peer("b", "down")
        await nodes["c"].host.compute.run(lambda: None)
        assert shard.kv_bytes() == kept > 0
        nodes["c"].host.on_peer("a", "down")
        await until(lambda: held.sessions == 0)
        await nodes["c"].host.compute.run(lambda: None)
        assert shard.kv_bytes() == 0

    asyncio.run(run_nodes(tmp_path, act, policy=PolicyConfig(sharding=TIGHT.sharding, serving=serving)))


@pytest.mark.parametrize("serving", [OneByOneConfig(), BatchedConfig()], ids=["one by one", "batched"])
def test_a_step_that_its_sessions_end_overtook_begins_nothing(tmp_path: Path, serving: ServingRules) -> None:
    """What comes by way of another stage after the head's word that all is over takes no block."""
    policy = PolicyConfig(sharding=ShardingConfig(slots=3, context_tokens=64), serving=serving)

    async def act(nodes: dict[str, Node]) -> None:
        held: list[tuple[Any, ...]] = []
        take = nodes["c"].host.on_frame

        def late(*frame: Any) -> None:
            if frame[0] == "b" and frame[1] == stages.STAGE:
                held.append(frame)
            else:
                take(*frame)

        nodes["c"].host.on_frame = late  # type: ignore[method-assign]
        await submit(nodes["a"], 1, session_job())
        await until(lambda: bool(held))
        nodes["a"].host.on_peer("b", "down")
        await until(lambda: bool(nodes["a"].ends))
        await until(lambda: bool(nodes["c"].host.stages.gate._ended))
        take(*held[0])
        await asyncio.gather(*nodes["c"].host.stages._tasks)
        assert nodes["c"].host.stages.sessions == 0

    asyncio.run(run_nodes(tmp_path, act, policy=policy))
