"""Room on a device: who holds how much of its memory, compute and task slots.

All amounts are integers, so that what was taken and what is given back are the same number, and sums are exact. The
promise, checked by tests/policies/edge/test_reservations.py over any history:

* what is held never exceeds the capacity, also when the capacity shrinks: then the least important deployments, of
  these the newest, are put out until the rest fits;
* nothing is ever below zero;
* a reservation is released exactly once, whatever ends it.
"""

from __future__ import annotations

from typing import NamedTuple


class Room(NamedTuple):
    """An amount of a device. ``compute_millis`` are thousandths of its whole compute."""

    memory_bytes: int
    compute_millis: int
    tasks: int

    def fits_in(self, other: Room) -> bool:
        """Return whether no part is larger than ``other``'s."""
        return all(mine <= theirs for mine, theirs in zip(self, other, strict=True))


NONE = Room(0, 0, 0)


class Reservations:
    """What is held on one device.

    Attributes:
        capacity: what may be held at most.
        released: how many reservations were ever given back.
    """

    def __init__(self, capacity: Room = NONE) -> None:
        _check("capacity", capacity)
        self.capacity = capacity
        self.released = 0
        self._held: dict[str, tuple[Room, int]] = {}  # name to (room, priority), in order of arrival
        self._used = NONE

    @property
    def used(self) -> Room:
        """What is held by all together."""
        return self._used

    @property
    def free(self) -> Room:
        """What may still be reserved."""
        return Room(*(have - held for have, held in zip(self.capacity, self._used, strict=True)))

    def __contains__(self, name: str) -> bool:
        return name in self._held

    def __len__(self) -> int:
        return len(self._held)

    def reserve(self, name: str, room: Room, priority: int = 1) -> str:
        """Hold room for ``name``; return "" if it fits, else what is short, and then nothing is held.

        Raises:
            ValueError: a negative amount, or ``name`` holds room already.
        """
        _check(name, room)
        if name in self._held:
            raise ValueError(f"{name} holds room already")
        short = [
            field
            for field, need, have in zip(Room._fields, room, self.free, strict=True)
            if need > have
        ]  # fmt: skip
        if short:
            return " and ".join(short)
        self._held[name] = (room, priority)
        self._used = Room(*(held + more for held, more in zip(self._used, room, strict=True)))
        return ""

    def release(self, name: str) -> bool:
        """Give room back; False if ``name`` holds none (any more)."""
        found = self._held.pop(name, None)
        if found is None:
            return False
        self._used = Room(*(held - less for held, less in zip(self._used, found[0], strict=True)))
        self.released += 1
        return True

    def resize(self, capacity: Room) -> tuple[str, ...]:
        """Set the capacity; return whoever was put out, so that the rest fits.

        Raises:
            ValueError: a negative amount.
        """
        _check("capacity", capacity)
        self.capacity = capacity
        out: list[str] = []
        while not self._used.fits_in(capacity):
            # Lowest priority; among these the newest, whose work is the least to lose.
            arrival = {name: number for number, name in enumerate(self._held)}
            name = min(self._held, key=lambda n: (self._held[n][1], -arrival[n]))
            self.release(name)
            out.append(name)
        return tuple(out)


def _check(name: str, room: Room) -> None:
    for field, amount in zip(Room._fields, room, strict=True):
        if amount < 0:
            raise ValueError(f"{name}: {field} is {amount}; allowed: from 0")
