"""Transport: how a letter gets from one node to another, near or far, through loss, crashes and absence.

`delivery` is the long-range transport (BetaNet's role), `mesh` the short-range one (BitChat's role), `bus` chooses
between them with a `breaker` for each transport and destination. `outbox` and `inbox` are the two ends of a letter
that all three share, `messages` is what they say and announce.
"""

from policies.transport.bus import Bus
from policies.transport.delivery import Delivery
from policies.transport.mesh import Mesh

__all__ = ["Bus", "Delivery", "Mesh"]
