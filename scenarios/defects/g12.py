"""G12, sharding: a plan that keeps its dead, and reservations that nobody releases."""

from __future__ import annotations

from policies.commands import Dissolve
from policies.coordination import Coordination


class KeepsTheDead(Coordination):
    """A pipeline outlives its workers: its predecessor's new plan failed with a division by zero, and the old stood.

    Breaks `checks.leader.PipelinesHaveWorkers` when a placed worker's lease ends.
    """

    def _dissolve(self, number: int, reason: str) -> None:
        pass


class KeepsReservations(Coordination):
    """Workers of a dissolved pipeline stay reserved for it.

    Breaks `checks.leader.CapacityRecovers` when a pipeline was dissolved.
    """

    def _on_dissolved(self, command: Dissolve) -> None:
        line = self.lines.lines.get(command.pipeline)
        super()._on_dissolved(command)
        if line is not None:
            self.proposals.placing.update(dict.fromkeys(line.nodes, line.number))
