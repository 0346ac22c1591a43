"""The clients of a local run: each request is sent over a real socket, by the rules of `scenarios.clients`.

All clients speak through the village's owner, whose key the nodes know; a client's name is part of its
request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Union

import msgspec
import numpy as np

from models import draws
from policies.gateway import Accepted, Answer, AnswerBy, Come, Part, PartBy, Redirect, Refused, Submit
from policies.jobs import Sampling
from policies.wire import digest, encode
from real_backends.transports.frames import REQUEST, Reply, Request, Transport, decode
from scenarios import workload
from scenarios.clients import Attempt, Finish, first_attempt, on_reply, on_silence

GATEWAY = "gateway"
"""Path of the policy that takes requests."""
RETRY_DEADLINE_S = 10.0  # assumption: long enough to fetch an answer from a holder that is slow or gone

TURNS_S = 0.002  # twice what a timer of the loop is late at most

GatewayReply = Union[Accepted, Answer, AnswerBy, Come, Part, PartBy, Redirect, Refused]  # noqa: UP007
_reply: Any = msgspec.msgpack.Decoder(GatewayReply).decode


async def _until(at_s: float) -> None:
    """Return at a time of ``time.monotonic()``, or a turn of the loop later.

    The loop's timers come up to a millisecond late, since its selector counts whole ones. That would be the client's
    own, and stand in the village's latency: so the last two of them are waited for turn by turn.
    """
    await asyncio.sleep(max(0.0, at_s - TURNS_S - time.monotonic()))
    while time.monotonic() < at_s:
        await asyncio.sleep(0)


@dataclass
class Asked:
    """One request from its client's side.

    Attributes:
        request: what was asked.
        prompt: its tokens.
        sampling: how the answer's tokens are drawn, None for greedily.
        finish: how it ended.
        ended_s: when, from the run's start.
        output: the answer's blob, None when there is none or the gateway could not get it.
    """

    request: workload.Request
    prompt: Sequence[int]
    sampling: Sampling | None = None
    finish: Finish | None = None
    ended_s: float = 0.0
    output: bytes | None = None
    replies: asyncio.Queue[tuple[Any, bytes | None]] = field(default_factory=asyncio.Queue)


class Clients:
    """All clients of a run.

    Args:
        committee: gateways, in the order in which clients try them.
        model: the model they ask for.
        vocab: prompts are seeded tokens below it.
        retry_s: how long a client waits before it asks the next gateway.
        seed: of the prompts.
        shared_tokens: with which all prompts begin.
    """

    def __init__(
        self, committee: Sequence[str], model: str, vocab: int, retry_s: float, seed: int, shared_tokens: int = 0
    ) -> None:
        self.asked: list[Asked] = []
        self._committee, self._model, self._retry_s = list(committee), model, retry_s
        self._vocab, self._seed, self._shared_tokens = vocab, seed, shared_tokens
        self._open: dict[tuple[str, str], Asked] = {}
        self._gateway_of: dict[str, int] = {}  # client to the gateway that last answered it

    @property
    def open(self) -> int:
        """Requests that were sent and have no outcome yet."""
        return len(self._open)

    def on_frame(self, sender: str, kind: int, body: bytes) -> None:
        """Take a REPLY frame; a node that is no gateway has nothing to say to clients."""
        reply: Reply = decode(kind, body)
        asked = self._open.get((reply.client, reply.op_id))
        if asked is None or sender not in self._committee:
            return  # it has its outcome already
        message = _reply(reply.payload)
        if isinstance(message, Answer | Refused):
            self._gateway_of[reply.client] = self._committee.index(sender)
        asked.replies.put_nowait((message, reply.blob))

    async def run(self, requests: Sequence[workload.Request], transport: Transport, begun_s: float) -> None:
        """Send every request at its time and return when each has its outcome.

        Args:
            requests: what to ask.
            transport: the owner's links.
            begun_s: ``time.monotonic()`` at the run's start.
        """
        await asyncio.gather(*(self._ask(n, r, transport, begun_s) for n, r in enumerate(requests)))

    async def _ask(self, number: int, request: workload.Request, transport: Transport, begun_s: float) -> None:
        places = np.arange(request.prompt_tokens)
        prompt = draws.integers(self._seed, "prompt", number, places, self._vocab)
        if self._shared_tokens:
            beginning = draws.integers(self._seed, "beginning of prompts", 0, places, self._vocab)
            prompt = np.where(places < self._shared_tokens, beginning, prompt)
        asked = Asked(request, [int(token) for token in prompt])
        await _until(begun_s + request.arrival_s)
        self.asked.append(asked)
        first = first_attempt(self._gateway_of.get(request.client, 0))
        await self._until_outcome(asked, first, transport, begun_s)

    async def ask_again(self, transport: Transport, requests_per_min: float) -> list[tuple[int, Asked, Asked]]:
        """Ask every gateway once more for answers, under the same ``op_id``, as a client would that lost them.

        Args:
            transport: the owner's links.
            requests_per_min: what gateways let a client ask. Each asks for its newest answers, as many as it may in
                half the time that it waits for them: asked for more at once, a gateway rightly says to come later.

        Returns:
            (number of the gateway, the request as it ended, the retry) of each.
        """
        found = []
        each_max = max(1, int(requests_per_min / 60 * RETRY_DEADLINE_S / 2))
        of_client: dict[str, list[Asked]] = {}
        for one in self.asked:
            if one.finish is not None and one.finish.status == "answered":
                of_client.setdefault(one.request.client, []).append(one)
        answered = [one for theirs in of_client.values() for one in theirs[-each_max:]]
        for gateway in range(len(self._committee)):  # one after another: a request is open once at a time
            begun_s = time.monotonic()
            retries = [
                Asked(a.request._replace(arrival_s=0.0, deadline_s=RETRY_DEADLINE_S), a.prompt) for a in answered
            ]
            await asyncio.gather(*(self._until_outcome(a, first_attempt(gateway), transport, begun_s) for a in retries))
            found += [(gateway, *both) for both in zip(answered, retries, strict=True)]
        return found

    async def _until_outcome(self, asked: Asked, first: Attempt, transport: Transport, begun_s: float) -> None:
        key = (asked.request.client, asked.request.op_id)
        self._open[key] = asked
        then: Attempt | Finish | None = first
        while isinstance(then, Attempt):
            await asyncio.sleep(then.after_s)
            then = await self._attempt(asked, then, transport, begun_s)
        asked.finish, asked.ended_s = then, time.monotonic() - begun_s
        del self._open[key]

    async def _attempt(
        self, asked: Asked, attempt: Attempt, transport: Transport, begun_s: float
    ) -> Attempt | Finish | None:
        request = asked.request
        blob = np.asarray(asked.prompt, dtype="<i4").tobytes()
        until_s = begun_s + request.arrival_s + request.deadline_s
        submit = Submit(
            self._model, digest(blob), request.prompt_tokens, request.new_tokens, request.priority,
            until_s - time.monotonic(),
        )  # fmt: skip
        frame = Request(path=GATEWAY, client=request.client, op_id=request.op_id, payload=encode(submit), blob=blob)
        transport.send(self._committee[attempt.gateway % len(self._committee)], REQUEST, encode(frame))
        silent_s = time.monotonic() + attempt.wait_s(self._retry_s)
        while True:
            try:
                wait_s = max(0.0, silent_s - time.monotonic())
                message, output = await asyncio.wait_for(asked.replies.get(), wait_s)
            except TimeoutError:
                return on_silence(attempt, until_s - time.monotonic(), request.deadline_s)
            then = on_reply(attempt, message, until_s - time.monotonic(), self._committee)
            if then is not None:
                asked.output = output if isinstance(message, Answer) else None
                return then
