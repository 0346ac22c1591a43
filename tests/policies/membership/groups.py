"""Groups of failure detectors in the simulated world, and what they saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from policies.config import MembershipRules
from policies.membership import failure_detector
from scenarios.adversaries.behaviours import Behaves
from scenarios.schema import Network
from sim.cluster import Cluster

CALM = Network(backbone_s=0.002, jitter_sigma=0.0, loss=0.0, duplicate=0.0)
ROUGH = Network(backbone_s=0.005, jitter_sigma=1.0, loss=0.1, duplicate=0.1)


class Group:
    """``n`` members that know one another from the start, or only the first one."""

    def __init__(
        self,
        config: MembershipRules,
        n: int,
        seed: int = 1,
        network: Network = CALM,
        adversaries: Mapping[str, Sequence[Behaves]] | None = None,
        known: int | None = None,
    ) -> None:
        self.names = tuple(f"n{i}" for i in range(n))
        members = self.names[:known]
        self.cluster = Cluster(lambda: failure_detector(config, members), n, seed, network, adversaries=adversaries)
        self.run, self.crash, self.restart = self.cluster.run, self.cluster.crash, self.cluster.restart

    def seen(self, status: str, peer: str = "", since_s: float = 0.0) -> list[tuple[float, str, str]]:
        """Return (time, who saw, whom) of each change to this status."""
        told = ((x.time_s, x.node, *x.value[1:3]) for x in self.cluster.decisions if x.kind == "seen")
        return [
            (at_s, by, who) for at_s, by, who, how in told if how == status and peer in ("", who) and at_s >= since_s
        ]

    def detector(self, name: str) -> Any:
        return self.cluster.policy(name)

    def views(self, *names: str) -> set[tuple[str, ...]]:
        """Return the different lists of the living that these members hold; all of them by default."""
        return {self.detector(name).alive() for name in names or self.names}
