"""Lifeguard: a member that hears little suspects itself first (Dadgar, Phillips and Currey, arXiv 1707.00788).

Local health multiplies a member's own time-outs; a suspicion lasts long until others share it; and whoever is suspected
is told by the next message to it (the buddy system, in `swim`).
"""

from __future__ import annotations

from math import log, log10


class Health:
    """The local health multiplier (section IV-A): 0 is healthy; time-outs are stretched by 1 + score.

    Args:
        score_max: the score stays below this.
    """

    def __init__(self, score_max: int) -> None:
        self.score_max, self.score = score_max, 0

    def change(self, delta: int) -> None:
        """Raise the score after what speaks of a slow self, lower it after what speaks against."""
        self.score = min(max(0, self.score + delta), self.score_max - 1)


class Suspicion:
    """When a suspicion becomes a verdict (section IV-B, equation 1; memberlist's ``suspicion.go``).

    Args:
        begun_ns, by: when, and who was first.
        shortest_ns, longest_ns: the verdict falls at the longest without any confirmation, at the shortest with
            ``confirmations_max`` by others; with 0 of them it is always the shortest.
    """

    def __init__(self, begun_ns: int, by: str, shortest_ns: int, longest_ns: int, confirmations_max: int) -> None:
        self.begun_ns, self.shortest_ns, self.longest_ns = begun_ns, shortest_ns, longest_ns
        self.confirmations_max, self.first = confirmations_max, by
        self.by = {by}

    def confirm(self, by: str) -> bool:
        """Count another member that suspects; returns whether it counts, and is worth passing on."""
        if by in self.by or len(self.by) > self.confirmations_max:
            return False
        self.by.add(by)
        return True

    def due_ns(self) -> int:
        """Return when the verdict falls as things stand."""
        if self.confirmations_max < 1:
            return self.begun_ns + self.shortest_ns
        share = log(len(self.by)) / log(self.confirmations_max + 1)
        lasts = self.longest_ns - share * (self.longest_ns - self.shortest_ns)
        return self.begun_ns + max(self.shortest_ns, int(lasts))


def shortest_suspicion_ns(mult: int, group_size: int, probe_ns: int) -> int:
    """Return ``mult`` times max(1, log10(n)) probe periods (memberlist's ``suspicionTimeout``)."""
    return int(mult * max(1.0, log10(max(1, group_size))) * probe_ns)
