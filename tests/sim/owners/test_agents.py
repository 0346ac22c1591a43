"""Owners who respond: the crowd when they do not, and heat, rewards and talk when they do."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from sim.owners import crowd
from sim.owners.agents import NO_RESPONSE, Experience, OwnerAgent, Population, Response

N = 600
NOTHING = np.full(N, np.nan)
NONE = Experience(NOTHING, NOTHING, NOTHING, NOTHING)


def people(response: Response | None = None, *, n: int = N, seed: int = 1, **changes: object) -> Population:
    """Return owners of phones."""
    return Population("charger_limited", seed, np.arange(n), np.zeros(n, dtype=int), response=response, **changes)  # type: ignore[arg-type]


def after(population: Population, windows: int, experience: Experience = NONE) -> Population:
    """Let windows of a quarter hour pass, two hours a day of them with an experience."""
    for k in range(windows):
        population.window(15 * k, 15, 60.0, experience if k % 12 == 6 else None)
    return population


def test_owners_who_notice_nothing_are_the_crowd() -> None:
    """With the response off, flags are the crowd's bit for bit and nobody changes their mind, whatever happens."""
    population = people(NO_RESPONSE)
    state = crowd.start("charger_limited", 1, population.entity, population.kind_code, 0.0, 0.0, 0)
    lent = population.opted_in.copy()
    hot = Experience(np.full(N, 60.0), np.zeros(N), np.ones(N), np.ones(N))
    for k in range(96):
        flags, state = crowd.window(
            "charger_limited", 1, state, population.entity, population.kind_code, 15 * k, 15, 60
        )
        assert np.array_equal(population.window(15 * k, 15, 60.0, hot), flags)
    assert np.array_equal(population.opted_in, lent)
    assert lent.mean() == pytest.approx(0.5, abs=0.06)


def test_the_hotter_the_fewer_lend() -> None:
    """Opt-in falls with the temperature of the skin, and does not below what is warm."""
    share = []
    for skin_c in (30.0, 37.0, 40.0, 44.0, 50.0):
        hot = NONE._replace(skin_c=np.full(N, skin_c))
        share.append(after(people(), 3 * 96, hot).opted_in.mean())

    assert share[0] == share[1]
    assert all(cooler > hotter for cooler, hotter in pairwise(share[1:]))


def test_rewards_bring_owners_in_and_empty_phones_drive_them_out() -> None:
    """Each pulls its own way; a phone found at 60 % annoys nobody."""
    quiet = after(people(), 3 * 96).opted_in.mean()

    assert after(people(), 3 * 96, NONE._replace(reward=np.full(N, 0.1))).opted_in.mean() > quiet + 0.05
    assert after(people(), 3 * 96, NONE._replace(soc_at_unplug=np.full(N, 0.02))).opted_in.mean() < quiet - 0.05
    assert after(people(), 3 * 96, NONE._replace(soc_at_unplug=np.full(N, 0.6))).opted_in.mean() == quiet


def test_word_of_mouth_spreads() -> None:
    """Friends of burnt owners leave without being burnt themselves; strangers hardly; without talk nobody does."""
    n = 3000
    burnt = np.arange(n) % 40 == 0
    hot = Experience(np.where(burnt, 50.0, 25.0), *(np.full(n, np.nan),) * 3)
    leaves = {}
    for name, response in (("talk", Response()), ("silence", replace(Response(), friends=0.0, gossip=0.0))):
        population = people(response, n=n)
        before = population.opted_in.copy()
        after(population, 3 * 96, hot)
        friends = np.zeros(n, dtype=bool)
        friends[[row for who in np.flatnonzero(burnt) for row in population.graph[int(who)]]] = True
        friends &= ~burnt
        strangers = ~burnt & ~friends
        gone = before & ~population.opted_in
        leaves[name] = [gone[group].sum() / before[group].sum() for group in (friends, strangers)]

    assert leaves["talk"][0] > 2.0 * leaves["talk"][1] > 0.0
    assert leaves["silence"] == [0.0, 0.0]


def test_some_take_a_hot_phone_off_its_charger() -> None:
    """In the window after, the plug is out for about the stated share of owners, and nothing else changes."""
    population, cool = people(replace(Response(), takes_off=0.3)), people()
    for k in range(2):
        heat = NONE._replace(skin_c=np.full(N, 44.0)) if k else None
        flags = population.window(15 * k, 15, 60.0, heat)
        usual = cool.window(15 * k, 15, 60.0, NONE if k else None)
    plugged, before = (flags & crowd.PLUGGED) > 0, (usual & crowd.PLUGGED) > 0

    assert 0.1 < 1.0 - plugged.sum() / before.sum() < 0.5
    assert np.array_equal(flags | crowd.PLUGGED, usual | crowd.PLUGGED)


def test_agents_are_views_of_the_arrays() -> None:
    """Mesa's agent sets select and aggregate what the arrays hold; friends are mutual."""
    population = after(people(), 20, NONE._replace(skin_c=np.linspace(30.0, 50.0, N)))
    chosen = population.agents.select(lambda agent: agent.opted_in)

    assert len(population.agents) == N
    assert sorted(agent.row for agent in chosen) == np.flatnonzero(population.opted_in).tolist()
    assert population.agents.agg("annoyance", sum) == pytest.approx(population.annoyance.sum())
    one = population.agents[5]
    assert isinstance(one, OwnerAgent)
    assert all(one.row in population.agents[friend].friends for friend in one.friends)


@pytest.mark.slow
def test_the_same_seed_is_the_same_story_whatever_the_hash_seed() -> None:
    """Two processes with other hash seeds print the same digest."""
    code = (
        "import numpy as np, hashlib, sys\n"
        "from sim.owners.agents import Population, Experience, Response\n"
        "n = 200\n"
        "p = Population('wifi_limited', int(sys.argv[1]), np.arange(n), np.arange(n) % 5,\n"
        "    response=Response(thinks_days=0.01, friends=5.0))\n"
        "e = Experience(*np.full((4, n), np.nan))\n"
        "rows = [p.window(15 * k, 15, 60.0, e if k else None) for k in range(8)]\n"
        "print(hashlib.sha256(np.concatenate(rows).tobytes() + p.opted_in.tobytes()).hexdigest())\n"
    )
    root = Path(__file__).parents[3]

    def digest(seed: int, hash_seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(root)}
        done = subprocess.run(
            [sys.executable, "-c", code, str(seed)],
            cwd=root,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    assert digest(1, "0") == digest(1, "1")


def test_bad_experience_is_named() -> None:
    """A wrong shape, an infinity, or a response that is none is refused."""
    population = people()
    with pytest.raises(ValueError, match=r"soc_at_unplug: shape \(3,\)"):
        population.window(0, 15, 60.0, NONE._replace(soc_at_unplug=np.zeros(3)))
    with pytest.raises(ValueError, match="skin_c"):
        population.window(0, 15, 60.0, NONE._replace(skin_c=np.full(N, np.inf)))
    with pytest.raises(ValueError, match="gossip is -1"):
        Response(gossip=-1)
    with pytest.raises(ValueError, match="friends is 0"):
        people(friends=0)
