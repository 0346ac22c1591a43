"""The registry: who is a member of the village, and who has been put out of it."""

from __future__ import annotations

from typing import Any

from policies.seats import Seats
from policies.state.part import Part


class Members(Part):
    """Nodes in order of joining.

    Attributes:
        standing: node to whether it is in good standing. One that was evicted stays, so that it cannot join again.
        accused: node in good standing to those of the committee who want it out, in order; too few so far.
    """

    name, form = "members", tuple[tuple[tuple[str, bool], ...], tuple[tuple[str, tuple[str, ...]], ...]]

    def __init__(self) -> None:
        self.standing: dict[str, bool] = {}
        self.accused: dict[str, tuple[str, ...]] = {}

    def join(self, node: str) -> bool:
        """Take a node in; return whether it was unknown. No node is called "", which is the mint's account."""
        if not node or node in self.standing:
            return False
        self.standing[node] = True
        return True

    def evict(self, node: str) -> bool:
        """Put a member out; return whether it was one."""
        if not self.standing.get(node, False):
            return False
        self.standing[node] = False
        self.accused.pop(node, None)
        return True

    def accuse(self, node: str, by: str, seats: tuple[str, ...]) -> bool:
        """Hear that one of the committee wants a member out; return whether that is new.

        It is put out once f + 1 of those who sit have said so, for then a correct one has. What was said by who sits
        no more counts no more, and is forgotten.

        Args:
            node: the member.
            by: who says so.
            seats: who sits, f of 3f + 1 of them liars.
        """
        if by not in seats or by in self.accused.get(node, ()) or not self.standing.get(node, False):
            return False
        self.accused[node] = (*(other for other in self.accused.get(node, ()) if other in seats), by)
        if len(self.accused[node]) > Seats(seats).faults:
            self.evict(node)
        return True

    def saved(self) -> Any:
        return tuple(self.standing.items()), tuple(self.accused.items())

    def load(self, saved: Any) -> None:
        standing, accused = saved
        self.standing, self.accused = dict(standing), dict(accused)
        if len(self.standing) < len(standing) or len(self.accused) < len(accused):
            raise ValueError("a node stands there twice")
        if not all(self.standing.get(node, False) for node in self.accused):
            raise ValueError("a node is accused that is not in good standing")
