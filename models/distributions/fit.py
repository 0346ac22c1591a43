"""Fitting a distribution to values of many units, and choosing between families and a table by units left out.

Values of one unit resemble each other, so rows are no independent evidence: folds are made of whole units, and what is
scored is the Kolmogorov-Smirnov distance between a law fitted to some units and the values of the others. Values may be
right-censored (known to be larger only): families then come from the censored likelihood, tables and distances from
the product-limit estimate (Kaplan and Meier, JASA 53, 1958). scipy fits; nothing here is needed to draw.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.arrays import ArrayLike, BoolArray, FloatArray
from models.distributions.families import TABLE
from models.distributions.law import PROBABILITIES, Law

STANDARD = ("normal", "log-normal", "exponential", "Weibull", "gamma", "log-logistic", "Burr XII")
SIMPLEST_FIRST = ("exponential", "log-normal", "Weibull", "gamma", "log-logistic", "normal", "Burr XII")
FOLDS, REPEATS = 5, 3  # a fold is a fifth of the units; the deal is made three times
SIMPLER = 0.002  # of families this close to the best, the one with the fewest parameters is taken
TABLE_PAYS = 0.005  # a table has 65 numbers: it is taken only where its score is better by this
MOST = 3000  # order statistics kept of a larger sample; the distance changes by at most 1/6000
AT_RISK = 10  # values still under observation below which a product-limit estimate is not compared with


@dataclass(frozen=True)
class Sample:
    """Values with their units.

    Attributes:
        values: (n,), from 0 up.
        units: (n, ends): names of the units that a value belongs to: one, or both ends of a pair.
        censored: (n,), true where the value is only a lower bound.
    """

    values: FloatArray
    units: np.ndarray
    censored: BoolArray

    @classmethod
    def of(cls, values: ArrayLike, units: ArrayLike, censored: ArrayLike | None = None) -> Sample:
        """Return a sample.

        Raises:
            ValueError: a value is negative or no number, or the arrays' lengths differ.
        """
        x = np.asarray(values, dtype=np.float64)
        names = np.asarray(units, dtype=object).reshape(x.size, -1)
        cut = np.zeros(x.size, dtype=bool) if censored is None else np.asarray(censored, dtype=bool)
        if not np.all(x >= 0.0) or not np.all(np.isfinite(x)):
            raise ValueError(f"values hold {x[~(np.isfinite(x) & (x >= 0.0))][0]}; allowed: finite, from 0 up")
        if cut.shape != x.shape:
            raise ValueError(f"censored has {cut.size} values; allowed: {x.size}, as many as values")
        return cls(x, names, cut)

    def __getitem__(self, rows: BoolArray) -> Sample:
        return Sample(self.values[rows], self.units[rows], self.censored[rows])


@dataclass(frozen=True)
class Choice:
    """What was chosen: the law on all units, its name, distances (see `law.Fit`), and every candidate's score."""

    law: Law
    name: str
    ks: float
    ks_units: float
    standard: str
    ks_units_standard: float
    scores: dict[str, float]


def choose(sample: Sample) -> Choice:
    """Fit every family and a table, and return the one that other units like best.

    Raises:
        ValueError: fewer than 2 units, or nothing that is not censored.
    """
    names = np.unique(sample.units.astype(str))
    if names.size < 2 or sample.censored.all():
        raise ValueError(f"{names.size} units, {int((~sample.censored).sum())} values seen; allowed: 2 units, 1 value")
    distances: dict[str, list[float]] = {name: [] for name in (*STANDARD, TABLE)}
    for train, test in folds(sample, names):
        for name, found in distances.items():
            law = fit_law(name, train)
            found.append(distance(law, test) if law else 1.0)  # what cannot be fitted is as far off as can be
    scores = {name: float(np.mean(found)) for name, found in distances.items()}
    standard = min(STANDARD, key=lambda name: scores[name])
    name = next(family for family in SIMPLEST_FIRST if scores[family] <= scores[standard] + SIMPLER)
    if scores[TABLE] < scores[standard] - TABLE_PAYS:
        name = TABLE
    law = fit_law(name, sample)
    if law is None:
        raise ValueError(f"{name} could be fitted to parts of the sample, but not to all of it")
    return Choice(law, name, distance(law, sample), scores[name], standard, scores[standard], scores)


def folds(sample: Sample, names: np.ndarray) -> Iterator[tuple[Sample, Sample]]:
    """Yield what is fitted and what is scored: values of no unit, and of only units, of a fold."""
    count = min(FOLDS, names.size)
    for repeat in range(REPEATS):
        dealt = sorted(names, key=lambda name: hashlib.sha256(f"{repeat} {name}".encode()).hexdigest())
        fold_of = {name: i % count for i, name in enumerate(dealt)}
        place = np.vectorize(lambda name: fold_of[str(name)], otypes=[int])(sample.units)  # noqa: B023 (used at once)
        for fold in range(count):
            train, test = sample[(place != fold).all(axis=1)], sample[(place == fold).all(axis=1)]
            if train.values.size and test.values.size and not (train.censored.all() or test.censored.all()):
                yield train, test


def fit_law(name: str, sample: Sample) -> Law | None:
    """Return one candidate by maximum likelihood (a table: by quantiles), or None where there is no such fit."""
    zero = float(np.mean(sample.values == 0.0))
    rest = _thinned(sample[sample.values > 0.0])
    if rest.values.size == 0 or rest.censored.all():
        return None
    if name == TABLE:
        return _table(rest, zero)
    from scipy.stats import FitError

    try:
        with np.errstate(all="ignore"):
            parameters = _FITS[name](rest)
        if name == "gamma":
            return Law(TABLE, _gamma_quantiles(*parameters), zero)
        return Law(name, tuple(float(value) for value in parameters), zero)
    except (FitError, ValueError, RuntimeError):
        return None


def distance(law: Law, sample: Sample) -> float:
    """Return the greatest difference between a law and what was observed, on both sides of every value."""
    if sample.censored.any():
        at, observed = product_limit(sample)
    else:
        values = np.sort(_thinned(sample).values)
        at, counts = np.unique(values, return_counts=True)
        observed = np.cumsum(counts) / values.size
    before = np.concatenate([[0.0], observed[:-1]])
    gaps = np.abs(law.cdf(at) - observed), np.abs(law.cdf(at, below=True) - before)
    return float(np.max(gaps))


def product_limit(sample: Sample) -> tuple[FloatArray, FloatArray]:
    """Return when values ended and the share ended by then (Kaplan-Meier), as long as `AT_RISK` are under observation.

    Of a sample smaller than twice that, half.
    """
    from scipy.stats import CensoredData, ecdf

    ended, cut = sample.values[~sample.censored], sample.values[sample.censored]
    estimate = ecdf(CensoredData(uncensored=ended, right=cut)).cdf
    at, share = np.asarray(estimate.quantiles), np.asarray(estimate.probabilities)
    risk = sample.values.size - np.searchsorted(np.sort(sample.values), at)
    keep = np.isin(at, ended) & (risk >= min(AT_RISK, sample.values.size // 2))
    return at[keep], share[keep]


def _thinned(sample: Sample) -> Sample:
    """Return at most about `MOST` values: order statistics at equal steps, of what ended and what was cut apart."""
    if sample.values.size <= MOST:
        return sample
    kept = []
    for group in (np.flatnonzero(~sample.censored), np.flatnonzero(sample.censored)):
        ordered = group[np.argsort(sample.values[group], kind="stable")]
        count = round(MOST * group.size / sample.values.size)
        kept.append(ordered[((np.arange(count) + 0.5) * group.size / max(count, 1)).astype(int)])
    rows = np.zeros(sample.values.size, dtype=bool)
    rows[np.concatenate(kept)] = True
    return sample[rows]


def _table(sample: Sample, zero: float) -> Law:
    if not sample.censored.any():
        values = np.quantile(sample.values, PROBABILITIES, method="median_unbiased")
        return Law(TABLE, tuple(values.tolist()), zero)
    at, share = product_limit(sample)
    middle = np.concatenate([[0.0], share[:-1]]) * 0.5 + share * 0.5
    reach = float(share[-1])
    values = np.interp(PROBABILITIES * reach, middle, at)
    return Law(TABLE, tuple(values.tolist()), zero, reach)


def _gamma_quantiles(shape: float, scale: float) -> tuple[float, ...]:
    from scipy.stats import gamma

    inside = np.clip(PROBABILITIES, 1e-5, 1.0 - 1e-5)  # a table has ends, a gamma law has none
    values = np.asarray(gamma.ppf(inside, shape, scale=scale))
    return tuple(np.maximum(values, np.finfo(float).tiny).tolist())


def _by_scipy(name: str, start: Callable[[float, float], Sequence[float]]) -> Callable[[Sample], Any]:
    """Return a maximum-likelihood fit with location 0, as (shapes..., scale).

    Args:
        name: of the distribution in scipy.stats.
        start: from mean and standard deviation of the logarithm to the first guess of shapes and scale.
    """

    def fitted(sample: Sample) -> Any:
        from scipy import stats

        logs = np.log(sample.values)
        *shapes, scale = start(float(logs.mean()), float(max(logs.std(), 1e-3)))
        data: Any = sample.values
        if sample.censored.any():
            data = stats.CensoredData(uncensored=sample.values[~sample.censored], right=sample.values[sample.censored])
        found = getattr(stats, name).fit(data, *shapes, scale=scale, floc=0.0)
        return (*found[:-2], found[-1])

    return fitted


def _normal(sample: Sample) -> Any:
    from scipy import stats

    if sample.censored.any():
        ended, cut = sample.values[~sample.censored], sample.values[sample.censored]
        return stats.norm.fit(stats.CensoredData(uncensored=ended, right=cut))
    return sample.values.mean(), sample.values.std()


def _exponential(sample: Sample) -> Any:
    return (sample.values.sum() / (~sample.censored).sum(),)  # time under observation over ends


def _log_normal(sample: Sample) -> Any:
    if sample.censored.any():
        sigma, median = _by_scipy("lognorm", lambda mean, sd: (sd, np.exp(mean)))(sample)
        return median, sigma
    logs = np.log(sample.values)
    return np.exp(logs.mean()), logs.std()


# First guesses: the logarithm of a Weibull variable has the deviation 1.28 / shape (pi / sqrt 6), of a log-logistic
# one 1.81 / shape (pi / sqrt 3); a gamma's shape is near 1 / variance where that is small.
_FITS: dict[str, Callable[[Sample], Any]] = {
    "normal": _normal,
    "log-normal": _log_normal,
    "exponential": _exponential,
    "Weibull": _by_scipy("weibull_min", lambda mean, sd: (1.28 / sd, np.exp(mean + 0.45 * sd))),
    "gamma": _by_scipy("gamma", lambda mean, sd: (1.0 / sd**2, np.exp(mean) * sd**2)),
    "log-logistic": _by_scipy("fisk", lambda mean, sd: (1.81 / sd, np.exp(mean))),
    "Burr XII": _by_scipy("burr12", lambda mean, sd: (1.81 / sd, 1.0, np.exp(mean))),
}
