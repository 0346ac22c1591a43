"""Graceful degradation: what classes of service give up when the workers that are left do not hold everything.

A class promises an availability (`policies.promises`), which takes so many copies of a model's pipeline. When workers
go there may be too few for all copies, or for the model at all. Then requests are served by fewer copies, or by a
smaller model, rather than refused; which of the two goes first is the class's: `KEEPS`.

Models may stand side by side, and whatever is up answers: what workers hold is a *mix*, and all classes share one. So
the mix is chosen for all of them, the class that promises most first.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from policies.promises import AVAILABILITY, availability

KEEPS: Mapping[str, Literal["model", "promise"]] = {
    "best_effort": "model",
    "standard": "model",
    "critical": "promise",
}
"""What each class holds on to longest; our choices. Who asks for a critical answer wants one, from whichever model;
others would rather try again than have a worse answer."""

CLASSES = ("critical", "standard", "standard", "best_effort", "best_effort")
"""Class by a request's priority, 0 the most urgent (`scenarios.schema.PRIORITIES`); our choices."""


def class_of(priority: int) -> str:
    """Return the class of service of a request's priority; what is less urgent than all named ones is best effort."""
    return CLASSES[min(priority, len(CLASSES) - 1)]


class Share(NamedTuple):
    """A model's part in a mix.

    Attributes:
        stages: of its longest pipeline.
        copies: pipelines that hold it; 0 where it has no part.
    """

    stages: int
    copies: int


Mix = tuple[Share, ...]
"""What workers hold side by side: a share for each model, the best model first."""


class Offer(NamedTuple):
    """What is chosen: a mix by its number, how often anything in it answers, and which classes' promises that keeps."""

    number: int
    availability: float
    kept: tuple[str, ...]


def up(mix: Mix, away: float) -> float:
    """Return the chance that some model of a mix answers.

    ASSUMPTIONS: workers are away independently of one another, and so are pipelines, as no worker is in two; a house
    that loses its power, or a link that many share, is not in it, so that the promise is kept less often than this
    says. Every pipeline of a model has as many stages as its longest: there it is kept more often. Standbys and copies
    of stages count for nothing. That a model is busy is none of this.

    Args:
        away: chance that a worker is away when it is needed, 0 up to 1; the same for all.
    """
    return 1.0 - math.prod(1.0 - availability(share.copies, share.stages, away) for share in mix if share.copies)


def worth(services: Iterable[str], away: float, mix: Mix) -> tuple[float, ...]:
    """Return what sorts mixes: the lowest is the best.

    Whoever promises more comes first. A class that keeps its promise asks how far the mix falls short of it; one that
    keeps the model asks for the best model that there is, and then for as many copies of that as possible. That also
    decides where all promises are kept.

    Raises:
        ValueError: no such class, or a chance that is none.
    """
    services = by_promise(services)
    if not 0.0 <= away < 1.0:
        raise ValueError(f"away is {away}; allowed: from 0, below 1")
    best = next((rank for rank, share in enumerate(mix) if share.copies), len(mix))
    model = (float(best), -float(mix[best].copies) if best < len(mix) else 0.0)
    found = [float(best == len(mix))]  # nothing at all is the worst
    for service in services:
        short = max(0.0, AVAILABILITY[service] - up(mix, away))
        found += [short] if KEEPS[service] == "promise" else model
    return (*found, *model)


def degrade(services: Iterable[str], away: float, mixes: Sequence[Mix]) -> Offer | None:
    """Return the best mix for these classes, the first of equal ones; None if none of them holds any model.

    Args:
        services: the classes that are served.
        away: as in `up`.
        mixes: what the workers could hold.

    Raises:
        ValueError: no such class, or a chance that is none.
    """
    services = by_promise(services)
    ranks = [worth(services, away, mix) for mix in mixes]
    number = min(range(len(mixes)), key=ranks.__getitem__, default=-1)
    if number < 0 or not any(share.copies for share in mixes[number]):
        return None
    chance = up(mixes[number], away)
    return Offer(number, chance, tuple(service for service in services if chance >= AVAILABILITY[service]))


def by_promise(services: Iterable[str]) -> list[str]:
    """Return classes, whoever promises most first.

    Raises:
        ValueError: no such class.
    """
    services = list(services)
    for service in services:
        if service not in KEEPS:
            raise ValueError(f"service is {service!r}; allowed: {', '.join(KEEPS)}")
    return sorted(services, key=lambda service: (-AVAILABILITY[service], service))
