"""Room on a device: never over-committed, never negative, given back once."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from policies.edge.reservations import NONE, Reservations, Room

rooms = st.builds(Room, st.integers(0, 10), st.integers(0, 1000), st.integers(0, 3))
names = st.sampled_from(["a", "b", "c", "d", "e", "f"])


class RoomMachine(RuleBasedStateMachine):
    """Any history of reserving, releasing and resizing, beside a naive twin that sums anew each time."""

    def __init__(self) -> None:
        super().__init__()
        self.room = Reservations(Room(10, 1000, 4))
        self.twin: dict[str, tuple[Room, int]] = {}
        self.given_back = 0

    def total(self, but: frozenset[str] = frozenset()) -> Room:
        """Sum what the twin says is held."""
        held = [room for name, (room, _) in self.twin.items() if name not in but]
        return Room(*(sum(column) for column in zip(NONE, *held, strict=True)))

    @rule(name=names, room=rooms, priority=st.integers(1, 10))
    def reserve(self, name: str, room: Room, priority: int) -> None:
        """It fits exactly if the sum does."""
        if name in self.twin:
            with pytest.raises(ValueError, match="holds room already"):
                self.room.reserve(name, room, priority)
            return
        fits = all(h + r <= c for h, r, c in zip(self.total(), room, self.room.capacity, strict=True))
        short = self.room.reserve(name, room, priority)
        assert (short == "") == fits
        if fits:
            self.twin[name] = (room, priority)

    @rule(name=names)
    def release(self, name: str) -> None:
        """Once true, then false."""
        assert self.room.release(name) == (name in self.twin)
        self.given_back += name in self.twin
        self.twin.pop(name, None)
        assert not self.room.release(name)

    @rule(capacity=rooms)
    def resize(self, capacity: Room) -> None:
        """The least important go first, the newest of these first, and none goes who could have stayed at its turn."""
        before = dict(self.twin)
        out = self.room.resize(capacity)
        order = sorted(before, key=lambda name: (before[name][1], -list(before).index(name)))
        assert list(out) == order[: len(out)]
        if out:
            assert not self.total(frozenset(out[:-1])).fits_in(capacity)
        for name in out:
            del self.twin[name]
        self.given_back += len(out)

    @invariant()
    def nothing_is_over_committed_or_negative(self) -> None:
        """What is held is the twin's sum, within the capacity; free is the rest."""
        assert self.room.used == self.total()
        assert self.room.used.fits_in(self.room.capacity)
        assert NONE.fits_in(self.room.free)
        assert self.room.released == self.given_back
        assert len(self.room) == len(self.twin)


RoomMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestRoom: Any = RoomMachine.TestCase


def test_what_is_short_is_named() -> None:
    """The refusal says which parts do not fit."""
    room = Reservations(Room(10, 500, 1))

    assert room.reserve("a", Room(11, 501, 1)) == "memory_bytes and compute_millis"
    assert room.reserve("a", Room(1, 1, 1)) == ""
    assert room.reserve("b", Room(1, 1, 1)) == "tasks"


def test_negative_amounts_are_refused() -> None:
    """One line with the name, the field and the value."""
    with pytest.raises(ValueError, match=r"a: tasks is -1; allowed: from 0"):
        Reservations(Room(1, 1, 1)).reserve("a", Room(0, 0, -1))
    with pytest.raises(ValueError, match=r"capacity: memory_bytes is -5"):
        Reservations(Room(-5, 0, 0))
