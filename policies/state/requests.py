"""Requests: each is owed one outcome, and the first that arrives is it."""

from __future__ import annotations

from typing import Any

import msgspec

from policies.commands import Accept, Attach, Complete, CompleteBy, Refuse
from policies.state.part import Part

OpKey = tuple[str, str]  # (client, op_id)

OUTCOMES_MAX = 2048
"""Outcomes that are remembered, oldest forgotten first (our bound: at 6 requests a second, longer than the documented
time-out of 300 s, and a snapshot of some hundred bytes each stays below a megabyte).

A request that is asked again after so many later ones counts as new. Only an old receipt that comes with a new
acceptance could then be credited again; who can forge acceptances could as well ask for the work anew."""


class Requests(Part):
    """Requests owed an outcome, and outcomes.

    Attributes:
        owed: (client, op_id) to the accepted request.
        outcomes: (client, op_id) to what settled it, in order of settling, the last `OUTCOMES_MAX`.
    """

    name, form = "requests", tuple[tuple[Accept, ...], tuple[Complete | CompleteBy | Refuse, ...]]

    def __init__(self) -> None:
        self.owed: dict[OpKey, Accept] = {}
        self.outcomes: dict[OpKey, Complete | Refuse] = {}

    def accept(self, request: Accept) -> bool:
        """Take a request in; return whether it is new."""
        key = (request.client, request.op_id)
        if self.knows(key):
            return False
        self.owed[key] = request
        return True

    def knows(self, key: OpKey) -> bool:
        """Return whether a request was taken in, settled or not."""
        return key in self.owed or key in self.outcomes

    def attach(self, command: Attach) -> bool:
        """Let another node hold the prompt; return whether that changes anything."""
        key = (command.client, command.op_id)
        accepted = self.owed.get(key)
        if accepted is None or accepted.source == command.source:
            return False
        self.owed[key] = msgspec.structs.replace(accepted, source=command.source)
        return True

    def settle(self, outcome: Complete | Refuse) -> None:
        """Settle a request that is owed an outcome."""
        key = key_of(outcome)
        del self.owed[key]
        self.outcomes[key] = outcome
        if len(self.outcomes) > OUTCOMES_MAX:
            del self.outcomes[next(iter(self.outcomes))]

    def saved(self) -> Any:
        return tuple(self.owed.values()), tuple(self.outcomes.values())

    def load(self, saved: Any) -> None:
        owed, outcomes = saved
        self.owed = {(accept.client, accept.op_id): accept for accept in owed}
        self.outcomes = {key_of(outcome): outcome for outcome in outcomes}
        if len(self.owed) < len(owed) or len(self.outcomes) < len(outcomes) or self.owed.keys() & self.outcomes.keys():
            raise ValueError("a request stands there twice")
        if len(self.outcomes) > OUTCOMES_MAX:
            raise ValueError(f"{len(self.outcomes)} outcomes, at most {OUTCOMES_MAX}")


def key_of(outcome: Complete | Refuse) -> OpKey:
    """Return whose outcome it is."""
    done = outcome.receipt if isinstance(outcome, Complete) else outcome
    return done.client, done.op_id
