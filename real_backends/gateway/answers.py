"""The bodies of answers: whole, and as the events of a stream.

Source of the shapes: OpenAI API reference, "The completion object", "The chat completion object" and "The chat
completion chunk object"; events end with ``data: [DONE]``.
"""

from __future__ import annotations

from typing import Any

import msgspec

from real_backends.gateway.wanted import Served, Wanted

DONE = b"data: [DONE]\n\n"


def event(body: dict[str, Any]) -> bytes:
    """Return one server-sent event."""
    return b"data: " + msgspec.json.encode(body) + b"\n\n"


class Answers:
    """The bodies that answer one request.

    Args:
        served: the model.
        wanted: the request.
        number: names the answer, unique in this process's life.
        created: Unix seconds.
    """

    def __init__(self, served: Served, wanted: Wanted, number: str, created: int) -> None:
        self._first = self._model = served.name
        self._wanted, self._created = wanted, created
        self._id = f"chatcmpl-{number}" if wanted.chat else f"cmpl-{number}"

    def heard(self, model: str) -> None:
        """Say who speaks from now on; "" is the model that was asked for."""
        self._model = model or self._first

    @property
    def lowered(self) -> bool:
        """Whether another model than the one asked for has spoken last."""
        return self._model != self._first

    def whole(self, text: str, tokens: int, finish: str) -> dict[str, Any]:
        """Return the one body of an answer that is not streamed."""
        choice: dict[str, Any] = {"index": 0, "finish_reason": finish, "logprobs": None}
        if self._wanted.chat:
            choice["message"] = {"role": "assistant", "content": text, "refusal": None}
        else:
            choice["text"] = text
        return self._body("chat.completion", [choice]) | {"model": self._model, "usage": self._usage(tokens)}

    def begin(self) -> list[bytes]:
        """Return the events before the first text: a chat's names who speaks."""
        return [self._event({"role": "assistant", "content": ""}, "", None)] if self._wanted.chat else []

    def part(self, text: str) -> bytes:
        """Return the event of some text."""
        return self._event({"content": text}, text, None)

    def end(self, tokens: int, finish: str) -> list[bytes]:
        """Return the last events: why it ended, what it took where that was asked for, and the end's mark."""
        events = [self._event({}, "", finish)]
        if self._wanted.usage:
            events.append(event(self._body("chat.completion.chunk", []) | {"usage": self._usage(tokens)}))
        return [*events, DONE]

    def _event(self, delta: dict[str, Any], text: str, finish: str | None) -> bytes:
        choice: dict[str, Any] = {"index": 0, "finish_reason": finish, "logprobs": None}
        choice |= {"delta": delta} if self._wanted.chat else {"text": text}
        return event(self._body("chat.completion.chunk", [choice]) | ({"usage": None} if self._wanted.usage else {}))

    def _body(self, chat_object: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        speaks = self._model.rpartition("+")[2]  # of an event's text; a whole answer names all who spoke
        name = chat_object if self._wanted.chat else "text_completion"
        return {"id": self._id, "object": name, "created": self._created, "model": speaks, "choices": choices}

    def _usage(self, tokens: int) -> dict[str, int]:
        prompt = len(self._wanted.prompt)
        return {"prompt_tokens": prompt, "completion_tokens": tokens, "total_tokens": prompt + tokens}
