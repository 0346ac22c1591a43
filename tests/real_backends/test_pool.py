"""The pool of a shard: whose blocks are, what they take, and that it changes no bit where they lie."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="torch is not installed")
jax = pytest.importorskip("jax", reason="jax is not installed")

from models.inference import SHAPES  # noqa: E402  (needs torch and jax)
from policies import village  # noqa: E402
from policies.config import PolicyConfig, ShardingConfig  # noqa: E402
from policies.serving.batching import BLOCK_TOKENS  # noqa: E402
from policies.serving.lanes import reserved_blocks  # noqa: E402
from real_backends import executors as ex  # noqa: E402
from real_backends.executors.paced import PacedShard  # noqa: E402
from real_backends.executors.pool import SessionTable  # noqa: E402
from real_backends.executors.shard import Part  # noqa: E402
from scenarios.hosts import PACED, step_law  # noqa: E402

TINY = replace(ex.DESK_TINY, name="two-layers", layers=2, context=128)
WEIGHTS = ex.make_checkpoint(TINY, 0)
BACKENDS = ["torch", "jax", "paced"]
COMPUTING = ["torch", "jax"]
IDS = np.random.Generator(np.random.PCG64(5)).integers(0, TINY.vocab, (3, TINY.context))


def shard(backend: str, blocks: int, dtype: str = "fp32") -> ex.Shard:
    if backend == "paced":
        return PacedShard(TINY, 0, 2, step_law(PACED), sleep=None, blocks=blocks)
    return ex.make_shard(backend, TINY, WEIGHTS, 0, 2, device="cpu", dtype=dtype, blocks=blocks)


def block_count(tokens: int) -> int:
    return -(-tokens // BLOCK_TOKENS)


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_block_is_one_sessions_or_free(data: st.DataObject) -> None:
    """Whatever grows, starts over and ends: sessions hold exactly the blocks of their tokens, each held once."""
    table = SessionTable(TINY, data.draw(st.integers(1, 12)))
    lengths: dict[str, int] = {}
    for _ in range(data.draw(st.integers(1, 25))):
        name = data.draw(st.sampled_from("abcd"))
        if data.draw(st.booleans()) and name in lengths:
            table.drop(name)
            del lengths[name]
            continue
        position = data.draw(st.integers(0, lengths.get(name, 0)))
        end = data.draw(st.integers(position + 1, min(TINY.context, position + 50)))
        others = sum(block_count(length) for other, length in lengths.items() if other != name)
        part = Part(name, np.zeros(end - position), position)
        if others + block_count(end) > len(table.blocks):
            with pytest.raises(ex.BlocksFull, match="are free"):
                table.claim([part])
        else:
            (cache,) = table.claim([part])
            lengths[name] = cache.length = end
        held = [block for other in lengths for block in table.find(other).blocks]
        assert len(set(held)) == len(held) == table.held == sum(map(block_count, lengths.values()))
        assert set(held) <= set(range(len(table.blocks)))
        assert all(len(table.find(other).blocks) == block_count(length) for other, length in lengths.items())


def test_as_many_full_contexts_as_were_reserved_lie_in_one_piece() -> None:
    """Sessions that begin one after another and then grow side by side to the full context are never gathered."""
    contexts = 4
    table = SessionTable(TINY, contexts * block_count(TINY.context))
    for end in range(1, TINY.context + 1):
        for name in "abcd":
            (cache,) = table.claim([Part(name, np.zeros(1), end - 1)])
            cache.length = end
            assert cache.span(end) is not None
    assert table.blocks.room == 0


def test_blocks_apart_are_found_again() -> None:
    """In a tight pool a session's blocks lie apart; the places of its tokens are in its blocks, in order."""
    table = SessionTable(TINY, 6)
    for name, tokens in (("a", 32), ("b", 32), ("c", 32)):
        table.claim([Part(name, np.zeros(tokens), 0)])
    table.drop("a")
    table.drop("c")
    (cache,) = table.claim([Part("d", np.zeros(60), 0)])

    assert cache.span(60) is None
    assert cache.span(32) is not None
    found = cache.places(5, 60)
    assert [place // BLOCK_TOKENS for place in found] == [cache.blocks[n // BLOCK_TOKENS] for n in range(5, 60)]
    assert [place % BLOCK_TOKENS for place in found] == [n % BLOCK_TOKENS for n in range(5, 60)]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_step_that_finds_no_block_changes_nothing(backend: str) -> None:
    """It is refused in one line, for all of its sessions; a session that ends makes room."""
    one = shard(backend, 4)
    one.forward("a", IDS[0, :40], 0)
    held = one.kv_bytes()
    with pytest.raises(ex.BlocksFull, match="2 blocks: refused, 1 of 4 are free"):
        one.step([Part("a", IDS[0, 40:50], 40), Part("b", IDS[1, :3], 0)])
    assert (one.sessions(), one.kv_bytes()) == (1, held)
    one.drop("a")
    assert one.kv_bytes() == 0
    one.step([Part("c", IDS[0, :33], 0), Part("b", IDS[1, :3], 0)])
    assert one.kv_bytes() == one.pool_bytes()


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_session_holds_the_blocks_of_its_tokens(backend: str) -> None:
    """It takes one with its first token and one more after each 16; starting over gives back what is not needed."""
    one = shard(backend, 8)
    a_block = one.pool_bytes() // 8
    counts = []
    for position in range(34):
        one.forward("a", IDS[0, position : position + 1], position)
        counts.append(one.kv_bytes() // a_block)
    assert counts == [1] * 16 + [2] * 16 + [3] * 2
    one.forward("a", IDS[0, 10:12], 10)
    assert one.kv_bytes() == a_block


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("context_tokens", [128, 100])
def test_the_pool_takes_what_the_planner_reserves(backend: str, context_tokens: int) -> None:
    """The arrays of a pool have the bytes that a plan counts for the shard's layers, within what whole blocks add."""
    policy = PolicyConfig(sharding=ShardingConfig(slots=3, context_tokens=context_tokens))
    predicted = 2 * village.card(SHAPES["desk-tiny"], policy).kv_bytes_layer
    counted = shard(backend, reserved_blocks(policy.sharding)).pool_bytes()

    assert counted == predicted if context_tokens % BLOCK_TOKENS == 0 else predicted <= counted
    assert counted - predicted < 3 * 2 * 256 * BLOCK_TOKENS


@pytest.mark.parametrize(("backend", "dtype"), [*(("torch", dtype) for dtype in ex.DTYPES), ("jax", "fp32")])
def test_where_blocks_lie_changes_no_bit(backend: str, dtype: str) -> None:
    """A session whose blocks lie apart says the same bits as one whose blocks lie one behind another."""
    alone, tight = shard(backend, 24, dtype), shard(backend, 18, dtype)
    apart = 0
    for position in range(0, 120, 8):  # two sessions grow into one another, a third one makes holes
        tight.forward("hole", IDS[2, :20], 0)
        for row, name in enumerate("ab"):
            chunk = IDS[row, position : position + 7]
            for line in (alone, tight):
                line.forward(name, chunk, position)
            token = IDS[row, position + 7 : position + 8]
            found = tight.forward(name, token, position + 7)
            assert found.tobytes() == alone.forward(name, token, position + 7).tobytes()
            apart += tight.table.find(name).span(position + 8) is None
        tight.drop("hole")
    assert apart > 4
    for name in "ab":
        for mine, other in zip(tight.cached(name), alone.cached(name), strict=True):
            assert mine.tobytes() == other.tobytes()
