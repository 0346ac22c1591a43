"""Families of distributions with closed-form inverses, elementwise under NumPy and jax.numpy.

Parameters stand in the order in which they are written below. A quantile takes a probability strictly between 0 and 1.
The formulas are the textbook ones (Johnson, Kotz and Balakrishnan, "Continuous univariate distributions", 1994;
Burr's type XII: Burr, Annals of Mathematical Statistics 13, 1942). The gamma family has no closed inverse; where it
is the best, it is kept as a table of its quantiles.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.draws import normal_quantile

Array = Any

TABLE = "table"
"""Name of what is no family: quantiles at fixed probabilities, interpolated in the logarithm."""


@dataclass(frozen=True)
class Family:
    """One family.

    Attributes:
        parameters: their names, in order.
        positive: which of them must be above 0.
        quantile: (probability, parameters, xp) to value.
        cdf: (value above 0, parameters) to probability, NumPy only.
    """

    parameters: tuple[str, ...]
    positive: tuple[bool, ...]
    quantile: Callable[[Array, tuple[float, ...], Any], Array]
    cdf: Callable[[Array, tuple[float, ...]], Array]


def _normal_cdf(z: Array) -> Array:
    """Return the standard normal distribution function; scalar `math.erfc`, exact to the last places."""
    return 0.5 * np.asarray(np.frompyfunc(math.erfc, 1, 1)(-np.asarray(z) / math.sqrt(2.0)), dtype=np.float64)


FAMILIES = {
    # A quantity that cannot be negative: what the normal law puts below 0 is 0.
    "normal": Family(
        ("mean", "sigma"),
        (False, True),
        lambda p, a, xp: xp.maximum(a[0] + a[1] * normal_quantile(p, xp), 0.0),
        lambda x, a: _normal_cdf((x - a[0]) / a[1]),
    ),
    "log-normal": Family(
        ("median", "sigma"),
        (True, True),
        lambda p, a, xp: a[0] * xp.exp(a[1] * normal_quantile(p, xp)),
        lambda x, a: _normal_cdf(np.log(x / a[0]) / a[1]),
    ),
    "exponential": Family(
        ("mean",),
        (True,),
        lambda p, a, xp: -a[0] * xp.log1p(-p),
        lambda x, a: -np.expm1(-x / a[0]),
    ),
    "Weibull": Family(
        ("shape", "scale"),
        (True, True),
        lambda p, a, xp: a[1] * (-xp.log1p(-p)) ** (1.0 / a[0]),
        lambda x, a: -np.expm1(-((x / a[1]) ** a[0])),
    ),
    "log-logistic": Family(
        ("shape", "median"),
        (True, True),
        lambda p, a, xp: a[1] * (p / (1.0 - p)) ** (1.0 / a[0]),
        lambda x, a: 1.0 / (1.0 + (x / a[1]) ** -a[0]),
    ),
    "Burr XII": Family(
        ("shape", "tail", "scale"),
        (True, True, True),
        lambda p, a, xp: a[2] * xp.expm1(-xp.log1p(-p) / a[1]) ** (1.0 / a[0]),
        lambda x, a: -np.expm1(-a[1] * np.log1p((x / a[2]) ** a[0])),
    ),
}
