"""A committee over real sockets whose members change while the first leader says again what was signed before."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

from policies.config import ConsensusRules, HotstuffConfig
from policies.port import MESSAGE, NS_PER_S
from real_backends.cluster import LocalCluster, until
from scenarios.adversaries.behaviours import Replay
from scenarios.adversaries.choose import Role
from scenarios.adversaries.payload import tag_of
from scenarios.journal import read
from tests.real_backends.liars import ANSWERS, LOAD, SNAPSHOT_EVERY
from tests.real_backends.registers import (
    BOUND_S,
    Sit,
    clients_of,
    members,
    require_kept,
    require_linearizable,
    require_safe,
)

ORDERS = (("n1", "n2", "n3", "n0"), ("n0", "n1", "n2", "n3"))
"""Who sits, in the order in which they lead, in the epochs after the first, which has them as in the last."""
SIGNED = {"proposal", "vote", "checkpoint_vote", "pre_prepare", "prepare", "commit", "checkpoint"}
"""What members sign for one epoch only."""


class Changed(NamedTuple):
    """What came of it.

    Attributes:
        replayed: messages that honest members heard of the liar in a later epoch, and before anybody asked for one.
        accused: whom evidence names.
    """

    replayed: int
    accused: frozenset[str]


async def across_epochs(folder: Path, rules: ConsensusRules, replay: Replay, replays: int) -> Changed:
    """Run four members, of whom n0 replays, through three epochs, clients asking without a pause; judge it all.

    It goes on until honest members heard ``replays`` of what counts, however slow the machine is.
    """
    names, honest = ORDERS[-1], ORDERS[-1][1:]
    roles = {"n0": Role((replay,), "", (), time.monotonic_ns())}
    cluster = LocalCluster(lambda name: members(rules, names, SNAPSHOT_EVERY), names, folder, roles=roles)
    asked_ns, changed_ns, tried_ns = 0, 0, 0

    def epoch(name: str) -> int:
        log: Any = cluster.nodes[name].cell.policy("consensus")
        return int(log.epoch.number if isinstance(rules, HotstuffConfig) else log.committee.number)

    def changed(number: int, order: tuple[str, ...]) -> bool:
        nonlocal tried_ns
        if time.monotonic_ns() > tried_ns + NS_PER_S:
            tried_ns = time.monotonic_ns()
            cluster.request("n1", "registry", "owner", f"epoch {number}, {tried_ns}", Sit(order))
        return all(epoch(name) >= number for name in honest)

    def replayed() -> int:
        return sum(_replayed(cluster.journal(name), asked_ns, changed_ns) for name in honest)

    async with cluster, clients_of(cluster, honest, LOAD) as clients:
        for number, order in enumerate(ORDERS, 1):
            goal = clients.answers + ANSWERS
            await until(lambda goal=goal: clients.answers >= goal, BOUND_S)
            asked_ns = asked_ns or time.monotonic_ns()
            await until(lambda number=number, order=order: changed(number, order), BOUND_S)
            changed_ns = changed_ns or time.monotonic_ns()
        goal = clients.answers + ANSWERS
        await until(lambda: clients.answers >= goal, BOUND_S)
        while replayed() < replays:  # a journal takes a while to read: not more often than so much was answered
            goal = clients.answers + ANSWERS
            await until(lambda goal=goal: clients.answers >= goal, BOUND_S)
    require_linearizable(clients.history)
    require_safe(folder, honest, ())
    journals = {name: cluster.journal(name) for name in names}
    require_kept(journals, rules, honest, clients.history, SNAPSHOT_EVERY)
    return Changed(
        replayed(),
        frozenset(e["detail"][1] for name in honest for e in cluster.events(name) if e["name"] == "evidence"),
    )


def _replayed(journal: bytes, before_ns: int, after_ns: int) -> int:
    """Return how often a member heard of n0, after a time, what was signed and heard of anybody before another."""
    early, found = set[bytes](), 0
    for now_ns, _, given, _, _ in read(journal)[1]:
        if given[0] != MESSAGE or tag_of(given[3]) not in SIGNED:
            continue
        if now_ns < before_ns:
            early.add(given[3])
        elif now_ns > after_ns:
            found += given[2] == "n0" and given[3] in early
    return found
