"""A fleet with a council, for tests: nine devices, four of which found the committee."""

from __future__ import annotations

from collections.abc import Mapping

from policies.commands import Facts
from policies.committee.electoral import Electoral
from policies.config import CommitteeConfig, ConsensusRules, CouncilConfig, HotstuffConfig, PbftConfig, RaftConfig
from policies.consensus import convicts, replicated_log
from policies.council import Charter, Councillor
from policies.port import Policy

NAMES = tuple(f"n{k}" for k in range(9))
FOUNDERS = NAMES[:4]
PROTOCOLS: dict[str, ConsensusRules] = {
    "hotstuff": HotstuffConfig(timeout_s=0.2, heartbeat_s=0.1, checkpoint_every=8),
    "pbft": PbftConfig(timeout_s=0.5, resend_s=0.1, checkpoint_every=8),
    "raft": RaftConfig(heartbeat_s=0.05, election_min_s=0.15, election_max_s=0.3),
}
RULES = CouncilConfig(seats=CommitteeConfig(), epoch_s=1.0, alive_s=0.1, retry_s=0.3, byzantine_share=0.2)


def facts(name: str) -> Facts:
    """What a device says of itself: six networks, three vendors, four regions, two countries."""
    k = int(name[1:])
    return Facts("tee", f"as{k % 6}", f"v{k % 3}", f"r{k % 4}", f"c{k % 2}")


def device(name: str, protocol: str = "hotstuff", rules: CouncilConfig = RULES) -> Mapping[str, Policy]:
    """One device's log and council."""
    chooser = Electoral(rules.seats, rules.byzantine_share)
    return {
        "consensus": replicated_log(PROTOCOLS[protocol], FOUNDERS, "council", ("council",)),
        "council": Councillor(Charter(rules, FOUNDERS, facts(name), chooser, convicts), snapshot_every=8),
    }
