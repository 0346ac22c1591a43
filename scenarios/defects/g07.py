"""G07, inference manager: requests that fail for want of a plan stay active, until nothing more is taken."""

from __future__ import annotations

from typing import Any

from policies.commands import Complete, Refuse
from policies.coordination import Coordination
from policies.local import Ask, Busy
from policies.state import OpKey


class KeepsTheFailed(Coordination):
    """A request that ended before any pipeline took it counts as active for ever; a full count refuses everybody.

    Its predecessor's limit was 100 active requests, here it is the queue's. Breaks
    `checks.requests.fresh_requests_are_answered` when that many have failed.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.failed: set[OpKey] = set()
        super().__init__(*args, **kwargs)

    def _on_settled(self, command: Complete | Refuse) -> None:
        if isinstance(command, Refuse):
            effort = self.efforts.all.get((command.client, command.op_id))
            if effort is not None and not effort.tries:
                self.failed.add(effort.key)
        super()._on_settled(command)

    def _on_ask(self, ask: Ask) -> None:
        if len(self.failed) >= self.config.queue_max:
            self.port.tell("gateway", Busy(ask.client, ask.op_id, "queue full"))
        else:
            super()._on_ask(ask)
