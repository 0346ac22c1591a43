"""What watchers of this node are told, whichever detector runs."""

from __future__ import annotations

from typing import Any

import pytest

from policies.config import LeaseConfig, MembershipRules, PhiConfig, SwimConfig
from policies.local import Leadership, Seen
from policies.membership import LeaseElection, PhiAccrual, Swim, failure_detector
from policies.port import Policy
from sim.cluster import Cluster
from tests.policies.membership.groups import CALM

NAMES = ("n0", "n1", "n2", "n3")
SWIM = SwimConfig(probe_s=0.2, ack_s=0.1, gossip_s=0.05)
PHI = PhiConfig(heartbeat_s=0.2, std_min_s=0.02, pause_s=0.4)


class Watcher(Policy):
    """Remembers what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def on_local(self, sender: str, message: Any) -> None:
        self.told.append(message)


@pytest.mark.parametrize(("config", "kind"), [(SWIM, Swim), (PHI, PhiAccrual)])
def test_a_watcher_hears_of_a_life_its_suspicion_its_end_and_the_next_life(config: MembershipRules, kind: type) -> None:
    """The class of the parameters chooses the detector; what is told is the same, with incarnations that never fall."""
    cluster = Cluster(lambda: {"who": failure_detector(config, NAMES, ("watch",)), "watch": Watcher()}, 4, network=CALM)
    assert isinstance(cluster.policy("n1", "who"), kind)
    cluster.run(3)
    cluster.crash("n0")
    cluster.run(6)
    cluster.restart("n0")
    cluster.run(3)

    told = [message for message in cluster.policy("n1", "watch").told if message.peer == "n0"]
    assert all(isinstance(message, Seen) for message in told)
    assert [message.status for message in told] == ["alive", "suspect", "dead", "alive"]
    lives = [message.incarnation for message in told]
    assert lives == sorted(lives)
    assert lives[-1] > lives[0]


def test_a_watcher_hears_who_leads_in_which_term() -> None:
    """The term is the fencing token: it never falls, and a lost lease is told as nobody's."""
    config = LeaseConfig(lease_s=1.0, renew_s=0.3)
    cluster = Cluster(lambda: {"lead": LeaseElection(config, NAMES, ("watch",)), "watch": Watcher()}, 4, network=CALM)
    cluster.run(4)
    old = cluster.policy("n0", "lead").leader
    cluster.partition([old])
    cluster.run(4)

    told: list[Leadership] = cluster.policy(old, "watch").told
    assert [m.leader for m in told if m.leader == old] == [old]
    assert told[-1].leader == ""
    other = next(name for name in NAMES if name != old)
    terms = [m.term for m in cluster.policy(other, "watch").told if m.leader]
    assert terms == sorted(terms)
    assert cluster.policy(other, "watch").told[-1].leader not in ("", old)
