"""The gateway on a committee member.

Only the leader's gateway takes requests in; the others redirect. Where members may lie, whoever comes back after that
was sent to a leader that says nothing, and is taken in here: its request stands in the log by this member's word, and
the outcome is told here as well. A request has an *outcome* (`Answer` or `Refused`)
only once consensus has recorded it, so a client that asks again with the same ``op_id``, at any gateway and after any
kill, hears the same one. `Come` (come again later) records nothing and is no outcome.
"""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import Meta

from policies import local
from policies.commands import Priority
from policies.config import GatewayConfig
from policies.gateway.bucket import Buckets, TokenBucket
from policies.jobs import NAME_MAX, TOKENS_MAX, Name, Sampling
from policies.local import Ask, Busy, Leadership, Settlement
from policies.port import NS_PER_S, Policy
from policies.wire import Message

SILENCE_NS = NS_PER_S
"""A client that comes back so long after it was sent on has heard nothing from the leader (our choice: below any
client's patience, above redirects in a row)."""
SENT_ON_MAX = 4096
"""Requests remembered that were sent on (our bound)."""
CLIENTS_MAX = 4096
"""Clients whose rates are remembered (our bound, as of those sent on)."""
RETRY_S = 2.0
"""What a busy gateway tells a client to wait before it comes again (our choice: two leader heartbeats)."""


DEADLINE_MAX_S = 366 * 86_400.0
"""What a client may ask for at most (our bound, far above any use): anything else is malformed and dropped."""


class Submit(Message, frozen=True, tag="submit"):
    """Operation: run ``prompt`` (a blob the client sent along) through ``model``. Priority 0 is the most urgent."""

    model: Name
    prompt: Name
    prompt_tokens: Annotated[int, Meta(ge=1, le=TOKENS_MAX)]
    new_tokens: Annotated[int, Meta(ge=1, le=TOKENS_MAX)]
    priority: Priority
    deadline_s: Annotated[float, Meta(ge=-DEADLINE_MAX_S, le=DEADLINE_MAX_S)]  # from now; past for a late retry
    sampling: Sampling | None = None


class Withdraw(Message, frozen=True, tag="withdraw"):
    """Operation: the client wants no answer any more, and gets no reply. Without an outcome yet, it is a refusal."""


class Accepted(Message, frozen=True, tag="accepted"):
    """Not last: the request was taken in."""


class Part(Message, frozen=True, tag="part"):
    """Not last: the answer's tokens from ``position`` on. A request that runs again brings its tokens again."""

    position: int
    tokens: tuple[int, ...]


class Answer(Message, frozen=True, tag="answer"):
    """Outcome: the answer's blob, which ``holder`` has."""

    output: str
    tokens: int
    first_token_ns: int
    holder: str


class PartBy(Part, frozen=True, tag="part_by"):
    """A part that another model than the one asked for has made."""

    model: str


class AnswerBy(Answer, frozen=True, tag="answer_by"):
    """Outcome: the answer of another model than the one asked for; of two, with a plus, if one was lost on the way."""

    model: str


class Refused(Message, frozen=True, tag="refused"):
    """Outcome: no answer will come."""

    reason: str


class Redirect(Message, frozen=True, tag="redirect"):
    """Ask ``to`` instead."""

    to: str


class Come(Message, frozen=True, tag="come"):
    """Come again after ``retry_s``; nothing was recorded."""

    reason: str
    retry_s: float


class Admitted(Message, frozen=True, tag="admitted"):
    """Announced: the gateway let this through, whatever becomes of it."""

    client: str
    op_id: str


class Gateway(Policy):
    """One committee member's gateway."""

    requests = (Submit, Withdraw)

    def __init__(self, config: GatewayConfig, *, liars: bool = False) -> None:
        self.config, self.liars = config, liars
        self.leader = ""
        self.buckets = Buckets(self.new_bucket, CLIENTS_MAX)
        self.waiting: set[tuple[str, str]] = set()
        self.sent_on: dict[tuple[str, str], int] = {}

    def on_request(self, client: str, op_id: str, operation: Any) -> None:
        if max(len(client), len(op_id)) > NAME_MAX:
            self.port.note("name_too_long", client=client[:NAME_MAX], op_id=op_id[:NAME_MAX])
            return
        if isinstance(operation, Withdraw):
            self._withdraw(client, op_id)
            return
        if self.leader != self.port.me and not self._comes_back(client, op_id):
            if self.leader:
                self.port.reply(client, op_id, Redirect(self.leader))
            else:
                self.port.reply(client, op_id, Come("no leader", RETRY_S))
            return
        if not self.buckets.take(client, self.port.now):
            self.port.reply(client, op_id, Come("rate limit", 60.0 / self.config.requests_per_min))
            return
        self.port.decide("admitted", Admitted(client, op_id))
        self.waiting.add((client, op_id))
        s = operation
        deadline = self.port.wall + int(s.deadline_s * NS_PER_S)
        self.port.tell(
            "coordination",
            Ask(
                client,
                op_id,
                s.model,
                s.prompt,
                self.port.me,
                s.prompt_tokens,
                s.new_tokens,
                s.priority,
                deadline,
                s.sampling,
            ),
        )

    def _comes_back(self, client: str, op_id: str) -> bool:
        """Whether the leader says nothing to this client, which was sent to it; its first coming is noted."""
        if not (self.liars and self.leader):
            return False
        sent_ns = self.sent_on.get((client, op_id))
        if sent_ns is not None:
            return self.port.now - sent_ns >= SILENCE_NS
        if len(self.sent_on) >= SENT_ON_MAX:
            del self.sent_on[next(iter(self.sent_on))]
        self.sent_on[client, op_id] = self.port.now
        return False

    def _withdraw(self, client: str, op_id: str) -> None:
        """Give a request up; only a leader can, so a client tells every gateway."""
        if self.leader == self.port.me:
            self.waiting.discard((client, op_id))
            self.port.tell("coordination", local.Withdraw(client, op_id))

    def new_bucket(self) -> TokenBucket:
        """Return what limits one client."""
        return TokenBucket(self.config.requests_per_min / 60.0, self.config.burst)

    def on_local(self, sender: str, message: Any) -> None:
        if isinstance(message, Leadership):
            self.leader = message.leader
            self.sent_on.clear()
            if self.leader != self.port.me:
                for client, op_id in sorted(self.waiting):
                    self.port.reply(client, op_id, Redirect(self.leader) if self.leader else Come("no leader", RETRY_S))
                self.waiting.clear()
            return
        key = (message.client, message.op_id)
        if key not in self.waiting:
            return
        if isinstance(message, local.Tokens):
            told = (message.position, message.tokens)
            self.port.reply(*key, PartBy(*told, message.model) if message.model else Part(*told), last=False)
            return
        self.waiting.remove(key)
        if isinstance(message, Busy):
            self.port.reply(*key, Come(message.reason, RETRY_S))
        elif isinstance(message, Settlement) and message.refused:
            self.port.reply(*key, Refused(message.refused))
        else:
            answer = (message.output, message.tokens, message.first_token_ns, message.holder)
            self.port.reply(*key, AnswerBy(*answer, message.model) if message.model else Answer(*answer))
