"""The harvest agent: carries out, on one node, what the harvest rule decides.

It either reads the node's own sensors and decides one row (`on_readings`), or is handed its row of a fleet's
decision (`on_decision`). Both end in the same few effects, and only when something changed.

A session that ends leaves a receipt. One that ends in order is told twice: first that it is over while its memory
is still held (the worker takes nothing more and hands its work back), then, after the drain, that all is given back.

A number that no sensor can mean is unknown to every rule; the agent counts such readings, and notes the first of a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isnan
from typing import Any

from policies.config import HarvestRules
from policies.harvest.choose import make
from policies.harvest.messages import HarvestReceipt, Session
from policies.harvest.rows import Devices
from policies.local import Lend
from policies.port import NS_PER_S, Policy
from policies.readings import HARVEST_STATES, RANGES, Readings, Row, Verdict, plausible

WORKER = "worker"  # the path of the policy that serves


class HarvestAgent(Policy):
    """Holds one node to its harvest policy.

    Args:
        config: the harvest policy's parameters.
        every_ns: period of the readings.
        dedicated: the machine is set aside for the village.
        has_battery: the machine has a battery.
        flops: of its chip, dense FP16 peak; 0 where it is not known.
        to: path of the policy that is told what is lent.

    Raises:
        ValueError: ``every_ns`` is not positive, or the limits contradict each other.
    """

    def __init__(
        self,
        config: HarvestRules,
        every_ns: int,
        *,
        dedicated: bool = False,
        has_battery: bool = True,
        flops: float = 0.0,
        to: str = WORKER,
    ) -> None:
        if every_ns <= 0:
            raise ValueError(f"every_ns is {every_ns}; allowed: from 1")
        self._every_ns, self._to = every_ns, to
        self._rule = make(config)
        self._devices = Devices(dedicated, has_battery, flops)
        self.nonsense = 0  # readings with a number that no sensor can mean
        self._was_nonsense = False
        self._forget()

    def _forget(self) -> None:
        self._state = self._rule.init(self._devices)
        self._read_ns: int | None = None
        self._limits: dict[str, float] = {}
        self._session = (False, 0.0, 0.0)  # lending, compute share, memory share: as announced
        self._started_ns = self._told_ns = 0  # of the session; of its latest change
        self._compute_s = 0.0  # lent by the session until that change

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        """Begin at rest. A crash forgets cool-down and latches; the next reading sets the latches again."""
        self._forget()
        self.port.sense(self._every_ns)

    def on_readings(self, readings: Row) -> None:
        """Decide this row, then carry the decision out."""
        elapsed_ns = 0 if self._read_ns is None else self.port.now - self._read_ns
        self._read_ns = self.port.now
        row = Readings(**{field: getattr(readings, field) for field in Readings._fields})
        self._count_nonsense(row)
        decision, self._state = self._rule.decide(self._state, row, elapsed_ns / NS_PER_S)
        self.on_decision(
            Verdict(
                bool(decision.contribute),
                float(decision.compute_share),
                float(decision.memory_share),
                float(decision.bandwidth_bytes_per_s),
                int(decision.state),
            )
        )

    def _count_nonsense(self, row: Readings) -> None:
        """Count a row with a number that cannot be; a missing one is counted by who reads the sensors."""
        numbers = ((field, getattr(row, field)) for field in RANGES if field != "soc" or row.has_battery)
        wrong = [field for field, value in numbers if not (isnan(value) or plausible(field, value))]
        if wrong:
            self.nonsense += 1
            if not self._was_nonsense:
                self.port.note("harvest_nonsense", field=wrong[0], readings=self.nonsense)
        self._was_nonsense = bool(wrong)

    def on_decision(self, decision: Any) -> None:
        """Turn a `Verdict` into limits, and tell the worker and the records when the session changed."""
        verdict: Verdict = decision
        self._limit("compute", verdict.compute_share)
        self._limit("memory", verdict.memory_share)
        self._limit("bandwidth_bytes_per_s", verdict.bandwidth_bytes_per_s)
        session = (verdict.contribute, verdict.compute_share, verdict.memory_share)
        if session == self._session:
            return
        before, self._session = self._session, session
        self.port.decide("harvest", Session(*session, verdict.state))
        self.port.tell(self._to, Lend(*session, HARVEST_STATES[verdict.state]))
        self._account(before[0], before[1], verdict)

    def _account(self, lent: bool, compute_share: float, verdict: Verdict) -> None:
        """Add up what the session lends, and leave its receipt when it has ended."""
        now = self.port.now
        if lent:
            self._compute_s += compute_share * (now - self._told_ns) / NS_PER_S
        self._told_ns = now
        if lent and not verdict.contribute:
            began_s, now_s = self._started_ns / NS_PER_S, now / NS_PER_S
            self.port.decide("harvest_receipt", HarvestReceipt(began_s, now_s, self._compute_s, verdict.state))
        elif verdict.contribute and not lent:
            self._started_ns, self._compute_s = now, 0.0

    def _limit(self, resource: str, value: float) -> None:
        if self._limits.get(resource) != value:
            self._limits[resource] = value
            self.port.limit(resource, value)
