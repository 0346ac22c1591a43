"""Sharing without an engine: rates of flows that are all there, and ends of flows that are known in advance."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sim.engine import Engine
from sim.sharing.allocation import Allocation
from sim.sharing.allowed import require_above_zero, require_cap, require_path
from sim.sharing.fluid import Sharing


@dataclass(frozen=True)
class Demand:
    """What wants a rate.

    Attributes:
        path: the resources that it crosses.
        weight: its share beside others, above 0.
        cap_per_s: the highest rate it can use, above 0.
    """

    path: Sequence[str]
    weight: float = 1.0
    cap_per_s: float = math.inf


def max_min_rates(capacities_per_s: Mapping[str, float], demands: Sequence[Demand]) -> list[float]:
    """Return the weighted max-min fair rates, in the order of the demands.

    Args:
        capacities_per_s: by resource, above 0 and finite.
        demands: who crosses what.

    Raises:
        ValueError: a demand crosses nothing, something unknown or something twice, or a number is not allowed.

    Example:
        >>> max_min_rates({"a": 3.0, "b": 10.0}, [Demand("a"), Demand("ab", weight=2.0), Demand("b")])
        [1.0, 2.0, 8.0]
    """
    allocation = Allocation()
    for name, capacity_per_s in capacities_per_s.items():
        require_above_zero(f"resource {name}: capacity_per_s", capacity_per_s)
    resources = {name: allocation.resource(name, capacity) for name, capacity in capacities_per_s.items()}
    for k, demand in enumerate(demands):
        require_path(f"demand {k}: path", demand.path, resources)
        require_above_zero(f"demand {k}: weight", demand.weight)
        require_cap(f"demand {k}: cap_per_s", demand.cap_per_s)
    shares = [
        allocation.add([(resources[name], 1.0) for name in demand.path], demand.weight, demand.cap_per_s)
        for demand in demands
    ]
    allocation.settle()
    return [share.rate_per_s for share in shares]


@dataclass(frozen=True)
class Planned:
    """A flow that is known in advance; its fields are those of `Sharing.start`, and `start_s` is when it starts."""

    path: Sequence[str]
    size: float
    start_s: float = 0.0
    back: Sequence[str] | None = None
    weight: float = 1.0
    cap_per_s: float = math.inf
    latency_s: float = 0.0


@dataclass(frozen=True)
class Ends:
    """When flows ended.

    Attributes:
        mode: the sharing mode in force.
        finished_s: of each flow, in their order.
    """

    mode: str
    finished_s: list[float]


def completion_times(
    resources: Mapping[str, tuple[float, float]], flows: Sequence[Planned], mode: str = "max_min"
) -> Ends:
    """Return when each flow ends.

    Args:
        resources: capacity (a second) and latency (s) by name.
        flows: what is carried, from when on.
        mode: `max_min`, `rtt_weighted` or `lv08`.

    Raises:
        ValueError: as `Sharing` raises it.

    Example:
        >>> completion_times({"a": (100.0, 0.5)}, [Planned("a", 100.0), Planned("a", 100.0, start_s=1.0)])
        Ends(mode='max_min', finished_s=[1.5, 2.5])
    """
    engine = Engine()
    sharing = Sharing(engine, mode)
    for name, (capacity_per_s, latency_s) in resources.items():
        sharing.add(name, capacity_per_s, latency_s)
    running = [
        sharing.start(
            flow.path,
            flow.size,
            back=flow.back,
            weight=flow.weight,
            cap_per_s=flow.cap_per_s,
            latency_s=flow.latency_s,
            after_s=flow.start_s,
        )
        for flow in flows
    ]
    engine.run()
    return Ends(mode, [flow.finished_s for flow in running if flow.finished_s is not None])
