"""A village's committee is not replaced because one of its members asks for it, whether or not it is re-elected."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from policies.committee.electoral import Electoral
from policies.config import CouncilConfig, HotstuffConfig, PbftConfig, ShardingConfig
from policies.consensus import convicts, replicated_log
from policies.coordination import Coordination, CouncilCoordination
from policies.council import Charter
from policies.local import Allow, Reconfigure
from policies.port import Policy
from scenarios.checks import Checks, council
from sim.cluster import Cluster
from tests.policies.council_fleet import facts
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


@pytest.mark.parametrize("config", [HotstuffConfig(timeout_s=0.5, heartbeat_s=0.2), PbftConfig()])
@pytest.mark.parametrize("liar", ["n0", "n2"])
def test_a_re_elected_committee_changes_as_the_council_decides_and_not_otherwise(
    config: HotstuffConfig | PbftConfig, liar: str
) -> None:
    """Epochs go on beside a member that asks for its own committee all the time; nobody sits whom nobody decided on."""
    rules = CouncilConfig(epoch_s=3.0, alive_s=0.3, retry_s=0.6)
    found = {name: facts(name) for name in NAMES}
    checks = Checks(*council.safety(SITTING, found, rules.seats, [liar], "coordination"))

    def member(name: str) -> dict[str, Policy]:
        top = Putsch() if name == liar else CouncilCoordination(
            RULES, ShardingConfig(), CARD,
            charter=Charter(rules, SITTING, found[name], Electoral(rules.seats, 0.2), convicts),
        )  # fmt: skip
        return {"consensus": replicated_log(config, SITTING, "coordination", ("coordination",)), "coordination": top}

    cluster = Cluster(lambda: {}, 5, others={name: (lambda name=name: member(name)) for name in NAMES})
    cluster.world.on_decide.append(
        lambda now, node, e: None if node.name == liar else checks.decided(now, node.name, e[1], e[2], e[3])
    )
    cluster.run(20)
    decided = [d for d in cluster.decisions if d.kind == "decision"]

    assert [check.broken for check in checks.all if check.broken] == []
    assert max(d.value[1] for d in decided) >= 3
    assert len({frozenset(d.value[3]) for d in decided}) >= 2
