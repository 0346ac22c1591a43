"""The harvest agent: carries out, on one node, what the elementwise rule decides.

It either reads the node's own sensors and decides one row (`on_readings`), or is handed its row of a fleet's
decision (`on_decision`). Both end in the same few effects, and only when something changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policies.config import HarvestConfig
from policies.harvest.elementwise import Devices, Harvest
from policies.harvest.messages import Session
from policies.local import Lend
from policies.port import NS_PER_S, Policy
from policies.readings import HARVEST_STATES, Readings, Row, Verdict

WORKER = "worker"  # the path of the policy that serves


class HarvestAgent(Policy):
    """Holds one node to its harvest policy.

    Args:
        config: the limits.
        every_ns: period of the readings.
        dedicated: the machine is set aside for the village.
        has_battery: the machine has a battery.

    Raises:
        ValueError: ``every_ns`` is not positive, or the limits contradict each other.
    """

    def __init__(
        self, config: HarvestConfig, every_ns: int, *, dedicated: bool = False, has_battery: bool = True
    ) -> None:
        if every_ns <= 0:
            raise ValueError(f"every_ns is {every_ns}; allowed: from 1")
        self._every_ns = every_ns
        self._rule = Harvest(config)
        self._devices = Devices(dedicated, has_battery)
        self._forget()

    def _forget(self) -> None:
        self._state = self._rule.init(self._devices)
        self._read_ns: int | None = None
        self._limits: dict[str, float] = {}
        self._session = (False, 0.0, 0.0)  # lending, compute share, memory share: as announced

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        """Begin at rest. A crash forgets cool-down and latches; the next reading sets the latches again."""
        self._forget()
        self.port.sense(self._every_ns)

    def on_readings(self, readings: Row) -> None:
        """Decide this row, then carry the decision out."""
        elapsed_ns = 0 if self._read_ns is None else self.port.now - self._read_ns
        self._read_ns = self.port.now
        row = Readings(**{field: getattr(readings, field) for field in Readings._fields})
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

    def on_decision(self, decision: Any) -> None:
        """Turn a `Verdict` into limits, and tell the worker and the records when the session changed."""
        verdict: Verdict = decision
        self._limit("compute", verdict.compute_share)
        self._limit("memory", verdict.memory_share)
        self._limit("bandwidth_bytes_per_s", verdict.bandwidth_bytes_per_s)
        session = (verdict.contribute, verdict.compute_share, verdict.memory_share)
        if session == self._session:
            return
        self._session = session
        self.port.decide("harvest", Session(*session, verdict.state))
        self.port.tell(WORKER, Lend(*session, HARVEST_STATES[verdict.state]))

    def _limit(self, resource: str, value: float) -> None:
        if self._limits.get(resource) != value:
            self._limits[resource] = value
            self.port.limit(resource, value)
