"""The client's side of the village for the endpoint: one request in, its tokens out as they come.

It keeps the rule of `scenarios.clients`: it follows redirects, comes back when asked to, and asks the next gateway when
it hears nothing. A request that the village ran again after a failure brings its tokens again from the first; each
token is given out once, and those that come again are compared with it: a token follows from those before it and the
request alone, so they should be equal; where logits differ in rounding they may not be, and that is counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from policies.gateway import Answer, AnswerBy, Part, PartBy, Refused, Submit, Withdraw
from policies.jobs import EXPIRED, Sampling
from policies.wire import Message, digest, encode
from real_backends.clients import GATEWAY, GatewayReply
from real_backends.gateway.book import Book
from real_backends.gateway.errors import ApiError
from real_backends.gateway.metrics import Metrics
from real_backends.transports.frames import REQUEST, Reply, Request, Transport, decode
from scenarios.clients import Attempt, Finish, first_attempt, on_reply, on_silence

CLIENT = "http"
"""The name under which the endpoint's requests enter the village: one client, so that its rate is one bucket."""
PRIORITY = 2  # "normal", the class of a request that says nothing about it
BLOB_TRIES = 3  # requests made for an answer whose tokens its holder cannot hand over

_log = logging.getLogger(__name__)
_reply: Any = msgspec.msgpack.Decoder(GatewayReply).decode


@dataclass
class _Open:
    """A request under way: what was given out, and what came since."""

    prompt: bytes
    new_tokens: int
    sampling: Sampling | None
    heard: Callable[[str], None]
    until_s: float
    then: Attempt | Finish
    sent: list[int] = field(default_factory=list)
    came: asyncio.Queue[tuple[Any, bytes | None]] = field(default_factory=asyncio.Queue)
    outcome_s: float | None = None  # when it came
    output: bytes | None = None


class Asking:
    """Asks a village whose owner's links are these.

    Args:
        transport: the owner's links; `on_frame` must hear its REPLY frames.
        committee: gateways, in the order in which they are tried.
        model: what is asked for.
        retry_s: silence after which the next gateway is asked.
        deadline_s: after which the village gives a request up.
        metrics: where repeated tokens are counted.

    Attributes:
        book: what was asked, and what became of it.
    """

    def __init__(
        self, transport: Transport, committee: Sequence[str], model: str, retry_s: float, deadline_s: float,
        metrics: Metrics,
    ) -> None:  # fmt: skip
        self.book = Book()
        self._transport, self._committee, self._model = transport, list(committee), model
        self._retry_s, self._deadline_s, self._metrics = retry_s, deadline_s, metrics
        self._numbers = itertools.count(1)
        self._open: dict[str, _Open] = {}
        self._gateway = 0  # that answered last

    def on_frame(self, sender: str, kind: int, body: bytes) -> None:
        """Take a REPLY frame; a node that is no gateway has nothing to say to clients."""
        reply: Reply = decode(kind, body)
        one = self._open.get(reply.op_id)
        if one is None or reply.client != CLIENT or sender not in self._committee:
            return  # it has its outcome already, or nobody waits for it any more
        message = _reply(reply.payload)
        if isinstance(message, Answer | Refused):
            one.outcome_s = time.monotonic()  # its client may be slow to take what came
            self._gateway = self._committee.index(sender)
        one.came.put_nowait((message, reply.blob))

    async def ask(
        self, prompt: Sequence[int], new_tokens: int, sampling: Sampling | None = None,
        heard: Callable[[str], None] = lambda model: None,
    ) -> AsyncGenerator[list[int], None]:  # fmt: skip
        """Yield the answer's tokens, each once, as they come; ``heard`` is told whose they are, "" for who was asked.

        Closing the generator before its end gives the request up.

        Raises:
            ApiError: the village refused, or gave no outcome in time.
        """
        blob = np.asarray(prompt, dtype="<i4").tobytes()
        one = _Open(
            blob, new_tokens, sampling, heard, time.monotonic() + self._deadline_s, first_attempt(self._gateway)
        )
        for _ in range(BLOB_TRIES):
            async with contextlib.aclosing(self._once(one, prompt)) as tokens:
                async for new in tokens:
                    yield new
            assert isinstance(one.then, Finish)
            if one.then.status != "answered":
                raise _failure(one.then)
            if len(one.sent) >= one.then.tokens:
                return
            # Who made the answer is gone and has its tokens alone; the same request has the same answer elsewhere.
            one.then = first_attempt(self._gateway)
        raise ApiError("The answer was made, and no node could hand it over.", status=502, code="answer_lost")

    async def _once(self, one: _Open, prompt: Sequence[int]) -> AsyncGenerator[list[int], None]:
        """Ask as a request of its own, until ``one.then`` is its end."""
        op_id = f"{next(self._numbers):08d}"
        self._open[op_id] = one
        one.came, one.outcome_s, one.output = asyncio.Queue(), None, None
        entry = self.book.enter(op_id, CLIENT, PRIORITY, self._deadline_s, prompt, one.new_tokens, one.sampling)
        try:
            while isinstance(one.then, Attempt):
                async for new in self._attempt(op_id, one, one.then):
                    yield new
        finally:
            del self._open[op_id]
            self.book.end(entry, one.then, one.outcome_s, one.output)
            if isinstance(one.then, Attempt) or one.then.status == "lost":
                for gateway in self._committee:  # whoever leads gives it up; the others pass over it
                    self._send(gateway, op_id, Withdraw())

    async def _attempt(self, op_id: str, one: _Open, attempt: Attempt) -> AsyncGenerator[list[int], None]:
        """Ask one gateway and yield new tokens, until ``one.then`` says what comes next."""
        await asyncio.sleep(attempt.after_s)
        self._submit(op_id, one, attempt)
        silent_s = time.monotonic() + attempt.wait_s(self._retry_s)
        while True:
            message, output = await self._hear(one, silent_s)
            left_s = one.until_s - time.monotonic()
            if message is None:
                one.then = on_silence(attempt, left_s, self._deadline_s)
                return
            silent_s = max(silent_s, time.monotonic() + self._retry_s)
            if isinstance(message, Part):
                again = min(len(one.sent) - message.position, len(message.tokens))
                self._metrics.counts["repeated_tokens_total"] += max(0, again)
                new = self._take(one, message.position, list(message.tokens))
            else:
                one.output = output
                new = self._take(one, 0, _tokens(output)) if output is not None else []
            if isinstance(message, Part | Answer):
                one.heard(message.model if isinstance(message, PartBy | AnswerBy) else "")
            then = on_reply(attempt, message, left_s, self._committee)
            if then is not None:
                one.then = then
            if new:
                yield new
            if then is not None:
                return

    def _submit(self, op_id: str, one: _Open, attempt: Attempt) -> None:
        submit = Submit(
            self._model, digest(one.prompt), len(one.prompt) // 4, one.new_tokens, PRIORITY,
            one.until_s - time.monotonic(), one.sampling,
        )  # fmt: skip
        self._send(self._committee[attempt.gateway % len(self._committee)], op_id, submit, one.prompt)

    def _send(self, gateway: str, op_id: str, operation: Message, blob: bytes | None = None) -> None:
        frame = Request(path=GATEWAY, client=CLIENT, op_id=op_id, payload=encode(operation), blob=blob)
        self._transport.send(gateway, REQUEST, encode(frame))

    async def _hear(self, one: _Open, until_s: float) -> tuple[Any, bytes | None]:
        """Return the next reply, or (None, None) after ``until_s``."""
        try:
            return await asyncio.wait_for(one.came.get(), max(0.0, until_s - time.monotonic()))
        except TimeoutError:
            return None, None

    def _take(self, one: _Open, position: int, tokens: list[int]) -> list[int]:
        """Return those of ``tokens``, which stand at ``position``, that were not given out; compare the others."""
        known = len(one.sent) - position
        if known < 0:
            return []  # some are missing before them: they come with the answer
        if differing := sum(a != b for a, b in zip(one.sent[position:], tokens, strict=False)):
            self._metrics.counts["differing_tokens_total"] += differing
            _log.warning("%d tokens came again and differ from those that were sent", differing)
        new = tokens[known:]
        one.sent += new
        return new


def _tokens(output: bytes) -> list[int]:
    return [int(token) for token in np.frombuffer(output, dtype="<i4")]


def _failure(finish: Finish) -> ApiError:
    """Return what a client is told when the village gave no answer."""
    if finish.reason == "rate limit":
        return ApiError("Too many requests; come again later.", status=429, code="rate_limit_exceeded")
    if finish.reason == EXPIRED or finish.status == "lost":
        return ApiError(f"No answer in time: {finish.reason}.", status=504, code="timeout")
    return ApiError(f"The village gave no answer: {finish.reason}.", status=503, code="unavailable")
