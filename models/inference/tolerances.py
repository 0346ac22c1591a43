"""How far two honest executors may be apart when one recomputes what the other did; `twin calibrate verification` made
the table beside this file, which says from which runs.

A tolerance is an upper confidence bound on a quantile of honest checks' errors, so that at most `FALSE_ACCUSATIONS` of
the honest checks of a pair exceed either of its two numbers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

FILE = Path(__file__).with_name("tolerances.json")
FALSE_ACCUSATIONS = 1e-5
"""Allowed share of honest checks that fail, for each pair of executors; half of it for each of the two numbers."""


class Tolerance(NamedTuple):
    """Relative errors that are allowed: of a stage's outputs at any challenged position, and of its cache's block."""

    outputs: float
    cache: float


def pair_of(one: str, other: str) -> str:
    """Return the name of a pair of executors, each as ``torch fp16``, in either order."""
    return " | ".join(sorted((one, other)))


def read_tolerances(stored: Mapping[str, Any]) -> dict[str, Tolerance]:
    """Return tolerances by pair of what a calibration wrote.

    Raises:
        ValueError: no table of tolerances.
    """
    try:
        return {name: Tolerance(float(p["outputs"]), float(p["cache"])) for name, p in stored["pairs"].items()}
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"tolerances: no table of pairs ({error!r})") from None


def stored_tolerances() -> dict[str, Tolerance]:
    """Return the tolerances of the table beside this file."""
    return read_tolerances(json.loads(FILE.read_text(encoding="utf-8")))


def stored_found() -> dict[str, dict[str, float]]:
    """Return, by pair and by cheat (``four bits``, ``stale cache, a block``, ...), the share of checks that find it."""
    pairs: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))["pairs"]
    return {name: {cheat: float(share) for cheat, share in pair["found"].items()} for name, pair in pairs.items()}
