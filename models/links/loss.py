"""Loss in bursts: Gilbert and Elliott's channel in continuous time, exact over any gap between packets.

A link is good or bad, and changes by a Markov chain with two rates; each state loses its own share of packets
(Gilbert, "Capacity of a burst-noise channel", Bell System Technical Journal 39, 1960; Elliott, "Estimates of error
rates for codes on burst-noise channels", the same, 42, 1963). With rates a into and b out of the bad state, the
probability to be bad after a gap is pi + (1{bad} - pi) exp(-(a + b) gap), pi = a / (a + b).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from models.arrays import BoolArray, FloatArray
from models.links.access import FILE

Array = Any

LOSS_GOOD, LOSS_BAD = 1e-3, 0.5
"""Loss of a radio link in its two states (assumptions): the data show when no byte came through, not single packets."""


@dataclass(frozen=True)
class Channel:
    """A link's loss.

    Attributes:
        to_bad_per_s, to_good_per_s: rates of the changes, above 0.
        loss_good, loss_bad: shares of packets lost in each state.
        source: where the numbers come from.

    Raises:
        ValueError: a rate is not above 0, or a share not between 0 and 1.
    """

    to_bad_per_s: float
    to_good_per_s: float
    loss_good: float
    loss_bad: float
    source: str

    def __post_init__(self) -> None:
        for name in ("to_bad_per_s", "to_good_per_s"):
            if not 0.0 < getattr(self, name) < np.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed: above 0")
        for name in ("loss_good", "loss_bad"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed: 0 to 1")

    @property
    def bad_share(self) -> float:
        """Share of time in the bad state."""
        return self.to_bad_per_s / (self.to_bad_per_s + self.to_good_per_s)

    @property
    def loss(self) -> float:
        """Share of packets lost in the long run."""
        return self.bad_share * self.loss_bad + (1.0 - self.bad_share) * self.loss_good

    @property
    def mean_bad_s(self) -> float:
        """Mean length of a stay in the bad state."""
        return 1.0 / self.to_good_per_s

    def bad_after(self, bad: Array, gap_s: Array, xp: Any = np) -> Array:
        """Return the probability to be bad after a gap.

        Args:
            bad: bool, or a probability, at the gap's start.
            gap_s: from 0 up.
        """
        kept = xp.exp(-(self.to_bad_per_s + self.to_good_per_s) * xp.asarray(gap_s))
        return self.bad_share + (xp.asarray(bad) * 1.0 - self.bad_share) * kept

    def advance(self, bad: Array, gap_s: Array, uniform: Array, xp: Any = np) -> Array:
        """Return the state after a gap from a uniform draw; elementwise over links."""
        return uniform < self.bad_after(bad, gap_s, xp)

    def lost(self, bad: Array, uniform: Array, xp: Any = np) -> Array:
        """Return whether a packet is lost, from another uniform draw; elementwise."""
        return uniform < xp.where(bad, self.loss_bad, self.loss_good)

    def states(self, bad: Array, gaps_s: FloatArray, uniforms: FloatArray) -> BoolArray:
        """Return the states at a row of packets, the same as `advance` one by one, without a loop over packets.

        A draw below the chance from good means bad, one above the chance from bad means good, whatever was before; one
        between keeps the state. So a packet's state is that of the last draw that decided, or the first one's.

        Args:
            bad: (...,) state before the first gap.
            gaps_s, uniforms: (..., packets).
        """
        to_bad = uniforms < self.bad_after(False, gaps_s)
        decided = to_bad | (uniforms >= self.bad_after(True, gaps_s))
        last = np.maximum.accumulate(np.where(decided, np.arange(gaps_s.shape[-1]), -1), axis=-1)
        seen = np.take_along_axis(to_bad, np.maximum(last, 0), axis=-1)
        return np.where(last < 0, np.asarray(bad)[..., None], seen)


def _read() -> Mapping[str, Channel]:
    rows = json.loads(FILE.read_text()).get("outages", {})
    return MappingProxyType(
        {
            name: Channel(
                row["to_bad_per_s"], row["to_good_per_s"], LOSS_GOOD, LOSS_BAD,
                f"{row['file']}, {row['rows']}: time below {row['below_mbps']} Mbit/s; losses assumed",
            )
            for name, row in rows.items()
        }
    )  # fmt: skip


CHANNELS = _read()
"""Channels whose rates were fitted to measured outages, by technology and data set."""
