"""Checks: promises asked in every run, incrementally, from what nodes decide.

Each check has a name and either holds or names the first event that broke it. They see (time, node, path, kind,
payload) of every ``decide`` effect, in either world, and never change a run.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from policies.consensus.messages import Chosen, Elected
from policies.harvest.messages import Session
from policies.work import Gone, Placed, SettledOp

_elected = msgspec.msgpack.Decoder(Elected).decode
_chosen = msgspec.msgpack.Decoder(Chosen).decode
_settled = msgspec.msgpack.Decoder(SettledOp).decode
_placed = msgspec.msgpack.Decoder(Placed).decode
_session = msgspec.msgpack.Decoder(Session).decode
_gone = msgspec.msgpack.Decoder(Gone).decode


@dataclass
class Verdict:
    """One check's result; ``broken`` is empty while it holds, else the first event that broke it."""

    name: str
    broken: str = ""
    events: int = 0

    @property
    def holds(self) -> bool:
        """Whether the promise was kept."""
        return not self.broken


class Checks:
    """All decide-fed checks of a run.

    Attributes:
        elections: leaders elected.
        commits: distinct log entries committed.
        leaders: (time_ns, node, term) of every election.
    """

    def __init__(self, layers: int = 0) -> None:
        self.layers = layers
        self.one_leader = Verdict("one_leader_per_term")
        self.agreement = Verdict("committed_entries_agree")
        self.in_order = Verdict("commits_in_order")
        self.one_outcome = Verdict("one_outcome_per_request")
        self.coverage = Verdict("shards_cover_the_model")
        self.ledger = Verdict("ledger_conserved")
        self.envelope = Verdict("harvest_within_its_envelope")
        self.answered = Verdict("every_request_ends")
        self._leader_of: dict[int, str] = {}
        self._chosen: dict[int, tuple[int, int]] = {}
        self._last: dict[str, int] = {}
        self._outcomes: dict[tuple[str, str], tuple[str, str]] = {}
        self.leaders: list[tuple[int, str, int]] = []
        self._kinds: dict[tuple[str, str], Callable[[int, str, bytes], Any]] = {
            ("consensus", "commit"): self._commit,
            ("consensus", "leader"): self._leader,
            ("coordination", "settled"): self._settle,
            ("coordination", "placed"): self._place,
            ("coordination", "gone"): lambda now, node, payload: _gone(payload),
            ("harvest", "harvest"): lambda now, node, payload: _session(payload),
        }

    @property
    def all(self) -> list[Verdict]:
        """Every check's verdict."""
        return [
            self.one_leader, self.agreement, self.in_order, self.one_outcome, self.coverage, self.ledger,
            self.envelope, self.answered,
        ]  # fmt: skip

    @property
    def elections(self) -> int:
        """Leaders elected."""
        return len(self.leaders)

    @property
    def commits(self) -> int:
        """Log entries known to be committed."""
        return len(self._chosen)

    def restarted(self, node: str) -> None:
        """A node lost its volatile state and will announce its commits again."""
        self._last.pop(node, None)

    def decided(self, now: int, node: str, path: str, kind: str, payload: bytes) -> Any:
        """Take in one decide effect; returns the value of the village's own kinds, None of others."""
        take = self._kinds.get((path, kind))
        return take(now, node, payload) if take is not None else None

    def _leader(self, now: int, node: str, payload: bytes) -> Elected:
        value = _elected(payload)
        self.one_leader.events += 1
        self.leaders.append((now, node, value.term))
        first = self._leader_of.setdefault(value.term, node)
        if first != node and self.one_leader.holds:
            self.one_leader.broken = f"t={now}ns: {node} leads term {value.term}, as {first} did"
        return value

    def _commit(self, now: int, node: str, payload: bytes) -> None:
        value = _chosen(payload)
        self.agreement.events += 1
        entry = (value.term, value.checksum)
        first = self._chosen.setdefault(value.index, entry)
        if first != entry and self.agreement.holds:
            self.agreement.broken = (
                f"t={now}ns: {node} commits {entry} at index {value.index}, another committed {first}"
            )
        self.in_order.events += 1
        last = self._last.get(node, 0)
        if value.index != last + 1 and self.in_order.holds:
            self.in_order.broken = f"t={now}ns: {node} commits index {value.index} after {last}"
        self._last[node] = value.index

    def _settle(self, now: int, node: str, payload: bytes) -> SettledOp:
        value = _settled(payload)
        self.one_outcome.events += 1
        outcome = (value.refused, value.output)
        first = self._outcomes.setdefault((value.client, value.op_id), outcome)
        if first != outcome and self.one_outcome.holds:
            op = f"{value.client}/{value.op_id}"
            self.one_outcome.broken = f"t={now}ns: {node} settles {op} as {outcome}, it was settled as {first}"
        return value

    def _place(self, now: int, node: str, payload: bytes) -> Placed:
        value = _placed(payload)
        self.coverage.events += 1
        edges = [0, *(stage.last for stage in value.stages)]
        gapless = all(stage.first == edges[k] < stage.last for k, stage in enumerate(value.stages))
        if not (gapless and edges[-1] == self.layers) and self.coverage.holds:
            cut = [(s.node, s.first, s.last) for s in value.stages]
            self.coverage.broken = f"t={now}ns: {node} places {cut} for a model of {self.layers} layers"
        return value

    def ledgers(self, states: dict[str, Any]) -> None:
        """Ask, at the end, that every ledger sums to what was earned and that equal prefixes give equal states."""
        by_prefix: dict[int, tuple[str, str]] = {}
        for node, state in states.items():
            self.ledger.events += 1
            total = sum(state.ledger.values())
            if total != state.earned and self.ledger.holds:
                self.ledger.broken = f"{node}: the ledger sums to {total}, {state.earned} token-layers were earned"
            first, digest = by_prefix.setdefault(state.applied, (node, state.digest()))
            if state.digest() != digest and self.ledger.holds:
                self.ledger.broken = f"{node} and {first} applied {state.applied} commands and differ"
