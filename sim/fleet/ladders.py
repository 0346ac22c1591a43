"""The edge agents' ladders, all rows at once: which devices must be told their readings.

In the twin a node gets no readings of its own. It gets them where they move it, so that its one-row state and limits
equal its row here at every tick: a reading that leaves rungs and limits as they are is one that an agent forgets.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from policies.config import EdgeConfig
from policies.edge import Limits, begin, ladder
from policies.edge.ladder import LadderState
from policies.readings import Array, Readings

Ladder = Callable[[LadderState, Readings, Array, EdgeConfig], tuple[Limits, LadderState]]


class Ladders:
    """The ladders of a fleet.

    Args:
        config: the numbers.
        dedicated: machines set aside for the village, one element a device.
        has_battery: devices with a battery.
        memory_bytes: what they have for the village at most; what is free is read.
        rule: the ladder; another one to see what it does.

    Attributes:
        state: rungs, as after the last tick.
        limits: what each device may lend; None before the first tick.
    """

    def __init__(
        self, config: EdgeConfig, dedicated: np.ndarray, has_battery: np.ndarray, memory_bytes: np.ndarray,
        rule: Ladder = ladder,
    ) -> None:  # fmt: skip
        self.config, self.memory_bytes, self.rule = config, memory_bytes, rule
        self.state = begin(dedicated, has_battery)
        self.limits: Limits | None = None

    def move(self, readings: Readings) -> list[int]:
        """Read every device; return the rows whose rungs or limits changed, which is all of them at first."""
        was = (self.state, self.limits)
        self.limits, self.state = self.rule(self.state, readings, self.memory_bytes, self.config)
        if was[1] is None:
            return list(range(len(self.memory_bytes)))
        before, after = (*was[0], *was[1]), (*self.state, *self.limits)
        changed = np.any([old != new for old, new in zip(before, after, strict=True)], axis=0)
        rows: list[int] = np.flatnonzero(changed).tolist()
        return rows

    def restart(self, row: int, readings: Readings) -> None:
        """Begin one device anew, as its agent does after a crash, and read it."""
        assert self.limits is not None
        fresh = begin(self.state.dedicated[[row]], self.state.has_battery[[row]])
        one = Readings(*(field[[row]] for field in readings))
        limits, state = self.rule(fresh, one, self.memory_bytes[[row]], self.config)
        for whole, part in zip((*self.limits, *self.state), (*limits, *state), strict=True):
            whole[row] = part[0]
