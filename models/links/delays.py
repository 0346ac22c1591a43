"""What adds up to a packet's delay: both accesses, the backbone between them, and jitter."""

from __future__ import annotations

import numpy as np

from models.arrays import ArrayLike, FloatArray, spread


def one_way_s(a_one_way: ArrayLike, b_one_way: ArrayLike, backbone_s: ArrayLike) -> FloatArray:
    """Return the delay of a path, s: both access delays and the backbone between them."""
    a, b, between = spread(a_one_way, b_one_way, backbone_s)
    return np.asarray(a + b + between)


def jitter_factor(sigma: ArrayLike, normal: ArrayLike) -> FloatArray:
    """Return the factor on a packet's delay: log-normal with median 1, from a standard normal draw."""
    spread_of_log, draw = spread(sigma, normal)
    return np.asarray(np.exp(spread_of_log * draw), dtype=np.float64)
