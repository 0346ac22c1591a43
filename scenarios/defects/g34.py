"""G34, gateway: windows of fixed length, whose edge lets twice the burst through."""

from __future__ import annotations

from policies.gateway import Gateway
from policies.gateway.bucket import TokenBucket
from policies.port import NS_PER_S


class FixedWindow(TokenBucket):
    """Counts to ``burst`` in each window; a window is as long as the rate takes for so many."""

    __slots__ = ("_count", "_most", "_window", "_window_ns")

    def __init__(self, rate_per_s: float, burst: int) -> None:
        super().__init__(rate_per_s, burst)
        self._window_ns, self._most = int(burst / rate_per_s * NS_PER_S), burst
        self._window = self._count = 0

    def take(self, now_ns: int) -> bool:
        """Count one, where the window has room."""
        window = now_ns // self._window_ns
        if window != self._window:
            self._window, self._count = window, 0
        self._count += 1
        return self._count <= self._most


class CountsByWindow(Gateway):
    """Each client has a count a window: its predecessor's was a minute.

    Breaks `checks.requests.AdmitsWithinItsRate` when a client asks much on both sides of an edge.
    """

    def new_bucket(self) -> TokenBucket:
        """Return a client's count."""
        return FixedWindow(self.config.requests_per_min / 60.0, self.config.burst)
