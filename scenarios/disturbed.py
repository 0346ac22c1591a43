"""What network faults do to a message, in either world: who is cut off from whom, what a disturbance adds."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol

from scenarios import faults as f


class Severing(Protocol):
    """A cut: nothing from ``sources`` reaches ``targets``; None is everybody who is not on the other side."""

    @property
    def sources(self) -> Collection[Any] | None: ...

    @property
    def targets(self) -> Collection[Any] | None: ...


class Touching(Protocol):
    """A disturbance of the links of ``nodes``; None is all."""

    @property
    def nodes(self) -> Collection[Any] | None: ...


def stops(cut: Severing, source: Any, target: Any) -> bool:
    """Return whether a message between these two is lost to a cut."""
    if cut.sources is None:
        return cut.targets is not None and target in cut.targets and source not in cut.targets
    if cut.targets is None:
        return source in cut.sources and target not in cut.sources
    return source in cut.sources and target in cut.targets


def touches(disturbance: Touching, source: Any, target: Any) -> bool:
    """Return whether a message between these two suffers: either end is enough."""
    return disturbance.nodes is None or source in disturbance.nodes or target in disturbance.nodes


def added(fault: Any) -> dict[str, float]:
    """Return what a loss, a delay, a duplication or a reordering adds, by field of a disturbance."""
    if isinstance(fault, f.Loss):
        return {"loss": fault.share}
    if isinstance(fault, f.Delay):
        return {"delay_s": fault.by_s}
    if isinstance(fault, f.Duplicate):
        return {"duplicate": fault.share}
    return {"reorder": fault.share, "reorder_s": fault.by_s}
