"""A long-range transport whose internet can go: not an arena, but a part of the bus's."""

from __future__ import annotations

from policies.config import DeliveryConfig
from policies.port import NS_PER_S
from policies.transport import Delivery
from policies.transport.delivery import Ack, Data


class Offline(Delivery):
    """Delivery whose internet is away from one second to another: what arrives then is lost."""

    def __init__(self, config: DeliveryConfig | None, consumer: str, away_s: tuple[float, float]) -> None:
        super().__init__(config, consumer)
        self.away_s = away_s

    def on_message(self, sender: str, message: Data | Ack) -> None:
        """Hear nothing while the internet is away."""
        start_s, end_s = self.away_s
        if not start_s * NS_PER_S <= self.port.now < end_s * NS_PER_S:
            super().on_message(sender, message)
