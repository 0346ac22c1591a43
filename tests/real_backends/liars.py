"""A committee over real sockets in which some lie: clients ask the honest, and all is judged when it is over.

Judged are the clients' history, what honest members announced and sent, and that every journal replays. What a liar did
is counted against an honest Cell that is told the same, so that a lie that never happened is no success; and who saw it
is asked of the honest members' notes and evidence, and of checks that take the liar at its word.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from policies.cell import Cell
from policies.config import ConsensusRules, HotstuffConfig
from policies.port import MESSAGE, NS_PER_S, START
from real_backends.cluster import LocalCluster, until
from real_backends.identity import Identity, read_registry
from real_backends.keys import Ed25519Keys
from real_backends.node_files import read_events, read_journal
from real_backends.transports.faulty import Cut, LinkFaults
from scenarios.adversaries.choose import Role
from scenarios.adversaries.wrapped import Steps
from scenarios.checks import Check, Checks, byzantine
from scenarios.checks.linear import Operation
from scenarios.checks.votes import HOTSTUFF, PBFT
from scenarios.journal import Header, effects_checksum, read
from tests.real_backends.registers import (
    BOUND_S,
    clients_of,
    members,
    require_kept,
    require_linearizable,
    require_safe,
)

LOAD = 3
ANSWERS = 40  # that clients hear before, and again after, the liars are started anew
SNAPSHOT_EVERY = 10  # commands: there are checkpoints to lie about
AWAY_NS = 3 * NS_PER_S  # at most; with one of the honest down a liar can stop a committee of four
LIARS_ALONE_NS = 2 * NS_PER_S  # eight periods of PBFT's: whoever lags asks each of three others twice
SETTLED_S = 0.5  # of lying, at least, before the liars are started anew


class Seen(NamedTuple):
    """What came of lies.

    Attributes:
        deviations: steps of the liars at which an honest member would have done otherwise.
        accused: whom evidence names.
        notes: why honest members dropped something.
        checks: promises that are broken if the liars' word counts as an honest one's.
        terms: the highest term of an honest member, at the end; asked of members of this process.
    """

    deviations: int
    accused: frozenset[str]
    notes: tuple[str, ...]
    checks: tuple[str, ...]
    terms: int = 0


async def beside(
    folder: Path,
    rules: ConsensusRules,
    names: tuple[str, ...],
    liars: Mapping[str, Sequence[Any]],
    *,
    coalition: str = "",
    away: str = "",
    terms: int = 0,
    snapshot_every: int = SNAPSHOT_EVERY,
) -> Seen:
    """Run a committee until clients of the honest were answered often enough and ``terms`` began; judge it all.

    Args:
        folder: where everything lies.
        rules: of the protocol.
        names: the members; the first leads first.
        liars: member to what it does.
        coalition: a name, if the liars are one.
        away: an honest member that is down for a while, and then hears the liars alone for a while, so that there is
            something to give up, to fetch and to take over.
        terms: the first that every honest member must have reached at the end.
        snapshot_every: commands between two snapshots; whoever lags by fewer is told batches or blocks, and no state.
    """
    begun_ns = time.monotonic_ns()
    lying = tuple(liars) if coalition else ()
    roles = {name: Role(tuple(does), coalition, lying, begun_ns) for name, does in liars.items()}
    honest = tuple(name for name in names if name not in liars)
    restarts: list[tuple[int, str]] = []
    late_s = SETTLED_S + max(one.from_s for does in liars.values() for one in does)
    cluster = LocalCluster(lambda name: members(rules, names, snapshot_every), names, folder, roles=roles)
    async with cluster, clients_of(cluster, honest, LOAD) as clients:

        async def more() -> None:
            goal = clients.answers + ANSWERS
            await until(lambda: clients.answers >= goal and time.monotonic_ns() > begun_ns + late_s * NS_PER_S, BOUND_S)

        await more()
        for name in liars:
            await cluster.crash(name)
            await cluster.start(name)
        await more()
        if away:
            await cluster.crash(away)
            goal, back_ns = clients.answers + ANSWERS, time.monotonic_ns() + AWAY_NS
            await until(lambda: clients.answers >= goal or time.monotonic_ns() > back_ns, BOUND_S)
            restarts.append((time.monotonic_ns(), away))
            await cluster.start(away)
            others = tuple(name for name in honest if name != away)
            for name in others:
                cluster.set_faults(name, LinkFaults(cuts=(Cut(sources=others, targets=(away,)),)))
            heard_ns = time.monotonic_ns() + LIARS_ALONE_NS
            await until(lambda: time.monotonic_ns() > heard_ns)
            for name in others:
                cluster.set_faults(name, LinkFaults())
            await more()
        logs: list[Any] = [cluster.nodes[name].cell.policy("consensus") for name in honest]
        await until(lambda: all(log.term >= terms for log in logs), BOUND_S)
        malformed = sum(cluster.nodes[name].cell.malformed for name in honest)
    seen = judge(folder, rules, names, honest, clients.history, restarts, snapshot_every)
    return seen._replace(notes=seen.notes + ("malformed",) * (malformed > 0), terms=max(log.term for log in logs))


def judge(
    folder: Path,
    rules: ConsensusRules,
    names: tuple[str, ...],
    honest: tuple[str, ...],
    history: Sequence[Operation],
    restarts: Sequence[tuple[int, str]],
    snapshot_every: int = 1000,
) -> Seen:
    """Require all that was promised, of what lies in ``folder`` and what clients saw; return what came of the lies.

    Args:
        folder: of a committee that has ended, whether its members were processes or not.
        rules, names, snapshot_every: as in `beside`.
        honest: who does not lie.
        history: of the clients.
        restarts: when who began another life.
    """
    require_linearizable(history)
    require_safe(folder, honest, restarts)
    journals = {name: read_journal(folder / name / "node.journal") for name in names}
    require_kept(journals, rules, honest, history, snapshot_every)
    promises = _heard(journals, rules, honest, honest)
    assert [one.broken for one in promises] == [""] * len(promises)
    registry = read_registry(folder / "identities")

    def honest_cell(header: Header) -> Cell:
        keys = Ed25519Keys(Identity(header.node, folder / "identities").private_key(), registry)
        policies = members(rules, names, snapshot_every)
        return Cell(policies, header.node, header.peers, seed=header.seed, keys=keys)

    events = [(e["kind"], e["name"], e["detail"]) for n in honest for e in read_events(folder / n / "events.jsonl")]
    return Seen(
        sum(deviations(journals[name], honest_cell) for name in names if name not in honest),
        frozenset(detail[1] for kind, name, detail in events if (kind, name) == ("decide", "evidence")),
        tuple(sorted({str(detail.get("reason")) for kind, _, detail in events if kind == "note"})),
        tuple(one.name for one in _heard(journals, rules, honest, names) if one.broken),
    )


def deviations(journal: bytes, make: Callable[[Header], Steps]) -> int:
    """Return at how many steps of a journal an honest Cell, told the same, would have done otherwise.

    ``make`` makes that Cell, with the node's own keys, at each start of the node.
    """
    header, rows = read(journal)
    honest, nothing, found = None, effects_checksum(()), 0
    for now, wall, given, checksum, _ in rows:
        if given[0] == START:
            honest = make(header)
        if given[1][:1] == "~":  # a wrapper's own
            found += checksum != nothing
        else:
            assert honest is not None
            found += checksum != effects_checksum(honest.step(now, wall, given))
    return found


def _heard(
    journals: Mapping[str, bytes], rules: ConsensusRules, honest: Sequence[str], speakers: Collection[str]
) -> tuple[Check, ...]:
    """Return what of S13, S14, S16 and S19 holds of what ``honest`` members heard ``speakers`` say."""
    reading = HOTSTUFF if isinstance(rules, HotstuffConfig) else PBFT
    asked = byzantine.safety(tuple(journals), set(journals) - set(honest), reading)
    checks = Checks(*asked)
    for name in honest:
        for now_ns, _, given, _, _ in read(journals[name])[1]:
            if given[0] == MESSAGE and given[2] in speakers:
                checks.said(now_ns, given[2], given[1], name, given[3])
    return asked
