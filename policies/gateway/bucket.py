"""Token bucket: a rate with a burst, in closed form (Turner 1986; the same as ATM's GCRA)."""

from __future__ import annotations

from policies.port import NS_PER_S


class TokenBucket:
    """Lets ``rate_per_s`` through on average and ``burst`` at once."""

    __slots__ = ("_at_ns", "_burst", "_rate", "_tokens")

    def __init__(self, rate_per_s: float, burst: int) -> None:
        self._rate, self._burst = rate_per_s, float(burst)
        self._tokens, self._at_ns = float(burst), 0

    def take(self, now_ns: int) -> bool:
        """Take one token if there is one."""
        elapsed_s = (now_ns - self._at_ns) / NS_PER_S
        self._tokens = min(self._burst, self._tokens + elapsed_s * self._rate)
        self._at_ns = now_ns
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
