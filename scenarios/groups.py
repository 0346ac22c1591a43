"""Groups of a fleet whose members fall together: by kind, time zone, mobile carrier and version of the app.

Both worlds draw them here, so that one schedule of faults strikes the same devices in either.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from models import draws
from scenarios.faults import CARRIERS, VERSIONS
from scenarios.schema import KINDS, Scenario

ENTITY_BITS = 24  # of a device's number among its kind; the kind is above it


def entities(scenario: Scenario) -> np.ndarray[Any, Any]:
    """Return who draws: a number for each device, by kind as in `KINDS`, the same whatever else the fleet holds."""
    counts = scenario.fleet.counts
    return np.array([(kind << ENTITY_BITS) + k for kind, count in enumerate(counts) for k in range(count)])


def zones(scenario: Scenario) -> np.ndarray[Any, Any]:
    """Return each device's place in ``fleet.time_zones_h``, a keyed draw with equal shares (assumption)."""
    return np.asarray(
        draws.integers(scenario.seed, "time zone", entities(scenario), 0, len(scenario.fleet.time_zones_h))
    )


def fleet_names(scenario: Scenario) -> list[str]:
    """Return every device's name, in the fleet's order."""
    return [f"{name}-{k}" for name, count in scenario.fleet.names.items() for k in range(count)]


def groups_of(scenario: Scenario) -> dict[str, list[str]]:
    """Return each group's members by name, in the fleet's order.

    A device's carrier and version are keyed draws with equal shares (assumption: no data tie a device to either).
    """
    fleet, who = scenario.fleet, entities(scenario)
    kinds = [kind for kind, count in zip(KINDS, fleet.counts, strict=True) for _ in range(count)]
    carrier = draws.integers(scenario.seed, "carrier", who, 0, CARRIERS)
    version = draws.integers(scenario.seed, "app version", who, 0, VERSIONS)
    groups: dict[str, list[str]] = {}
    for name, kind, zone, c, v in zip(fleet_names(scenario), kinds, zones(scenario), carrier, version, strict=True):
        first = fleet.time_zones_h.index(fleet.time_zones_h[zone])  # a zone named twice is one group
        for group in (kind, f"zone-{first}", f"carrier-{c}", f"version-{v}"):
            groups.setdefault(group, []).append(name)
    return groups
