"""From the detailed tables to the compact law of the fleet: full power, and the exponent of speed.

The fleet knows a device by idle, sustained and peak power and one exponent. Here the exponent is derived: that with
which ``speed ** exponent`` lies nearest, by least squares, to the table's share of full power over the speeds that
governors use.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from models.power.cores import Cluster
from models.power.parts import cpu_w

SPEEDS = (0.5, 1.0)
"""Speeds over which the exponent is fitted: below half, governors rarely keep a busy chip."""
_STEPS = 51


class Compact(NamedTuple):
    """A processor as the fleet sees it.

    Attributes:
        full_w: all cores busy at top speed, above idle, W.
        exponent: of speed.
        worst_error: largest distance from the table over `SPEEDS`, as a share of full power.
    """

    full_w: float
    exponent: float
    worst_error: float


def compact(clusters: Sequence[Cluster]) -> Compact:
    """Return the compact form of a processor with all its cores busy and all its clusters at one relative speed."""
    from scipy.optimize import minimize_scalar

    speed = np.linspace(*SPEEDS, _STEPS)
    power_w = cpu_w(clusters, speed, [cluster.cores for cluster in clusters])
    share = power_w / power_w[-1]
    found = minimize_scalar(lambda p: float(np.sum((speed**p - share) ** 2)), bounds=(0.1, 6.0), method="bounded")
    exponent = float(found.x)
    return Compact(float(power_w[-1]), exponent, float(np.abs(speed**exponent - share).max()))
