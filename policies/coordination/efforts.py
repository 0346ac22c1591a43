"""The leader's work list: requests owed an outcome, in what order they run, and what their attempts said.

Order: by priority class, where waiting ``ageing_s`` lifts a request by one class. A request's key is therefore
constant (class x ageing + time of acceptance), and a heap keeps the order without ever being re-sorted.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from policies.commands import Accept, Complete, CompleteBy, Refuse, Vouched
from policies.local import Settlement
from policies.state import OpKey

WITHDRAWN = "withdrawn by its client"
"""Why a request is refused whose client wants no answer any more."""


Answer = tuple[str, int]
"""Output digest and tokens: a receipt signs both, so who counts its tokens otherwise has not given the same answer."""


class Vote(NamedTuple):
    """What one pipeline answered, ready to be proposed."""

    nodes: tuple[str, ...]
    answer: Complete


def vouched(votes: list[Vote]) -> Complete:
    """Return the first vote's answer, with the second vote's word for it if there is one."""
    answer = votes[0].answer
    if len(votes) < 2:
        return answer
    other = votes[1].answer
    return msgspec.structs.replace(answer, vouched=Vouched(other.receipt.stages, other.signature))


def settlement_of(outcome: Complete | Refuse) -> Settlement:
    """Return what the gateway is told of an outcome."""
    if isinstance(outcome, Refuse):
        return Settlement(outcome.client, outcome.op_id, outcome.reason, "", 0, 0, "")
    r, model = outcome.receipt, outcome.model if isinstance(outcome, CompleteBy) else ""
    return Settlement(r.client, r.op_id, "", r.output, r.tokens, outcome.first_token_ns, r.stages[0].node, model)


@dataclass
class Effort:
    """One request while it is owed an outcome.

    Attributes:
        accepted: the accepted request.
        tries: attempts started so far by this leader.
        running: attempt number to pipeline.
        used: pipelines already tried.
        votes: answer to the votes for it, of pipelines that share no node.
        settling: an outcome was proposed.
        emitted: the answer's first tokens, as attempts told them: for clients that ask again, and for later attempts.
        model: whose tokens those are, by the rule of `policies.commands.CompleteBy`; "" for the model asked for.
        lot: drawn by the leader, from 0 to 1, and told nobody: whether an answer will be audited must not be known to
            who gives it.
    """

    accepted: Accept
    tries: int = 0
    running: dict[int, int] = field(default_factory=dict)
    used: set[int] = field(default_factory=set)
    votes: dict[Answer, list[Vote]] = field(default_factory=dict)
    settling: bool = False
    emitted: list[int] = field(default_factory=list)
    model: str = ""
    lot: float = 0.0

    @property
    def key(self) -> OpKey:
        """(client, op_id)."""
        return (self.accepted.client, self.accepted.op_id)

    def emit(self, position: int, tokens: tuple[int, ...]) -> bool:
        """Keep tokens that stand at ``position`` of the answer; return whether they have a place in it."""
        end = position + len(tokens)
        if not 0 <= position <= end <= self.accepted.new_tokens:
            return False
        known = len(self.emitted)
        if position <= known < end:  # else some were lost on the way, or nothing is new; what was told never changes
            self.emitted += tokens[known - position :]
        return True

    def forced(self, audit_share: float) -> tuple[int, ...]:
        """Return the tokens that the next attempt must not decide again.

        A request that is audited has none: its pipelines must come to their answers by themselves, or an honest one
        would be blamed for what a liar told before it let go. Of any other one answer is believed anyhow. At least one
        token is left to decide, so that who signs the answer has worked for it. What another model had told a client is
        forced in any case: no pipeline would come to it by itself.
        """
        if self.votes or (self.audited(audit_share) and "+" not in self.model):
            return ()
        return tuple(self.emitted[: max(0, self.accepted.new_tokens - 1)])

    def audited(self, share: float) -> bool:
        """Whether this request is one of the ``share`` that run twice."""
        return self.lot < share

    def minority(self, answer: Answer) -> list[str]:
        """Nodes of attempts whose answer was another."""
        return [n for other, votes in self.votes.items() if other != answer for vote in votes for n in vote.nodes]

    @property
    def voters(self) -> set[str]:
        """Nodes of all attempts whose answers count."""
        return {node for votes in self.votes.values() for vote in votes for node in vote.nodes}


class Efforts:
    """All efforts, and the queue of those that wait for a pipeline."""

    def __init__(self, ageing_ns: int) -> None:
        self._ageing_ns = ageing_ns
        self._heap: list[tuple[int, OpKey]] = []
        self._waiting: set[OpKey] = set()
        self.all: dict[OpKey, Effort] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, accepted: Accept, lot: float = 0.0) -> None:
        """Take in a request and queue it; see `Effort` for its ``lot``."""
        effort = Effort(accepted, lot=lot)
        self.all[effort.key] = effort
        self.queue(effort)

    def queue(self, effort: Effort) -> None:
        """Queue an effort; it waits in the place its age gives it."""
        if effort.key not in self._waiting and not effort.settling:
            self._waiting.add(effort.key)
            a = effort.accepted
            heapq.heappush(self._heap, (a.priority * self._ageing_ns + a.accepted_wall_ns, effort.key))

    def next(self) -> Effort | None:
        """Return the effort whose turn it is, leaving it queued."""
        while self._heap:
            key = self._heap[0][1]
            if key in self._waiting and key in self.all:
                return self.all[key]
            heapq.heappop(self._heap)
        return None

    def rank(self, effort: Effort, wall_ns: int) -> int:
        """Return the class that a request has now, as waiting has lifted it; 0 where no class is told from another."""
        a = effort.accepted
        waited_ns = max(0, wall_ns - a.accepted_wall_ns)
        return max(0, a.priority - waited_ns // self._ageing_ns) if self._ageing_ns else 0

    def unqueue(self, effort: Effort) -> None:
        """Take an effort from the queue: it starts, or is settled."""
        self._waiting.discard(effort.key)
        if self._heap and self._heap[0][1] == effort.key:
            heapq.heappop(self._heap)

    def forget(self, key: OpKey) -> Effort | None:
        """Remove a settled request."""
        effort = self.all.pop(key, None)
        if effort is not None:
            self.unqueue(effort)
        return effort

    def expired(self, wall_ns: int, grace_ns: int) -> list[Effort]:
        """Return efforts past their deadline, oldest acceptance first.

        One that runs has ``grace_ns`` more: its answer may be near, but a head that says nothing must not hold it.
        """
        found = [
            effort
            for effort in self.all.values()
            if not effort.settling and effort.accepted.deadline_wall_ns + (grace_ns if effort.running else 0) < wall_ns
        ]
        return sorted(found, key=lambda e: (e.accepted.accepted_wall_ns, e.key))
