"""Measured rates replayed: what a device's access link carries follows a recorded trace, sample by sample.

Each device that is carried about plays one of the traces, drawn by the seed, from a drawn moment on and over again.
Its link down has the trace's rate, its link up the same share of it as before. Bulk transfers follow at once; a
message pays its link's usual rate, as it is too short for a trace to tell. Each sample wakes the engine once a device:
meant for some dozens of devices over hours, not for a day of hundreds.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models import draws
from models.links.replay import RateTrace
from sim.bulk import Bulk
from sim.engine import NS_PER_S, Engine

OUTAGE_BYTES_PER_S = 1e-3
"""What a link carries while its trace says that nothing passes: a resource has some capacity; this ends nothing."""


class Replays:
    """The traces that a world's links follow.

    Args:
        engine: whose time it is; begins now.
        bulk: whose links follow.
        traces: what is played, at least one.
        nodes: whose links.
        seed: draws each node's trace and where in it it begins.
    """

    def __init__(
        self, engine: Engine, bulk: Bulk, traces: Sequence[RateTrace], nodes: Sequence[int], seed: int
    ) -> None:
        self.engine, self.bulk = engine, bulk
        self.traces: dict[int, RateTrace] = {}
        self.offset_s: dict[int, float] = {}
        for node in nodes:
            trace = traces[int(draws.integers(seed, "replayed trace", node, 0, len(traces)))]
            self.traces[node] = trace
            self.offset_s[node] = float(draws.uniform(seed, "replay's beginning", node, 0)) * trace.length_s
            self._play(node)

    def _play(self, node: int) -> None:
        """Set the link's rates as they are now, and wake at the next sample."""
        trace, now = self.traces[node], int(self.engine.now)
        within_s = (now / NS_PER_S + self.offset_s[node]) % trace.length_s
        step = int(np.searchsorted(trace.times_s, within_s, side="right"))
        self.bulk.play(node, max(float(trace.bytes_per_s[step - 1]), OUTAGE_BYTES_PER_S))
        left_ns = int((float(trace.times_s[step]) - within_s) * NS_PER_S) + 1  # past the sample, however it is rounded
        self.engine.call_at(now + left_ns, self._play, node)
