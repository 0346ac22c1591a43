"""Nodes with a bus over both transports, for tests of the bus."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from experiments.hunt.arenas.offline import Offline
from policies.config import BusConfig
from policies.port import Policy
from policies.transport import Bus, Mesh


def node(
    topology: Mapping[str, Collection[str]],
    away_s: tuple[float, float] = (0.0, 0.0),
    kind: type[Bus] = Bus,
    config: BusConfig | None = None,
) -> dict[str, Policy]:
    """Return a node whose internet is away from one second to another."""
    return {
        "bus": kind(config),
        "delivery": Offline(None, "bus", away_s),
        "mesh": Mesh(topology, consumer="bus"),
    }
