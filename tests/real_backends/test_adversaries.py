"""Every behaviour of the catalogue on one of four real nodes: sockets, disks, clocks and keys are the system's.

The nodes run a broadcast that promises honest nodes agreement on right results whatever one of four does, so the same
promise is asked beside each of the liars. What a liar did is counted against an honest Cell that was told the same.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from experiments.replay import replay
from policies.cell import Cell
from real_backends.cluster import LocalCluster, until
from scenarios.adversaries import behaviours as b
from scenarios.adversaries.attach import WRAPPERS
from scenarios.adversaries.choose import Role, play, role_in
from scenarios.journal import Header, read
from tests.real_backends.liars import deviations
from tests.real_backends.signed_echo import TOKENS, AtOnce, SignedEcho, result_of

NAMES = ("a", "b", "c", "d")
SEED = 1
ROUNDS = 8  # jobs of each honest node that must be certified
LIAR_STEPS = 80

LIARS: dict[str, tuple[b.Behaviour, ...]] = {
    "silent": (b.Silent(),),
    "withhold": (b.Withhold(tags=("echo", "certificate"), lag=3),),
    "delay": (b.Delay(bound_s=0.05),),
    "reorder": (b.Reorder(window=4, at_most_s=0.05),),
    "replay": (b.Replay(every_s=0.02, age_s=0.05, burst=4, heard=True),),
    "flood": (b.Flood(tags=("certificate",), field=(1,), every_s=0.02),),
    "corrupt": (b.Corrupt(tags=("report",), field=(5,), change="digest", resign=True),),
    "split": (b.Split(tags=("report",), field=(5,), groups=(("a",), ("b",)), resign=True),),
    "double_vote": (b.DoubleVote(tags=("report", "echo"), field=(2,), resign=True),),
    "twins": (b.Twins(peers=("a",)),),
    "old_state": (b.OldState(nothing=True),),
    "wrong_key": (b.WrongKey(),),
    "impersonate": (b.Impersonate(victim="a", forward=True),),
    "forge_certificate": (b.ForgeCertificate(tags=("certificate",), field=(4,)),),
    "sybil": (b.Sybil(tags=("report", "echo", "certificate")),),
    "collude": (b.Collude(turn_s=0.2),),
    "skewed_clock": (b.SkewedClock(shape="linear", ppm=500_000, monotonic=True),),
    "wrong_results": (b.WrongResults(),),
    "lazy": (b.Lazy(after_s=0.01),),
    "overclaim": (b.Overclaim(),),
    "free_ride": (b.FreeRide(),),
    "forge_receipts": (b.ForgeReceipts(),),
    "usurp": (b.Usurp(every_s=0.2),),
    "meddle": (b.Meddle(every_s=0.2),),
    "several": (b.Delay(bound_s=0.02), b.WrongResults(), b.Silent(share=0.3), b.Sybil()),
}

UNHEARD = {
    "silent", "corrupt", "split", "wrong_key", "impersonate", "forge_certificate", "wrong_results", "lazy", "free_ride",
    "forge_receipts",
}  # fmt: skip
"""Liars of whose own jobs no honest node may deliver one."""


def _factory(cluster: LocalCluster, header: Header, role: Role | None) -> Any:
    """Return a Cell as the node's driver made it, with its real keys."""

    def make(keys: Any) -> Cell:
        return Cell(SignedEcho(), header.node, header.peers, seed=SEED, keys=keys)

    return play(role, make, me=header.node, peers=header.peers, seed=SEED, key_of=cluster.keys)


def _replays(cluster: LocalCluster) -> bool:
    """Whether fresh Cells among fresh wrappers, made of the headers alone, give the journals' effects."""

    def factory(header: Header) -> Any:
        def cell(keys: Any) -> Any:
            return play(
                role_in(header.config), lambda owned: Cell(SignedEcho(), header.node, header.peers, seed=SEED,
                keys=owned), me=header.node, peers=header.peers, seed=SEED, key_of=lambda name: keys,
            )  # fmt: skip

        return cell

    found = replay({name: cluster.journal(name) for name in NAMES}, factory)
    assert not found.divergences, [str(d) for d in found.divergences]
    return found.passed


async def _live(folder: Path, behaviours: tuple[b.Behaviour, ...]) -> LocalCluster:
    """Run four nodes, the last of which lies, until the honest ones have certified enough and it has done enough."""
    ring = NAMES[2:] if any(b.needs_coalition(one) for one in behaviours) else ()
    roles = {name: Role(behaviours, "ring" if ring else "", ring) for name in ring or ("d",)}
    honest = [name for name in NAMES if name not in roles]
    cluster = LocalCluster(
        lambda name: SignedEcho(), NAMES, folder, seed=SEED, executors=lambda name: AtOnce(), roles=roles
    )
    async with cluster:

        def number(name: str) -> int:
            policy = cluster.nodes[name].cell.policy("")
            assert isinstance(policy, SignedEcho)
            return policy.number

        async def rounds(more: int) -> None:
            goals = {name: number(name) + more for name in honest}
            liar = cluster.nodes["d"]
            steps = liar.counts["steps"] + LIAR_STEPS
            await until(lambda: all(number(n) >= g for n, g in goals.items()) and liar.counts["steps"] >= steps)

        await rounds(ROUNDS)
        if isinstance(behaviours[0], b.OldState):
            await cluster.crash("d")
            await cluster.start("d")
            await rounds(ROUNDS)
    return cluster


@pytest.mark.parametrize("name", LIARS)
def test_honest_nodes_keep_their_promise_beside_a_real_liar(tmp_path: Path, name: str) -> None:
    """Honest nodes deliver right results only and go on; the liar, and nobody else, did what no honest node would."""
    cluster = asyncio.run(_live(tmp_path, LIARS[name]))
    liars = {n for n in NAMES if role_in(read(cluster.journal(n))[0].config)}

    told = [e for n in NAMES if n not in liars for e in cluster.events(n) if e["kind"] == "decide"]
    delivered = [tuple(e["detail"][1:]) for e in told]
    assert all((output, tokens) == (result_of(number), TOKENS) for _, number, output, tokens in delivered)
    heard = {author for author, *_ in delivered}
    assert heard >= set(NAMES) - liars
    assert name not in UNHEARD or not heard & liars
    deviating = {n: deviations(cluster.journal(n), lambda header: _factory(cluster, header, None)) > 0 for n in NAMES}
    assert deviating == {n: n in liars for n in NAMES}
    assert _replays(cluster)


def test_every_behaviour_of_the_catalogue_is_here() -> None:
    """A behaviour that is added must be met for real; what an executor does wrong is in `test_checking`."""
    assert {type(one) for liar in LIARS.values() for one in liar} == set(WRAPPERS) - {b.Shirk}
