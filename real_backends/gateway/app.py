"""The HTTP application: routes, and how one request becomes an answer, whole or in events."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from policies.jobs import Sampling
from real_backends.gateway.answers import Answers, event
from real_backends.gateway.errors import ApiError
from real_backends.gateway.metrics import CONTENT_TYPE, Metrics
from real_backends.gateway.text import TextStream
from real_backends.gateway.wanted import Served, Wanted, read

BODY_BYTES_MAX = 1 << 20  # far above what the context can hold; more is not even read
GONE = 499  # what nginx logs for a client that went away; nobody receives it


class Village(Protocol):
    """What answers (`real_backends.gateway.asking.Asking`)."""

    def ask(
        self, prompt: Sequence[int], new_tokens: int, sampling: Sampling | None, heard: Callable[[str], None]
    ) -> AsyncGenerator[list[int], None]:
        """Yield an answer's tokens as they come; closed early, the request is given up. Raises ApiError.

        Before tokens come ``heard`` is told whose they are, as `policies.commands.CompleteBy` names models.
        """
        ...


Health = Callable[[], Mapping[str, dict[str, Any]]]
"""Returns each node's name with ``up`` and what else is known of it."""


def make_app(served: Served, village: Village, metrics: Metrics, health: Health) -> Starlette:
    """Return the application.

    Args:
        served: the model.
        village: what answers.
        metrics: what is counted.
        health: how the nodes are.
    """
    endpoint = Endpoint(served, village, metrics)
    model = {"id": served.name, "object": "model", "created": served.created, "owned_by": "village"}

    async def models(request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [model]})

    async def one_model(request: Request) -> Response:
        name = request.path_params["name"]
        if name != served.name:
            text = f"The model {name!r} does not exist; this village serves {served.name!r}"
            raise ApiError(text, status=404, param="model", code="model_not_found")
        return JSONResponse(model)

    async def healthz(request: Request) -> Response:
        nodes = health()
        up = sum(bool(node["up"]) for node in nodes.values())
        status = "ok" if up == len(nodes) else "degraded" if up else "down"
        return JSONResponse({"status": status, "model": served.name, "nodes": nodes}, 200 if up else 503)

    async def counts(request: Request) -> Response:
        text = metrics.text({name: bool(node["up"]) for name, node in health().items()})
        return PlainTextResponse(text, media_type=CONTENT_TYPE)

    return Starlette(
        routes=[
            Route("/v1/models", models),
            Route("/v1/models/{name:path}", one_model),
            Route("/v1/completions", endpoint.completions, methods=["POST"]),
            Route("/v1/chat/completions", endpoint.chat, methods=["POST"]),
            Route("/healthz", healthz),
            Route("/metrics", counts),
        ],
        exception_handlers={ApiError: _refused, HTTPException: _refused_by_route, Exception: _our_fault},
    )


class Endpoint:
    """Both completion endpoints."""

    def __init__(self, served: Served, village: Village, metrics: Metrics) -> None:
        self._served, self._village, self._metrics = served, village, metrics

    async def completions(self, request: Request) -> Response:
        """Answer /v1/completions."""
        return await self._answer(request, chat=False)

    async def chat(self, request: Request) -> Response:
        """Answer /v1/chat/completions."""
        return await self._answer(request, chat=True)

    async def _answer(self, request: Request, *, chat: bool) -> Response:
        begun_s = time.monotonic()
        path = request.url.path
        try:
            wanted = read(await _body(request), self._served, chat=chat, seed=secrets.randbits(63))
        except ApiError as error:
            self._metrics.requests[path, error.status] += 1
            raise
        except ClientDisconnect:  # in the middle of its own body
            self._metrics.requests[path, GONE] += 1
            return Response(status_code=GONE)
        tokenizer = self._served.tokenizer
        text = TextStream(wanted.stops, tokenizer.pieces(), tokenizer.ends)
        answers = Answers(self._served, wanted, secrets.token_hex(12), int(time.time()))
        pieces = self._pieces(wanted, text, path, begun_s, answers)
        try:
            if not wanted.stream:
                whole = await _while_connected(request, _join(pieces))
                return JSONResponse(answers.whole(whole, text.tokens, _finish(text)))
            first = await _while_connected(request, anext(pieces))  # a refusal still has a status of its own
        except ClientDisconnect:
            return Response(status_code=GONE)
        events = _events(first, pieces, text, answers)
        return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache"})

    async def _pieces(
        self, wanted: Wanted, text: TextStream, path: str, begun_s: float, answers: Answers
    ) -> AsyncGenerator[str, None]:
        """Yield the answer's text as it comes, at least once, and count how it ended."""
        metrics, status = self._metrics, GONE
        metrics.open += 1
        metrics.counts["prompt_tokens_total"] += len(wanted.prompt)
        try:
            asked = self._village.ask(wanted.prompt, wanted.new_tokens, wanted.sampling, answers.heard)
            async with contextlib.aclosing(asked) as tokens:
                async for new in tokens:
                    if not text.tokens:
                        metrics.first_token.add(time.monotonic() - begun_s)
                    if piece := text.feed(new):
                        yield piece
                    if text.stopped:
                        break  # what would follow is given up
            status = 200
            yield text.end()
        except ApiError as error:
            status = error.status
            raise
        except Exception:
            status = 500
            raise
        finally:
            metrics.open -= 1
            metrics.requests[path, status] += 1
            metrics.counts["given_up_total"] += status == GONE
            metrics.counts["smaller_model_total"] += status == 200 and answers.lowered
            metrics.counts["completion_tokens_total"] += text.tokens
            metrics.duration.add(time.monotonic() - begun_s)


async def _join(pieces: AsyncGenerator[str, None]) -> str:
    return "".join([piece async for piece in pieces])


async def _events(
    first: str, pieces: AsyncGenerator[str, None], text: TextStream, answers: Answers
) -> AsyncGenerator[bytes, None]:
    """Yield the events of a streamed answer; an error in its middle is the last one."""
    async with contextlib.aclosing(pieces):
        for begun in answers.begin():
            yield begun
        try:
            if first:
                yield answers.part(first)
            async for piece in pieces:
                if piece:
                    yield answers.part(piece)
        except ApiError as error:
            yield event(error.body())
            return
    for last in answers.end(text.tokens, _finish(text)):
        yield last


def _finish(text: TextStream) -> str:
    """Return why an answer ended, in OpenAI's words: a token that ends it is a stop as well."""
    return "stop" if text.stopped or text.ended else "length"


async def _while_connected(request: Request, work: Coroutine[Any, Any, str]) -> str:
    """Return what ``work`` returns; cancel it when the client goes away.

    Raises:
        ClientDisconnect: the client went first.
    """
    working = asyncio.ensure_future(work)
    leaving = asyncio.ensure_future(_leave(request))
    try:
        await asyncio.wait((working, leaving), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientDisconnect
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _leave(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _body(request: Request) -> bytes:
    """Return the body, unless it is larger than any request can be."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_BYTES_MAX:
            text = f"The body has more than {BODY_BYTES_MAX} bytes."
            raise ApiError(text, status=413, code="request_too_large")
    return bytes(body)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return JSONResponse(error.body(), error.status)


async def _refused_by_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    text = f"{request.method} {request.url.path}: {error.detail}"
    return JSONResponse(ApiError(text, status=error.status_code, code="unknown_url").body(), error.status_code)


async def _our_fault(request: Request, error: Exception) -> Response:
    return JSONResponse(ApiError("The endpoint failed; its log says how.", status=500).body(), 500)
