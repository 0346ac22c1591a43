"""The arenas, by name."""

from __future__ import annotations

from importlib import import_module

from experiments.hunt.arena import Arena
from scenarios.schema import ScenarioError

NAMES: dict[str, str] = {
    "raft": "RaftArena", "village": "VillageArena", "tasks": "TasksArena", "fleet": "FleetArena", "edge": "EdgeArena",
    "delivery": "DeliveryArena", "mesh": "MeshArena", "bus": "BusArena",
    "hotstuff": "HotstuffArena", "hotstuff3": "Hotstuff3Arena", "pbft": "PbftArena",
    "village_hotstuff": "VillageHotstuffArena",
    "registry": "RegistryArena", "council": "CouncilArena", "council_raft": "CouncilRaftArena",
    "council_pbft": "CouncilPbftArena",
}  # fmt: skip
"""Arena to its class, in the module of its name."""


def arena(name: str) -> Arena:
    """Return an arena.

    Raises:
        ScenarioError: there is none of that name.
    """
    if name not in NAMES:
        raise ScenarioError(f"arena={name!r}: allowed: {', '.join(NAMES)}")
    made: Arena = getattr(import_module(f"experiments.hunt.arenas.{name}"), NAMES[name])()
    return made
