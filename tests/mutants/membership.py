"""Published bugs of failure detectors, and the village's own: a group of members for some virtual seconds."""

from __future__ import annotations

from collections.abc import Callable

from policies.config import PhiConfig, SwimConfig
from policies.membership import PhiAccrual
from policies.membership.messages import ALIVE, DEAD
from policies.membership.table import Table
from scenarios.adversaries import behaviours as b
from sim.cluster import Cluster
from tests.mutants.record import Mutant, require
from tests.policies.membership.groups import CALM, Group

SWIM = SwimConfig(probe_s=0.2, ack_s=0.1, gossip_s=0.05, push_pull_s=3.0)
PHI = PhiConfig(heartbeat_s=0.2, std_min_s=0.02, pause_s=0.4)
NAMES = ("n0", "n1", "n2", "n3")


def slow_members(config: SwimConfig) -> None:
    """Three of twelve hear and speak 8 s late (arXiv 1707.00788): they must not have healthy members declared dead."""
    slow = {f"n{i}": [b.Delay(bound_s=8.0, exactly=True, from_s=2.0)] for i in range(3)}
    group = Group(config, 12, adversaries=slow)
    group.run(20)
    wrong = sum(whom not in slow for _, _, whom in group.seen("dead"))
    require(wrong <= 3, f"false positives: {wrong} verdicts on healthy members in 20 s")


class HearsNoHeartbeat(PhiAccrual):
    """G02: no method takes a heartbeat, so that everybody is dead after a while and never returns."""

    def on_message(self, sender: str, message: object) -> None:
        pass


def idle(kind: type[PhiAccrual]) -> None:
    """Four members do nothing but live."""
    cluster = Cluster(lambda: kind(PHI, NAMES), 4, network=CALM)
    cluster.run(15)
    for name in NAMES:
        alive = cluster.policy(name).alive()
        require(alive == NAMES, f"live members are believed alive: to {name} only {', '.join(alive)} are")


def once_dead(self: Table, member: str, incarnation: int, status: int, own: bool = False) -> bool:
    """Take in an update; a fault is never cleared, and is not told again."""
    return self.entries.get(member, (0, ALIVE))[1] != DEAD and _learn(self, member, incarnation, status, own)


_learn = Table.learn


def second_outage(config: SwimConfig) -> None:
    """n3 dies, rises, and dies again."""
    group = Group(config, 4)
    group.run(1)
    for outage in (1, 2):
        group.crash("n3")
        since_s = group.cluster.now_s
        group.run(5)
        saw = {who for _, who, _ in group.seen("dead", "n3", since_s)}
        require(len(saw) == 3, f"every outage is seen: outage {outage} by {len(saw)} of 3")
        group.restart("n3")
        group.run(3)


def _member(
    id: str, what: str, source: str, property: str, scenario: Callable[..., None], correct: object, wrong: object,
    broken: str, *patches: tuple[object, str, object],
) -> Mutant:  # fmt: skip
    return Mutant(id, what, source, property, scenario, correct, wrong, broken, patches)


MUTANTS = (
    _member(
        "M1", "slow members have healthy ones declared dead (SWIM without Lifeguard)", "memberlist, arXiv 1707.00788",
        "few false positives", slow_members, SwimConfig(), SwimConfig(lifeguard=False), "false positives",
    ),
    _member(
        "G02", "nothing hears a heartbeat", "village, agent coordinator", "live members are believed alive", idle,
        PhiAccrual, HearsNoHeartbeat, "live members",
    ),
    _member(
        "G14", "a fault is never cleared", "village, fault detector", "every outage is seen", second_outage, SWIM, SWIM,
        "every outage is seen: outage 2", (Table, "learn", once_dead),
    ),
)  # fmt: skip
