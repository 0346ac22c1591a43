"""The registry: who is a member of the village, and who has been put out of it."""

from __future__ import annotations

from typing import Any

from policies.state.part import Part


class Members(Part):
    """Nodes in order of joining.

    Attributes:
        standing: node to whether it is in good standing. One that was evicted stays, so that it cannot join again.
    """

    name, form = "members", tuple[tuple[str, bool], ...]

    def __init__(self) -> None:
        self.standing: dict[str, bool] = {}

    def join(self, node: str) -> bool:
        """Take a node in; return whether it was unknown."""
        if node in self.standing:
            return False
        self.standing[node] = True
        return True

    def evict(self, node: str) -> bool:
        """Put a member out; return whether it was one."""
        if not self.standing.get(node, False):
            return False
        self.standing[node] = False
        return True

    def saved(self) -> Any:
        return tuple(self.standing.items())

    def load(self, saved: Any) -> None:
        self.standing = dict(saved)
        if len(self.standing) < len(saved):
            raise ValueError("a node stands there twice")
