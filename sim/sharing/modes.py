"""How TCP shows in fluid flows: the named modes, each a handful of published constants.

`max_min` is fair sharing alone. `rtt_weighted` gives flows at a common bottleneck shares in proportion to 1/RTT, as
TCP Reno does: Casanova and Marchal, "A Network Model for Simulation of Grid Application", LIP RR 2002-40 (CM02).
`lv08` adds the corrections fitted by Velho and Legrand, "Accuracy Study and Improvement of Network Simulation in the
SimGrid Framework", SIMUTools 2009; its constants are the defaults of SimGrid 3.32.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Mode:
    """One way to share.

    Attributes:
        name: how results call it.
        rtt_weighted: shares go by 1/RTT.
        latency_factor: a flow waits this many times its path's latency: slow start, as one number.
        bandwidth_factor: payload over what a flow takes of its links: headers.
        weight_s_bytes: what queues along a path add to its RTT: each link adds this over its capacity.
        gamma_bytes: the largest TCP window: a flow's rate is at most this over its RTT of twice the latency.
        cross_traffic: what the acknowledgements take of the way back, as a part of the flow's rate.
    """

    name: str
    rtt_weighted: bool = False
    latency_factor: float = 1.0
    bandwidth_factor: float = 1.0
    weight_s_bytes: float = 0.0
    gamma_bytes: float = math.inf
    cross_traffic: float = 0.0

    def weight(self, latency_s: float, capacities_per_s: list[float]) -> float:
        """Return a flow's weight beside others: 1 over what stands for its RTT.

        Without any latency there is no RTT to go by, and the weight is 1, as in SimGrid.

        Args:
            latency_s: its path's latency, one way.
            capacities_per_s: of the links on its path.
        """
        if not self.rtt_weighted or latency_s <= 0.0:
            return 1.0
        return 1.0 / (latency_s + sum(self.weight_s_bytes / capacity for capacity in capacities_per_s))

    def cap_per_s(self, latency_s: float) -> float:
        """Return what the window lets a flow take of its links, bytes/s; inf without a latency."""
        return self.gamma_bytes / (2.0 * latency_s) if latency_s > 0.0 else math.inf


MODES: Mapping[str, Mode] = MappingProxyType(
    {
        mode.name: mode
        for mode in (
            Mode("max_min"),
            Mode("rtt_weighted", rtt_weighted=True),
            Mode("lv08", True, 13.01, 0.97, 20537.0, 4194304.0, 0.05),
        )
    }
)
"""The modes by name."""


def named(mode: str) -> Mode:
    """Return a mode.

    Raises:
        ValueError: no mode of that name.
    """
    if mode not in MODES:
        raise ValueError(f"mode {mode}: no such sharing mode; allowed: {', '.join(MODES)}")
    return MODES[mode]
