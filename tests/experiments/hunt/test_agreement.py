"""Arenas of agreement: liars are drawn, replayed and shrunk; each arena sees its canary, and raises no other alarm."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest

from experiments.hunt.arena import MessageArena
from experiments.hunt.arenas import arena
from experiments.hunt.line import read_line, write_line
from experiments.hunt.shrink import Shrinker, _fewer_lies
from experiments.hunt.swarm import LIARS_SHARE, draw
from scenarios import faults as f
from scenarios.adversaries import behaviours as b
from scenarios.schema import ScenarioError
from scenarios.trial import Trial

BYZANTINE = ("hotstuff", "hotstuff3", "pbft")
AGREEMENT = (*BYZANTINE, "registry", "council", "council_raft", "council_pbft")


def trial(name: str, **fields: Any) -> Trial:
    """Return an arena's trial with other fields."""
    return msgspec.structs.replace(arena(name).shape, **fields)


@pytest.mark.parametrize("name", BYZANTINE)
def test_a_share_of_the_trials_has_one_liar_and_every_lie_and_every_member_is_drawn(name: str) -> None:
    """At most f lie; a schedule of faults is the same whoever lies; what the shape names is not drawn over."""
    place = arena(name)
    drawn = [draw(place, place.shape, seed) for seed in range(600)]
    with_liars = [one for one in drawn if one.liars]
    whats = Counter(lies[0].starting(0.0).__class__ for one in with_liars for lies in one.liars.values())
    named = {"n3": (b.Silent(path="consensus"),)}

    assert 0.5 * LIARS_SHARE < len(with_liars) / len(drawn) < 1.5 * LIARS_SHARE
    assert {len(one.liars) for one in with_liars} == {1}
    assert {liar for one in with_liars for liar in one.liars} == set(place.shape.names)
    assert set(whats) == {type(lies[0]) for lies in place.lies.values()}
    assert {lies[0].from_s == 0.0 for one in with_liars for lies in one.liars.values()} == {True, False}
    again = draw(place, trial(name, liars=named), 7)
    assert (again.liars, again.faults) == (named, draw(place, place.shape, 7).faults)


@pytest.mark.parametrize("name", AGREEMENT)
def test_a_few_seeds_raise_no_alarm(name: str) -> None:
    """The long campaigns run at night; these are the seeds that once found something, and the first few."""
    found = {
        "hotstuff": (107, 367), "pbft": (39, 444), "council": (40,), "council_pbft": (20, 35), "council_raft": (81,),
    }  # fmt: skip
    place = arena(name)
    for seed in (*range(1, 4), *found.get(name, ())):
        outcome = place.run(draw(place, place.shape, seed))
        assert (seed, outcome.why) == (seed, "")


@pytest.mark.parametrize("name", AGREEMENT)
def test_the_canary_is_soon_found_by_its_check(name: str) -> None:
    """Within 30 seeds of the arena's general swarm."""
    place = arena(name)
    assert isinstance(place, MessageArena)
    sick = trial(name, policy=place.canary)
    first = next(outcome for seed in range(1, 31) if (outcome := place.run(draw(place, sick, seed))).broken)

    assert set(place.expects) == set(place.defects)
    assert set(place.expects.values()) <= {check.name for check in place.promises(place.shape)}
    assert first.check in (place.expects[place.canary], "lock_is_kept")


def test_a_trial_with_a_liar_stands_whole_in_its_line() -> None:
    """Who lies, how and since when comes back, and runs to the same digest."""
    place = arena("pbft")
    drawn = next(one for seed in range(50) if (one := draw(place, trial("pbft", storm_s=1.0, calm_s=1.0), seed)).liars)
    again = read_line(write_line(drawn))

    assert again == drawn
    assert place.run(again).digest == place.run(drawn).digest


def test_shrinking_leaves_out_a_liar_that_the_failure_does_not_need() -> None:
    """A member that forgets its votes needs no liar to be seen; faults, requests and time shrink as ever."""
    place = arena("hotstuff")
    liars = {"n3": (b.Delay(path="consensus", bound_s=0.05, from_s=0.5), b.Reorder(path="consensus"))}
    crashes = tuple(f.Crash(at_s=0.6 + 0.3 * k, node="leader", down_s=0.05) for k in range(4))
    sick = trial("hotstuff", policy="forgets_its_votes", seed=2, storm_s=2.0, calm_s=1.0, faults=crashes, liars=liars)
    assert place.run(sick).check == "no_double_vote"
    small = Shrinker(place, sick, "no_double_vote", runs_max=25).shrink()

    assert small.trial.liars == {}
    assert len(small.trial.faults) < 4
    assert small.outcome.check == "no_double_vote"


def test_what_a_liar_does_is_made_less_step_by_step() -> None:
    """An honest node, one of two lies, and the same from the start on are tried, in this order."""
    silent, reorder = b.Silent(path="consensus", from_s=0.2), b.Reorder(path="consensus")
    tried = [one.liars for one in _fewer_lies(trial("pbft", liars={"n1": (silent, reorder)}))]

    assert tried == [
        {}, {"n1": (reorder,)}, {"n1": (silent,)}, {"n1": (b.Silent(path="consensus"), reorder)},
    ]  # fmt: skip


def test_more_liars_than_the_budget_are_refused() -> None:
    """One line that names the field and what is allowed."""
    lie = (b.Silent(path="consensus"),)
    with pytest.raises(ScenarioError, match=r"^liars: 2 of them; arena pbft allows 1$"):
        arena("pbft").check(trial("pbft", liars={"n0": lie, "n1": lie}))
