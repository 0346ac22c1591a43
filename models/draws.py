"""Keyed randomness: the same (seed, purpose, entity, index) always draws the same value.

The generator is Threefry-2x32 with 20 rounds (`models.threefry`). A draw has no hidden state, so the order of calls,
the size of a chunk or the draws of somebody else change nothing. The code runs over any array namespace: 32-bit words
and uniforms have the same bits under NumPy and JAX; draws that pass through a logarithm or a square root agree to a
few units in the last place.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

import numpy as np

from models import threefry

_WORD = 0xFFFFFFFF
_FIVE, _SIX = np.uint32(5), np.uint32(6)

# Rational approximations of the normal quantile: Wichura, algorithm AS 241 (PPND16), Applied Statistics 37,
# 1988. Constant term first. Relative accuracy about 1e-16.
_CENTRE_NUM = (
    3.3871328727963666080,
    1.3314166789178437745e2,
    1.9715909503065514427e3,
    1.3731693765509461125e4,
    4.5921953931549871457e4,
    6.7265770927008700853e4,
    3.3430575583588128105e4,
    2.5090809287301226727e3,
)
_CENTRE_DEN = (
    1.0,
    4.2313330701600911252e1,
    6.8718700749205790830e2,
    5.3941960214247511077e3,
    2.1213794301586595867e4,
    3.9307895800092710610e4,
    2.8729085735721942674e4,
    5.2264952788528545610e3,
)
_NEAR_NUM = (
    1.42343711074968357734,
    4.63033784615654529590,
    5.76949722146069140550,
    3.64784832476320460504,
    1.27045825245236838258,
    2.41780725177450611770e-1,
    2.27238449892691845833e-2,
    7.74545014278341407640e-4,
)
_NEAR_DEN = (
    1.0,
    2.05319162663775882187,
    1.67638483018380384940,
    6.89767334985100004550e-1,
    1.48103976427480074590e-1,
    1.51986665636164571966e-2,
    5.47593808499534494600e-4,
    1.05075007164441684324e-9,
)
_FAR_NUM = (
    6.65790464350110377720,
    5.46378491116411436990,
    1.78482653991729133580,
    2.96560571828504891230e-1,
    2.65321895265761230930e-2,
    1.24266094738807843860e-3,
    2.71155556874348757815e-5,
    2.01033439929228813265e-7,
)
_FAR_DEN = (
    1.0,
    5.99832206555887937690e-1,
    1.36929880922735805310e-1,
    1.48753612908506148525e-2,
    7.86869131145613259100e-4,
    1.84631831751005468180e-5,
    1.42151175831644588870e-7,
    2.04426310338993978564e-15,
)


def key_of(seed: int, purpose: str) -> tuple[int, int]:
    """Return the 64-bit key of a purpose under a seed, as two 32-bit words.

    Args:
        seed: from 0 to 2**64 - 1.
        purpose: any name; different names give unrelated streams.
    """
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed is {seed}; allowed: 0 to 2**64 - 1")
    digest = blake2b(purpose.encode(), digest_size=8, key=seed.to_bytes(8, "little")).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")


def uniform(seed: int, purpose: str, entity: Any, index: Any, xp: Any = np) -> Any:
    """Draw from [0, 1) with 53 random bits.

    Args:
        seed: seed of the run, 0 to 2**64 - 1.
        purpose: what the draw is for.
        entity: who draws (device, link, ...), integers below 2**32.
        index: which draw of that entity, integers below 2**32; broadcast against `entity`.
        xp: array namespace (numpy, jax.numpy).

    Returns:
        float64 array of the broadcast shape.
    """
    key = key_of(seed, purpose)
    if type(entity) is int and type(index) is int and xp is np:
        _require_word("entity", entity, 0 <= entity <= _WORD)
        _require_word("index", index, 0 <= index <= _WORD)
        one, other = threefry.one_pair(key, entity, index)
        return np.float64(((one >> 5) * 2.0**26 + (other >> 6)) * 2.0**-53)
    counters = _counter("entity", entity, xp), _counter("index", index, xp)
    if xp is np:
        high, low = threefry.arrays(key, *counters)
        return ((high >> _FIVE) * 2.0**26 + (low >> _SIX)) * 2.0**-53
    high, low = threefry.traced(key, *counters, xp)
    six, five = xp.asarray(6, dtype=xp.uint32), xp.asarray(5, dtype=xp.uint32)
    high, low = (high >> five).astype(xp.float64), (low >> six).astype(xp.float64)
    if high.dtype != np.float64:
        raise ValueError(f"float64 came out as {high.dtype}; allowed: 64-bit floats (jax_enable_x64)")
    return (high * 2.0**26 + low) * 2.0**-53


def normal(seed: int, purpose: str, entity: Any, index: Any, xp: Any = np) -> Any:
    """Draw from the standard normal law by inverting it, so that a larger uniform is a larger normal."""
    return normal_quantile(open_uniform(seed, purpose, entity, index, xp), xp)


def exponential(seed: int, purpose: str, entity: Any, index: Any, xp: Any = np) -> Any:
    """Draw from the exponential law of mean 1."""
    return -xp.log1p(-uniform(seed, purpose, entity, index, xp))


def lognormal(seed: int, purpose: str, entity: Any, index: Any, median: Any, sigma: Any, xp: Any = np) -> Any:
    """Draw from the log-normal law with this median; `sigma` is the standard deviation of the logarithm."""
    return median * xp.exp(sigma * normal(seed, purpose, entity, index, xp))


def integers(seed: int, purpose: str, entity: Any, index: Any, high: Any, xp: Any = np) -> Any:
    """Draw integers from 0 to high - 1.

    Args:
        high: 1 to 2**32; scalar or broadcast array. Bias is below 2**-21.

    Returns:
        int64 array.
    """
    if xp is np and not np.all((np.asarray(high) >= 1) & (np.asarray(high) <= 2**32)):
        raise ValueError(f"high is {high}; allowed: 1 to 2**32")
    return xp.floor(uniform(seed, purpose, entity, index, xp) * high).astype(xp.int64)


def open_uniform(seed: int, purpose: str, entity: Any, index: Any, xp: Any = np) -> Any:
    """Draw from (0, 1): the middle of one of 2**52 equal cells, never 0 or 1, symmetric about one half."""
    return (xp.floor(uniform(seed, purpose, entity, index, xp) * 2.0**52) + 0.5) * 2.0**-52


def normal_quantile(probability: Any, xp: Any) -> Any:
    """Invert the standard normal distribution function for 0 < probability < 1 (AS 241)."""
    offset = probability - 0.5
    centre_r = 0.180625 - offset * offset
    centre = offset * _ratio(_CENTRE_NUM, _CENTRE_DEN, centre_r)
    if xp is not np:
        return xp.where(xp.abs(offset) <= 0.425, centre, _tail(probability, offset, xp))
    out = (
        np.abs(offset) > 0.425
    )  # of one number there is one branch to take, and of many draws one in seven is out here
    if np.ndim(offset) == 0:
        return _tail(probability, offset, np) if out else centre
    centre[out] = _tail(probability[out], offset[out], np)
    return centre


def _tail(probability: Any, offset: Any, xp: Any) -> Any:
    r = xp.sqrt(-xp.log(xp.minimum(probability, 1.0 - probability)))
    near = _ratio(_NEAR_NUM, _NEAR_DEN, r - 1.6)
    far = _ratio(_FAR_NUM, _FAR_DEN, r - 5.0)
    return xp.sign(offset) * xp.where(r <= 5.0, near, far)


def _counter(name: str, values: Any, xp: Any) -> Any:
    """Return 32-bit counters; values are checked under NumPy only: traced arrays have none to look at."""
    if xp is np:
        array = np.asarray(values)
        whole = array.dtype.kind in "iu"
        _require_word(name, values, whole and (not array.size or (array.min() >= 0 and array.max() <= _WORD)))
    return xp.asarray(values).astype(xp.uint32)


def _require_word(name: str, value: object, holds: bool) -> None:
    if not holds:
        raise ValueError(f"{name} is {value!r}; allowed: integers from 0 to 2**32 - 1")


def _ratio(numerator: tuple[float, ...], denominator: tuple[float, ...], x: Any) -> Any:
    """Evaluate a ratio of polynomials given from the constant term up."""
    top: Any = numerator[-1]
    for coefficient in reversed(numerator[:-1]):
        top = top * x + coefficient
    bottom: Any = denominator[-1]
    for coefficient in reversed(denominator[:-1]):
        bottom = bottom * x + coefficient
    return top / bottom
