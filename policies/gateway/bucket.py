"""Token bucket: a rate with a burst, in closed form (Turner 1986; the same as ATM's GCRA)."""

from __future__ import annotations

import math
from collections.abc import Callable
from heapq import heappop, heappush

from policies.port import NS_PER_S


class TokenBucket:
    """Lets ``rate_per_s`` through on average and ``burst`` at once."""

    __slots__ = ("_at_ns", "_burst", "_rate", "_tokens")

    def __init__(self, rate_per_s: float, burst: int) -> None:
        self._rate, self._burst = rate_per_s, float(burst)
        self._tokens, self._at_ns = float(burst), 0

    @property
    def full_ns(self) -> int:
        """When it is full again if nobody takes from it: from then on it is as a new one."""
        return self._at_ns + math.ceil((self._burst - self._tokens) / self._rate * NS_PER_S)

    def take(self, now_ns: int) -> bool:
        """Take one token if there is one."""
        elapsed_s = (now_ns - self._at_ns) / NS_PER_S
        self._tokens = min(self._burst, self._tokens + elapsed_s * self._rate)
        self._at_ns = now_ns
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True


class Buckets:
    """The buckets of all clients by name, in bounded memory.

    A full bucket says nothing that a new one would not, so those are forgotten where room is needed. Of the others none
    is: else a flood of made-up names would give a busy client its burst again. A name that finds no room is let through
    no request; a flood keeps newcomers out at most, and no longer than its own buckets take to fill.

    Args:
        new: makes a full one.
        names_max: that are remembered.
    """

    def __init__(self, new: Callable[[], TokenBucket], names_max: int) -> None:
        self._new, self._names_max = new, names_max
        self._of: dict[str, TokenBucket] = {}
        self._full: list[tuple[int, str]] = []  # a heap: of each name, when its bucket is full at the earliest

    def __len__(self) -> int:
        return len(self._of)

    def take(self, client: str, now_ns: int) -> bool:
        """Take one token of a client's if there is one."""
        bucket = self._of.get(client)
        if bucket is None:
            if len(self._of) >= self._names_max:
                self._forget_full(now_ns)
            if len(self._of) >= self._names_max:
                return False
            bucket = self._of[client] = self._new()
            heappush(self._full, (now_ns, client))
        return bucket.take(now_ns)

    def _forget_full(self, now_ns: int) -> None:
        """Forget the buckets that are full; taking has only put that off, so that none is looked at before its time."""
        while self._full and self._full[0][0] <= now_ns:
            _, client = heappop(self._full)
            full_ns = self._of[client].full_ns
            if full_ns > now_ns:
                heappush(self._full, (full_ns, client))
            else:
                del self._of[client]
