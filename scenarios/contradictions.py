"""Parameters of policies that no single field shows to be wrong: they contradict one another, or the fleet."""

from __future__ import annotations

from policies.config import (
    ConsensusRules,
    HarvestConfig,
    HarvestRules,
    HotstuffConfig,
    MembershipRules,
    NoDetectorConfig,
    OwnerLimits,
    PbftConfig,
    PhiConfig,
    PolicyConfig,
    PredictiveConfig,
)
from policies.edge import check_edge


def check_policy(policy: PolicyConfig) -> None:
    """Refuse parameters of a node's policies that contradict one another.

    Raises:
        ValueError: one line that names the field, the value and what is allowed; so in all of this module.
    """
    check_harvest(policy.harvest)
    _check_consensus(policy.consensus)
    try:
        check_edge(policy.edge)
    except ValueError as error:
        raise ValueError(f"policy.{error}") from None


def check_harvest(h: HarvestRules) -> None:
    """Refuse harvest limits that contradict one another."""
    if isinstance(h, OwnerLimits):
        temps = (h.max_cpu_temp_c, h.throttle_temp_c, h.critical_temp_c)
        if list(temps) != sorted(temps):
            raise ValueError(
                "policy.harvest.max_cpu_temp_c, throttle_temp_c, critical_temp_c="
                f"{temps}: expected values that do not fall"
            )
    if isinstance(h, HarvestConfig) and h.hour_start == h.hour_end:
        raise ValueError(
            f"policy.harvest.hour_start={h.hour_start}: expected another hour than hour_end (0 to 24 is always)"
        )
    if isinstance(h, PredictiveConfig) and h.stop_hazard_per_h < h.start_hazard_per_h:
        raise ValueError(
            f"policy.harvest.stop_hazard_per_h={h.stop_hazard_per_h}: expected >= "
            f"start_hazard_per_h={h.start_hazard_per_h}"
        )


def _check_consensus(c: ConsensusRules) -> None:
    """Refuse parameters that contradict one another."""
    pairs: list[tuple[str, float, str, str, float]]
    if isinstance(c, PbftConfig):
        pairs = [("in_flight", c.in_flight, "<=", "2 * checkpoint_every", 2 * c.checkpoint_every)]
    elif isinstance(c, HotstuffConfig):
        pairs = [("timeout_s", c.timeout_s, "<=", "timeout_max_s", c.timeout_max_s)]
    else:
        pairs = [
            ("election_min_s", c.election_min_s, "<", "election_max_s", c.election_max_s),
            ("heartbeat_s", c.heartbeat_s, "<", "election_min_s", c.election_min_s),
        ]
    for field, value, sign, other, limit in pairs:
        if value > limit or (sign == "<" and value == limit):
            raise ValueError(f"policy.consensus.{field}={value}: expected {sign} {other}={limit}")


def check_detector(d: NoDetectorConfig | MembershipRules, nodes: int) -> None:
    """Refuse parameters that contradict one another or the size of the fleet."""
    if isinstance(d, NoDetectorConfig):
        return
    if d.members_max < nodes:
        raise ValueError(f"policy.membership.members_max={d.members_max}: expected >= the fleet's {nodes} devices")
    if isinstance(d, PhiConfig):
        if d.dead_phi < d.suspect_phi:
            raise ValueError(f"policy.membership.dead_phi={d.dead_phi}: expected >= suspect_phi={d.suspect_phi}")
    elif d.ack_s >= d.probe_s:
        raise ValueError(f"policy.membership.ack_s={d.ack_s}: expected < probe_s={d.probe_s}")
