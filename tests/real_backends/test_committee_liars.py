"""One liar of four in real committees that bear one: TLS sockets, fsynced logs, Ed25519 signatures, one event loop.

The ways of lying are those that the simulated committees are tried with, at the first leader. Clients ask the honest
members without a pause, and what they saw is judged when all is over.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from policies.config import ConsensusRules
from real_backends.cluster import LocalCluster, until
from scenarios.adversaries import behaviours as b
from scenarios.adversaries.attach import WRAPPERS
from scenarios.adversaries.choose import Role
from tests.policies.consensus.hotstuff.test_adversaries import LIES
from tests.policies.consensus.test_pbft_cluster import LIARS
from tests.real_backends.registers import (
    BOUND_S,
    PROTOCOLS,
    clients_of,
    members,
    require_kept,
    require_linearizable,
    require_safe,
)

NAMES = ("n0", "n1", "n2", "n3")
LIAR, HONEST = NAMES[0], NAMES[1:]
LOAD = 3
ANSWERS = 40  # that clients hear before, and again after, the liar is started anew
TENURE = 8  # views: short, so that the liar leads again and again
TERMS = 5  # more than there are members, so that each has led

AMNESIA = "forgets all"
HOTSTUFF: dict[str, Sequence[b.Behaves]] = {**LIES, AMNESIA: [b.OldState(nothing=True)]}
IN_CI = ("silent", "double votes", "split proposals", "twins")
AT_NIGHT = [pytest.param(lie, marks=pytest.mark.nightly) for lie in HOTSTUFF if lie not in IN_CI]


async def _live(folder: Path, rules: ConsensusRules, behaviours: Sequence[Any], terms: int) -> LocalCluster:
    """Run four members, the first of which lies, until clients of the others were answered often enough; then judge."""
    roles = {LIAR: Role(tuple(behaviours), begun_ns=time.monotonic_ns())}
    cluster = LocalCluster(lambda name: members(rules, NAMES), NAMES, folder, roles=roles)
    async with cluster, clients_of(cluster, HONEST, LOAD) as clients:

        async def more() -> None:
            goal = clients.answers + ANSWERS
            await until(lambda: clients.answers >= goal, BOUND_S)

        await more()
        await cluster.crash(LIAR)
        await cluster.start(LIAR)
        await more()
        logs: list[Any] = [cluster.nodes[name].cell.policy("consensus") for name in HONEST]
        await until(lambda: all(log.term >= terms for log in logs), BOUND_S)
    require_linearizable(clients.history)
    require_safe(folder, HONEST, ())
    require_kept({name: cluster.journal(name) for name in NAMES}, rules, HONEST, clients.history)
    return cluster


@pytest.mark.parametrize(
    "lie", [lie if lie in IN_CI else pytest.param(lie, marks=pytest.mark.nightly) for lie in HOTSTUFF]
)
def test_hotstuff_goes_on_beside_a_real_liar(tmp_path: Path, lie: str) -> None:
    """The liar leads in its turn, all others in theirs; clients' history is linearizable, the guilty is named."""
    rules = msgspec.structs.replace(PROTOCOLS["hotstuff"], tenure=TENURE)
    cluster = asyncio.run(_live(tmp_path, rules, HOTSTUFF[lie], TERMS))

    accused = {e["detail"][1] for name in HONEST for e in cluster.events(name) if e["name"] == "evidence"}
    assert accused <= {LIAR}
    assert (
        accused or lie != "double votes"
    )  # both votes reach one collector; halves of a split may never compare theirs


@pytest.mark.nightly
@pytest.mark.parametrize("lie", LIARS)
def test_pbft_goes_on_beside_a_real_liar(tmp_path: Path, lie: str) -> None:
    """Whatever the first primary does, clients of the others are answered, and their history is linearizable."""
    asyncio.run(_live(tmp_path, PROTOCOLS["pbft"], [LIARS[lie]], 0))


def test_every_behaviour_that_one_member_can_show_is_here() -> None:
    """Who lies about work has nothing to say in a log, and a coalition is more than one of four."""
    work = {b.WrongResults, b.Shirk, b.Lazy, b.Overclaim, b.FreeRide, b.ForgeReceipts}
    assert {type(one) for lies in HOTSTUFF.values() for one in lies} == set(WRAPPERS) - work - {b.Collude}
