"""Hazards that grow with load, so that one failure may bring the next: those who take over its work fail sooner.

Proportional hazards (Cox, JRSS B 34, 1972): load multiplies the hazard by a factor. That failure rates rise with
workload is measured (Iyer and Rossetti, "A measurement-based model for workload dependence of CPU errors", IEEE
Transactions on Computers C-35, 1986); the power law and its exponent are assumptions of whoever calls this.
"""

from __future__ import annotations

import numpy as np

from models.arrays import ArrayLike, FloatArray, require_not_negative, spread
from models.distributions.law import Law


def load_factor(load: ArrayLike, nominal: ArrayLike, exponent: ArrayLike) -> FloatArray:
    """Return (load / nominal) ** exponent: 1 at nominal load; an exponent of 0 leaves the hazard alone.

    Raises:
        ValueError: a load or an exponent is negative, or a nominal load not above 0.
    """
    require_not_negative("load", load)
    require_not_negative("exponent", exponent)
    now, usual, power = spread(load, nominal, exponent)
    if not np.all(usual > 0.0):
        raise ValueError(f"nominal is {usual.min()}; allowed: above 0")
    return np.asarray((now / usual) ** power)


def life_under_load(law: Law, uniform: ArrayLike, until: ArrayLike, factors: ArrayLike) -> FloatArray:
    """Return when each thing fails if its hazard is the law's times a factor that changes in steps; exact.

    The cumulative hazard -log S of the law, weighted by the factors, reaches the exponential variable -log(1 - u).

    Args:
        law: of the life at factor 1.
        uniform: (n,), strictly between 0 and 1: with all factors 1 the life is ``law.quantile(uniform)``.
        until: (k - 1,), rising: when a factor ends and the next one begins; the last has no end.
        factors: (k,), at least 0.

    Returns:
        (n,), in the law's unit; inf where the hazard never adds up to it.

    Raises:
        ValueError: a factor is negative, times do not rise, or there is not one factor more than times.
    """
    ends, factor = np.atleast_1d(np.asarray(until, dtype=np.float64)), np.asarray(factors, dtype=np.float64)
    require_not_negative("factors", factor)
    if factor.shape != (ends.size + 1,):
        raise ValueError(f"factors: {factor.size} of them; allowed: {ends.size + 1}, one more than times")
    if np.any(np.diff(ends, prepend=0.0) <= 0.0):
        raise ValueError(f"until is {ends.tolist()}; allowed: rising, above 0")
    wanted = -np.log1p(-np.asarray(uniform, dtype=np.float64))
    with np.errstate(divide="ignore"):
        own = np.concatenate([[0.0], -np.log1p(-law.cdf(ends))])  # the law's cumulative hazard at each change
    spent = np.concatenate([[0.0], np.cumsum(factor[:-1] * np.diff(own))])
    step = np.searchsorted(spent, wanted, side="right") - 1
    with np.errstate(divide="ignore", invalid="ignore"):
        hazard = own[step] + (wanted - spent[step]) / factor[step]
    survival = np.exp(-hazard)
    life = law.quantile(np.clip(1.0 - survival, 2.0**-53, 1.0 - 2.0**-53))
    return np.asarray(np.where(np.isfinite(hazard), life, np.inf))
