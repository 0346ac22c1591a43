"""State as bytes: canonical for equal states, and whole: what is thawed goes on as the original does."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import port as p
from policies.cell import Cell
from policies.config import RaftConfig
from policies.frozen import FreezeError, freeze, thaw
from policies.port import Effect, Input, Policy
from sim.keys import KeyRing
from tests.policies.small_village import SmallVillage, Tap

REPOSITORY = Path(__file__).parents[2]
SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(SCALARS, inner)
        | st.sets(SCALARS)
        | st.frozensets(SCALARS)
    ),
)


@dataclass
class Shelf:
    """Plain mutable state, with a name for itself."""

    books: list[str]
    above: Shelf | None = None
    by_author: dict[str, list[str]] = field(default_factory=dict)


class Slotted:
    """State in slots."""

    __slots__ = ("left", "right")

    def __init__(self, left: Any, right: Any) -> None:
        self.left, self.right = left, right


@given(VALUES)
def test_what_is_thawed_is_equal_and_freezes_to_the_same_bytes(value: Any) -> None:
    """Values of every plain kind come back equal, with their types, and their bytes are a fixed point."""
    frozen = freeze(value, {})
    again = thaw(frozen, {})

    assert again == value
    assert type(again) is type(value)
    assert freeze(again, {}) == frozen


def test_objects_come_back_as_they_were() -> None:
    """Collections, arrays, enum-like values, frozen structs, slots and bound methods survive the trip."""
    shelf = Shelf(["a"], by_author={"x": ["a"]})
    value = [
        deque([1, 2], maxlen=3), Counter("abca"), OrderedDict(b=1, a=2), bytearray(b"x"), Fraction(1, 3),
        RaftConfig(), 2**70, -(2**70), (True, 1, 1.0), ..., shelf,
    ]  # fmt: skip
    again = thaw(freeze(value, {}), {})
    array, slotted = thaw(freeze((np.arange(6.0).reshape(2, 3), Slotted(1, [2])), {}), {})

    assert again == value
    assert [type(one) for one in again[8]] == [bool, int, float]
    assert array.tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    assert (slotted.left, slotted.right) == (1, [2])
    assert thaw(freeze(shelf.books.append, {}), {})("b") is None


def test_two_names_of_one_thing_stay_so() -> None:
    """What is shared or contains itself comes back shared or containing itself; equal but apart stays apart."""
    books = ["a"]
    loop = Shelf(books, by_author={"x": books})
    loop.above = loop
    again = thaw(freeze(loop, {}), {})

    assert again.above is again
    assert again.books is again.by_author["x"]
    assert freeze([[1], [1]], {}) != freeze([books] * 2, {})


def test_equal_states_have_equal_bytes_however_they_came_about() -> None:
    """Strings made apart, sets filled in another order, attributes set in another order: the same bytes."""
    one, other = Shelf([]), Shelf([])
    del one.above
    one.above = None
    made = "".join(["a", "b"])

    assert freeze(one, {}) == freeze(other, {})
    assert freeze(["ab", made, {"x", made}], {}) == freeze([made, "ab", {"ab", "x"}], {})
    assert freeze({1: 0, 2: 0}, {}) != freeze({2: 0, 1: 0}, {})  # a policy may iterate over a dict
    assert freeze(0.0, {}) != freeze(-0.0, {})


def test_what_cannot_be_copied_is_named_where_it_hangs() -> None:
    """Iterators over calls, locks, lambdas and modules are refused with their place."""
    things: tuple[Any, ...] = (iter(lambda: 0, 1), threading.Lock(), lambda: None, np)
    for thing in things:
        with pytest.raises(FreezeError, match=r"^\.by_author\['x'\]\[0\]: "):
            freeze(Shelf([], by_author={"x": [thing]}), {})


def test_bytes_do_not_depend_on_the_hash_seed() -> None:
    """Two processes with other hash seeds freeze the same state to the same bytes."""
    code = "from policies.frozen import freeze; print(freeze([{'a', 'b', 'c', ('d', 1)}, frozenset('xyz')], {}).hex())"
    printed = set()
    for hash_seed in ("1", "2", "3"):
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(REPOSITORY)}
        printed.add(
            subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True).stdout
        )

    assert len(printed) == 1


class Copied:
    """A Cell that every step is taken on twice: by itself, and by a fresh Cell with its state."""

    def __init__(self, cell: Cell, fresh: Cell) -> None:
        self.cell, self.fresh, self.crypto_ops, self.steps = cell, fresh, 0, 0
        self.me, self.policy = cell.me, cell.policy

    def step(self, now: int, wall: int, given: Input) -> tuple[Effect, ...]:
        """Compare the copy's effects and state with the original's."""
        before = self.cell.freeze()
        self.fresh.thaw(before)
        assert self.fresh.freeze() == before
        effects = self.cell.step(now, wall, given)
        assert self.fresh.step(now, wall, given) == effects
        assert self.fresh.freeze() == self.cell.freeze()
        self.steps += 1
        return effects


def test_every_cell_of_a_working_village_can_be_copied_at_every_step() -> None:
    """Raft, coordination, gateway and workers: a thawed Cell takes each next step as the original does."""
    village = SmallVillage(workers=2)
    copies = []
    for node in village.world.nodes:
        assert isinstance(node.cell, Tap)
        names = tuple(other.name for other in village.world.nodes)
        node.cell.cell = copied = Copied(node.cell.cell, village._cell(node.name, names))  # type: ignore[assignment]
        copies.append(copied)
    village.run(12)
    village.ask("op-1")
    village.run(5)

    assert min(copy.steps for copy in copies) > 10
    assert village.answers("op-1")


class Drawing(Policy):
    """Keeps its port's stream, keys and clock under names of its own."""

    def on_start(self, saved: Any) -> None:
        """Take hold."""
        self.rng, self.keys, self.own = self.port.rng, self.port.keys, self
        self.port.set_timer("x", 1)

    def on_timer(self, name: str) -> None:
        """Draw and sign."""
        self.port.note("drawn", bits=self.rng.bits64(), other=self.port.rng.bits64(), own=self.own is self)
        self.keys.sign(b"x")
        self.port.set_timer("x", 1)


def test_the_stream_of_numbers_is_state_and_the_keys_are_the_new_cells() -> None:
    """A thawed Cell draws on where the original stood, under every name, and signs with its own handle."""

    def make() -> Cell:
        return Cell(Drawing(), "n", (), seed=1, keys=KeyRing(1).handle("n"))

    cell, fresh = make(), make()
    cell.step(0, 0, (p.START, "", {}, 3))
    cell.step(1, 1, (p.TIMER, "", "x", 1))
    fresh.thaw(cell.freeze())

    assert fresh.step(2, 2, (p.TIMER, "", "x", 2)) == cell.step(2, 2, (p.TIMER, "", "x", 2))
    assert (cell.crypto_ops, fresh.crypto_ops) == (2, 1)
    with pytest.raises(ValueError, match=r"allowed is that of \['x'\]"):
        Cell({"x": Drawing()}, "n", (), seed=1, keys=KeyRing(1).handle("n")).thaw(cell.freeze())
