"""Storms: everything at once by drawn schedules, then calm; what they found first is why several lines are there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from policies.rng import Rng
from scenarios.adversaries import behaviours as b
from scenarios.schema import Network
from tests.policies.consensus.hotstuff.small_log import SmallLog
from tests.policies.consensus.hotstuff.test_adversaries import LIES

STORMY = Network(backbone_s=0.002, loss=0.1, duplicate=0.05, jitter_sigma=0.5)
AFTERWARDS = Network(backbone_s=0.002, loss=0.0, duplicate=0.0, jitter_sigma=0.3)


class Storm:
    """One drawn schedule: how many members, which rule, who lies and how, cuts and crashes.

    Crashes strike members beside the liars too: with torn disks, so durability is what keeps their promises.
    """

    def __init__(self, seed: int) -> None:
        self.rng = rng = Rng(seed, "storm", "", 0)
        n = rng.choice((4, 4, 4, 7))
        names = [f"n{k}" for k in range(n)]
        self.liars = self._some(names, rng.choice((0, 1, (n - 1) // 3)))
        self.honest = [name for name in names if name not in self.liars]
        self.log = SmallLog(
            n, rng.choice((2, 3)), seed, STORMY, adversaries={liar: self._lie(liar, names) for liar in self.liars},
            tenure=rng.choice((1, 2, 4, 32)), snapshot_every=rng.choice((0, 3, 10)),
            checkpoint_every=rng.choice((3, 10)),
        )  # fmt: skip
        self.down: list[str] = []

    def _some(self, names: Sequence[str], count: int) -> list[str]:
        left = list(names)
        return [left.pop(self.rng.below(len(left))) for _ in range(count)]

    def _lie(self, liar: str, names: Sequence[str]) -> Sequence[Any]:
        if self.rng.below(2):
            others = [name for name in names if name != liar]
            return [b.Twins(peers=tuple(self._some(others, 1 + self.rng.below(len(names) // 2))))]
        return LIES[self.rng.choice(tuple(LIES))]

    def _strike(self) -> None:
        cluster, names, what = self.log.cluster, self.log.members, self.rng.below(4)
        if what == 0:
            cluster.partition(self._some(names, 1 + self.rng.below(len(names) // 2)))
        elif what == 1:
            cluster.heal()
        elif what == 2 and len(self.down) < len(names):
            name = self.rng.choice([name for name in names if name not in self.down])
            cluster.crash(name, torn=self.rng.random())
            self.down.append(name)
        elif self.down:
            cluster.restart(self.down.pop(0))

    def run(self) -> None:
        """The storm, the calm, and what must hold after it."""
        for _ in range(3 + self.rng.below(12)):
            self._strike()
            self.log.run(self.rng.choice((0.1, 0.3, 0.8)), every=0.1, at=self.honest)
        for name in self.down:
            self.log.cluster.restart(name)
        self.log.cluster.heal()
        self.log.cluster.world.network.config = AFTERWARDS
        self.log.run(1)
        asked = self.log.run(0.6, every=0.1, at=self.honest)
        self.log.run(25)

        self.log.require_safe()
        assert {fields[1] for fields in self.log.evidence()} <= set(self.liars)
        self.log.require_live(asked, self.honest)


@pytest.mark.parametrize("seed", range(12))
def test_a_storm_breaks_nothing_and_the_calm_after_it_serves_everybody(seed: int) -> None:
    """Agreement, evidence that names only liars, and every command asked in the calm committed by every honest one."""
    Storm(seed).run()


@pytest.mark.nightly
@pytest.mark.parametrize("hundred", range(1, 11))
def test_a_thousand_storms(hundred: int) -> None:
    """The same, for a thousand schedules."""
    for seed in range(100 * hundred, 100 * hundred + 100):
        Storm(seed).run()
