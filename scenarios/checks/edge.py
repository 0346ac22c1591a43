"""Promises of the edge: who is there is who was heard, what is held fits, and devices come back."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from policies.config import EdgeConfig
from policies.edge.messages import Phase, Presence
from policies.port import NS_PER_S
from scenarios.checks.language import Check, Event, Look, Sometimes, StateCheck, decided, told

PRESENCE = decided("edge_watch", "edge", Presence)
PHASE = decided("edge", "edge", Phase)
LEASED = ("online", "deploying", "running")


class BelievedOnlyWhileHeard(Check):
    """A watch gives a device up that is silent for too long: asked when one that was down comes back.

    It goes by what befell the device, not by what the watch says that it heard.

    Args:
        slack_s: for what was under way when the device went down.
    """

    def __init__(self, edge: EdgeConfig, slack_s: float = 1.0) -> None:
        super().__init__("believed_only_while_heard", PRESENCE, told("crash"), told("restart"))
        self.most_ns = int((edge.offline_after_s + slack_s) * NS_PER_S)
        self.down_ns: dict[str, int] = {}
        self.believes: dict[str, set[str]] = {}  # watch to the devices it has announced as there

    def take(self, event: Event) -> str:
        if event.kind == "crash":
            self.down_ns[event.node] = event.now_ns
            self.believes.pop(event.node, None)
        elif event.kind == "restart":
            away_ns = event.now_ns - self.down_ns.pop(event.node, event.now_ns)
            fooled = [watch for watch, devices in self.believes.items() if event.node in devices]
            if away_ns > self.most_ns and fooled:
                return f"{fooled[0]} still believes {event.node} there, which was down for {away_ns / NS_PER_S:g} s"
        else:
            devices = self.believes.setdefault(event.node, set())
            (devices.add if event.value.there else devices.discard)(event.value.device)
        return ""


class HeldFits(StateCheck):
    """What a device holds for deployments, all together, never exceeds what it lends."""

    def __init__(self) -> None:
        super().__init__("held_fits")

    def look(self, nodes: Collection[str], policy: Look) -> str:
        for node in nodes:
            agent: Any = policy(node, "edge")
            if agent is None:
                continue
            orders = [held.deploy for held in agent.held.values()]
            for part, most in agent.room.capacity._asdict().items():
                held = sum(getattr(order, part) for order in orders)
                if held > most:
                    return f"{node}: {len(orders)} deployments hold {part} {held}; allowed: {most}"
        return ""


class DevicesComeBack(Check):
    """When all is healed every device finds a member that leases it (liveness)."""

    family = "liveness"

    def __init__(self, devices: Sequence[str]) -> None:
        super().__init__("devices_come_back", PHASE)
        self.state = dict.fromkeys(devices, "offline")

    def take(self, event: Event) -> str:
        self.state[event.node] = event.value.state
        return ""

    def restarted(self, node: str) -> None:
        if node in self.state:
            self.state[node] = "offline"

    def end(self) -> str:
        away = {node: state for node, state in self.state.items() if state not in LEASED}
        return "".join(f"{node} is {state}; expected {', '.join(LEASED)}" for node, state in list(away.items())[:1])


def rare() -> tuple[Sometimes, ...]:
    """What a campaign must have met."""
    return (
        Sometimes("a_device_was_silent", PRESENCE, when=lambda e: e.value.reason == "silent"),
        Sometimes("a_device_served", PHASE, when=lambda e: e.value.state == "running"),
    )
