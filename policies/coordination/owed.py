"""What a leader owes, as members that follow it keep watch of it where members may lie.

A log that bears liars orders every command, whoever leads. But requests are answered by who leads, and a leader that
votes and proposes as it should may give out no work. Each member sees that in the log: what was accepted gets no
outcome. It gives a leader up (`policies.local.GiveUp`)

- for a request whose deadline is over, and the leader's time to refuse it: a correct leader settles every request;
- if nothing was answered for a while although something is owed. That may be nobody's fault, so the while doubles with
  each leader that is given up, and comes down as requests are answered.

A leader that answers some and starves others is given up for these at their deadlines. One that refuses has answered
nothing: some requests in a row that it refused before their deadlines are as good as one that is owed.
"""

from __future__ import annotations

from policies.commands import Accept
from policies.state import OpKey

DOUBLINGS_MAX = 6
"""Of the patience with a leader (our bound)."""
REFUSED_MAX = 8
"""Requests in a row that a leader may refuse before their deadlines (our choice: some are withdrawn, some fail)."""
ASKED_MAX = 1000
"""Requests remembered that clients brought here since the leader says nothing (our bound; the documented queue's)."""


class Owed:
    """One member's watch.

    Args:
        settle_ns: how long after a deadline a correct leader's refusal stands in the log at the latest. It is also the
            shortest patience.

    Attributes:
        due_ns: accepted requests without an outcome, and when one is overdue.
        asked: requests that clients brought to this member, and when each is overdue by what its client said.
        since_ns: the last answer, or the leader's beginning, or when something came to be owed again.
        patience_ns: how long it may be since then.
        gave_up: whether this leader was given up here.
        refused: requests in a row that it refused before their deadlines.
        watched: whether a time is set to look again.
    """

    def __init__(self, settle_ns: int) -> None:
        self.settle_ns = self.patience_ns = settle_ns
        self.due_ns: dict[OpKey, int] = {}
        self.asked: dict[OpKey, int] = {}
        self.since_ns = 0
        self.gave_up = False
        self.refused = 0
        self.watched = False

    def expect(self, key: OpKey, left_ns: int, now_ns: int) -> None:
        """A client brought its request here; it has so long to live."""
        overdue_ns = now_ns + max(0, left_ns) + self.settle_ns
        if key not in self.asked and len(self.asked) >= ASKED_MAX:
            del self.asked[next(iter(self.asked))]
        self.asked.setdefault(key, overdue_ns)
        if key in self.due_ns:  # the log's deadline is what the leader wrote there
            self.due_ns[key] = min(self.due_ns[key], overdue_ns)

    def accepted(self, accept: Accept, now_ns: int) -> None:
        """A request stands in the log."""
        if not self.due_ns and not self.refused:
            self.since_ns = now_ns
        key = (accept.client, accept.op_id)
        due_ns = now_ns + max(0, accept.deadline_wall_ns - accept.accepted_wall_ns) + self.settle_ns
        self.due_ns.setdefault(key, min(due_ns, self.asked.get(key, due_ns)))

    def settled(self, key: OpKey, answered: bool, now_ns: int) -> bool:
        """A request has its outcome; return whether its client waits for it here."""
        due_ns = self.due_ns.pop(key, 0)
        if answered:
            self.since_ns, self.refused = now_ns, 0
            self.patience_ns = max(self.settle_ns, self.patience_ns // 2)
        elif now_ns < due_ns - self.settle_ns:
            self.refused += 1
        return self.asked.pop(key, None) is not None

    def begin(self, accepted: list[Accept], now_ns: int) -> None:
        """The state was taken over: this is all that is owed."""
        self.due_ns = {}
        for accept in accepted:
            self.accepted(accept, now_ns)

    def new_leader(self, now_ns: int) -> None:
        """Somebody else leads, and has time to settle what is overdue."""
        self.since_ns, self.refused = now_ns, 0
        if self.gave_up:
            self.gave_up = False
            self.patience_ns = min(2 * self.patience_ns, self.settle_ns << DOUBLINGS_MAX)
        self.due_ns = {key: max(due_ns, now_ns + self.settle_ns) for key, due_ns in self.due_ns.items()}

    @property
    def waits(self) -> bool:
        """Whether anything is owed."""
        return bool(self.due_ns) or self.refused >= REFUSED_MAX

    def give_up(self, now_ns: int) -> bool:
        """Return whether the leader is to be given up, and remember that it was."""
        overdue = self.waits and now_ns - self.since_ns >= self.patience_ns
        overdue = overdue or now_ns >= min(self.due_ns.values(), default=now_ns + 1)
        self.gave_up = self.gave_up or overdue
        return overdue
