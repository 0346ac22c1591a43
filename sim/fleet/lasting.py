"""What a harvest policy can tell of decisions that last for a window."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np

from policies.harvest import Devices
from policies.readings import Decision, Readings
from sim.fleet.quiet import passes_s
from sim.fleet.window import Signals, Start
from sim.owners.crowd import PLUGGED, SCREEN, WIFI

Array = Any


@runtime_checkable
class Lasting(Protocol):
    """A harvest policy that can tell which decisions last; see `policies.harvest.elementwise.Harvest`."""

    def init(self, devices: Devices) -> Any:
        """Return the state of devices that have not been read."""
        ...

    def decide(self, state: Any, readings: Readings, dt_s: Any) -> tuple[Decision, Any]:
        """Decide for every row."""
        ...

    def forbids(self, state: Any, plugged: Array, on_wifi: Array, screen_on: Array) -> Array:
        """Return the rows in which no session begins, for what their owners do."""
        ...

    def may_last(self, state: Any, local_minute: Array, zone: Array, for_s: Array, forbidden: Array) -> Array:
        """Return the rows that decide alike at every reading, as far as time and owners have a say."""
        ...

    def later(self, state: Any, die_c: Array, soc: Array, dt_s: Array) -> Any:
        """Return the next state after one more reading that is decided like the last."""
        ...

    def lasts(self, state: Any) -> Array:
        """Return the rows whose decision neither heat nor charge has changed."""
        ...


def may_last(policy: Lasting, start: Start, signals: Signals) -> Array:
    """Return the rows whose decision may last for a window."""
    always, ever = np.bitwise_and.reduce(start.flags, axis=0), np.bitwise_or.reduce(start.flags, axis=0)
    memory, zone = start.device.memory, start.chunk.site.zone
    screen_on = (always & SCREEN != 0) & ~start.device.body.off
    forbidden = policy.forbids(memory, ever & PLUGGED != 0, ever & WIFI != 0, screen_on)
    return policy.may_last(memory, signals.zone_minute, zone, passes_s(start, signals), forbidden)
