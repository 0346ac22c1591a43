"""What an allocation is made of: resources, the shares in them, and bundles of shares that move as one.

All shares that one resource holds back have one level, so they rise and fall together: a bundle. What a bundle takes
of each resource is kept as a sum, and how far its level has carried it as one integral; a change of its level then
costs the same whether it holds two shares or two hundred.
"""

from __future__ import annotations

import math
from heapq import heappop, heappush
from typing import Any

REBASE = 1000.0
"""Integral of a bundle's level, in sizes of its newest share, beyond which it is counted from 0 again: a share's end is
the difference of two integrals, and so loses at most three of a double's 16 digits."""


class Resource:
    """Something shared: a link, a radio medium, an executor.

    Attributes:
        name: what errors call it.
        number: settles ties.
        capacity_per_s: what it carries a second, in units of its own (bytes for links).
        held: the shares that it holds back.
        takers: all shares on it, by bundle, with what each takes of it a unit of level.
        used_per_s: what they take together.
    """

    # The rest belongs to one filling (`stamp`): what those who do not rise leave, what those who rise take a unit of
    # level, how many they are; whether it may fill at another level than before, has filled, its place in the queue.
    __slots__ = (
        "capacity_per_s", "closed", "free_per_s", "held", "key", "lifted", "name", "number", "rising", "slope", "stamp",
        "takers", "updates", "used_per_s",
    )  # fmt: skip

    def __init__(self, name: str, capacity_per_s: float, number: int) -> None:
        self.name, self.capacity_per_s, self.number = name, capacity_per_s, number
        self.held = Bundle(self)
        self.takers: dict[Bundle, dict[Share, float]] = {}
        self.used_per_s = self.free_per_s = self.slope = 0.0
        self.rising = self.stamp = self.updates = 0
        self.lifted = self.closed = False
        self.key = math.inf

    def sum_up(self) -> None:
        """Count what is used afresh."""
        self.used_per_s = sum([bundle.level * bundle.slopes[self] for bundle in self.takers])
        self.updates = 0


class Share:
    """One user of resources: its rate is its weight times the level of its bundle.

    Attributes:
        legs: the resources and what it takes of each a unit of level: coefficient times weight.
        weight: its part beside others.
        cap_level: its level at its rate cap, or inf.
        bundle: with whom it moves.
        target: the integral of its bundle's level at which it has all it wants.
        owner: whom it serves; the allocation never looks.
    """

    __slots__ = ("bundle", "cap_level", "legs", "number", "owner", "target", "weight")

    def __init__(
        self,
        legs: tuple[tuple[Resource, float], ...],
        weight: float,
        cap_per_s: float,
        wanted: float,
        number: int,
        owner: Any,
    ) -> None:
        self.legs = tuple((resource, coefficient * weight) for resource, coefficient in legs)
        self.weight, self.cap_level, self.target = weight, cap_per_s / weight, wanted / weight
        self.number, self.owner = number, owner
        self.bundle: Bundle

    @property
    def rate_per_s(self) -> float:
        """What it gets a second."""
        return self.weight * self.bundle.level


class Bundle:
    """Shares with one level: held by one resource, or one share alone at its cap (`holder` None).

    Attributes:
        level: of each of its shares.
        slopes: what they take together of each resource a unit of level.
        size: how many they are.
        rising: whether they take part in the filling that goes on.
        served: the integral of the level up to `at_s`.
    """

    __slots__ = ("at_s", "caps", "ends", "holder", "level", "rising", "served", "size", "slopes", "version")

    def __init__(self, holder: Resource | None) -> None:
        self.holder = holder
        self.level = 0.0
        self.slopes: dict[Resource, float] = {}
        self.size = self.version = 0
        self.rising = False
        self.served = self.at_s = 0.0
        self.ends: list[tuple[float, int, Share]] = []  # by target; entries of shares that left are passed over
        self.caps: list[tuple[float, int, Share]] = []  # by the level of their caps, likewise

    def bring_up(self, now_s: float) -> None:
        """Carry the integral on to now."""
        self.served += self.level * (now_s - self.at_s)
        self.at_s = now_s

    def take(self, share: Share) -> None:
        """Add a share whose target is counted from here; the integral is up to date."""
        if self.size == 0:
            self.served, self.ends, self.caps = 0.0, [], []
        elif self.served > REBASE * share.target:
            self._rebase()
        self.size += 1
        share.bundle = self
        share.target += self.served
        heappush(self.ends, (share.target, share.number, share))
        if share.cap_level < math.inf:
            heappush(self.caps, (share.cap_level, share.number, share))
        for resource, slope in share.legs:
            takers = resource.takers.get(self)
            if takers is None:
                resource.takers[self] = {share: slope}
                self.slopes[resource] = slope
            else:
                takers[share] = slope
                self.slopes[resource] += slope

    def drop(self, share: Share) -> None:
        """Take a share out; its target is counted from here again; the integral is up to date."""
        self.size -= 1
        share.target -= self.served
        for resource, _ in share.legs:
            takers = resource.takers[self]
            del takers[share]
            if takers:
                self.slopes[resource] = sum(takers.values())
            else:
                del resource.takers[self], self.slopes[resource]

    def first_end(self) -> Share | None:
        """Return the share that has all it wants first."""
        ends = self.ends
        while ends and (ends[0][2].bundle is not self or ends[0][2].target != ends[0][0]):
            heappop(ends)
        return ends[0][2] if ends else None

    def first_cap(self) -> Share | None:
        """Return the share whose cap is the lowest, if any has one."""
        caps = self.caps
        while caps and caps[0][2].bundle is not self:
            heappop(caps)
        return caps[0][2] if caps else None

    def _rebase(self) -> None:
        """Count the integral from 0 again."""
        live = []
        for target, number, share in self.ends:
            if share.bundle is self and share.target == target:
                share.target = target - self.served
                live.append((share.target, number, share))
        self.ends, self.served = live, 0.0  # the order of targets, and so the heap's, is as before
