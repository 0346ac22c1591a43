"""HotStuff's committee of four, one of which may lie: the classic three-chain."""

from __future__ import annotations

import msgspec

from experiments.hunt.arenas.hotstuff import HotstuffArena
from scenarios.checks import Check
from scenarios.checks.byzantine import LockIsKept
from scenarios.trial import Trial


class Hotstuff3Arena(HotstuffArena):
    """As `HotstuffArena`, and a vote keeps the lock."""

    name = "hotstuff3"
    what = "a HotStuff committee (three-chain) with one liar of four, crashes, partitions, bad links and bad disks"
    rules = msgspec.structs.replace(HotstuffArena.rules, chain=3)
    shape = msgspec.structs.replace(HotstuffArena.shape, arena="hotstuff3")

    def promises(self, trial: Trial) -> tuple[Check, ...]:
        """Return what the two-chain promises, and the lock."""
        return *super().promises(trial), LockIsKept(self.reading)
