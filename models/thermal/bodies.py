"""Three-node bodies of the kinds of device: die, board with battery, skin. Each value names its source.

The scaling law: coolers fit the chip (assumption), so a device's capacities and conductances are its kind's times its
own sustained power over the kind's; its time constants stay those of the kind.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from models.thermal.network import Network


class Reference(NamedTuple):
    """A chain and the power it is built to shed for ever, W."""

    sustained_w: float
    network: Network


# phone: chosen so that 3 W sustained warms the skin by about 18 K with a time constant of 10 to 20 minutes; published
#   skin resistances are 6-8 K/W.
# tablet: assumption, a phone with twice the surface and a bit more than twice the mass.
# laptop: order of magnitude of a thin 15 inch machine with one fan at 28 W (assumption).
# desktop: assumption, a tower cooler: 45 K over ambient at the chip's 65 W limit; board and case take longest.
# gpu_box: order of magnitude; 45-50 K over ambient at 350 W, as boards show at their power limit (65-75 C).
NETWORKS = {
    "phone": Reference(3.0, Network((2.5, 60.0, 90.0), (0.55, 0.85, 0.16))),
    "tablet": Reference(6.0, Network((4.0, 140.0, 210.0), (1.1, 1.7, 0.32))),
    "laptop": Reference(28.0, Network((12.0, 350.0, 900.0), (2.2, 1.4, 0.95))),
    "desktop": Reference(65.0, Network((40.0, 300.0, 600.0), (2.6, 7.0, 6.5))),
    "gpu_box": Reference(350.0, Network((90.0, 900.0, 3500.0), (20.0, 20.0, 23.0))),
}


def body_scale(kind: str, sustained_w: float) -> float:
    """Return the factor on a kind's capacities and conductances for a device that sheds `sustained_w` for ever.

    Raises:
        ValueError: the kind is unknown, or the power is not a finite number above 0.
    """
    if kind not in NETWORKS:
        raise ValueError(f"kind is {kind!r}; allowed: {', '.join(NETWORKS)}")
    if not (math.isfinite(sustained_w) and sustained_w > 0.0):
        raise ValueError(f"sustained_w is {sustained_w}; allowed: finite numbers above 0")
    return sustained_w / NETWORKS[kind].sustained_w
