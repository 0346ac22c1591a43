"""Who is alive, and who leads a group that has no log.

A failure detector is a policy that announces (``seen``), and tells its watchers, `policies.local.Seen` about each peer:
``alive``, ``suspect`` or ``dead``, in which life. Two detectors stand behind this interface, `Swim` and `PhiAccrual`;
`LeaseElection` chooses a leader and tells its watchers `policies.local.Leadership`, whose term is a fencing token.
"""

from __future__ import annotations

from policies.config import MembershipRules, SwimConfig
from policies.membership.lease import Fence, LeaseElection
from policies.membership.phi import PhiAccrual
from policies.membership.swim import Swim

__all__ = ["Fence", "LeaseElection", "PhiAccrual", "Swim", "failure_detector"]


def failure_detector(
    config: MembershipRules, members: tuple[str, ...], watchers: tuple[str, ...] = ()
) -> Swim | PhiAccrual:
    """Return one member's failure detector; the class of ``config`` is the choice.

    Args:
        config: a detector's parameters.
        members: who is expected from the start; others may join by speaking up.
        watchers: paths of this node that are told who is seen how.
    """
    return Swim(config, members, watchers) if isinstance(config, SwimConfig) else PhiAccrual(config, members, watchers)
