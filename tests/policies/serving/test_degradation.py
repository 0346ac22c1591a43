"""Graceful degradation: never a refusal while something fits, and each class gives up what it holds on to least."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.promises import AVAILABILITY, availability
from policies.serving.degradation import KEEPS, Candidate, Offer, degrade
from policies.sharding.replicas import copies

candidates = st.lists(st.builds(Candidate, st.just("m"), st.integers(1, 8), st.integers(0, 4)), max_size=4).map(
    lambda found: [each._replace(model=f"m{rank}") for rank, each in enumerate(found)]
)
services, chances = st.sampled_from(sorted(KEEPS)), st.floats(0.0, 0.9)


def test_every_class_that_promises_has_an_order() -> None:
    """The classes are those that `policies.promises` knows."""
    assert set(KEEPS) == set(AVAILABILITY)


@given(services, chances, candidates)
def test_it_is_the_best_by_the_class_s_order(service: str, away: float, found: list[Candidate]) -> None:
    """Of all models with all numbers of copies: by model first, or by promise first; copies beyond it buy nothing."""
    promise = AVAILABILITY[service]
    every = [
        (rank, Offer(each.model, count, up, up >= promise))
        for rank, each in enumerate(found)
        for count in range(1, each.copies + 1)
        for up in (availability(count, each.stages, away),)
    ]

    def worth(of: tuple[int, Offer]) -> tuple[float, ...]:
        rank, offer = of
        up = promise if offer.kept else offer.availability
        return (-rank, up, -offer.copies) if KEEPS[service] == "model" else (up, -rank, -offer.copies)

    assert degrade(service, promise, away, found) == (max(every, key=worth)[1] if every else None)


@given(services, chances, candidates, st.data())
def test_more_workers_never_make_it_worse(
    service: str, away: float, found: list[Candidate], data: st.DataObject
) -> None:
    """With more copies of any model: the better model where that is kept, no less of the promise where that is."""
    promise = AVAILABILITY[service]
    richer = [each._replace(copies=each.copies + data.draw(st.integers(0, 2))) for each in found]
    before, after = degrade(service, promise, away, found), degrade(service, promise, away, richer)
    if before is not None:
        assert after is not None
        if KEEPS[service] == "model":
            assert after.model <= before.model
        else:
            assert min(after.availability, promise) >= min(before.availability, promise)


@given(services, st.integers(1, 8), chances)
def test_with_enough_workers_nothing_is_given_up(service: str, stages: int, away: float) -> None:
    """The best model with as many copies as `copies` asks for, wherever that many keep the promise."""
    wanted = copies(service, stages, away)
    offer = degrade(
        service, AVAILABILITY[service], away, [Candidate("large", stages, wanted), Candidate("small", 1, 9)]
    )
    assert offer is not None
    if availability(wanted, stages, away) >= AVAILABILITY[service]:
        assert (offer.model, offer.copies, offer.kept) == ("large", wanted, True)


def test_as_workers_go_classes_part_ways() -> None:
    """One worker in twenty is away. Two copies of the large model keep the standard promise, not the critical one."""
    left = {
        "all": [Candidate("large", 4, 4), Candidate("small", 1, 8)],
        "half": [Candidate("large", 4, 2), Candidate("small", 1, 4)],
        "few": [Candidate("large", 4, 1), Candidate("small", 1, 2)],
        "one": [Candidate("large", 4, 0), Candidate("small", 1, 1)],
        "none": [Candidate("large", 4, 0), Candidate("small", 1, 0)],
    }

    def served(service: str) -> dict[str, tuple[str, int, bool] | None]:
        offers = {name: degrade(service, AVAILABILITY[service], 0.05, found) for name, found in left.items()}
        return {name: o and (o.model, o.copies, o.kept) for name, o in offers.items()}

    assert served("best_effort") == {
        "all": ("large", 1, True), "half": ("large", 1, True), "few": ("large", 1, True), "one": ("small", 1, True),
        "none": None,
    }  # fmt: skip
    assert served("standard") == {
        "all": ("large", 2, True), "half": ("large", 2, True), "few": ("large", 1, False), "one": ("small", 1, False),
        "none": None,
    }  # fmt: skip
    assert served("critical") == {
        "all": ("large", 3, True), "half": ("small", 3, True), "few": ("small", 2, False), "one": ("small", 1, False),
        "none": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("service", "promise", "away", "said"),
    [
        ("gold", 0.9, 0.1, "service is 'gold'; allowed: best_effort, standard, critical"),
        ("standard", 1.0, 0.1, "promise is 1.0; allowed: from 0, below 1"),
        ("standard", 0.9, -0.1, "away is -0.1; allowed: from 0, below 1"),
    ],
)
def test_wrong_input_is_one_line(service: str, promise: float, away: float, said: str) -> None:
    """The field, its value and what is allowed."""
    with pytest.raises(ValueError, match=said):
        degrade(service, promise, away, [])
