"""The committee's side: which devices are there, and what was deployed on them.

A device is there while its heartbeats are heard and gone after ``offline_after_s`` of silence: nobody but the device
itself can keep it alive. Its own lease, counted from when it *sent* the heartbeat, ends before this watch gives it up,
so what is reported as lost is no longer worked on. (Clocks must run at one rate; they need not agree.)

This is soft state of one member. After a crash it is built anew from heartbeats, and deployments that nobody here
knows are withdrawn. A client that asks again for its deployment is answered by what the device says.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from policies.config import EdgeConfig
from policies.edge.messages import (
    NAMESAKE,
    RESEND_NS,
    Accepted,
    Ended,
    Granted,
    Heartbeat,
    Noted,
    Parting,
    Place,
    Presence,
    Recall,
    Withdraw,
)
from policies.port import NS_PER_S, Policy
from policies.wire import Message

DEVICE = "edge"  # the path of a device's agent
PLACED_MAX = 1000  # documented limit of requests at once
ENDED_MAX = 1000  # ends that are remembered for clients who ask again


@dataclass
class Seen:
    """A device that is there: the newest heartbeat, and when one was heard last."""

    boot: int
    number: int
    heard_ns: int


@dataclass
class Placed:
    """A deployment that is owed an end, as it was ordered; ``asked`` are the (client, op) who wait for it."""

    order: Place
    asked: list[tuple[str, str]]
    accepted: bool = False
    recalled: bool = False

    @property
    def device(self) -> str:
        """Where it is."""
        return self.order.device


@dataclass
class EdgeWatch(Policy):
    """Watches devices and looks after deployments, on one committee member.

    Attributes:
        devices: name to what was last heard, for devices that are there.
        placed: deployments without an end.
        ended: orders and their ends, oldest first.
    """

    config: EdgeConfig
    devices: dict[str, Seen] = field(default_factory=dict)
    placed: dict[str, Placed] = field(default_factory=dict)
    ended: dict[str, tuple[Place, Ended]] = field(default_factory=dict)

    messages = (Heartbeat, Accepted, Ended, Parting)
    requests = (Place, Recall)

    def __post_init__(self) -> None:
        self._silence_ns = int(self.config.offline_after_s * NS_PER_S)

    def on_start(self, saved: Any) -> None:
        """Begin knowing nobody."""
        self.devices, self.placed, self.ended = {}, {}, {}

    # -- who is there --------------------------------------------------------------------------------

    def on_message(self, sender: str, message: Any) -> None:
        """A device speaks."""
        if isinstance(message, Heartbeat):
            self._on_heartbeat(sender, message)
        elif isinstance(message, Parting):
            if sender in self.devices and not self._is_old(sender, message):
                self._gone(sender, "parted")
        elif isinstance(message, Ended):
            self._to_device(sender, Noted(message.deployment))
            if self._is_on(message.deployment, sender):
                self._settle(message)
        elif self._is_on(message.deployment, sender):
            placed = self.placed[message.deployment]
            if not placed.accepted:
                placed.accepted = True
                for client, op_id in placed.asked:
                    self.port.reply(client, op_id, message, last=False)

    def _on_heartbeat(self, device: str, heartbeat: Heartbeat) -> None:
        seen = self.devices.get(device)
        if self._is_old(device, heartbeat):
            return
        if seen is None:
            self.port.decide("edge", Presence(device, True, ""))
        elif seen.boot != heartbeat.boot:
            self._lose(device, "the device started anew")
        if not self.devices:
            self.port.set_timer("silence", self._silence_ns)
        self.devices[device] = Seen(heartbeat.boot, heartbeat.number, self.port.now)
        self._to_device(device, Granted(heartbeat.sent_ns))
        for name in heartbeat.held:
            if not self._is_on(name, device):
                self._to_device(device, Withdraw(name))

    def _is_old(self, device: str, message: Heartbeat | Parting) -> bool:
        """Return whether the device has said something since, which came first."""
        seen = self.devices.get(device)
        return seen is not None and seen.boot == message.boot and seen.number > message.number

    def on_timer(self, name: str) -> None:
        """Give up who was silent for too long; ask again where no answer came."""
        if name == "resend":
            self._resend()
            return
        for device, seen in list(self.devices.items()):
            if self.port.now - seen.heard_ns >= self._silence_ns:
                self._gone(device, "silent")
        if self.devices:
            first_ns = min(seen.heard_ns for seen in self.devices.values())
            self.port.set_timer("silence", first_ns + self._silence_ns - self.port.now)

    def _gone(self, device: str, reason: Literal["silent", "parted"]) -> None:
        del self.devices[device]
        if not self.devices:
            self.port.cancel_timer("silence")
        self.port.decide("edge", Presence(device, False, reason))
        self._lose(device, f"the device {reason}" if reason == "parted" else "the device is silent")

    def _lose(self, device: str, reason: str) -> None:
        for name in [name for name, placed in self.placed.items() if placed.device == device]:
            self._settle(Ended(name, "lost", reason))

    # -- deployments ---------------------------------------------------------------------------------

    def on_request(self, client: str, op_id: str, operation: Any) -> None:
        """Place a deployment, or recall one."""
        if isinstance(operation, Recall):
            self._recall(client, op_id, operation.deployment)
            return
        name = operation.deploy.deployment
        placed = self.placed.get(name)
        before, end = (placed.order, None) if placed is not None else self.ended.get(name, (operation, None))
        if before != operation:
            self.port.reply(client, op_id, Ended(name, "refused", NAMESAKE))
        elif end is not None:
            self.port.reply(client, op_id, end)
        elif placed is not None:
            self._wait(placed, client, op_id)
            if placed.accepted:
                self.port.reply(client, op_id, Accepted(name), last=False)
        elif operation.device not in self.devices:
            self.port.reply(client, op_id, Ended(name, "refused", f"no device {operation.device} is there"))
        elif len(self.placed) >= PLACED_MAX:
            self.port.reply(client, op_id, Ended(name, "refused", f"{PLACED_MAX} deployments are open"))
        else:
            self.placed[name] = Placed(operation, [(client, op_id)])
            self._to_device(operation.device, operation.deploy)
            self.port.set_timer("resend", RESEND_NS)

    def _recall(self, client: str, op_id: str, name: str) -> None:
        placed = self.placed.get(name)
        if placed is None:
            _, end = self.ended.get(name, (None, Ended(name, "refused", "no such deployment")))
            self.port.reply(client, op_id, end)
            return
        self._wait(placed, client, op_id)
        placed.recalled = True
        self._to_device(placed.device, Withdraw(name))
        self.port.set_timer("resend", RESEND_NS)

    def _wait(self, placed: Placed, client: str, op_id: str) -> None:
        if (client, op_id) not in placed.asked:
            placed.asked.append((client, op_id))

    def _resend(self) -> None:
        open_ = False
        for name, placed in self.placed.items():
            if placed.recalled and placed.accepted:
                self._to_device(placed.device, Withdraw(name))
                open_ = True
            elif not placed.accepted:
                self._to_device(placed.device, placed.order.deploy)
                open_ = True
        if open_:
            self.port.set_timer("resend", RESEND_NS)

    def _settle(self, end: Ended) -> None:
        placed = self.placed.pop(end.deployment)
        self.ended[end.deployment] = (placed.order, end)
        if len(self.ended) > ENDED_MAX:
            del self.ended[next(iter(self.ended))]
        for client, op_id in placed.asked:
            self.port.reply(client, op_id, end)

    def _is_on(self, name: str, device: str) -> bool:
        placed = self.placed.get(name)
        return placed is not None and placed.device == device

    def _to_device(self, device: str, message: Message) -> None:
        self.port.send(f"{device}/{DEVICE}", message)
