"""How many fail together: a shared cause takes several members of a group at once.

The law is the share of bursts of each size, as counted in a log, with sizes drawn by inverse. The beta-factor of
reliability engineering (Fleming, "A reliability model for common mode failures in redundant safety systems", General
Atomic report GA-A13284, 1975) is the share of a member's failures that come with others'. Given the times of bursts,
their sizes are independent of those (an assumption).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np

from models import draws
from models.arrays import FloatArray, IntArray
from models.failures.lives import FILE


@dataclass(frozen=True)
class Bursts:
    """The law of sizes.

    Attributes:
        shares: of bursts with 1, 2, 3, ... members; they sum to 1.
        window_h: how near in time failures of one group count as one burst.
        file: the log.

    Raises:
        ValueError: the shares are negative or do not sum to 1.
    """

    shares: tuple[float, ...]
    window_h: float
    file: str

    def __post_init__(self) -> None:
        if min(self.shares, default=-1.0) < 0.0 or abs(sum(self.shares) - 1.0) > 1e-4:
            raise ValueError(f"shares sum to {sum(self.shares)}; allowed: numbers from 0 up that sum to 1")

    @property
    def mean(self) -> float:
        """Mean size."""
        return float(np.dot(self.shares, np.arange(1, len(self.shares) + 1)) / np.sum(self.shares))

    @property
    def beta(self) -> float:
        """The beta-factor: the share of failures that belong to a burst of two or more."""
        return float(1.0 - self.shares[0] / np.sum(self.shares) / self.mean)

    def size(self, seed: int, purpose: str, entity: Any, index: Any, xp: Any = np) -> Any:
        """Draw sizes; arguments as `models.draws.uniform`. A group that is smaller fails as a whole."""
        edges = np.cumsum(self.shares) / np.sum(self.shares)
        drawn = draws.uniform(seed, purpose, entity, index, xp)
        return xp.searchsorted(xp.asarray(edges[:-1]), drawn, side="right") + 1


def sizes_of_bursts(group: IntArray, member: IntArray, time_h: FloatArray, window_h: float) -> IntArray:
    """Return the number of distinct members in each burst: failures of one group, each within the window of the last.

    Args:
        group, member, time_h: of each failure, in any order.
        window_h: above 0.

    Raises:
        ValueError: the window is not above 0.
    """
    if not window_h > 0.0:
        raise ValueError(f"window_h is {window_h}; allowed: above 0")
    order = np.lexsort((time_h, group))
    group, member, time_h = group[order], member[order], time_h[order]
    new = np.ones(len(group), dtype=bool)
    new[1:] = (group[1:] != group[:-1]) | (np.diff(time_h) > window_h)
    burst = np.cumsum(new) - 1
    return np.bincount(np.unique(np.stack([burst, member]), axis=1)[0])


def _read() -> Mapping[str, Bursts]:
    stored = json.loads(FILE.read_text()).get("bursts", {})
    return MappingProxyType(
        {name: Bursts(tuple(row["shares"]), row["window_h"], row["file"]) for name, row in stored.items()}
    )


BURSTS = _read()
