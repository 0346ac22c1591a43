"""Sessions that begin alike share blocks: whose they are, that nobody writes to them, and what comes out of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="torch is not installed")
jax = pytest.importorskip("jax", reason="jax is not installed")

from policies.serving.batching import BLOCK_TOKENS  # noqa: E402  (needs torch and jax)
from policies.serving.prefixes import Chain  # noqa: E402
from real_backends import executors as ex  # noqa: E402
from real_backends.executors.paced import PacedShard  # noqa: E402
from real_backends.executors.pool import Cache, SessionTable  # noqa: E402
from real_backends.executors.shard import Part  # noqa: E402
from scenarios.hosts import PACED, step_law  # noqa: E402

TINY = replace(ex.DESK_TINY, name="two-layers", layers=2, context=128)
WEIGHTS = ex.make_checkpoint(TINY, 0)
IDS = np.random.Generator(np.random.PCG64(5)).integers(0, TINY.vocab, TINY.context)


def shard(backend: str, blocks: int, first: int = 0, last: int = 2, dtype: str = "fp32") -> ex.Shard:
    if backend == "paced":
        return PacedShard(TINY, first, last, step_law(PACED), sleep=None, blocks=blocks)
    return ex.make_shard(backend, TINY, WEIGHTS, first, last, device="cpu", dtype=dtype, blocks=blocks)


def names_of(ids: np.ndarray) -> list[bytes]:
    chain = Chain("two-layers")
    chain.take(ids)
    return chain.names


class _Memory:
    """A table, what lies in its pool, and what every session was fed: tokens in the place of keys and values."""

    def __init__(self, blocks: int) -> None:
        self.table = SessionTable(TINY, blocks)
        self.rows = np.full(blocks * BLOCK_TOKENS, -1)
        self.fed: dict[str, list[int]] = {}

    def feed(self, name: str, tokens: list[int], position: int) -> None:
        before = {other: self.read(other) for other in self.fed if other != name}
        (cache,) = self.table.claim([Part(name, np.array(tokens), position)])
        end = position + len(tokens)
        self.rows[cache.places(position, end)] = tokens
        cache.length = end
        self.fed[name] = self.fed.get(name, [])[:position] + tokens
        full = end // BLOCK_TOKENS
        begin = min(position // BLOCK_TOKENS, len(cache.names))
        names = names_of(np.array(self.fed[name]))
        self.table.label(name, begin, names[begin:full])
        assert before == {other: self.read(other) for other in before}

    def read(self, name: str) -> list[int]:
        cache: Cache = self.table.find(name)
        return [int(row) for row in self.rows[cache.places(0, cache.length)]]


@given(data=st.data())
@settings(max_examples=80, deadline=None)
def test_every_session_reads_what_it_was_fed(data: st.DataObject) -> None:
    """Whatever begins, shares, grows, goes back, ends and is forgotten: a session's blocks have its own tokens."""
    memory = _Memory(data.draw(st.integers(2, 10)))
    table = memory.table
    for _ in range(data.draw(st.integers(1, 30))):
        name = data.draw(st.sampled_from("abcd"))
        deed = data.draw(st.sampled_from(["feed", "feed", "feed", "end", "forget"]))
        if deed == "end":
            table.drop(name)
            memory.fed.pop(name, None)
        elif deed == "forget":
            table.forget(names_of(np.zeros(64, np.int64)))
        else:
            if name not in memory.fed:
                begins = [data.draw(st.sampled_from([0, 1]))] * data.draw(st.integers(1, 70))
                found = table.adopt(name, names_of(np.array(begins[:-1])))
                if found:
                    memory.fed[name] = begins[:found]
                position, tokens = found, begins[found:]
            else:
                length = len(memory.fed[name])
                position = data.draw(st.sampled_from([length, length // 2, length // BLOCK_TOKENS * BLOCK_TOKENS]))
                tokens = [data.draw(st.sampled_from([0, 1]))] * data.draw(st.integers(1, 20))
            if position + len(tokens) <= TINY.context:
                try:
                    memory.feed(name, tokens, position)
                except ex.BlocksFull:
                    pass
                except ValueError as error:
                    if "others hold the block" not in str(error):
                        raise
        for other, fed in memory.fed.items():
            assert memory.read(other) == fed
        held = {block for other in memory.fed for block in table.find(other).blocks}
        assert table.held == len(held)
    for name in list(memory.fed):
        table.drop(name)
    table.forget(list(table._named))
    assert (table.held, table.blocks.room) == (0, len(table.blocks))


@pytest.mark.parametrize("backend", ["torch", "jax", "paced"])
def test_a_shared_block_is_freed_by_its_last_user_and_kept_until_its_place_is_needed(backend: str) -> None:
    """Two sessions hold it once; when both are over it is still found, until others have taken its place."""
    one, names = shard(backend, 6), names_of(IDS[:48])
    a_block = one.pool_bytes() // 6
    one.forward("a", IDS[:48], 0)
    one.table.label("a", 0, names)
    assert one.table.adopt("b", names) == 48
    one.forward("b", IDS[48:50], 48)
    assert one.kv_bytes() == 4 * a_block
    one.drop("a")
    assert one.kv_bytes() == 4 * a_block
    one.drop("b")
    assert one.kv_bytes() == 0
    assert one.table.adopt("c", names) == 48
    one.drop("c")
    one.forward("others", IDS[:80], 0)  # five of six blocks: what is left of the prefix is its beginning
    assert one.table.adopt("d", names) == 16


@pytest.mark.parametrize(("backend", "dtype"), [*(("torch", dtype) for dtype in ex.DTYPES), ("jax", "fp32")])
def test_a_shared_beginning_changes_no_bit(backend: str, dtype: str) -> None:
    """A session that found its first blocks says bit for bit what the one says that computed them, in equal steps."""
    names = names_of(IDS[:64])
    halves = [shard(backend, 24, 0, 1, dtype), shard(backend, 24, 1, 2, dtype)]
    line = ex.Pipeline(halves)
    line.logits("first", IDS[:64].tolist(), 0)
    for half in halves:
        half.table.label("first", 0, names)
    whole = [line.logits("first", IDS[64:90].tolist(), 64)]
    whole += [line.logits("first", [int(IDS[n])], n) for n in range(90, 110)]
    for half in halves:
        assert half.table.adopt("second", names) == 64
    again = [line.logits("second", IDS[64:90].tolist(), 64)]
    again += [line.logits("second", [int(IDS[n])], n) for n in range(90, 110)]
    assert all(np.array_equal(one, other) for one, other in zip(whole, again, strict=True))


def test_names_are_equal_where_all_tokens_up_to_there_are() -> None:
    """A block's name changes with any token up to its end and with the scope, and with nothing behind it."""
    names = names_of(IDS[:64])
    assert names_of(IDS[:70]) == names
    for at in range(64):
        other = IDS[:64].copy()
        other[at] += 1
        equal = [one == two for one, two in zip(names, names_of(other), strict=True)]
        assert equal == [block < at // BLOCK_TOKENS for block in range(4)]
    elsewhere = Chain("another model")
    elsewhere.take(IDS[:64])
    assert not set(elsewhere.names) & set(names)


def test_names_come_as_tokens_do() -> None:
    """Tokens one by one give the names that all at once give, and say which blocks a step fills."""
    names, chain = names_of(IDS[:64]), Chain("two-layers")
    for at in range(64):
        chain.take([int(IDS[at])])
        assert chain.names == names[: (at + 1) // BLOCK_TOKENS]
    assert [len(chain.before(position)) for position in (0, 15, 16, 63)] == [0, 0, 1, 3]
    assert chain.filled(20, 27) == tuple(names[1:2])
    assert chain.filled(20, 28) == tuple(names[1:3])
    assert chain.filled(33, 1) == ()


def test_a_block_that_others_hold_is_not_written_to() -> None:
    """Going back into the middle of a shared block is refused, and nothing has changed; alone, it gives up its name."""
    table = SessionTable(TINY, 8)
    for name in "ab":
        (cache,) = table.claim([Part(name, np.zeros(32), 0)])
        cache.length = 32
        table.label(name, 0, ["x", "y"])
    assert table.held == 2
    with pytest.raises(ValueError, match="others hold the block"):
        table.claim([Part("a", np.zeros(1), 20)])
    assert (table.held, table.find("a").length) == (2, 32)
    table.drop("b")
    table.claim([Part("a", np.zeros(1), 20)])
    assert (table.adopt("c", ["x", "y"]), table.held) == (16, 2)
