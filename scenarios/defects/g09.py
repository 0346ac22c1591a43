"""G09, inference manager: one request at a time, however many nodes there are."""

from __future__ import annotations

from policies.coordination import Coordination
from policies.coordination.lines import Line, Lines


class OneAtATime(Lines):
    """No pipeline is free while any of them works."""

    def pick(
        self, slots: int, avoid: set[int], voters: set[str], prompt_tokens: int, new_tokens: int, model: str = ""
    ) -> Line | None:
        """Return a pipeline only where all are idle."""
        if any(line.running for line in self.lines.values()):
            return None
        return super().pick(slots, avoid, voters, prompt_tokens, new_tokens, model)


class ServesOneAtATime(Coordination):
    """A request starts when the one before has ended: its predecessor's loop waited for each.

    Breaks `checks.leader.FreeSlotsAreUsed` as soon as two requests come at once.
    """

    def _reset(self) -> None:
        super()._reset()
        self.lines = OneAtATime()
