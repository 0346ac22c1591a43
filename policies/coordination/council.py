"""Coordination where the committee is re-elected by epochs: the council's duties as a layer over the leader's.

Every device that may be elected mounts it: it applies the log as a member or as a learner, so that whoever is voted in
knows all requests, placements and outcomes at once, and whoever leads the log acts. Workers that keep no log are told
who sits (`policies.seats`): all of them when a committee takes office, and each that asks somebody who does not lead.
"""

from __future__ import annotations

from typing import Any, ClassVar

from policies.config import CoordinationConfig, RecoveryRules, ReplayConfig, ShardingConfig
from policies.coordination.leader import Coordination
from policies.council import Charter, Duties
from policies.problem import Problem
from policies.seats import InOffice
from policies.wire import Message
from policies.work import Leave

WORKER = "worker"
"""Path of what is told who sits."""


class CouncilCoordination(Duties, Coordination):
    """One device's coordination and its part in the council.

    Args:
        config, sharding, card, smaller, recovery, kv_bytes_token_layer, seats: as `Coordination` has them.
        charter: as `Duties` have it.

    Attributes:
        office: the newest committee that was seen in office.
    """

    messages: ClassVar[tuple[type[Message], ...]] = (*Duties.messages, *Coordination.messages)

    def __init__(
        self,
        config: CoordinationConfig,
        sharding: ShardingConfig,
        card: Problem,
        smaller: tuple[Problem, ...] = (),
        *,
        charter: Charter,
        recovery: RecoveryRules = ReplayConfig(),  # noqa: B008
        kv_bytes_token_layer: float = 0.0,
        seats: tuple[str, ...] = (),
    ) -> None:
        self._convene(charter)
        Coordination.__init__(
            self, config, sharding, card, smaller,
            recovery=recovery, kv_bytes_token_layer=kv_bytes_token_layer, seats=seats,
        )  # fmt: skip
        self.office = InOffice(0, charter.founders)

    def on_message(self, sender: str, message: Any) -> None:
        super().on_message(sender, message)
        if not self.leading and isinstance(message, Coordination.messages) and not isinstance(message, Leave):
            self._tell(sender)  # it has been answered who leads, whom it may not know as a member

    def on_local(self, sender: str, message: Any) -> None:
        before = self.office.epoch
        super().on_local(sender, message)
        last = self.state.council.last
        if last.epoch > before and self._in_office:
            gone = set(self.office.members)
            self.office = InOffice(last.epoch, last.members)
            self.port.tell(WORKER, self.office)
            if self.port.me in gone or self.port.me in last.members:
                for node in self.state.members:
                    self._tell(node)

    def _tell(self, node: str) -> None:
        """Tell a worker who sits, unless its device keeps the log itself."""
        if self.office.epoch and not any(node in names for names in self.configured):
            self.port.send(f"{node}/{WORKER}", self.office)
