"""Keyed randomness of a policy: counter-based, so that nothing outside its key can change its stream.

The stream of one policy is named by (run seed, node, path, incarnation). Another policy's draws, the
order of events, or the process it runs in change nothing. In production the run seed is secret.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import TypeVar

T = TypeVar("T")


class Rng:
    """Pseudo-random numbers from keyed BLAKE2b over a counter (RFC 7693 used as a PRF)."""

    __slots__ = ("_count", "_key")

    def __init__(self, seed: int, node: str, path: str, incarnation: int) -> None:
        name = f"{seed}\x00{node}\x00{path}\x00{incarnation}".encode()
        self._key = blake2b(name, digest_size=32, person=b"village.rng").digest()
        self._count = 0

    def bits64(self) -> int:
        """Return 64 uniform bits."""
        self._count += 1
        block = blake2b(self._count.to_bytes(8, "little"), key=self._key, digest_size=8)
        return int.from_bytes(block.digest(), "little")

    def random(self) -> float:
        """Return a float in [0, 1) with 53 random bits."""
        return (self.bits64() >> 11) * 2.0**-53

    def uniform(self, low: float, high: float) -> float:
        """Return a float in [low, high)."""
        return low + (high - low) * self.random()

    def below(self, high: int) -> int:
        """Return an int in [0, high), without modulo bias.

        Raises:
            ValueError: ``high`` is not positive.
        """
        if high <= 0:
            raise ValueError(f"high must be positive, got {high}")
        limit = (1 << 64) - (1 << 64) % high
        while True:
            bits = self.bits64()
            if bits < limit:
                return bits % high

    def choice(self, items: Sequence[T]) -> T:
        """Return one of ``items``, each equally likely."""
        return items[self.below(len(items))]
