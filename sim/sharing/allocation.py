"""Who gets how much: the max-min fair allocation of resources, kept up to date as shares come and go.

Theory of operation. A share takes its weight times its level of a rate, and a coefficient times that of every resource
on its legs. An allocation is max-min fair if and only if every share is at its cap or has a bottleneck: a resource
that is used up and on which no share has a higher level (Bertsekas and Gallager, Data Networks, 2nd edition, 1992,
section 6.5.2, there for equal weights). Progressive filling finds it: all levels rise together, and a share stops
when its cap or a resource on its legs is reached.

The filling is incremental. It starts from the old allocation, with the changed resources alone, and takes resources
in rising order of level. Shares join the rise only

- if their bottleneck would not be used up at their old level: they may get more, all of its bundle together, or
- if a resource fills below their old level: they must get less.

Who joins touches other resources that hold somebody, but these filled no lower than its old level: what a join changes
lies at or above the level reached, and one pass is enough for them. Resources that hold nobody stay out of the pass, as
if they were endless; those that turn out too full then start another pass, as if their capacity had fallen. In the end
whoever joined has a bottleneck by construction, and all others still have their old one; by the theorem that is the
allocation. What a change does not reach, on the other side of the network, costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from heapq import heappop, heappush
from itertools import count
from typing import Any

from sim.sharing.parts import Bundle, Resource, Share

ROUNDING = 1e-14
"""Share of its capacity by which a used-up resource may seem not to be: about 100 additions of IEEE 754 doubles."""
SUM_AGAIN = 32
"""Changes of a sum of rates after which it is summed afresh, so that rounding does not pile up."""


class Allocation:
    """The max-min fair allocation over resources that are handed in with the shares.

    Changes gather until `settle`, so that what happens at one moment is filled once.
    """

    def __init__(self) -> None:
        self._numbers = count()
        self._stamp = 0
        self._now_s = 0.0
        self._reached = 0.0  # the highest level at which anybody stopped in this filling
        self._open = 0  # bundles and shares that rise, and resources whose hold is not yet confirmed
        self._loose = Bundle(None)  # shares that rise on their own: they have come, or left a bundle, and are not held
        self._changed: dict[Resource, None] = {}
        self._newcomers: dict[Share, None] = {}
        self._queue: list[tuple[float, int, Resource | Bundle | Share]] = []
        self._suspects: dict[Resource, None] = {}  # held nobody, and may be too full now
        self._touched: list[Resource] = []
        self._moved: dict[Bundle, None] = {}

    def resource(self, name: str, capacity_per_s: float) -> Resource:
        """Return a new resource; its capacity is above 0."""
        return Resource(name, capacity_per_s, next(self._numbers))

    def add(
        self,
        legs: Iterable[tuple[Resource, float]],
        weight: float,
        cap_per_s: float = math.inf,
        wanted: float = math.inf,
        owner: Any = None,
    ) -> Share:
        """Add a share, which has no rate before the next `settle`.

        Args:
            legs: resources and coefficients: how much of the resource one unit of the share's rate takes.
            weight: its part beside others at a common bottleneck, above 0.
            cap_per_s: the highest rate it can use, above 0.
            wanted: the integral of its rate at which it will leave.
            owner: whom it serves.
        """
        share = Share(tuple(legs), weight, cap_per_s, wanted, next(self._numbers), owner)
        share.bundle = self._loose
        self._newcomers[share] = None
        return share

    def remove(self, share: Share, now_s: float = 0.0) -> float:
        """Take a share away and return what it still wanted; the others hear of it at the next `settle`."""
        bundle = share.bundle
        if bundle is self._loose:
            del self._newcomers[share]
            return share.target * share.weight
        bundle.bring_up(now_s)
        bundle.drop(share)
        share.bundle = self._loose
        for resource, slope in share.legs:
            resource.used_per_s -= slope * bundle.level
            resource.updates += 1
            if resource.held.size:
                self._changed[resource] = None
            else:
                resource.sum_up()  # what holds nobody is summed here, and not each time that somebody's level changes
        self._moved[bundle] = None
        return max(0.0, share.target * share.weight)

    def set_capacity(self, resource: Resource, capacity_per_s: float) -> None:
        """Change a capacity, above 0, from the next `settle` on."""
        resource.capacity_per_s = capacity_per_s
        self._changed[resource] = None

    def settle(self, now_s: float = 0.0) -> list[Bundle]:
        """Fill what changed, and return the bundles that have another level or other shares than before."""
        self._now_s = now_s
        if not self._changed:
            for share in list(self._newcomers):
                self._admit(share)
        while self._changed or self._newcomers:
            self._pass()
            for resource in self._suspects:
                resource.sum_up()
                if resource.used_per_s > resource.capacity_per_s * (1.0 + ROUNDING):
                    self._changed[resource] = None
            self._suspects.clear()
        moved = list(self._moved)
        self._moved.clear()
        return moved

    def _admit(self, share: Share) -> None:
        """Let a newcomer have its cap at once if there is room for it, and nobody who would rather have it."""
        level = share.cap_level
        if level == math.inf:
            return
        for resource, slope in share.legs:
            if resource.updates > SUM_AGAIN:
                resource.sum_up()
            if resource.held.size or resource.used_per_s + slope * level > resource.capacity_per_s * (1.0 + ROUNDING):
                return
        for resource, slope in share.legs:
            resource.used_per_s += slope * level
            resource.updates += 1
        del self._newcomers[share]
        alone = Bundle(None)
        alone.at_s, alone.level = self._now_s, level
        alone.take(share)
        self._moved[alone] = None

    def _pass(self) -> None:
        """Fill once, as if what held nobody could take anything."""
        self._stamp += 1
        self._touched, self._reached = [], 0.0
        for resource in self._changed:
            self._touch(resource)
            self._enqueue(resource)  # also one that became too small for those who do not rise
        for share in self._newcomers:
            for resource, _ in share.legs:
                if resource.stamp != self._stamp:
                    self._touch(resource)
            self._rise_alone(share, 0.0)
        self._changed.clear()
        self._newcomers.clear()
        queue = self._queue
        while queue and (self._open or queue[0][0] <= 0.0):
            level, _, entry = heappop(queue)
            if type(entry) is Resource:
                if level == entry.key and not entry.closed:
                    entry.key = math.inf
                    self._fill(entry, level)
            elif type(entry) is Bundle:
                if entry.rising:
                    self._cap_first(entry, level)
            elif type(entry) is Share and entry.bundle is self._loose:
                self._stop_at_cap(entry)
        queue.clear()  # resources that never fill
        for resource in self._touched:
            resource.used_per_s = resource.capacity_per_s - resource.free_per_s

    # -- the filling ---------------------------------------------------------------------------------

    def _touch(self, resource: Resource) -> None:
        """Make a resource part of the filling, its shares at their old levels."""
        if resource.updates > SUM_AGAIN:
            resource.sum_up()
        resource.stamp, resource.closed, resource.rising, resource.slope = self._stamp, False, 0, 0.0
        resource.free_per_s = resource.capacity_per_s - resource.used_per_s
        self._touched.append(resource)
        resource.lifted = resource.held.size == 0
        if resource.lifted:
            resource.key = math.inf
        else:
            self._open += 1
            resource.key = resource.held.level
            heappush(self._queue, (resource.key, resource.number, resource))

    def _fill(self, resource: Resource, level: float) -> None:
        """Take the next step with a resource whose turn it is at `level`."""
        candidate = _fills_at(resource)
        held = resource.held
        key = candidate if resource.lifted or candidate < held.level else held.level
        if key > level:  # others stopped meanwhile and left it more
            if key < math.inf:
                resource.key = key
                heappush(self._queue, (key, resource.number, resource))
            return
        if not resource.lifted:
            slack_per_s = resource.free_per_s - resource.slope * held.level
            if abs(slack_per_s) <= ROUNDING * resource.capacity_per_s:
                self._close(resource, held.level)  # as before: whoever it held, it still holds
                return
            resource.lifted = True
            self._open -= 1
            self._rise(held)
            self._enqueue(resource)
            return
        if candidate == math.inf:
            return
        # Whoever stopped in this filling stays: two bottlenecks at one level may differ by rounding.
        settled = max(candidate, self._reached)
        above = [b for b in resource.takers if b.level > settled and not b.rising]
        if above:
            self._squeeze(resource, above)
            self._enqueue(resource)
        else:
            self._close(resource, candidate)

    def _squeeze(self, resource: Resource, above: list[Bundle]) -> None:
        """Let shares that are above a resource's level join, the highest first: that may leave the rest as they are."""
        above.sort(key=lambda bundle: -bundle.level)  # stable: ties stay in the order of arrival
        for bundle in above:
            for share in list(resource.takers[bundle]):
                if bundle.level <= _fills_at(resource):
                    return
                self._leave(share)

    def _rise(self, bundle: Bundle) -> None:
        """Let a whole bundle rise with the level, whatever it had before."""
        bundle.bring_up(self._now_s)
        bundle.rising = True
        self._moved[bundle] = None
        self._open += 1
        old, stamp, queue, full = bundle.level, self._stamp, self._queue, []
        for resource, slope in bundle.slopes.items():
            if resource.stamp != stamp:
                if not resource.held.size:
                    continue
                self._touch(resource)
            resource.free_per_s = free_per_s = resource.free_per_s + slope * old
            resource.slope = total = resource.slope + slope
            resource.rising += 1
            if resource.closed:
                full.append(resource)
            elif free_per_s < resource.key * total:  # as `_enqueue` does, but this is the innermost loop
                resource.key = key = free_per_s / total
                heappush(queue, (key, resource.number, resource))
        for resource in full:  # of two bottlenecks at one level the other is full already
            self._hold_takers(resource, bundle)
        if bundle.caps:
            self._enqueue_cap(bundle)

    def _leave(self, share: Share) -> None:
        """Let a share leave its bundle and rise on its own."""
        bundle = share.bundle
        for resource, slope in share.legs:
            if resource.stamp != self._stamp:
                if resource.held.size:
                    self._touch(resource)
                else:
                    self._use(resource, -slope * bundle.level)
        bundle.bring_up(self._now_s)
        bundle.drop(share)
        self._moved[bundle] = None
        if not bundle.rising:
            self._rise_alone(share, bundle.level)
            return
        for resource, slope in share.legs:  # it goes on rising: only the number of those who do may change
            if resource.stamp == self._stamp:
                resource.takers.setdefault(self._loose, {})[share] = slope
                resource.rising += bundle in resource.takers
        share.bundle = self._loose
        self._open += 1
        if not bundle.size:
            bundle.rising = False
            self._open -= 1

    def _rise_alone(self, share: Share, old: float) -> None:
        """Let a share rise that is in no bundle."""
        share.bundle = self._loose
        self._open += 1
        full: Resource | None = None
        for resource, slope in share.legs:
            if resource.stamp != self._stamp:
                continue
            resource.takers.setdefault(self._loose, {})[share] = slope
            resource.free_per_s += slope * old
            resource.slope += slope
            resource.rising += 1
            if not resource.closed:
                self._enqueue(resource)
            elif full is None or resource.held.level < full.held.level:
                full = resource
        if full is not None:
            self._stop(share, full.held, full.held.level)
        elif share.cap_level < math.inf:
            heappush(self._queue, (share.cap_level, share.number, share))

    def _stop(self, share: Share, bundle: Bundle, level: float) -> None:
        """End the rise of a share on its own, in a bundle of that level."""
        loose = self._loose
        self._open -= 1
        for resource, slope in share.legs:
            if resource.stamp != self._stamp:
                self._use(resource, slope * level)
                continue
            takers = resource.takers[loose]
            del takers[share]
            if not takers:
                del resource.takers[loose]
            resource.free_per_s -= slope * level
            resource.updates += 1
            resource.rising -= 1
            resource.slope = resource.slope - slope if resource.rising else 0.0
        bundle.bring_up(self._now_s)
        bundle.level = level
        bundle.take(share)
        self._moved[bundle] = None

    def _cap_first(self, bundle: Bundle, level: float) -> None:
        """A rising bundle has come to the lowest of its caps, unless that share has left it."""
        share = bundle.first_cap()
        if share is not None and share.cap_level <= level:
            self._leave(share)
            self._stop_at_cap(share)
        self._enqueue_cap(bundle)

    def _stop_at_cap(self, share: Share) -> None:
        """A share that rises on its own has reached its cap."""
        alone = Bundle(None)
        alone.at_s = self._now_s
        self._reached = max(self._reached, share.cap_level)
        self._stop(share, alone, share.cap_level)

    def _close(self, resource: Resource, level: float) -> None:
        """A resource is used up: whoever rises on it stops, and is held by it from now on."""
        resource.closed = True
        if not resource.lifted:
            self._open -= 1
        self._reached = max(self._reached, level)
        held = resource.held
        if not held.rising:
            if not resource.rising:
                return
            held.bring_up(self._now_s)
        old, held.level = held.level, level
        if held.rising:
            held.rising = False
            self._open -= 1
            stamp, rise = self._stamp, level - old
            for other, slope in held.slopes.items():
                if other.stamp != stamp:
                    other.used_per_s = used_per_s = other.used_per_s + slope * rise
                    if used_per_s > other.capacity_per_s:
                        self._suspects[other] = None
                    continue
                other.free_per_s -= slope * level
                other.updates += 1
                other.rising -= 1
                if other.rising:
                    other.slope -= slope
                else:
                    other.slope = 0.0
                    if other.lifted:
                        other.key = math.inf  # nothing is left that could fill it
        if resource.rising:
            for bundle in list(resource.takers):
                if bundle.rising:
                    self._hold_takers(resource, bundle)
            for share in list(resource.takers.get(self._loose, ())):
                self._stop(share, held, level)

    def _use(self, resource: Resource, more_per_s: float) -> None:
        """Count what is taken of a resource that is no part of this pass."""
        resource.used_per_s += more_per_s
        resource.updates += 1
        if resource.used_per_s > resource.capacity_per_s:
            self._suspects[resource] = None

    def _hold_takers(self, resource: Resource, bundle: Bundle) -> None:
        """Stop those of a rising bundle that a used-up resource holds from now on."""
        for share in list(resource.takers.get(bundle, ())):
            self._leave(share)
            self._stop(share, resource.held, resource.held.level)

    def _enqueue(self, resource: Resource) -> None:
        """Put a resource where it fills, or where it filled before, if that comes first and before its turn so far."""
        key = _fills_at(resource)
        if not resource.lifted and resource.held.level < key:
            key = resource.held.level
        if key < resource.key:
            resource.key = key
            heappush(self._queue, (key, resource.number, resource))

    def _enqueue_cap(self, bundle: Bundle) -> None:
        """Put the lowest cap of a rising bundle into the queue."""
        share = bundle.first_cap()
        if share is not None:
            heappush(self._queue, (share.cap_level, share.number, bundle))


def _fills_at(resource: Resource) -> float:
    """Return the level at which a resource is used up if nobody else joins, stops or leaves; inf for never."""
    if resource.rising:
        level = resource.free_per_s / resource.slope
        return level if level > 0.0 else 0.0
    # With nobody rising it is either left alone or, after its capacity fell, too full from the start.
    return math.inf if resource.free_per_s >= -ROUNDING * resource.capacity_per_s else 0.0
