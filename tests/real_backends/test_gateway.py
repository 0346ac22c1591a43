"""The HTTP endpoint before a village that is made up: fields, errors in OpenAI's form, streams, clients that go."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.jobs import Sampling
from real_backends.executors import decode, encode
from real_backends.gateway.errors import SHOWN_MAX, ApiError, invalid, unknown, unsupported
from real_backends.gateway.metrics import Metrics
from real_backends.gateway.text import TextStream
from real_backends.gateway.wanted import Served, read

if importlib.util.find_spec("starlette") is None:
    pytest.skip("starlette is not installed: the extra gateway brings it", allow_module_level=True)

from real_backends.gateway.app import make_app

SERVED = Served("tiny", vocab=512, context=100, created=7)
ANSWER = "Grüße: one two three"
ASKED = {"model": "tiny", "prompt": "Hi", "max_tokens": 8}
CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}]}


@dataclass
class Made:
    """A village that answers `ANSWER`, a byte at a time; ``after`` a number of tokens it fails, or says no more."""

    after: int = 1000
    error: ApiError | None = None
    asked: list[tuple[int, int]] = field(default_factory=list)
    drawn: list[Sampling | None] = field(default_factory=list)
    given_up: int = 0
    models: dict[int, str] = field(default_factory=dict)  # who speaks from so many tokens on

    async def ask(
        self, prompt: Sequence[int], new_tokens: int, sampling: Sampling | None, heard: Callable[[str], None]
    ) -> AsyncGenerator[list[int], None]:
        self.drawn.append(sampling)
        self.asked.append((len(prompt), new_tokens))
        try:
            for number, token in enumerate((ANSWER * 10).encode()[:new_tokens]):
                if number == self.after:
                    if self.error is not None:
                        raise self.error
                    await asyncio.Event().wait()
                await asyncio.sleep(0)
                if number in self.models:
                    heard(self.models[number])
                yield [token]
        except (asyncio.CancelledError, GeneratorExit):
            self.given_up += 1
            raise


@dataclass
class Heard:
    """What an ASGI client heard."""

    status: int = 0
    chunks: list[bytes] = field(default_factory=list)

    @property
    def json(self) -> Any:
        """The body."""
        return json.loads(b"".join(self.chunks))

    @property
    def events(self) -> list[Any]:
        """The events of a stream; the last is the end's mark."""
        found = [part.removeprefix("data: ") for part in b"".join(self.chunks).decode().split("\n\n")[:-1]]
        return [part if part == "[DONE]" else json.loads(part) for part in found]


def call(
    village: Made,
    path: str,
    body: Any = None,
    *,
    leave_after: int | None = None,
    metrics: Metrics | None = None,
    cut: bool = False,
) -> Heard:
    """Speak to the application as a server would; the client goes away after so many chunks, or within its body."""

    async def run() -> Heard:
        app = make_app(SERVED, village, metrics or Metrics(), lambda: {"desk-0": {"up": True}, "desk-1": {"up": False}})
        heard, left = Heard(), asyncio.Event()
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        given: list[dict[str, Any]] = [{"type": "http.request", "body": sent, "more_body": cut}]
        if leave_after == 0:
            left.set()

        async def receive() -> dict[str, Any]:
            if given:
                return given.pop()
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start":
                heard.status = message["status"]
            elif message["body"]:
                heard.chunks.append(message["body"])
            if leave_after is not None and len(heard.chunks) >= leave_after:
                left.set()
            await asyncio.sleep(0)

        scope = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.3"}, "path": path,
            "method": "GET" if body is None else "POST", "query_string": b"", "headers": [],
            "scheme": "http", "server": ("127.0.0.1", 80),
            "http_version": "1.1", "root_path": "",
        }  # fmt: skip
        async with asyncio.timeout(30):
            await app(scope, receive, send)  # type: ignore[arg-type]
        return heard

    return asyncio.run(run())


def test_a_completion_has_the_text_and_the_counts() -> None:
    """The text is the tokens' bytes, and usage counts the prompt with its first token, and the answer."""
    village = Made()
    heard = call(village, "/v1/completions", ASKED)
    assert heard.status == 200
    assert heard.json["choices"] == [{"index": 0, "finish_reason": "length", "logprobs": None, "text": "Grüße:"}]
    assert heard.json["usage"] == {"prompt_tokens": 3, "completion_tokens": 8, "total_tokens": 11}
    assert (heard.json["object"], heard.json["model"]) == ("text_completion", "tiny")
    assert village.asked == [(3, 8)]


def test_the_answer_says_which_model_gave_it() -> None:
    """A smaller one that served is named; where it went on from another's text, both are, and each event its own."""
    alone, both = Made(models={0: "mini"}), Made(models={4: "tiny+mini"})
    assert call(alone, "/v1/completions", ASKED).json["model"] == "mini"
    assert call(both, "/v1/completions", ASKED).json["model"] == "tiny+mini"
    *chunks, done = call(both, "/v1/completions", ASKED | {"stream": True}).events
    assert done == "[DONE]"
    named = [chunk["model"] for chunk in chunks if chunk["choices"][0]["text"]]
    assert named == sorted(named, reverse=True)
    assert set(named) == {"tiny", "mini"}


def test_a_chat_may_fill_the_context() -> None:
    """Without a bound an answer may take what the context has left, and comes as the assistant's message."""
    village = Made()
    heard = call(village, "/v1/chat/completions", CHAT)
    prompt = len(encode("user: Hi\nassistant: "))
    assert village.asked == [(prompt, SERVED.context - prompt)]
    assert heard.json["choices"][0]["message"]["role"] == "assistant"
    assert heard.json["usage"]["total_tokens"] == SERVED.context


def test_a_stop_ends_the_text_and_gives_the_rest_up() -> None:
    """The text ends before the sequence, the reason is stop, and the village is told to go no further."""
    village = Made()
    heard = call(village, "/v1/completions", ASKED | {"max_tokens": 60, "stop": ["two", "zzz"]})
    choice = heard.json["choices"][0]
    assert (choice["text"], choice["finish_reason"]) == ("Grüße: one ", "stop")
    assert heard.json["usage"]["completion_tokens"] == len("Grüße: one two".encode())
    assert village.given_up == 1


@pytest.mark.parametrize("options", [None, {}, {"include_usage": None}, {"include_usage": False}])
def test_a_stream_tells_no_counts_that_were_not_asked_for(options: Any) -> None:
    """An option that is null counts as absent, within `stream_options` as well."""
    *chunks, done = call(Made(), "/v1/completions", ASKED | {"stream": True, "stream_options": options}).events
    assert done == "[DONE]"
    assert all(chunk.get("usage") is None for chunk in chunks)


@pytest.mark.parametrize("chat", [False, True])
def test_a_stream_says_what_a_whole_answer_says(chat: bool) -> None:
    """Joined, the events' text is that of the whole answer; then the reason, the counts and the end's mark."""
    path = "/v1/chat/completions" if chat else "/v1/completions"
    body = (CHAT if chat else ASKED) | {"max_tokens": 20}
    whole = call(Made(), path, body).json
    events = call(Made(), path, body | {"stream": True, "stream_options": {"include_usage": True}}).events
    *chunks, usage, done = events
    texts = [c["choices"][0]["delta"].get("content", "") if chat else c["choices"][0]["text"] for c in chunks]
    assert "".join(texts) == (whole["choices"][0]["message"]["content"] if chat else whole["choices"][0]["text"])
    assert sum(text != "" for text in texts) > 10  # it came as it was made
    assert [c["choices"][0]["finish_reason"] for c in chunks][-2:] == [None, "length"]
    assert (usage["choices"], usage["usage"], done) == ([], whole["usage"], "[DONE]")
    assert all(c["usage"] is None for c in chunks)
    assert len({c["id"] for c in [*chunks, usage]}) == 1


WRONG: list[tuple[str, Any, int, str | None, str]] = [
    ("completions", b"{", 400, None, "invalid_json"),
    ("completions", b"\xff", 400, None, "invalid_json"),
    ("completions", [1], 400, None, "invalid_json"),
    ("completions", ASKED | {"colour": "red"}, 400, "colour", "unknown_parameter"),
    ("completions", ASKED | {"max_completion_tokens": 3}, 400, "max_completion_tokens", "unknown_parameter"),
    ("completions", ASKED | {"model": "gpt"}, 404, "model", "model_not_found"),
    ("completions", {"prompt": "Hi"}, 400, "model", "invalid_value"),
    ("completions", {"model": "tiny"}, 400, "prompt", "invalid_value"),
    ("completions", ASKED | {"prompt": []}, 400, "prompt", "invalid_value"),
    ("completions", ASKED | {"prompt": [512]}, 400, "prompt", "invalid_value"),
    ("completions", ASKED | {"prompt": ["a", "b"]}, 400, "prompt", "invalid_value"),
    ("completions", ASKED | {"max_tokens": 0}, 400, "max_tokens", "invalid_value"),
    ("completions", ASKED | {"max_tokens": True}, 400, "max_tokens", "invalid_value"),
    ("completions", ASKED | {"max_tokens": 98}, 400, "prompt", "context_length_exceeded"),
    ("completions", ASKED | {"n": 2}, 400, "n", "unsupported_value"),
    ("completions", ASKED | {"n": True}, 400, "n", "unsupported_value"),
    ("completions", ASKED | {"temperature": -0.1}, 400, "temperature", "invalid_value"),
    ("completions", ASKED | {"temperature": "hot"}, 400, "temperature", "invalid_value"),
    ("completions", ASKED | {"seed": 1 << 63}, 400, "seed", "invalid_value"),
    ("completions", ASKED | {"temperature": 3}, 400, "temperature", "invalid_value"),
    ("completions", ASKED | {"top_p": 1.5}, 400, "top_p", "invalid_value"),
    ("completions", ASKED | {"seed": "one"}, 400, "seed", "invalid_value"),
    ("completions", ASKED | {"stop": ""}, 400, "stop", "invalid_value"),
    ("completions", ASKED | {"stop": ["a"] * 5}, 400, "stop", "invalid_value"),
    ("completions", ASKED | {"stream": 1}, 400, "stream", "invalid_value"),
    ("completions", ASKED | {"stream_options": {"include_usage": True}}, 400, "stream_options", "invalid_value"),
    ("completions", ASKED | {"echo": True}, 400, "echo", "unsupported_value"),
    ("completions", b'{"model": "tiny", "prompt": "\\ud800"}', 400, None, "invalid_json"),
    ("completions", b"[" * 5000, 400, None, "invalid_json"),
    ("completions", b" " * (1 << 21), 413, None, "request_too_large"),
    ("chat/completions", CHAT | {"messages": []}, 400, "messages", "invalid_value"),
    (
        "chat/completions",
        {"model": "tiny", "messages": [{"role": "boss", "content": "x"}]},
        400,
        "messages[0].role",
        "",
    ),
    (
        "chat/completions",
        {"model": "tiny", "messages": [{"role": "user", "content": 3}]},
        400,
        "messages[0].content",
        "",
    ),
    ("chat/completions", CHAT | {"max_tokens": 3, "max_completion_tokens": 4}, 400, "max_tokens", "invalid_value"),
    ("chat/completions", {"model": "tiny", "messages": [{"role": "user", "content": "x" * 99}]}, 400, "messages", ""),
    ("nothing", ASKED, 404, None, "unknown_url"),
    ("models", ASKED, 405, None, "unknown_url"),
]


@pytest.mark.parametrize(("path", "body", "status", "param", "code"), WRONG)
def test_bad_input_is_refused_in_openais_form(path: str, body: Any, status: int, param: str | None, code: str) -> None:
    """Each mistake has its status, the field that is wrong and a word for programs, and asks the village nothing."""
    village = Made()
    heard = call(village, f"/v1/{path}", body)
    assert heard.status == status
    error = heard.json["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert error["message"]
    assert not code or error["code"] == code
    assert village.asked == []


def test_fields_that_change_nothing_are_taken() -> None:
    """Null counts as absent, and OpenAI's fields are taken at the values at which they change nothing."""
    neutral = {"n": 1, "temperature": 0.0, "top_p": 0.5, "seed": 3, "user": "me", "logit_bias": None, "echo": False,
               "presence_penalty": 0.0, "stop": None, "stream": None, "suffix": None, "best_of": 1}  # fmt: skip
    assert call(Made(), "/v1/completions", ASKED | neutral).status == 200
    parts = [{"type": "text", "text": "H"}, {"type": "text", "text": "i"}]
    assert read(json.dumps({"model": "tiny", "messages": [{"role": "user", "content": parts}]}).encode(), SERVED,
                chat=True, seed=1) == read(json.dumps(CHAT).encode(), SERVED, chat=True, seed=1)  # fmt: skip


def test_how_tokens_are_drawn_is_the_clients() -> None:
    """OpenAI's defaults draw by the model's own shares; temperature or top_p 0 is greedy; a seed of its own each."""
    village = Made()
    for fields in ({}, {}, {"temperature": 0}, {"top_p": 0}, {"temperature": 0.5, "top_p": 0.9, "seed": -3}):
        assert call(village, "/v1/completions", ASKED | fields).status == 200
    first, second, *greedy, given = village.drawn
    assert first is not None
    assert second is not None
    assert (first.temperature, first.top_p) == (1.0, 1.0)
    assert first.seed != second.seed
    assert greedy == [None, None]
    assert given == Sampling(0.5, 0.9, -3)


@pytest.mark.parametrize("stream", [False, True])
def test_a_village_that_refuses_is_an_error_with_a_status(stream: bool) -> None:
    """What fails before the first token has its status, streamed or not."""
    heard = call(Made(0, ApiError("no workers", status=503)), "/v1/completions", ASKED | {"stream": stream})
    assert (heard.status, heard.json["error"]["type"]) == (503, "server_error")


def test_a_stream_that_fails_ends_with_the_error() -> None:
    """After the first token the error is the last event, and nothing says that the answer is complete."""
    heard = call(Made(3, ApiError("no workers", status=503)), "/v1/completions", ASKED | {"stream": True})
    assert heard.status == 200
    assert heard.events[-1]["error"]["message"] == "no workers"
    assert [event["choices"][0]["finish_reason"] for event in heard.events[:-1]] == [None, None]  # "G", "r"


@pytest.mark.parametrize(("stream", "leave_after"), [(False, 0), (True, 0), (True, 2)])
def test_a_client_that_goes_away_gives_its_request_up(stream: bool, leave_after: int) -> None:
    """Before the first token or in mid-stream: the village is told, nothing is left open, and it is counted."""
    village, metrics = Made(after=4 if leave_after else 0), Metrics()
    call(village, "/v1/completions", ASKED | {"stream": stream}, leave_after=leave_after, metrics=metrics)
    assert village.given_up == 1
    assert metrics.open == 0
    assert metrics.counts["given_up_total"] == 1


def test_a_client_that_goes_within_its_body_asks_nothing() -> None:
    """It is counted as one that went away, and is no failure of the endpoint."""
    village, metrics = Made(), Metrics()
    heard = call(village, "/v1/completions", b'{"model', leave_after=0, metrics=metrics, cut=True)
    assert heard.status == 499
    assert (village.asked, metrics.requests["/v1/completions", 499]) == ([], 1)


def test_errors_show_no_more_of_a_value_than_helps() -> None:
    """A megabyte is not sent back, and lists that nest deeper than Python writes them are an error of the client's."""
    nested: list[Any] = []
    for _ in range(5000):
        nested = [nested]
    errors = [refuse("stop", value, "x") for refuse in (invalid, unsupported) for value in (nested, "x" * 99_999)]
    assert all(len(error.message) < SHOWN_MAX + 60 for error in [*errors, unknown("x" * 99_999)])


def test_models_health_and_metrics() -> None:
    """The model is listed, a node that is down degrades the health, and every metric line has Prometheus' form."""
    assert [model["id"] for model in call(Made(), "/v1/models").json["data"]] == ["tiny"]
    assert call(Made(), "/v1/models/tiny").json["id"] == "tiny"
    assert call(Made(), "/v1/models/other").status == 404
    assert call(Made(), "/healthz").json["status"] == "degraded"
    metrics = Metrics()
    call(Made(), "/v1/completions", ASKED, metrics=metrics)
    text = b"".join(call(Made(), "/metrics", metrics=metrics).chunks).decode()
    assert 'villagetwin_requests_total{endpoint="/v1/completions",status="200"} 1' in text
    assert "villagetwin_completion_tokens_total 8" in text
    assert 'villagetwin_node_up{node="desk-1"} 0' in text
    line = re.compile(r'(# (HELP|TYPE) \w+ .+|\w+(\{\w+="[^"]*"(,\w+="[^"]*")*\})? [0-9.]+)')
    assert all(line.fullmatch(one) for one in text.splitlines())


@given(
    tokens=st.lists(st.integers(0, 300) | st.sampled_from([*"aü".encode()]), max_size=40),
    stops=st.lists(st.text("abü\ufffd", min_size=1, max_size=3), max_size=3),
    cuts=st.lists(st.integers(0, 40), max_size=5),
)
def test_text_is_the_same_however_tokens_come(tokens: list[int], stops: list[str], cuts: list[int]) -> None:
    """Pieces joined are the tokens' text up to the first stop sequence to be complete, whatever came together."""
    stream, bounds = TextStream(stops), sorted({0, len(tokens), *(cut for cut in cuts if cut <= len(tokens))})
    pieces = [stream.feed(tokens[first:last]) for first, last in zip(bounds, [*bounds[1:], len(tokens)], strict=True)]
    joined = "".join([*pieces, stream.end()])
    text = decode(tokens)
    ends = [at + len(stop) for stop in stops if (at := text.find(stop)) >= 0]
    assert stream.stopped == bool(ends)
    if ends:
        text = text[: min(ends)]
        text = text[: min(at for stop in stops if (at := text.find(stop)) >= 0)]
    assert joined == text
