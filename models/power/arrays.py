"""Which array library and which floats a law runs on: those of its inputs. No physics here."""

from __future__ import annotations

from typing import Any

import array_api_compat
import numpy as np


def as_arrays(*values: Any) -> tuple[Any, ...]:
    """Return the array library of ``values``, then each of them as an array of one floating-point type.

    Anything that is not NumPy's decides, so that a traced JAX array may meet constants; scalars and lists take the
    type of the arrays, and are NumPy's float64 among themselves.
    """
    given = [v for v in values if array_api_compat.is_array_api_obj(v)]
    libraries = [array_api_compat.array_namespace(v, use_compat=False) for v in given]
    xp = next((library for library in libraries if library is not np), np)
    floats = [v.dtype for v, library in zip(given, libraries, strict=True) if library is xp and v.dtype.kind == "f"]
    dtype = xp.result_type(*floats) if floats else float
    return (xp, *(xp.asarray(value, dtype=dtype) for value in values))
