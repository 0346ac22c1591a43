"""Flows in time: when each begins, how fast it runs, and the moment it ends.

Theory of operation. Between two changes every rate is constant, so what remains of a flow is linear and its end is
one event. What remains is brought up to date only when the flow's rate changes. Moments are float seconds since an
epoch that moves on every `EPOCH_S`, so their grain stays below a picosecond however long the run; the engine, which
counts int nanoseconds, is woken at the first nanosecond that is not before the next moment. What a flow leaves is
free for others from its exact end on, not from the wake.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from heapq import heappop, heappush
from itertools import count

from sim.engine import NS_PER_S, Engine
from sim.sharing.allocation import Allocation
from sim.sharing.allowed import require_above_zero, require_at_least_zero, require_cap, require_path, require_takes
from sim.sharing.modes import named
from sim.sharing.parts import Bundle, Resource, Share

EPOCH_S = 4096
"""How far moments run from their epoch: a double there is good to 1e-12 s (its 53 bits, 12 of them whole seconds)."""
SAME_MOMENT_ULP = 8
"""Moments that differ by this many units in the last place are one: flows that are alike end together."""


class Flow:
    """One flow, from `Sharing.start` on.

    Attributes:
        path: the names of its resources.
        size: what it carries, in the resources' unit (bytes over links).
        mode: the name of the sharing mode in force.
        latency_s: of its path, one way.
        started_s: when it was started, in seconds of the engine's clock.
        finished_s: when its last unit was carried, or None.
        cancelled: whether it was taken away before.
    """

    __slots__ = (
        "_back", "_cap_per_s", "_done", "_left", "_rate_factor", "_share", "_takes", "_weight", "cancelled",
        "finished_s", "latency_s", "mode", "path", "size", "started_s",
    )  # fmt: skip

    def __init__(self, path: tuple[str, ...], size: float, mode: str, started_s: float, latency_s: float) -> None:
        self.path, self.size, self.mode, self.started_s, self.latency_s = path, size, mode, started_s, latency_s
        self.finished_s: float | None = None
        self.cancelled = False
        self._left, self._rate_factor = size, 1.0
        self._back: tuple[str, ...] = ()
        self._takes: dict[str, float] = {}
        self._weight, self._cap_per_s = 1.0, math.inf
        self._done: Callable[[Flow], object] | None = None
        self._share: Share | None = None

    @property
    def rate_per_s(self) -> float:
        """What it carries a second now; 0 while it waits for its latency and after its end."""
        return 0.0 if self._share is None else self._share.rate_per_s * self._rate_factor


class Sharing:
    """Resources that flows share, on an engine's clock.

    Args:
        engine: counts int nanoseconds; flows begin and end on it.
        mode: `max_min`, `rtt_weighted` or `lv08`; see `sim.sharing.modes`.

    Raises:
        ValueError: no mode of that name.

    Example:
        >>> engine = Engine()
        >>> sharing = Sharing(engine)
        >>> sharing.add("uplink", 1000.0, latency_s=0.5)
        >>> a, b = sharing.start(["uplink"], 1000.0), sharing.start(["uplink"], 2000.0)
        >>> engine.run()
        >>> a.finished_s, b.finished_s, b.mode
        (2.5, 3.5, 'max_min')
    """

    def __init__(self, engine: Engine, mode: str = "max_min") -> None:
        self._law = named(mode)
        self.mode = mode
        self.engine = engine
        self._resources: dict[str, Resource] = {}
        self._latency_s: dict[str, float] = {}
        self._allocation = Allocation()
        self._running: dict[Share, None] = {}
        # When, tie-break, and what: a flow that begins, or a bundle whose first share ends if it is at that version.
        self._moments: list[tuple[float, int, Flow | Bundle, int]] = []
        self._sequence = count()
        self._epoch_ns = int(engine.now)
        self._at_s = 0.0
        self._wake_ns: int | None = None

    # -- what users ask ------------------------------------------------------------------------------

    def add(self, name: str, capacity_per_s: float, latency_s: float = 0.0) -> None:
        """Add a resource.

        Args:
            name: unique.
            capacity_per_s: what it carries a second (bytes for links), above 0 and finite.
            latency_s: what it adds to the latency of the paths over it, at least 0.

        Raises:
            ValueError: the name is taken, or a number is outside what is allowed.
        """
        if name in self._resources:
            raise ValueError(f"resource {name}: is there already; allowed: a new name")
        require_above_zero(f"resource {name}: capacity_per_s", capacity_per_s)
        require_at_least_zero(f"resource {name}: latency_s", latency_s)
        self._resources[name] = self._allocation.resource(name, capacity_per_s)
        self._latency_s[name] = latency_s

    def __contains__(self, name: str) -> bool:
        """Whether there is a resource of that name."""
        return name in self._resources

    def set_capacity(self, name: str, capacity_per_s: float) -> None:
        """Change a resource's capacity from now on; the flows over it are shared anew.

        Raises:
            ValueError: no such resource, or the capacity is not above 0 and finite.
        """
        if name not in self._resources:
            raise ValueError(f"resource {name}: unknown; allowed: one that was added")
        require_above_zero(f"resource {name}: capacity_per_s", capacity_per_s)
        self.catch_up()
        resource = self._resources[name]
        self._allocation.set_capacity(resource, capacity_per_s)
        if self._law.weight_s_bytes:  # the RTT that weighs a flow depends on the capacity
            for share in [share for takers in resource.takers.values() for share in takers]:
                flow: Flow = share.owner
                if name in flow.path:
                    self._part(flow)
                    self._enter(flow)
        self._settle()
        self._wake()

    def start(
        self,
        path: Sequence[str],
        size: float,
        *,
        back: Sequence[str] | None = None,
        takes: Mapping[str, float] | None = None,
        weight: float = 1.0,
        cap_per_s: float = math.inf,
        latency_s: float = 0.0,
        after_s: float = 0.0,
        done: Callable[[Flow], object] | None = None,
    ) -> Flow:
        """Start a flow: it waits for its latency, then gets its fair share until it has carried its size.

        Args:
            path: its resources, in order, each once.
            size: what it carries, in the resources' unit; at least 0.
            back: what its acknowledgements cross, where the mode charges for them; None is the path itself.
            takes: how much of a resource on its path one unit of it takes, above 0, where that is not 1.
            weight: its share beside others at a bottleneck, above 0; multiplies the mode's own weight.
            cap_per_s: its highest rate, above 0.
            latency_s: added to the latency of its resources, at least 0.
            after_s: starts so much later than now, to the float; at least 0.
            done: called with the flow when it has ended, on the engine's first nanosecond that is not before the end.

        Returns:
            The flow, whose `finished_s` is set when it ends.

        Raises:
            ValueError: a resource is unknown or listed twice, there is none, or a number is outside what is allowed.
        """
        require_path("flow: path", path, self._resources)
        if back is None:
            back = path
        else:
            require_path("flow: back", back, self._resources)
        takes = dict(takes or {})
        require_takes(path, takes)
        require_at_least_zero("flow: size", size)
        require_at_least_zero("flow: latency_s", latency_s)
        require_at_least_zero("flow: after_s", after_s)
        require_above_zero("flow: weight", weight)
        require_cap("flow: cap_per_s", cap_per_s)
        latency_s = math.fsum((latency_s, *(self._latency_s[name] for name in path)))
        now_s = self._clock_s() + after_s
        flow = Flow(tuple(path), float(size), self.mode, self._epoch_ns / NS_PER_S + now_s, latency_s)
        flow._takes = takes
        flow._back, flow._weight, flow._cap_per_s, flow._done = tuple(back), weight, cap_per_s, done
        flow._rate_factor = self._law.bandwidth_factor
        heappush(self._moments, (now_s + latency_s * self._law.latency_factor, next(self._sequence), flow, 0))
        self._wake()
        return flow

    def cancel(self, flow: Flow) -> float:
        """Take a flow away before its end, without calling its `done`; return what it has not carried.

        A flow that has ended, or was cancelled before, stays as it is.
        """
        self.catch_up()
        if flow.finished_s is None and not flow.cancelled:
            flow.cancelled = True
            if flow._share is not None:
                self._part(flow)
                self._settle()
            self._wake()
        return flow._left

    def renew(self, changes: Iterable[tuple[Flow, float, Mapping[str, float]]]) -> None:
        """Change flows in their course, all at one moment and shared anew once: now.

        Args:
            changes: flows, each with what it has still to carry (above 0) and how much of each resource on its path one
                unit of it takes from now on (as in `start`). One that has ended or was cancelled stays as it is.

        Raises:
            ValueError: as for `start`.
        """
        self.catch_up()
        for flow, left, takes in changes:
            require_above_zero("flow: left", left)
            require_takes(flow.path, takes)
            if flow.finished_s is not None or flow.cancelled:
                continue
            running = flow._share is not None
            if running:
                self._part(flow)
            flow._left, flow._takes = left, dict(takes)
            if running:
                self._enter(flow)
        self._settle()
        self._wake()

    def left(self, flow: Flow) -> float:
        """Return what a flow has still to carry now."""
        self.catch_up()
        share = flow._share
        if share is None:
            return flow._left
        share.bundle.bring_up(self._at_s)
        return max(0.0, (share.target - share.bundle.served) * share.weight * flow._rate_factor)

    def catch_up(self) -> None:
        """Live through the moments up to the engine's time: what has ended by now is told now."""
        while self._moments and self._due_ns(self._moments[0][0]) <= self.engine.now:
            ended = self._live_through()
            for flow in ended:
                if flow._done is not None:
                    flow._done(flow)
        self._at_s = max(self._at_s, (self.engine.now - self._epoch_ns) / NS_PER_S)

    # -- moments -------------------------------------------------------------------------------------

    def _clock_s(self) -> float:
        """Return the engine's time since the epoch, s; moves the epoch on if it is far behind."""
        if self.engine.now - self._epoch_ns >= EPOCH_S * NS_PER_S:
            self.catch_up()
            self._move_epoch()
        return (self.engine.now - self._epoch_ns) / NS_PER_S

    def _move_epoch(self) -> None:
        """Count moments from a later epoch: whole seconds, which doubles subtract without rounding."""
        step_s = int((self.engine.now - self._epoch_ns) // NS_PER_S)
        self._epoch_ns += step_s * NS_PER_S
        self._at_s -= step_s
        self._moments = [(at_s - step_s, n, what, version) for at_s, n, what, version in self._moments]
        for bundle in dict.fromkeys(share.bundle for share in self._running):
            bundle.at_s -= step_s

    def _due_ns(self, at_s: float) -> int:
        """Return the first nanosecond of the engine that is not before a moment."""
        return self._epoch_ns + math.ceil(at_s * NS_PER_S)

    def _wake(self) -> None:
        """Have the engine call at the next moment."""
        moments = self._moments
        while moments and _stale(moments[0][2], moments[0][3]):
            heappop(moments)
        if moments:
            due_ns = max(self._due_ns(moments[0][0]), int(self.engine.now))
            if self._wake_ns is None or due_ns < self._wake_ns:
                self._wake_ns = due_ns
                self.engine.call_at(due_ns, self._woken, due_ns)

    def _woken(self, due_ns: int) -> None:
        if due_ns == self._wake_ns:
            self._wake_ns = None
        self._clock_s()
        self.catch_up()
        self._wake()

    def _live_through(self) -> list[Flow]:
        """Live through the next moment: flows begin or end, and rates follow; return those that ended."""
        moments = self._moments
        self._at_s = max(self._at_s, moments[0][0])
        until_s = self._at_s + SAME_MOMENT_ULP * math.ulp(self._at_s)
        ended: list[Flow] = []
        while moments and moments[0][0] <= until_s:
            _, _, what, version = heappop(moments)
            if _stale(what, version):
                continue
            if isinstance(what, Bundle):
                self._end_first(what, ended)
            elif what.size > 0.0:
                self._enter(what)
            else:
                ended.append(what)
        for flow in ended:
            flow._left = 0.0
            flow.finished_s = self._epoch_ns / NS_PER_S + self._at_s
        self._settle()
        return ended

    def _end_first(self, bundle: Bundle, ended: list[Flow]) -> None:
        """End the flow of a bundle whose end this is, and those that are at theirs up to rounding."""
        bundle.bring_up(self._at_s)
        share = bundle.first_end()
        grain = SAME_MOMENT_ULP * (bundle.level * math.ulp(self._at_s) + math.ulp(bundle.served))
        until = bundle.served + grain if share is None else max(share.target, bundle.served) + grain
        while share is not None and share.target <= until:
            ended.append(share.owner)
            self._part(share.owner)
            share = bundle.first_end()

    # -- rates ---------------------------------------------------------------------------------------

    def _enter(self, flow: Flow) -> None:
        """Give a flow a share."""
        law, resources = self._law, self._resources
        legs = {resources[name]: flow._takes.get(name, 1.0) for name in flow.path}
        if law.cross_traffic:
            for name in flow._back:
                legs[resources[name]] = legs.get(resources[name], 0.0) + law.cross_traffic
        weight = flow._weight * law.weight(flow.latency_s, [resources[name].capacity_per_s for name in flow.path])
        cap_per_s = min(flow._cap_per_s / law.bandwidth_factor, law.cap_per_s(flow.latency_s))
        wanted = flow._left / law.bandwidth_factor
        flow._share = self._allocation.add(legs.items(), weight, cap_per_s, wanted, flow)
        self._running[flow._share] = None

    def _part(self, flow: Flow) -> None:
        """Take a flow's share away."""
        assert flow._share is not None
        flow._left = self._allocation.remove(flow._share, self._at_s) * flow._rate_factor
        del self._running[flow._share]
        flow._share = None

    def _settle(self) -> None:
        """Share anew, and foresee the ends in the bundles that changed."""
        now_s = self._at_s
        for bundle in self._allocation.settle(now_s):
            bundle.version += 1
            share = bundle.first_end()
            if share is not None:
                end_s = now_s + max(0.0, share.target - bundle.served) / bundle.level
                heappush(self._moments, (end_s, next(self._sequence), bundle, bundle.version))


def _stale(what: Flow | Bundle, version: int) -> bool:
    """Whether a moment was foreseen that will not come."""
    return what.version != version if isinstance(what, Bundle) else what.cancelled
