"""G21, edge: a manager that keeps every device alive itself, and deployments that reserve nothing."""

from __future__ import annotations

from policies.edge.agent import EdgeAgent
from policies.edge.messages import Deploy
from policies.edge.watch import EdgeWatch


class KeepsDevicesAlive(EdgeWatch):
    """The manager refreshes ``last_seen`` itself, so that a remote device never goes offline.

    Breaks `scenarios.checks.edge.believed_only_while_heard` as soon as a device falls silent.
    """

    def on_timer(self, name: str) -> None:
        """Refresh every device before looking for silence."""
        for seen in self.devices.values():
            seen.heard_ns = self.port.now
        super().on_timer(name)


class ReservesNothing(EdgeAgent):
    """Room is looked at and not reserved: ten deployments on one phone each find it empty.

    Breaks `scenarios.checks.edge.held_fits`.
    """

    def _on_deploy(self, sender: str, deploy: Deploy) -> None:
        super()._on_deploy(sender, deploy)
        self.room.release(deploy.deployment)


DEFECTS: dict[str, type[EdgeWatch] | type[EdgeAgent]] = {
    "g21_alive": KeepsDevicesAlive,
    "g21_room": ReservesNothing,
}
