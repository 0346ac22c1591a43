"""G08, inference manager: a busy node never times out, and the loss of a node is the end of its requests."""

from __future__ import annotations

from policies.coordination import Coordination
from policies.coordination.efforts import Effort


class ExemptsTheBusy(Coordination):
    """A worker with a request under way keeps its lease: its predecessor timed out nodes ONLINE, not BUSY ones.

    Breaks `checks.leader.LeasesEnd` when a worker vanishes with work.
    """

    def _worker_gone(self, node: str, reason: str) -> None:
        line = self.lines.lines.get(self.lines.of_node.get(node, 0))
        if reason != "lease expired" or line is None or not line.running:
            super()._worker_gone(node, reason)


class FailsWithTheNode(Coordination):
    """A lost attempt fails its request: its predecessor tried no other node.

    Breaks `checks.requests.LostOnlyAfterAllTries` when a worker vanishes with work.
    """

    def _attempt_lost(self, effort: Effort, attempt: int) -> None:
        number = effort.running.pop(attempt, None)
        line = self.lines.lines.get(number) if number is not None else None
        if line is not None:
            line.running -= 1
        self._refuse(effort, "workers lost")
