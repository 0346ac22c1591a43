"""Run, look at, compare and promote: the command line and the notebook's functions.

>>> from experiments import load
>>> load("four_desks", seed=7).fleet.desktops
4
"""

from __future__ import annotations

from typing import Any

_HOMES = {
    "Run": "results", "load": "results", "open_run": "results", "simulate": "results",
    "compare": "comparison", "check_policy": "policy_check",
}  # fmt: skip
__all__ = ["Run", "check_policy", "compare", "load", "open_run", "simulate"]


def __getattr__(name: str) -> Any:
    """Import a name when it is first used: `twin --help` must stay light."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value
