"""What a village of several models owes: its classes are served as well as its workers allow, but for a while."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from policies.coordination import Coordination
from policies.coordination.lines import Line
from policies.degradation import worth
from policies.mixing import MIXER, Mixed, Mixing
from policies.port import NS_PER_S
from policies.sharding import JOBS
from policies.wire import encode
from scenarios.checks.language import Look, StateCheck

_mixed = msgspec.msgpack.Decoder(Mixed).decode


class ServedAsWellAsPossible(StateCheck):
    """Whatever is worth more to the classes, of workers that have been there for the dwell, stands soon.

    Asked of the leader's own view, afresh at every look, whatever the leader has asked or believes: what could stand is
    computed again. A move takes a lease, a few ticks, its draining, and once more the dwell if it did not run dry.

    Args:
        fetched: workers may have to fetch what they are told to hold. How long that takes is the links' doing, so that
            a pipeline counts as soon as its workers are told.
    """

    def __init__(self, *, fetched: bool = False) -> None:
        super().__init__("served_as_well_as_possible")
        self.fetched = fetched
        self.worse: tuple[str, int, int] | None = None  # leader, term and since when (ns)
        self._known: dict[bytes, tuple[float, ...]] = {}

    def look(self, nodes: Collection[str], policy: Look) -> str:
        for node in nodes:
            leader: Any = policy(node, "coordination")
            if isinstance(leader, Coordination) and leader.leading and leader.several:
                return self._judge(node, leader)
        return ""

    def _judge(self, node: str, leader: Coordination) -> str:
        rules, now_ns = leader.config.degrade, leader.port.now
        asked = leader.question(leader.settled())
        ready = [line for line in leader.lines.lines.values() if self._counts(leader, line)]
        stands = worth(rules.services, rules.away, leader.mix((line.model, line.stages) for line in ready))
        could = self._best(asked, leader)
        if could >= stands:
            self.worse = None
            return ""
        if self.worse is None or self.worse[:2] != (node, leader.term):
            self.worse = (node, leader.term, now_ns)
        late_s = (now_ns - self.worse[2]) / NS_PER_S
        replan = leader.config.replan
        drain_s = max(rules.drain_s, replan.drain_s if replan is not None else 0.0)
        most_s = leader.config.lease_s + 4 * leader.config.plan_every_s + drain_s + rules.dwell_s
        if late_s <= most_s:
            return ""
        return f"{node} has served worse than its workers allow for {late_s:.0f} s, {most_s:.0f} s may pass"

    def _counts(self, leader: Coordination, line: Line) -> bool:
        lines = leader.lines
        if not self.fetched or line.number in lines.leaving:
            return lines.ready(line)
        return all(node in lines.workers and node not in lines.doubted for node in line.nodes)

    def _best(self, asked: Mixing, leader: Coordination) -> tuple[float, ...]:
        key = encode(asked)
        if key not in self._known:
            best = _mixed(JOBS[MIXER](key, max(1, len(asked.workers))))
            mix = leader.mix((line.model, line.stages) for line in best.lines)
            self._known = {key: worth(asked.services, asked.away, mix)}  # the last one: it seldom changes
        return self._known[key]
