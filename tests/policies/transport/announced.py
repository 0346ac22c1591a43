"""What a cluster's transports announced, for tests to look at and for checks to be asked about."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import msgspec

from policies.port import NS_PER_S
from policies.transport.messages import ANNOUNCED
from scenarios.checks import Check, Checks
from sim.cluster import Cluster, Decision

M = TypeVar("M")


def announced(cluster: Cluster, kind: type[M], path: str = "") -> Iterator[tuple[Decision, M]]:
    """Yield what the policies at ``path`` announced of one class, each with its message, in order of time."""
    for decision in cluster.decisions:
        if decision.path == path:
            value = msgspec.convert(decision.value, ANNOUNCED)
            if isinstance(value, kind):
                yield decision, value


def broken(cluster: Cluster, *promises: Check) -> dict[str, str]:
    """Ask checks about a whole run; return name to why of each that is broken."""
    checks = Checks(*promises)
    for at_s, node, path, kind, value in cluster.decisions:
        checks.decided(round(at_s * NS_PER_S), node, path, kind, msgspec.msgpack.encode(value))
    checks.end(round(cluster.now_s * NS_PER_S))
    return {check.name: check.broken for check in checks.all if check.broken}
