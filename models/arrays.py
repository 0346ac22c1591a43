"""Array types shared by the laws. No physics here.

Every law accepts scalars or arrays and works elementwise in float64; `spread` is the one place where that
happens.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
ArrayLike = npt.ArrayLike


def namespace(*values: Any) -> Any:
    """Return the array library of these values, by the array API's protocol: NumPy's unless one is of another.

    A table may so stay NumPy's beside traced arrays; numbers and lists have no say.
    """
    for value in values:
        if not isinstance(value, np.ndarray | np.generic) and hasattr(value, "__array_namespace__"):
            return value.__array_namespace__()
    return np


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


def on_rows(
    rows: Any, law: Callable[..., tuple[Any, ...]], otherwise: tuple[Any, ...], *columns: Any, xp: Any = np
) -> tuple[Any, ...]:
    """Apply an elementwise law where ``rows`` is true, and keep ``otherwise`` elsewhere.

    NumPy computes only the rows that count; other array libraries, which may be tracing, compute all and choose. The
    values are the same.

    Args:
        rows: bool, one element a row.
        law: takes the columns, returns a tuple of columns.
        otherwise: as many columns as the law returns.
        columns: one element a row each, or one number for all.
        xp: numpy or another array namespace.
    """
    if xp is not np:
        return tuple(xp.where(rows, new, old) for new, old in zip(law(*columns), otherwise, strict=True))
    places = np.flatnonzero(rows)
    if places.size == 0:
        return otherwise
    kept = tuple(np.array(old) for old in otherwise)
    picked = (column[places] if getattr(column, "ndim", 0) else column for column in columns)
    for old, new in zip(kept, law(*picked), strict=True):
        old[places] = new
    return kept
