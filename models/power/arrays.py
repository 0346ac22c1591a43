"""Which array library and which floats a law runs on: those of its inputs. No physics here."""

from __future__ import annotations

from typing import Any

from models.arrays import namespace


def as_arrays(*values: Any) -> tuple[Any, ...]:
    """Return the array library of ``values``, then each of them as an array of one floating-point type.

    Anything that is not NumPy's decides, so that a traced JAX array may meet constants; scalars and lists take the
    type of the arrays, and are NumPy's float64 among themselves.
    """
    xp = namespace(*values)
    given = [value for value in values if hasattr(value, "dtype") and namespace(value) is xp]
    floats = [value.dtype for value in given if value.dtype.kind == "f"]
    dtype = xp.result_type(*floats) if floats else float
    return (xp, *(xp.asarray(value, dtype=dtype) for value in values))
