"""Liars in real committees: TLS sockets, fsynced logs, Ed25519 signatures, one event loop.

One of four shows every behaviour of the catalogue that one member can show, as in the simulated committees; two of
seven plan together; and two of four, more than is borne, are named. Clients ask the honest members without a pause.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import pytest

from policies.config import ConsensusRules
from real_backends.cluster import LocalCluster, until
from real_backends.node_files import read_events
from scenarios.adversaries import behaviours as b
from scenarios.adversaries.attach import WRAPPERS
from scenarios.adversaries.choose import Role
from tests.policies.consensus.hotstuff.test_adversaries import LIES
from tests.policies.consensus.test_pbft_cluster import LIARS
from tests.real_backends import liar_table
from tests.real_backends.catalogue import CATALOGUE
from tests.real_backends.committees import Committee
from tests.real_backends.liars import ANSWERS, SNAPSHOT_EVERY, Seen, beside
from tests.real_backends.losing import lose
from tests.real_backends.registers import (
    BOUND_S,
    PROTOCOLS,
    clients_of,
    members,
    require_kept,
    require_linearizable,
    require_safe,
)
from tests.real_backends.replaying import across_epochs

NAMES = ("n0", "n1", "n2", "n3")
SEVEN = tuple(f"n{i}" for i in range(7))
TENURE = 8  # views: short, so that the liar leads again and again
TERMS = 5  # more than there are members, so that each has led
RULES: dict[str, ConsensusRules] = {
    "hotstuff": msgspec.structs.replace(PROTOCOLS["hotstuff"], tenure=TENURE, checkpoint_every=10),
    "pbft": msgspec.structs.replace(PROTOCOLS["pbft"], checkpoint_every=4),
}
WAYS: dict[str, dict[str, Sequence[Any]]] = {
    "hotstuff": LIES,
    "pbft": {lie: [behaviour] for lie, behaviour in LIARS.items()},
}
IN_CI = {("hotstuff", lie) for lie in ("silent", "double votes", "split proposals", "twins")}
OF_THE_AWAY = {
    "high certificate of old", "forged time-outs", "false blocks", "false states", "withholds its newest lock",
    "split votes", "duplicate signers", "half a quorum", "view of duplicates",
}  # fmt: skip
"""Lies that nobody hears unless a member is given up, comes back, and has to catch up."""
OF_BATCHES = {("pbft", "duplicate signers"), ("pbft", "half a quorum")}
"""Of these, what is told to who lacks single batches. There is no snapshot in their runs: who comes back may else be
given a state each time that it asks the liar, and the liar has nothing to lie about."""
RARELY = 1000  # commands between two snapshots; a run has some 200, and asks for none of its own before 1,024 batches
HONEST = {"stepped clock"}
"""What only looks like a lie: no member asks a wall clock, so that nothing comes of it."""
NAMED = {"double votes"}
"""Lies that HotStuff always proves: both votes reach one collector. Halves of a split may never compare theirs."""


def live(folder: Path, protocol: str, lie: str) -> Seen:
    """Let one of four lie: the first leader, or, where a change of view is lied about, PBFT's next one."""
    liar, away = ("n1", "n0") if (protocol, lie) == ("pbft", "view of duplicates") else ("n0", "n3")
    rules, every = RULES[protocol], SNAPSHOT_EVERY
    if (protocol, lie) in OF_BATCHES:
        rules, every = PROTOCOLS[protocol], RARELY
    return asyncio.run(beside(
        folder, rules, NAMES, {liar: WAYS[protocol][lie]}, away=away if lie in OF_THE_AWAY else "",
        terms=TERMS if protocol == "hotstuff" else 0, snapshot_every=every,
    ))  # fmt: skip


ALL = [
    pytest.param(protocol, lie, marks=() if (protocol, lie) in IN_CI else pytest.mark.nightly)
    for protocol, lies in WAYS.items()
    for lie in lies
]


@pytest.mark.parametrize(("protocol", "lie"), ALL)
def test_a_committee_goes_on_beside_a_real_liar(tmp_path: Path, record_property: Any, protocol: str, lie: str) -> None:
    """Whatever one of four does, clients are answered, their history is linearizable, and the lie did happen.

    In HotStuff the liar leads in its turn, and all others in theirs.
    """
    seen = live(tmp_path, protocol, lie)

    assert seen.accused <= {"n0"}
    assert seen.accused or protocol != "hotstuff" or lie not in NAMED
    assert (seen.deviations > 0) == (lie not in HONEST)
    record_property("seen", msgspec.json.encode(liar_table.plain(seen)).decode())


PLANS: dict[str, Sequence[Any]] = {
    "hotstuff": [
        b.Split(path="consensus", tags=("proposal",), field=(0, 5), resign=True),
        b.DoubleVote(path="consensus", tags=("vote",), field=(2,), resign=True), b.Collude(),
    ],
    "pbft": [
        b.Split(path="consensus", tags=("pre_prepare",), field=(1,), resign=True),
        b.DoubleVote(path="consensus", tags=("prepare", "commit"), field=(2,), resign=True), b.Collude(),
    ],
    "keys": [b.Sybil(path="consensus", keyed=True), b.WrongKey(path="consensus", mate=True), b.Collude(turn_s=0.3)],
}  # fmt: skip


@pytest.mark.nightly
@pytest.mark.parametrize(("protocol", "plan"), [(p, plan) for p in RULES for plan in (p, "keys")])
def test_two_of_seven_plan_together(tmp_path: Path, protocol: str, plan: str) -> None:
    """A coalition of f that shares keys, draws and what it hears breaks nothing and stops nothing."""
    two = {name: PLANS[plan] for name in SEVEN[:2]}
    seen = asyncio.run(beside(tmp_path, RULES[protocol], SEVEN, two, coalition="ring"))

    assert seen.deviations > 0
    assert seen.accused <= set(two)


@pytest.mark.nightly
def test_two_of_four_who_share_keys_are_named(tmp_path: Path) -> None:
    """More than f liars with keys may break agreement; what honest members announce as evidence names liars alone."""
    two = NAMES[:2]
    double = b.DoubleVote(path="consensus", tags=("vote",), field=(2,), resign=True)
    role = Role((double, b.Sybil(path="consensus", keyed=True)), "ring", two)
    rules = RULES["hotstuff"]

    async def run() -> LocalCluster:
        cluster = LocalCluster(lambda name: members(rules, NAMES), NAMES, tmp_path, roles=dict.fromkeys(two, role))

        def accused() -> set[str]:
            return {e["detail"][1] for n in NAMES[2:] for e in cluster.events(n) if e["name"] == "evidence"}

        async with cluster, clients_of(cluster, NAMES[2:], 3):
            await until(lambda: accused() == set(two), BOUND_S)
        return cluster

    cluster = asyncio.run(run())
    named = {e["detail"][1] for n in NAMES[2:] for e in cluster.events(n) if e["name"] == "evidence"}
    assert named == set(two)


FORGETFUL_KILLS = 4


@pytest.mark.nightly
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("what", ["lost", "torn"])
@pytest.mark.parametrize("protocol", RULES)
def test_a_committee_goes_on_beside_a_disk_that_loses_what_it_said_was_durable(
    tmp_path: Path, protocol: str, what: Literal["lost", "torn"]
) -> None:
    """A process is killed (SIGKILL) again and again, and each time the last writes that it was promised are gone.

    So it forgets what it signed, as a liar might; whoever the others are, they keep all that they answered, and it
    catches up.
    """

    async def run() -> Committee:
        async with Committee(PROTOCOLS[protocol], 4, tmp_path) as committee:
            for _ in range(FORGETFUL_KILLS):
                await committee.more(ANSWERS)
                await committee.processes.kill("desk-0")
                lost.append(lose(tmp_path / "desk-0" / "node.log", what))
                await committee.restart("desk-0")
        return committee

    lost: list[int] = []
    committee = asyncio.run(run())
    honest = committee.names[1:]
    require_linearizable(committee.clients.history)
    require_safe(tmp_path, honest, committee.restarts)
    journals = {name: (tmp_path / name / "node.journal").read_bytes() for name in committee.names}
    require_kept(journals, committee.rules, honest, committee.clients.history)
    assert all(lost)
    assert len(lost) == FORGETFUL_KILLS
    accused = {
        e["detail"][1] for n in honest for e in read_events(tmp_path / n / "events.jsonl") if e["name"] == "evidence"
    }
    assert accused <= {"desk-0"}


REPLAYS = 100


@pytest.mark.parametrize(
    "protocol", [pytest.param("hotstuff", marks=pytest.mark.slow), pytest.param("pbft", marks=pytest.mark.nightly)]
)
def test_a_committee_goes_on_beside_who_replays_what_was_signed_in_an_earlier_epoch(
    tmp_path: Path, protocol: str
) -> None:
    """The same four sit in another order, twice: what the first leader and the others signed before means nothing."""
    replay = b.Replay(path="consensus", every_s=0.05, age_s=0.5, burst=8, first=True, heard=True)
    changed = asyncio.run(across_epochs(tmp_path, RULES[protocol], replay, REPLAYS))

    assert changed.accused <= {"n0"}
    assert changed.replayed >= REPLAYS


def test_every_behaviour_that_one_member_can_show_is_here() -> None:
    """Who lies to workers, or in a leader's place, is met in villages, and a coalition is more than one of four."""
    work = {b.WrongResults, b.Shirk, b.Lazy, b.Overclaim, b.FreeRide, b.ForgeReceipts, b.Usurp, b.Meddle}
    for lies in WAYS.values():
        assert {type(one) for does in lies.values() for one in does} == set(WRAPPERS) - work - {b.Collude}


def test_the_catalogue_names_every_lie_and_the_page_is_as_measured() -> None:
    """Each way to lie stands in a row, each row is met by real nodes, and docs/byzantine.md shows what was measured."""
    for protocol, lies in WAYS.items():
        named = {lie for row in CATALOGUE for lie in getattr(row, protocol)}
        assert named == set(lies)
    assert all(row.hotstuff or row.pbft or row.elsewhere for row in CATALOGUE)
    assert all(row.pbft or row.elsewhere or row.why for row in CATALOGUE)
    assert liar_table.PAGE.read_text(encoding="utf-8") == liar_table.page(liar_table.measured())
