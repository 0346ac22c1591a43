"""One fitted distribution: sampled by its inverse from keyed uniforms, with its source and quality beside it.

A law may have a share of exact zeros (seconds without a byte) and a reach below 1 (lifetimes: what was never observed
to fail has no known end, and its quantile is infinite rather than extrapolated).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from models import draws
from models.arrays import ArrayLike, FloatArray
from models.distributions.families import FAMILIES, TABLE

Array = Any

PROBABILITIES = np.concatenate([[0.0, 0.001, 0.005], np.arange(1, 60) / 60.0, [0.995, 0.999, 1.0]])
"""Where a table holds quantiles: every sixtieth, and the tails; between them the logarithm is linear."""
FORMAT = 1


@dataclass(frozen=True)
class Law:
    """A distribution over values from 0 up.

    Attributes:
        family: one of `FAMILIES`, or `TABLE`.
        parameters: the family's, in its order; a table's quantiles at `PROBABILITIES`, above 0 and not falling.
        zero: probability of exactly 0; the family describes the rest.
        reach: share of the rest that the table covers; beyond it values are infinite. 1 for families.

    Raises:
        ValueError: a parameter is missing or out of range.
    """

    family: str
    parameters: tuple[float, ...]
    zero: float = 0.0
    reach: float = 1.0

    def __post_init__(self) -> None:
        if self.family != TABLE and self.family not in FAMILIES:
            raise ValueError(f"family is {self.family!r}; allowed: {', '.join((*FAMILIES, TABLE))}")
        wanted = PROBABILITIES.size if self.family == TABLE else len(FAMILIES[self.family].parameters)
        if len(self.parameters) != wanted or not np.all(np.isfinite(self.parameters)):
            raise ValueError(f"{self.family}: {len(self.parameters)} parameters; allowed: {wanted} finite numbers")
        if not 0.0 <= self.zero < 1.0:
            raise ValueError(f"zero is {self.zero}; allowed: 0 to below 1")
        if not (0.0 < self.reach <= 1.0) or (self.reach < 1.0 and self.family != TABLE):
            raise ValueError(f"reach is {self.reach}; allowed: above 0 to 1, and below 1 for tables only")
        if self.family == TABLE:
            values = np.asarray(self.parameters)
            if values[0] <= 0.0 or np.any(np.diff(values) < 0.0):
                raise ValueError("table: quantiles fall, or the first is not above 0; allowed: above 0, not falling")
            return
        family = FAMILIES[self.family]
        for name, positive, value in zip(family.parameters, family.positive, self.parameters, strict=True):
            if positive and value <= 0.0:
                raise ValueError(f"{self.family}: {name} is {value}; allowed: above 0")

    def quantile(self, probability: Array, xp: Any = np) -> Array:
        """Return the values below which these shares lie.

        Args:
            probability: strictly between 0 and 1.
            xp: array namespace (numpy, jax.numpy).
        """
        p = xp.asarray(probability)
        rest = xp.clip((p - self.zero) / (1.0 - self.zero), 2.0**-53, 1.0 - 2.0**-53)
        if self.family == TABLE:
            logs = xp.asarray(np.log(self.parameters))
            value = xp.exp(xp.interp(rest, xp.asarray(PROBABILITIES * self.reach), logs))
            value = xp.where(rest > self.reach, np.inf, value)
        else:
            value = FAMILIES[self.family].quantile(rest, self.parameters, xp)
        return xp.where(p < self.zero, 0.0, value)

    def cdf(self, value: ArrayLike, *, below: bool = False) -> FloatArray:
        """Return the probability of at most each value, or of less than it (``below``); NumPy only."""
        x = np.asarray(value, dtype=np.float64)
        positive = np.where(x > 0.0, x, 1.0)
        if self.family == TABLE:
            inside = self._table_cdf(np.minimum(positive, np.finfo(float).max), below) * self.reach
        else:
            # Far values may overflow on their way to 0 or 1, which is what they should be.
            with np.errstate(over="ignore", divide="ignore"):
                inside = np.asarray(FAMILIES[self.family].cdf(positive, self.parameters))
        at_zero = 0.0 if below else self.zero
        return np.where(x > 0.0, self.zero + (1.0 - self.zero) * inside, np.where(x == 0.0, at_zero, 0.0))

    def sample(self, seed: int, purpose: str, entity: Any, index: Any, xp: Any = np) -> Array:
        """Draw by inverting the law; arguments as `models.draws.uniform`."""
        return self.quantile(draws.open_uniform(seed, purpose, entity, index, xp), xp)

    def remaining(self, age: ArrayLike, uniform: ArrayLike) -> FloatArray:
        """Return how long what has reached this age still lasts, by inverse: devices may join in mid-life.

        Args:
            age: in the law's unit, from 0 up and less than the greatest value of the law.
            uniform: strictly between 0 and 1; broadcast against `age`.

        Raises:
            ValueError: nothing gets as old as that.
        """
        old, u = np.broadcast_arrays(np.asarray(age, dtype=np.float64), np.asarray(uniform, dtype=np.float64))
        past = self.cdf(old)
        if np.any(past >= 1.0) or np.any(old < 0.0):
            raise ValueError(f"age is {old.max()}; allowed: 0 to below {self.quantile(1.0 - 2.0**-53):g}")
        return np.asarray(np.maximum(self.quantile(past + u * (1.0 - past)) - old, 0.0))

    def _table_cdf(self, x: FloatArray, below: bool) -> FloatArray:
        """Invert the table; equal quantiles in a row are a value of its own, which `below` leaves out."""
        logs, wanted = np.log(self.parameters), np.log(x)
        after = np.searchsorted(logs, wanted, side="left" if below else "right")
        i = np.clip(after, 1, logs.size - 1)
        width = logs[i] - logs[i - 1]
        share = np.divide(wanted - logs[i - 1], width, out=np.zeros_like(wanted), where=width > 0.0)
        inside = PROBABILITIES[i - 1] + np.clip(share, 0.0, 1.0) * (PROBABILITIES[i] - PROBABILITIES[i - 1])
        return np.asarray(np.where(after == 0, 0.0, np.where(after == logs.size, 1.0, inside)))


@dataclass(frozen=True)
class Fit:
    """A law as it was chosen, with where it comes from and how good it is.

    Attributes:
        law: the choice.
        chosen: a family's name, or `TABLE`; a gamma law is kept as a table of its quantiles.
        unit: of its values.
        file, column, rows: what was fitted.
        of: what a unit is (trace, node, ...): folds are made of whole units.
        units, values: how many units and values there were.
        censored: of the values, how many are only known to be larger.
        ks: Kolmogorov-Smirnov distance to what was fitted.
        ks_units: the same to units left out of the fit, mean over folds; the law's own.
        standard: the best standard family by that score.
        ks_units_standard: its score.
    """

    law: Law
    chosen: str
    unit: str
    file: str
    column: str
    rows: str
    of: str
    units: int
    values: int
    censored: int
    ks: float
    ks_units: float
    standard: str
    ks_units_standard: float


def read_fits(path: Path) -> Mapping[str, Fit]:
    """Return the fits of a file that `twin calibrate` wrote, by name.

    Raises:
        ValueError: another format.
    """
    stored = json.loads(path.read_text())
    if stored.get("format") != FORMAT:
        raise ValueError(f"{path.name}: format is {stored.get('format')}; allowed: {FORMAT}")
    fits = {}
    for name, row in stored["fits"].items():
        law = Law(row["family"], tuple(row["parameters"]), row["zero"], row["reach"])
        fits[name] = Fit(law, **{key: row[key] for key in Fit.__dataclass_fields__ if key != "law"})
    return MappingProxyType(fits)
