"""Storms over a PBFT whose members change: crashes, cuts, lost messages and a liar, and changes all the while."""

from __future__ import annotations

from random import Random

import pytest

from scenarios.adversaries import behaviours as b
from tests.policies.consensus.test_pbft_cluster import ROUGH
from tests.policies.consensus.test_pbft_epochs import Village

NAMES = tuple(f"n{k}" for k in range(7))
LIES: tuple[b.Behaves, ...] = (
    b.Silent(share=0.5),
    b.Twins(),
    b.DoubleVote(tags=("prepare", "commit"), field=(2,), resign=True),
    b.Corrupt(tags=("chunk",), field=(2,), change="set", to=b"lie"),
    b.Withhold(tags=("pre_prepare", "new_view"), lag=2),
)
WHAT = ("put", "put", "put", "change", "change", "crash", "restart", "cut", "heal", "halve")


def restart(village: Village) -> None:
    for name in sorted(set(NAMES) - village.up):
        village.restart(name)


def storm(village: Village, random: Random, liar: str) -> None:
    """Twenty-five things happen; two nodes at most are down at a time."""
    for _ in range(25):
        what, name = random.choice(WHAT), random.choice(NAMES)
        if what == "put":
            village.put(name, 3)
        elif what == "change":
            members = tuple(random.sample(NAMES, random.choice((4, 4, 5, 6, 7))))
            rest = tuple(other for other in NAMES if other not in members)
            village.become(name, members, rest[: random.choice((0, 0, 1))])
        elif what == "crash" and name in village.up - {liar} and len(village.up) > 5:
            village.crash(name, torn=0.5)
        elif what == "restart":
            restart(village)
        elif what in ("cut", "halve"):
            village.cluster.partition([name] if what == "cut" else random.sample(NAMES, 3))
        elif what == "heal":
            village.cluster.heal()
        village.run(random.choice((0.05, 0.15, 0.6, 1.0)))
        village.require_agreement()


@pytest.mark.parametrize("seed", [*range(6), *(pytest.param(k, marks=pytest.mark.nightly) for k in range(6, 200))])
def test_members_that_change_in_a_storm_agree_and_go_on_after_it(seed: int) -> None:
    """After every step honest nodes agree; once it is calm the newest members commit what each of them asks."""
    random = Random(seed)
    liar = random.choice(NAMES) if seed % 3 == 0 else ""
    lies = {"adversaries": {liar: [random.choice(LIES)]}} if liar else {}
    village = Village(7, random.choice((0, 5, 8)), seed=seed, network=ROUGH, **lies)
    storm(village, random, liar)
    village.cluster.heal()
    restart(village)
    village.run(15)

    newest = max((village.pbft(name).committee for name in village.honest), key=lambda c: c.number)
    members = [name for name in newest.members if name in village.honest]
    wanted = {command for name in members for command in village.put(name)}
    for _ in range(60):
        village.run(0.5)
        if all(wanted <= set(village.commands(name)) for name in members):
            break
    village.require_agreement()
    assert {name: wanted - set(village.commands(name)) for name in members} == {name: set() for name in members}
