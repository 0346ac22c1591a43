"""Array types shared by the laws. No physics here.

Every law accepts scalars or arrays and works elementwise in float64; `spread` is the one place where that
happens.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
ArrayLike = npt.ArrayLike


def spread(*values: ArrayLike) -> tuple[FloatArray, ...]:
    """Return the values as float64 arrays of one common shape (possibly read-only views)."""
    return tuple(np.broadcast_arrays(*(np.asarray(value, dtype=np.float64) for value in values)))


def require_not_negative(name: str, values: ArrayLike) -> None:
    """Raise a ValueError that names the field unless every value is a number and at least 0."""
    array = np.asarray(values, dtype=np.float64)
    good = array >= 0.0
    if not np.all(good):
        worst = array[~good].flat[0]
        raise ValueError(f"{name} is {worst}; allowed: numbers from 0 up")
