"""Tests of policies.serving.blocks: whoever holds what, blocks are never lost and never given twice."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from policies.serving.blocks import BlockPool


def test_what_nobody_holds_goes_first_that_was_left_first_and_a_prefix_last() -> None:
    """The longest unheld is given up first, and of one request's blocks the last."""
    pool = BlockPool(4)
    pool.take(2)
    pool.fill("a0")
    pool.fill("a1")
    pool.take(1)
    pool.fill("b0")
    pool.release(["a0", "a1"], 0)
    pool.release(["b0"], 0)

    assert pool.room == 4
    pool.take(2)
    assert [pool.known([name]) for name in ("a0", "a1", "b0")] == [1, 0, 1]
    pool.take(1)
    assert [pool.known([name]) for name in ("a0", "a1", "b0")] == [0, 0, 1]


def test_equal_content_is_kept_once() -> None:
    """Two requests that filled a block alike share one, and the other place is free."""
    pool = BlockPool(3)
    pool.take(2)
    pool.fill("x")
    pool.fill("x")

    assert (pool.held, pool.room) == ({"x": 2}, 2)
    pool.release(["x"], 0)
    assert pool.held == {"x": 1}


def test_no_room_takes_nothing() -> None:
    """A request for too much leaves the pool as it was."""
    pool = BlockPool(2)
    pool.take(1)

    assert not pool.take(2)
    assert pool.room == 1


def test_a_pool_of_nothing_is_refused() -> None:
    """A cache has a block."""
    with pytest.raises(ValueError, match="blocks is 0"):
        BlockPool(0)


class Pool(RuleBasedStateMachine):
    """Holders come, fill, share and go in any order; a plain list of who has what must agree."""

    @initialize(blocks=st.integers(1, 12))
    def begin(self, blocks: int) -> None:
        """An empty pool."""
        self.pool = BlockPool(blocks)
        self.holders: list[tuple[list[int], int]] = []  # names, unnamed

    @rule(count=st.integers(0, 13))
    def take(self, count: int) -> None:
        """Somebody wants blocks."""
        used = len({name for names, _ in self.holders for name in names}) + sum(n for _, n in self.holders)
        assert self.pool.take(count) == (count <= self.pool.blocks - used)
        if count <= self.pool.blocks - used:
            self.holders.append(([], count))

    @precondition(lambda self: any(unnamed for _, unnamed in self.holders))
    @rule(data=st.data(), name=st.integers(0, 5))
    def fill(self, data: st.DataObject, name: int) -> None:
        """Somebody's block is full."""
        can = [k for k, (names, unnamed) in enumerate(self.holders) if unnamed and name not in names]
        if not can:
            return
        at = data.draw(st.sampled_from(can))
        names, unnamed = self.holders[at]
        self.pool.fill(name)
        self.holders[at] = ([*names, name], unnamed - 1)

    @rule(names=st.lists(st.integers(0, 5), unique=True))
    def share(self, names: list[int]) -> None:
        """Somebody finds a beginning."""
        found = names[: self.pool.known(names)]
        if found:
            self.pool.hold(found)
            self.holders.append((found, 0))

    @precondition(lambda self: self.holders)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        """Somebody goes."""
        names, unnamed = self.holders.pop(data.draw(st.integers(0, len(self.holders) - 1)))
        self.pool.release(names, unnamed)

    @invariant()
    def nothing_is_lost(self) -> None:
        """Blank, idle and held blocks are all there are, and each name is in one place."""
        if not hasattr(self, "pool"):
            return
        pool = self.pool
        unnamed = sum(count for _, count in self.holders)
        assert pool.blank + len(pool.idle) + len(pool.held) + unnamed == pool.blocks
        assert pool.blank >= 0
        assert not pool.held.keys() & pool.idle.keys()
        held = [name for names, _ in self.holders for name in names]
        assert pool.held == {name: held.count(name) for name in held}


TestPool = Pool.TestCase
