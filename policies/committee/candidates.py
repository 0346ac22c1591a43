"""What is known of a device that may sit on the committee, and the grounds on which devices fail together."""

from __future__ import annotations

from typing import Literal

from policies.wire import Message

Ground = Literal["network", "vendor", "region", "country"]
GROUNDS: tuple[Ground, ...] = ("network", "vendor", "region", "country")
"""What devices may have in common and fail by together, as documented for the village's quorums."""


class Candidate(Message, frozen=True):
    """One device.

    Attributes:
        node: its name.
        trust: score from 0 to 1 (documented: .3 self-attested to .9 with a trusted execution environment).
        stability: share of time that it was up and heard of, 0 to 1.
        network: autonomous system it is reached by.
        vendor: who made its trusted execution environment.
        region: power region.
        country: where it stands.
    """

    node: str
    trust: float
    stability: float
    network: str
    vendor: str
    region: str
    country: str

    def at(self, ground: Ground) -> str:
        """Return its value on one of `GROUNDS`."""
        value: str = getattr(self, ground)
        return value
