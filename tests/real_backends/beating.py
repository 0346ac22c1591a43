"""What tests of local runs share: a small scenario, and policies that need no executor, so that nodes start at once.

Node processes load the policies from this file by name, as they would a user's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policies import village
from policies.port import Policy
from policies.village import NodeSpec
from policies.wire import Message
from scenarios.schema import Scenario, build


class Beat(Message, frozen=True, tag="beat"):
    """A node's count."""

    number: int


class Beating(Policy):
    """Counts durably and tells its peers."""

    messages = (Beat,)

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        self.number = int(saved.get("number", b"0"))
        self.port.decide("restored", Beat(self.number))
        self.port.set_timer("beat", 20_000_000)

    def on_timer(self, name: str) -> None:
        self.number += 1
        self.port.save("number", str(self.number).encode())
        self.port.broadcast(Beat(self.number))
        self.port.decide("beat", Beat(self.number))
        self.port.set_timer("beat", 20_000_000)


def pair(spec: NodeSpec) -> dict[str, Policy]:
    """Return two that count, each for itself."""
    return {"one": Beating(), "two": Beating()}


def detecting(spec: NodeSpec) -> dict[str, Policy]:
    """Return the village's failure detector alone."""
    return {path: policy for path, policy in village.node(spec).items() if path == "membership"}


class Leading(Beating):
    """The first desk says that it leads, so that a fault can mean the leader."""

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        super().on_start(saved)
        if self.port.me == "desk-0":
            self.port.decide("leader", Beat(1))


class Broken(Policy):
    """Fails at once."""

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        raise ZeroDivisionError("in the policy")


class Sensing(Policy):
    """Reads the sensors often."""

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        self.port.sense(50_000_000)


def desks(count: int, committee: int = 1, **changes: Any) -> Scenario:
    """Return a second of so many desks for real, without requests."""
    return build({
        "name": "test", "world": "local", "seed": 3, "duration_s": 1.0, "model": "desk-tiny", "reading_s": 0.5,
        "fleet": {"phones": 0, "tablets": 0, "laptops": 0, "desktops": count, "gpu_boxes": 0, "dedicated": 0,
                  "committee": committee},
        "workload": {"kind": "synthetic", "requests": 0},
        "record": {"journals": "all"},
        **changes,
    })  # fmt: skip
