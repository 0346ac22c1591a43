"""What sharing accepts; each refusal is one line with the item, its value and what is allowed."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping, Sequence


def require_above_zero(item: str, value: float) -> None:
    """Raise ValueError unless a number is above 0 and finite."""
    if not 0.0 < value < math.inf:
        raise ValueError(f"{item} ({value}) must be above 0 and finite")


def require_at_least_zero(item: str, value: float) -> None:
    """Raise ValueError unless a number is at least 0 and finite."""
    if not 0.0 <= value < math.inf:
        raise ValueError(f"{item} ({value}) must be at least 0 and finite")


def require_cap(item: str, value: float) -> None:
    """Raise ValueError unless a rate cap is above 0; inf is none."""
    if not value > 0.0:
        raise ValueError(f"{item} ({value}) must be above 0")


def require_path(item: str, path: Sequence[str], known: Container[str]) -> None:
    """Raise ValueError unless a path names known resources, at least one, each once."""
    if not path:
        raise ValueError(f"{item} ({list(path)}) must name at least one resource")
    for k, name in enumerate(path):
        if name not in known:
            raise ValueError(f"{item} names {name}, which is unknown; allowed: resources that were added")
        if name in path[:k]:
            raise ValueError(f"{item} names {name} twice; allowed: each resource once")


def require_takes(path: Sequence[str], takes: Mapping[str, float]) -> None:
    """Raise ValueError unless what a flow takes is above 0, and of resources on its path."""
    for name, amount in takes.items():
        if name not in path:
            raise ValueError(f"flow: takes names {name}; allowed: resources on its path")
        require_above_zero(f"flow: takes of {name}", amount)
