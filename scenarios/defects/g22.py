"""G22, fog scheduler: the tasks of a node that vanished are never queued again."""

from __future__ import annotations

from policies.coordination import Coordination
from policies.coordination.lines import Line


class ForgetsTasks(Coordination):
    """What ran on a pipeline that is gone counts as running there, for ever.

    Breaks `checks.requests.every_request_ends` when a head vanishes with a request whose client is patient.
    """

    def _lose_attempts(self, line: Line) -> None:
        pass
