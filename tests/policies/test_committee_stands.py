"""A village's committee is not replaced because one of its members asks for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from policies.config import HotstuffConfig, PbftConfig, ShardingConfig
from policies.consensus import replicated_log
from policies.coordination import Coordination
from policies.local import Allow, Reconfigure
from policies.port import Policy
from sim.cluster import Cluster
from tests.policies.small_village import CARD, RULES

NAMES = tuple(f"n{k}" for k in range(5))
SITTING, WANTED = NAMES[:4], ("n0", "n1", "n2", "n4")


class Putsch(Policy):
    """Stands where coordination is, and would have another committee."""

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        self.on_timer("again")

    def on_timer(self, name: str) -> None:
        self.port.tell("consensus", Allow(WANTED))
        self.port.tell("consensus", Reconfigure(WANTED))
        self.port.set_timer("again", 200_000_000)

    def on_local(self, sender: str, message: Any) -> None:
        """Whatever the log says."""


@pytest.mark.parametrize("config", [HotstuffConfig(), PbftConfig()], ids=["hotstuff", "pbft"])
@pytest.mark.parametrize("liar", ["n0", "n2"])
def test_one_member_cannot_replace_the_committee(config: HotstuffConfig | PbftConfig, liar: str) -> None:
    """The others vote for no change that their state machines have not decided, whoever leads."""

    def member(top: Policy) -> dict[str, Policy]:
        return {"consensus": replicated_log(config, SITTING, "coordination", ("coordination",)), "coordination": top}

    cluster = Cluster(
        lambda: member(Coordination(RULES, ShardingConfig(), CARD)), 5, others={liar: lambda: member(Putsch())}
    )
    cluster.run(20)

    honest = [name for name in SITTING if name != liar]
    logs = [cluster.policy(name, "consensus") for name in honest]
    assert {log.committee.members if isinstance(config, PbftConfig) else log.epoch.members for log in logs} == {SITTING}
    assert all(log.leader for log in logs)
