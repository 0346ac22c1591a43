"""What a committee must be to be one at all: big enough for its faults, no bigger than its fleet, nobody twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from fractions import Fraction
from math import ceil


class CommitteeError(ValueError):
    """There is no such committee; the message says why in one line."""


def faults(n: int) -> int:
    """Return how many of ``n`` members may lie (Castro and Liskov 1999: n >= 3f + 1)."""
    return (n - 1) // 3


def faulty_of(fleet: int, share: float | Fraction) -> int:
    """Return how many devices a share of the fleet is, rounded up: a bound must not assume fewer than there may be.

    >>> faulty_of(25, 0.1), faulty_of(100, 0.07), faulty_of(6, Fraction(5, 6))
    (3, 7, 5)
    """
    return ceil(Fraction(str(share)) * fleet)  # as it is written: 0.07 as a float is a little more than 7 of 100


def check_size(n: int, fleet: int, f: int = 0) -> None:
    """Refuse a committee that cannot be.

    Args:
        n: members.
        fleet: devices that may sit.
        f: members that it shall bear when they lie.

    Raises:
        CommitteeError: fewer than 3f + 1 members, or more than there are devices.
    """
    if n < 3 * f + 1 or n < 1:
        raise CommitteeError(f"committee={n}: to bear f={f} liars it needs n >= 3f + 1 = {3 * f + 1} members")
    if n > fleet:
        raise CommitteeError(f"committee={n}: the fleet has {fleet} devices that may sit on it")


def check_members(members: Sequence[str], fleet: Collection[str], f: int = 0) -> None:
    """Refuse members by name, as `check_size` does by number.

    Raises:
        CommitteeError: also for one named twice, and for one that is not of the fleet.
    """
    if twice := [name for name, count in Counter(members).items() if count > 1]:
        raise CommitteeError(f"committee: {twice[0]!r} is named twice; every member counts once")
    if unknown := [name for name in members if name not in fleet]:
        raise CommitteeError(f"committee: {unknown[0]!r} is not of the fleet of {len(fleet)} devices")
    check_size(len(members), len(fleet), f)
