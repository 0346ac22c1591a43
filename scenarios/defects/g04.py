"""G04, agent coordinator: a queue that is first-in first-out, whatever the priority."""

from __future__ import annotations

from policies.coordination import Coordination
from policies.coordination.efforts import Efforts


class IgnoresPriority(Coordination):
    """Requests run in order of arrival: its predecessor had five classes and one plain queue.

    Breaks `checks.leader.NobodyIsOvertaken` as soon as an urgent request waits behind another.
    """

    def _reset(self) -> None:
        super()._reset()
        self.efforts = Efforts(0)  # no class is worth any waiting time
