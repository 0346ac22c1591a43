"""The access lines of a village's devices: what rates each has at home, and on its mobile network."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models import draws, links
from scenarios.hosts import LOOPBACK_BYTES_PER_S
from scenarios.schema import Scenario


class Lines(NamedTuple):
    """Rates of one line a device, bytes/s."""

    up_bytes_per_s: NDArray[np.float64]
    down_bytes_per_s: NDArray[np.float64]

    @classmethod
    def alike(cls, count: int, up_bytes_per_s: float, down_bytes_per_s: float) -> Lines:
        """Return equal lines."""
        return cls(np.full(count, up_bytes_per_s), np.full(count, down_bytes_per_s))


def home_lines(scenario: Scenario, entity: NDArray[np.int64]) -> Lines:
    """Draw each device's line at home: from the measured fixed lines, or around the typical line of its technology."""
    network = scenario.network
    if network.home == "loopback":
        return Lines.alike(len(entity), LOOPBACK_BYTES_PER_S, LOOPBACK_BYTES_PER_S)
    if network.access == "fitted":
        return _fitted(scenario.seed, "fixed", entity)
    home = links.LINKS[network.home]
    up = draws.lognormal(scenario.seed, "home link", entity, 0, home.up_bytes_per_s, home.sigma)
    return Lines(up, up * (home.down_bytes_per_s / home.up_bytes_per_s))


def mobile_lines(scenario: Scenario, entity: NDArray[np.int64]) -> Lines:
    """Draw each device's line on its mobile network from what was measured, or give all the typical one."""
    network = scenario.network
    if network.access == "fitted":
        return _fitted(scenario.seed, network.mobile, entity)
    mobile = links.LINKS[network.mobile]
    return Lines.alike(len(entity), mobile.up_bytes_per_s, mobile.down_bytes_per_s)


def _fitted(seed: int, technology: str, entity: NDArray[np.int64]) -> Lines:
    """Draw from the fitted distributions; a measured rate of 0 is an outage and no line, so the least above 0 is taken.

    No line's rate changes within a run.
    """
    down, up = links.draw_rates(seed, technology, entity)
    least_down, least_up = links.least_rates(technology)
    return Lines(np.maximum(up, least_up), np.maximum(down, least_down))
