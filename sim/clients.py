"""Clients of the twin: they submit, wait, follow redirects, and ask again with the same ``op_id``.

What a client does is a rule shared with the real world (`scenarios.clients`); here it runs on the engine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Union

import msgspec

from policies import port as p
from policies.gateway import Accepted, Answer, AnswerBy, Come, Part, PartBy, Redirect, Refused, Submit
from policies.port import NS_PER_S, Effect
from policies.sharding.links import TOKEN_BYTES
from policies.wire import digest, encode
from scenarios.clients import Attempt, Finish, first_attempt, on_reply, on_silence
from scenarios.workload import Request
from sim.bulk import ASK_BYTES
from sim.world import Node, World

_Reply = Union[Accepted, Answer, AnswerBy, Come, Part, PartBy, Redirect, Refused]  # noqa: UP007
_reply: Any = msgspec.msgpack.Decoder(_Reply).decode


@dataclass
class Asked:
    """One request from its client's side."""

    request: Request
    attempt: Attempt
    finish: Finish | None = None
    ended_ns: int = 0
    generation: int = 0


class Clients:
    """All clients of a run.

    Args:
        world: where their gateways are.
        committee: gateways, in the order in which clients try them.
        model: the model they ask for.
        retry_s: how long they wait before they ask again.
        one_way_s: delay between a client and a gateway.
        on_end: called with each request that ended.
        blob_s: what a gateway takes to fetch an answer from another node, beside its two messages.
    """

    def __init__(
        self,
        world: World,
        committee: list[str],
        model: str,
        retry_s: float,
        one_way_s: float,
        on_end: Callable[[Asked], None],
        blob_s: float = 0.0,
    ) -> None:
        self.world, self.committee, self.model, self.on_end = world, committee, model, on_end
        self.retry_s, self.one_way_s, self.blob_s = retry_s, one_way_s, blob_s
        self.open: dict[tuple[str, str], Asked] = {}
        self.leader_of: dict[str, int] = {}  # client to the gateway that last answered it
        self._kept: set[tuple[str, str]] = set()  # (gateway, answer) that it has fetched
        world.on_reply = self._replied

    def schedule(self, requests: list[Request]) -> None:
        """Put every arrival into the engine's queue."""
        for request in requests:
            self.world.engine.call_at(int(request.arrival_s * NS_PER_S), self._arrive, request)

    def _arrive(self, request: Request) -> None:
        asked = Asked(request, first_attempt(self.leader_of.get(request.client, 0)))
        self.open[(request.client, request.op_id)] = asked
        self._send(asked)

    def _send(self, asked: Asked) -> None:
        r, now = asked.request, self.world.engine.now
        node = self.world.by_name[self.committee[asked.attempt.gateway % len(self.committee)]]
        left_s = r.arrival_s + r.deadline_s - now / NS_PER_S
        submit = Submit(
            self.model,
            digest(f"{r.client}/{r.op_id}".encode()),
            r.prompt_tokens,
            r.new_tokens,
            r.priority,
            left_s,
        )
        given = (p.REQUEST, "gateway", r.client, r.op_id, encode(submit))
        self.world.engine.call_at(now + int(self.one_way_s * NS_PER_S), self._reach, (node, given))
        asked.generation += 1
        wait_ns = int(asked.attempt.wait_s(self.retry_s) * NS_PER_S)
        self.world.engine.call_at(now + wait_ns, self._silence, (asked, asked.generation))

    def _reach(self, argument: tuple[Node, Any]) -> None:
        self.world.give(argument[0], argument[1])

    def _replied(self, leave: int, node: Node, effect: Effect) -> None:
        _, _, client, op_id, payload, _ = effect
        reply = _reply(payload)
        arrives = leave + int((self._fetch_s(node, reply) + self.one_way_s) * NS_PER_S)
        self.world.engine.call_at(arrives, self._hear, (node.name, client, op_id, reply))

    def _fetch_s(self, gateway: Node, reply: Any) -> float:
        """Return how long a gateway takes to fetch the answer that it hands on; nothing if it has it, or cannot."""
        holder = self.world.by_name.get(reply.holder) if isinstance(reply, Answer) else None
        if holder is None or holder is gateway or (gateway.name, reply.output) in self._kept:
            return 0.0
        network, ends = self.world.network, (gateway.number, holder.number)
        if not holder.up or network.stopped(*ends) or network.stopped(*ends[::-1]):
            return 0.0
        self._kept.add((gateway.name, reply.output))
        (there_s, there_bytes_per_s, _), (back_s, back_bytes_per_s, _) = network.path(*ends), network.path(*ends[::-1])
        ways_s = there_s + ASK_BYTES / there_bytes_per_s + back_s + TOKEN_BYTES * reply.tokens / back_bytes_per_s
        return ways_s + self.blob_s

    def _hear(self, argument: tuple[str, str, str, _Reply]) -> None:
        name, client, op_id, reply = argument
        asked = self.open.get((client, op_id))
        if asked is None:
            return
        if isinstance(reply, Part):  # no outcome, and these clients wait for nothing else
            return
        self._go_on(asked, on_reply(asked.attempt, reply, self._left_s(asked), self.committee))
        if isinstance(reply, Answer | Refused):
            self.leader_of[client] = self.committee.index(name)

    def _silence(self, argument: tuple[Asked, int]) -> None:
        asked, generation = argument
        if asked.finish is None and asked.generation == generation:
            self._go_on(asked, on_silence(asked.attempt, self._left_s(asked), asked.request.deadline_s))

    def _left_s(self, asked: Asked) -> float:
        return asked.request.arrival_s + asked.request.deadline_s - self.world.engine.now / NS_PER_S

    def _go_on(self, asked: Asked, then: Attempt | Finish | None) -> None:
        if then is None:
            return
        if isinstance(then, Finish):
            asked.finish, asked.ended_ns = then, self.world.engine.now
            del self.open[(asked.request.client, asked.request.op_id)]
            self.on_end(asked)
            return
        asked.attempt = then
        if then.after_s > 0:
            asked.generation += 1
            at = self.world.engine.now + int(then.after_s * NS_PER_S)
            self.world.engine.call_at(at, self._again, (asked, asked.generation))
        else:
            self._send(asked)

    def _again(self, argument: tuple[Asked, int]) -> None:
        asked, generation = argument
        if asked.finish is None and asked.generation == generation:
            self._send(asked)
