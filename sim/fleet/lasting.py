"""What a harvest policy can tell of decisions that last for a window, and rows at rest, of which it is not asked.

A phone whose hours are closed lends nothing whatever its owner does. Its battery, heat and charger are advanced in full
(`sim.fleet.reading.step`), but of its policy only the latches move.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np

from policies.harvest import Devices
from policies.readings import Decision, Readings

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

    def may_last(self, state: Any, local_minute: Array, zone: Array, for_s: Array) -> Array:
        """Return the rows that decide alike at every reading, as far as time has a say."""
        ...

    def later(self, state: Any, die_c: Array, soc: Array, dt_s: Array) -> Any:
        """Return the next state after one more reading that is decided like the last."""
        ...

    def lasts(self, state: Any) -> Array:
        """Return the rows whose decision neither heat nor charge has changed."""
        ...


class AtRest:
    """A policy in its stead for rows that it would let rest at every reading; under NumPy.

    Args:
        policy: theirs.
        like: floats, one element a row.
    """

    def __init__(self, policy: Lasting, like: Array) -> None:
        self._policy = policy
        none = np.zeros_like(like)
        self._decision = Decision(np.zeros(like.shape, dtype=bool), none, none, none, np.zeros(like.shape, np.int8))

    def decide(self, state: Any, readings: Readings, dt_s: Any) -> tuple[Decision, Any]:
        """Lend nothing."""
        return self._decision, self._policy.later(state, readings.die_c, readings.soc, dt_s)
