"""What TCP adds to a transfer: the rate that loss leaves a connection, and the round trips of its slow start."""

from __future__ import annotations

import math
from dataclasses import dataclass

from models.links import mathis_bytes_per_s
from sim.sharing.allowed import require_above_zero, require_at_least_zero


@dataclass(frozen=True)
class Tcp:
    """What TCP adds to a transfer, where the sharing mode has not put it in already.

    Attributes:
        mss_bytes: payload of a segment; 1460 is Ethernet's 1500 less 40 of headers (RFC 9293, section 3.7.1).
        loss: packet loss on the path, 0 to below 1; bounds the rate by Mathis's law.
        initial_window: segments of the first round trip; 10 by RFC 6928; 0 leaves slow start out.
    """

    mss_bytes: float = 1460.0
    loss: float = 0.0
    initial_window: float = 10.0

    def __post_init__(self) -> None:
        """Refuse what is not allowed.

        Raises:
            ValueError: naming the field, its value and what is allowed.
        """
        require_above_zero("tcp: mss_bytes", self.mss_bytes)
        require_at_least_zero("tcp: initial_window", self.initial_window)
        if not 0.0 <= self.loss < 1.0:
            raise ValueError(f"tcp: loss ({self.loss}) must be at least 0 and below 1")

    def cap_bytes_per_s(self, rtt_s: float) -> float:
        """Return the rate that loss leaves one connection, inf without loss."""
        return float(mathis_bytes_per_s(self.mss_bytes, rtt_s, self.loss))

    def slow_start_s(self, size_bytes: float, rtt_s: float, bytes_per_s: float) -> float:
        """Return the round trips that a connection waits before its window no longer holds it back.

        The window doubles each round trip, so n rounds carry (2^n - 1) first windows (Cardwell, Savage and Anderson,
        "Modeling TCP latency", INFOCOM 2000, equation 12 without delayed acknowledgements); the last round is the
        transfer's own. Rounds end with the data, or when a window fills the path's rate for a round trip.
        """
        window_bytes = self.initial_window * self.mss_bytes
        if window_bytes <= 0.0:
            return 0.0
        held_bytes = min(size_bytes, bytes_per_s * rtt_s)
        return max(0, math.ceil(math.log2(1.0 + held_bytes / window_bytes)) - 1) * rtt_s

    def terms(self, size_bytes: float, rtt_s: float, bytes_per_s: float) -> tuple[float, float]:
        """Return the rate (bytes/s) that loss leaves a transfer, and its wait (s), over a path of this rate."""
        cap_bytes_per_s = self.cap_bytes_per_s(rtt_s)
        return cap_bytes_per_s, self.slow_start_s(size_bytes, rtt_s, min(cap_bytes_per_s, bytes_per_s))
