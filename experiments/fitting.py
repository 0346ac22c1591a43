"""Least squares by gradient: parameters of a law from measurements, with their uncertainty.

The law is written in JAX, so that its exact Jacobian comes by forward differentiation; the trust-region method is
SciPy's. Standard errors are those of the linearised problem, (J'J)^-1 times the residual variance, with the number of
*independent* residuals given by the caller where neighbours in time are correlated (`independent_count` estimates it).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from experiments.compose import UsageError
from scenarios.extras import why_lacking


@dataclass(frozen=True)
class Fit:
    """A fitted law.

    Attributes:
        names: of the parameters.
        values: best estimates, in the law's units.
        standard_errors: one each; inf where the data say nothing.
        rmse: root mean square of the residuals.
        residuals: at the best estimate, without the penalty's.
        converged: whether the method stopped for a reason of its own, rather than at its limit.
    """

    names: tuple[str, ...]
    values: np.ndarray
    standard_errors: np.ndarray
    rmse: float
    residuals: np.ndarray
    converged: bool

    def as_dict(self) -> dict[str, dict[str, float]]:
        """Return ``{name: {value, standard_error}}``."""
        rows = zip(self.names, self.values.tolist(), self.standard_errors.tolist(), strict=True)
        return {name: {"value": value, "standard_error": error} for name, value, error in rows}


def fit(
    law: Callable[[Any], Any],
    start: Sequence[float],
    names: Sequence[str],
    *,
    low: Sequence[float] | float = -np.inf,
    high: Sequence[float] | float = np.inf,
    penalty: Callable[[Any], Any] | None = None,
    independent: float | Callable[[np.ndarray], float] | None = None,
    max_evaluations: int = 200,
    tolerance: float = 1e-8,
) -> Fit:
    """Minimise the sum of squares of ``law(parameters)``, residuals as a JAX array.

    Args:
        law: residuals (predicted less measured, weighted as the caller likes), shape (m,).
        start: first guess, inside the bounds.
        names: of the parameters.
        low, high: bounds.
        penalty: more residuals, in the law's units, for what is believed beforehand (smoothness, usual values). They
            narrow the standard errors but count neither in `rmse` nor as data.
        independent: number of independent residuals, or how to count them in the final ones; default m.
        max_evaluations: limit of the method.
        tolerance: relative change of the sum at which the method stops.

    Raises:
        UsageError: JAX cannot be imported.
        ValueError: the law is not finite at the start.
    """
    if absent := why_lacking(["jax"]):
        raise UsageError(f"calibrate: fits need {absent}")
    import jax
    from scipy.optimize import least_squares

    jax.config.update("jax_enable_x64", True)

    def both(x: Any) -> Any:
        import jax.numpy as jnp

        return law(x) if penalty is None else jnp.concatenate([law(x), penalty(x)])

    value, slope = jax.jit(both), jax.jit(jax.jacfwd(both))
    first = np.asarray(start, dtype=float)
    if not np.isfinite(np.asarray(value(first))).all():
        raise ValueError("the law is not finite at the start of the fit")
    found = least_squares(
        lambda x: np.asarray(value(x)), first, jac=lambda x: np.asarray(slope(x)),
        bounds=(low, high), x_scale="jac", max_nfev=max_evaluations, ftol=tolerance,
    )  # fmt: skip
    size = int(np.asarray(law(found.x)).size)
    residuals = np.asarray(found.fun)[:size]
    count = float(size if independent is None else independent(residuals) if callable(independent) else independent)
    variance = float(residuals @ residuals) / size * count / max(1.0, count - len(names))
    scale = size / count  # correlated neighbours count once
    measured, believed = found.jac[:size], found.jac[size:]
    information = measured.T @ measured / scale + believed.T @ believed
    errors = np.sqrt(np.maximum(np.diag(_inverse(information)), 0.0) * variance)
    errors[np.diag(information) <= 0.0] = np.inf
    rmse = float(np.sqrt(np.mean(residuals**2)))
    return Fit(tuple(names), np.asarray(found.x), errors, rmse, residuals, bool(found.status > 0))


def independent_count(series: Iterable[np.ndarray]) -> float:
    """Return how many independent values these correlated series are worth, by their integrated autocorrelation time.

    The sum over lags stops where a pair of neighbouring autocorrelations is no longer positive (Geyer 1992, Practical
    Markov chain Monte Carlo, Statistical Science 7: 473).

    >>> round(independent_count([np.random.default_rng(0).standard_normal(4000)]), -3)
    4000.0
    """
    total = 0.0
    for values in series:
        centred = np.asarray(values, dtype=float)
        size = centred.size
        power = float(centred @ centred)
        if size < 4 or power == 0.0:
            total += size
            continue
        spectrum = np.abs(np.fft.rfft(centred, 2 * size)) ** 2
        correlation = np.fft.irfft(spectrum)[:size] / power
        pairs = correlation[: 2 * (size // 2)].reshape(-1, 2).sum(axis=1)
        last = int(np.argmax(pairs <= 0.0)) if (pairs <= 0.0).any() else pairs.size
        total += size / max(1.0, 2.0 * float(pairs[:last].sum()) - 1.0)
    return max(1.0, total)


def _inverse(information: np.ndarray) -> np.ndarray:
    """Return the pseudo-inverse, scaled first: parameters of very different sizes share it."""
    scale = np.sqrt(np.maximum(np.diag(information), 1e-300))
    return np.linalg.pinv(information / np.outer(scale, scale)) / np.outer(scale, scale)
