"""A node holds the layers that its own policies asked for, within what it lends, and nobody else brings any in."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from models.inference import SHAPES
from policies import village
from policies.config import BatchedConfig, OneByOneConfig, PolicyConfig, ServingRules, ShardingConfig
from policies.jobs import LoadJob, Lost, Stage
from policies.wire import encode
from real_backends.batch_frames import Batch, Slice
from real_backends.cluster import until
from real_backends.copies import Copy, Guard
from real_backends.executors import DESK_TINY, make_shard, pack_activation
from real_backends.lent_memory import LentMemory
from real_backends.step_frames import Failed, MarkedStep, Open, Step
from real_backends.transports.frames import STAGE
from tests.real_backends.session_nodes import STAGES, Node, end_of, place, run_nodes, said, session_job, submit

pytest.importorskip("torch", reason="torch is not installed: pip install 'villagetwin[torch]'")

X = pack_activation(np.zeros((2, DESK_TINY.hidden), np.float32), "f32")
OTHER = (STAGES[0], Stage("b", 3, 6), Stage("c", 6, 8))  # of b another layer than STAGES, where a heads as well
SHARDING = ShardingConfig(slots=2, context_tokens=256)
CARD = village.card(SHAPES["desk-tiny"], PolicyConfig(sharding=SHARDING))
LAYER_BYTES = CARD.layer_bytes + CARD.kv_bytes_layer
HELD = {("desk-tiny", 3, 5)}


def unasked(model: str, stages: tuple[Stage, ...]) -> dict[str, tuple[str, Any]]:
    """Return frames, with their senders, that speak of layers which b was not asked to hold."""
    first, last = stages[1].first, stages[1].last
    step = Step("s", model, stages, 1, 0, X)
    return {
        "open": ("a", Open("s", model, stages, 1)),
        "step": ("a", step),
        "marked step": ("a", MarkedStep(*(getattr(step, name) for name in step.__struct_fields__), b"m")),
        "batch": ("a", Batch("lane", 0, model, stages, 1, (Slice("s", 0, 2, True),), X)),
        "own name": ("a", Step("s", model, (Stage("b", 0, 3), *stages), 2, 0, X)),  # as if b headed the session
        "copy": ("c", Copy("kept", model, first, last, 0, 2, (2,), (b"m",), (X,))),
    }


@pytest.mark.parametrize("kind", unasked("", STAGES))
@pytest.mark.parametrize(("model", "stages"), [("desk-tiny", OTHER), ("namesake", STAGES)], ids=["layers", "model"])
def test_no_frame_brings_layers_into_memory(tmp_path: Path, kind: str, model: str, stages: tuple[Stage, ...]) -> None:
    """Whichever peer names layers that this node's own jobs did not ask for: it is told so, and nothing else comes."""
    sender, frame = unasked(model, stages)[kind]

    async def act(nodes: dict[str, Node]) -> None:
        await place(nodes)
        held, sent = nodes["b"].host.stages, list[Any]()
        held.transport.send = lambda *message: sent.append(message) or True  # type: ignore[func-returns-value]
        held.gate.admit(frame.model, getattr(frame, "stages", ()))
        held.gate.expect("kept", 1, "c")
        nodes["b"].host.on_frame(sender, STAGE, encode(frame))
        await until(lambda: not held._tasks)
        assert set(held.shards.held) == HELD
        assert held.sessions == (kind == "batch")  # an empty lane, which says the same when it is asked again
        assert not held.copies._by_request
        if kind != "copy":
            (failed,) = [msgspec.msgpack.decode(body, type=Failed) for _, _, body in sent]
            assert "not placed here" in failed.reason

    policy = PolicyConfig(serving=BatchedConfig(), sharding=SHARDING)
    asyncio.run(run_nodes(tmp_path, act, policy=policy))


def lending(node: Node, total_bytes: float) -> LentMemory:
    """Let a node have so much memory to lend."""
    memory = node.host.stages.shards.memory = LentMemory(total_bytes, {"desk-tiny": CARD}, SHARDING.slots)
    return memory


def load(first: int, last: int) -> bytes:
    return encode(LoadJob("desk-tiny", first, last))


def run(tmp_path: Path, act: Any) -> None:
    asyncio.run(run_nodes(tmp_path, act, policy=PolicyConfig(sharding=SHARDING, serving=BatchedConfig())))


def test_layers_beyond_what_is_lent_are_refused(tmp_path: Path) -> None:
    """A load of as much as is lent is done; one of more is lost with the bytes, and what was there stays."""

    async def act(nodes: dict[str, Node]) -> None:
        lending(nodes["b"], 8 * LAYER_BYTES)
        nodes["b"].host.limit("memory", 0.25)
        assert not isinstance((await end_of(nodes["b"], load(3, 5)))[-1], Lost)
        (lost,) = await end_of(nodes["b"], load(2, 5))
        assert isinstance(lost, Lost)
        assert f"need {3 * LAYER_BYTES:.0f} bytes of memory" in lost.reason
        assert set(nodes["b"].host.stages.shards.held) == HELD
        assert not isinstance((await end_of(nodes["b"], load(5, 7)))[-1], Lost)  # in place of the others

    run(tmp_path, act)


def test_an_old_plan_drains_only_where_there_is_room_for_both(tmp_path: Path) -> None:
    """Sessions of layers that stand in a new plan's way lose their caches; where both fit they keep them."""

    async def act(nodes: dict[str, Node]) -> None:
        await place(nodes)
        held = nodes["b"].host.stages
        for lent, layers in ((4, {(3, 5), (5, 7)}), (4, {(2, 5)})):
            lending(nodes["b"], lent * LAYER_BYTES)
            nodes["b"].host.on_frame("a", STAGE, encode(Step("s", "desk-tiny", STAGES, 1, 0, X)))
            await until(lambda: held.sessions == 1 and held._sessions["s"].answer is not None)
            first, last = sorted(layers)[-1]
            await held.load("desk-tiny", first, last)
            assert {key[1:] for key in held.shards.held} == layers
        assert held._sessions["s"].shard is None

    run(tmp_path, act)


@pytest.mark.parametrize("serving", [OneByOneConfig(), BatchedConfig()], ids=["alone", "batched"])
def test_a_session_of_an_earlier_plan_brings_nothing_back(tmp_path: Path, serving: ServingRules) -> None:
    """A head whose session goes on, or is asked for, when its layers gave way loses it; what was loaded since stays."""

    async def act(nodes: dict[str, Node]) -> None:
        a, held = nodes["a"], nodes["a"].host.stages
        await submit(a, 1, session_job(new_tokens=200, report_every=1))
        await until(lambda: bool(a.outcomes))
        lending(a, 4 * LAYER_BYTES + CARD.head_bytes)
        await held.load("desk-tiny", 4, 8)
        a.host.submit("worker", 2, session_job())
        await until(lambda: len(a.ends) == 2)
        assert set(held.shards.held) == {("desk-tiny", 4, 8)}
        assert all("not placed here" in end.reason for end in a.ends.values())

    asyncio.run(run_nodes(tmp_path, act, policy=PolicyConfig(sharding=SHARDING, serving=serving)))


def test_a_shard_for_checks_takes_the_room_that_is_left(tmp_path: Path) -> None:
    """What computes others' work again is refused where what serves leaves no room, and goes when a load needs it."""

    async def act(nodes: dict[str, Node]) -> None:
        await place(nodes)
        held = nodes["b"].host.stages
        lending(nodes["b"], 3 * LAYER_BYTES)
        with pytest.raises(ValueError, match="no room beside what serves"):
            held.shards.second("desk-tiny", 5, 7, make_shard)
        held.shards.second("desk-tiny", 5, 6, make_shard)
        await held.load("desk-tiny", 3, 6)
        assert held.shards._second is None
        with pytest.raises(ValueError, match="no room beside what serves"):
            held.shards.second("desk-tiny", 0, 8, make_shard)

    run(tmp_path, act)


def test_a_device_that_is_taken_back_has_its_memory_back(tmp_path: Path) -> None:
    """Nothing is held once no memory is lent, though compute is paused as well; placed again, it serves again."""

    async def act(nodes: dict[str, Node]) -> None:
        alone = said(nodes["a"], (await end_of(nodes["a"], session_job(op="client/first")))[-1])
        held = nodes["b"].host.stages
        lending(nodes["b"], 8 * LAYER_BYTES)
        nodes["b"].host.limit("compute", 0.0)
        nodes["b"].host.limit("memory", 0.0)
        await until(lambda: not held.shards.held)
        nodes["b"].host.limit("compute", 1.0)
        nodes["b"].host.on_frame("a", STAGE, encode(Guard("s", "desk-tiny", STAGES, 1, "kept", None, False)))
        nodes["b"].host.on_frame("a", STAGE, encode(Step("s", "desk-tiny", STAGES, 1, 0, X)))
        await until(lambda: not held._tasks)
        assert not held.shards.held
        nodes["b"].host.limit("memory", 1.0)
        assert said(nodes["a"], (await end_of(nodes["a"], session_job()))[-1]) == alone

    run(tmp_path, act)
