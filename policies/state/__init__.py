"""The village's state machine: a deterministic apply(state, command), in parts that each fit in one small file."""

from policies.state.council import Verify
from policies.state.requests import OpKey
from policies.state.snapshot import SnapshotError
from policies.state.village import VillageState

__all__ = ["OpKey", "SnapshotError", "Verify", "VillageState"]
