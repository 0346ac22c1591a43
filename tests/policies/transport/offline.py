"""A long-range transport whose internet can go: frames that arrive in the given spells are lost."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from policies.config import BusConfig, DeliveryConfig
from policies.port import NS_PER_S, Policy
from policies.transport import Bus, Delivery, Mesh
from policies.transport.delivery import Ack, Data


class Offline(Delivery):
    """Delivery, cut off from its peers from one second to another."""

    def __init__(self, config: DeliveryConfig | None, consumer: str, away_s: tuple[float, float]) -> None:
        super().__init__(config, consumer)
        self.away_s = away_s

    def on_message(self, sender: str, message: Data | Ack) -> None:
        start_s, end_s = self.away_s
        if not start_s * NS_PER_S <= self.port.now < end_s * NS_PER_S:
            super().on_message(sender, message)


def node(
    topology: Mapping[str, Collection[str]],
    away_s: tuple[float, float] = (0.0, 0.0),
    kind: type[Bus] = Bus,
    config: BusConfig | None = None,
) -> dict[str, Policy]:
    """Return a node with a bus over both transports."""
    return {
        "bus": kind(config),
        "delivery": Offline(None, "bus", away_s),
        "mesh": Mesh(topology, consumer="bus"),
    }
