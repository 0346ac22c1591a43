"""Graceful degradation: never a refusal while something fits, and each class gives up what it holds on to least."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.degradation import CLASSES, KEEPS, Mix, Share, class_of, degrade, up, worth
from policies.promises import AVAILABILITY, availability
from policies.sharding.replicas import copies
from scenarios.schema import PRIORITIES

MODELS = 3
shares = st.builds(Share, st.integers(1, 8), st.integers(0, 4))
mixes = st.lists(st.tuples(*[shares] * MODELS), max_size=6)
services, chances = st.lists(st.sampled_from(sorted(KEEPS)), max_size=3, unique=True), st.floats(0.0, 0.9)


def test_every_class_that_promises_has_an_order_and_every_priority_a_class() -> None:
    """The classes are those that `policies.promises` knows; a client's five priorities fall into them, in order."""
    assert set(KEEPS) == set(AVAILABILITY) == set(CLASSES)
    assert len(CLASSES) == len(PRIORITIES)
    promises = [AVAILABILITY[class_of(priority)] for priority in range(99)]
    assert promises == sorted(promises, reverse=True)


@given(services, chances, mixes)
def test_it_is_the_best_by_the_classes_order(asked: list[str], away: float, found: list[Mix]) -> None:
    """One after another, the class that promises most first, strikes out the mixes that are not the best for it."""
    offer = degrade(asked, away, found)
    left = [number for number, mix in enumerate(found) if any(share.copies for share in mix)]
    if not left:
        assert offer is None
        return
    assert offer is not None
    for service in [*sorted(asked, key=lambda one: -AVAILABILITY[one]), "best_effort"]:

        def short(number: int, promise: float = AVAILABILITY[service]) -> float:
            return max(0.0, promise - up(found[number], away))

        def model(number: int) -> tuple[int, int]:
            rank = next(rank for rank, share in enumerate(found[number]) if share.copies)
            return rank, -found[number][rank].copies

        measure = short if KEEPS[service] == "promise" else model
        best = min(measure(number) for number in left)
        left = [number for number in left if measure(number) == best]
    assert offer.number == left[0]
    assert offer.availability == up(found[offer.number], away)
    assert set(offer.kept) == {one for one in asked if offer.availability >= AVAILABILITY[one]}


@given(services, chances, st.tuples(*[shares] * MODELS), st.tuples(*[st.integers(0, 2)] * MODELS))
def test_more_workers_never_make_it_worse(asked: list[str], away: float, mix: Mix, more: tuple[int, ...]) -> None:
    """A mix with more copies of any model is worth no less to anybody."""
    richer = tuple(share._replace(copies=share.copies + n) for share, n in zip(mix, more, strict=True))
    assert worth(asked, away, richer) <= worth(asked, away, mix)


@given(st.integers(1, 8), chances)
def test_of_one_model_it_is_the_law_of_copies(stages: int, away: float) -> None:
    """A mix of one model is up as `availability` has it, and `copies` many of it keep a class's promise if any do."""
    for service, promise in AVAILABILITY.items():
        wanted = copies(service, stages, away)
        mix = (Share(stages, wanted), Share(1, 0))
        assert up(mix, away) == pytest.approx(availability(wanted, stages, away), abs=1e-12)
        offer = degrade([service], away, [mix])
        assert offer is not None
        assert (offer.kept == (service,)) == (availability(wanted, stages, away) >= promise)


def test_as_workers_go_classes_part_ways() -> None:
    """One worker in twenty is away; two hold the large model, one the small. Of two workers one class has its way."""

    def served(service: str, workers: int) -> tuple[int, int] | None:
        found = [(Share(2, large), Share(1, workers - 2 * large)) for large in range(workers // 2, -1, -1)]
        offer = degrade([service], 0.05, found)
        return offer and (found[offer.number][0].copies, found[offer.number][1].copies)

    left = range(6, -1, -1)
    assert [served("best_effort", n) for n in left] == [(3, 0), (2, 1), (2, 0), (1, 1), (1, 0), (0, 1), None]
    assert [served("standard", n) for n in left] == [(3, 0), (2, 1), (2, 0), (1, 1), (1, 0), (0, 1), None]
    assert [served("critical", n) for n in left] == [(3, 0), (2, 1), (1, 2), (0, 3), (0, 2), (0, 1), None]


@pytest.mark.parametrize(
    ("service", "away", "said"),
    [
        ("gold", 0.1, "service is 'gold'; allowed: best_effort, standard, critical"),
        ("standard", 1.0, "away is 1.0; allowed: from 0, below 1"),
        ("standard", -0.1, "away is -0.1; allowed: from 0, below 1"),
    ],
)
def test_wrong_input_is_one_line(service: str, away: float, said: str) -> None:
    """The field, its value and what is allowed."""
    with pytest.raises(ValueError, match=said):
        degrade([service], away, [(Share(1, 1),)])
