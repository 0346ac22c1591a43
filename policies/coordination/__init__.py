"""Who does what: the leader assigns requests to pipelines, notices dead workers by leases, and reassigns."""

from policies.coordination.council import CouncilCoordination
from policies.coordination.leader import Coordination

__all__ = ["Coordination", "CouncilCoordination"]
