"""The machines of published measurements: a sender's interface sends one message after another, and disks keep nothing.

`sim.network` lets messages leave side by side, which is right for devices that say little. A leader that sends one
batch to a hundred others is another matter: the last of them gets it when all the others have theirs.
"""

from __future__ import annotations

from policies.port import NS_PER_S
from scenarios.schema import Network
from sim.disk import Disk
from sim.network import Links, MessageNetwork
from sim.world import World

STILL = Network(backbone_s=0.0, loss=0.0, duplicate=0.0, jitter_sigma=0.0)
"""No loss, no jitter: the published figures are means over minutes, and give neither."""


class Interfaces(MessageNetwork):
    """Equal links, with a queue at each sender.

    Args:
        count: nodes.
        one_way_s: delay between any two.
        bytes_per_s: of a sender's interface.
    """

    def __init__(self, count: int, one_way_s: float, bytes_per_s: float) -> None:
        super().__init__(1, Links.alike(count, one_way_s / 2, bytes_per_s), STILL)
        self.world: World | None = None
        self._one_way_ns, self._bytes_per_s = round(one_way_s * NS_PER_S), bytes_per_s
        self._free_ns = [0] * count

    def delay_ns(self, source: int, target: int, size_bytes: int) -> int:
        """Return when the message arrives, after the step that sends it has ended: wait, sending, way."""
        assert self.world is not None
        self.sent += 1
        self.bytes += size_bytes
        leave = self.world.nodes[source].busy_until
        self._free_ns[source] = max(leave, self._free_ns[source]) + round(size_bytes / self._bytes_per_s * NS_PER_S)
        return self._free_ns[source] - leave + self._one_way_ns


class Unkept(Disk):
    """A disk that counts what is written and keeps none of it: nobody here crashes, and 128 copies are large."""

    __slots__ = ()

    def append(self, data: bytes) -> None:
        """Count."""
        self.size += len(data)

    def sync_to(self, size: int) -> None:
        """Make the first ``size`` bytes durable."""
        self.synced = max(self.synced, size)
