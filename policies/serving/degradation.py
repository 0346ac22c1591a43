"""Graceful degradation: what a class of service gives up when the workers that are left do not hold everything.

A class promises an availability (`policies.promises`), which takes so many copies of each stage, placed by
`policies.sharding.replicas`. When workers go there may be too few for all copies, or for the model at all. Then a
request is served by fewer copies or by a smaller model rather than refused; which of the two goes first is the class's:
`KEEPS`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from policies.promises import availability

KEEPS: Mapping[str, Literal["model", "promise"]] = {
    "best_effort": "model",
    "standard": "model",
    "critical": "promise",
}
"""What each class holds on to longest; our choices. Who asks for a critical answer wants one, from whichever model;
others would rather try again than have a worse answer."""


class Candidate(NamedTuple):
    """A model that could serve.

    Attributes:
        model: its name.
        stages: of its pipeline on the workers that are left.
        copies: of each stage that they hold at most; 0 where the model does not fit.
    """

    model: str
    stages: int
    copies: int


class Offer(NamedTuple):
    """What serves a class now: a model, copies of its stages, and whether that keeps the class's promise."""

    model: str
    copies: int
    availability: float
    kept: bool


def degrade(service: str, promise: float, away: float, candidates: Sequence[Candidate]) -> Offer | None:
    """Return what a class gets of what is left, or None if no model fits.

    A class that keeps the model takes the best one that fits, with the fewest copies that keep the promise, or all
    there are. One that keeps the promise takes the best model that can keep it, or else what is up most of the time.

    Args:
        service: the class.
        promise: availability that it promises, 0 up to 1.
        away: chance that a worker is away when it is needed, 0 up to 1.
        candidates: models, the best first.

    Raises:
        ValueError: no such class, or a chance that is none.
    """
    if service not in KEEPS:
        raise ValueError(f"service is {service!r}; allowed: {', '.join(KEEPS)}")
    for name, value in {"promise": promise, "away": away}.items():
        if not 0.0 <= value < 1.0:
            raise ValueError(f"{name} is {value}; allowed: from 0, below 1")
    offers = [_offer(each, promise, away) for each in candidates if each.copies > 0]
    if not offers:
        return None
    if KEEPS[service] == "model":
        return offers[0]
    kept = [offer for offer in offers if offer.kept]
    return kept[0] if kept else max(offers, key=lambda offer: offer.availability)


def _offer(candidate: Candidate, promise: float, away: float) -> Offer:
    """Return a model with the fewest copies that keep the promise, or with all there are."""
    for copies in range(1, candidate.copies + 1):
        up = availability(copies, candidate.stages, away)
        if up >= promise:
            break
    return Offer(candidate.model, copies, up, up >= promise)
