"""What a client asks for: the fields of both completion endpoints, checked one by one.

Fields and defaults: OpenAI API reference, "Create completion" and "Create chat completion". A field that is null counts
as absent. What cannot be honoured is refused by name, never passed over.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from policies.jobs import TEMPERATURE_MAX, Sampling
from real_backends.gateway.errors import ApiError, invalid, unknown, unsupported
from real_backends.gateway.tokenizer import ByteTokenizer, Tokenizer

COMPLETION_TOKENS = 16  # max_tokens of /v1/completions where none is given, as in OpenAI's reference
STOPS_MAX = 4  # as in OpenAI's reference
ROLES = ("system", "developer", "user", "assistant")
SEED_BOUND = 1 << 63

NEUTRAL: dict[str, tuple[Any, ...]] = {
    "n": (1,), "best_of": (1,), "echo": (False,), "logprobs": (False, 0), "top_logprobs": (0,), "suffix": ("",),
    "frequency_penalty": (0,), "presence_penalty": (0,), "logit_bias": ({},),
    "response_format": ({"type": "text"},), "tools": ([],), "tool_choice": ("none",), "store": (False,),
}  # fmt: skip
"""Fields of OpenAI's that change nothing at these values; others are refused."""


@dataclass(frozen=True)
class Served:
    """The model that is served.

    Attributes:
        name: what clients call it.
        vocab: number of token ids.
        context: tokens that prompt and answer may have together.
        created: when it was loaded, Unix seconds.
        tokenizer: of its text.
    """

    name: str
    vocab: int
    context: int
    created: int
    tokenizer: Tokenizer = field(default_factory=ByteTokenizer)


@dataclass(frozen=True)
class Wanted:
    """One request, checked.

    Attributes:
        chat: whether it came to /v1/chat/completions.
        prompt: tokens of the prompt.
        new_tokens: how many may follow.
        sampling: how they are drawn, None for greedily.
        stops: sequences that end the text.
        stream: whether to answer in events.
        usage: whether the stream ends with the token counts.
    """

    chat: bool
    prompt: tuple[int, ...]
    new_tokens: int
    sampling: Sampling | None
    stops: tuple[str, ...]
    stream: bool
    usage: bool


def read(body: bytes, served: Served, *, chat: bool, seed: int) -> Wanted:
    """Check a request's body; ``seed`` is what its tokens are drawn by where it names none.

    Raises:
        ApiError: not JSON, an unknown field, a value that is not allowed, another model, or too many tokens.
    """
    fields = _fields(body)
    _known(fields, _CHAT if chat else _COMPLETION)
    _model(fields, served)
    sampling = _sampling(fields, seed, served.tokenizer.ends)
    source = "messages" if chat else "prompt"
    if chat:
        prompt = tuple(served.tokenizer.chat(_messages(fields.get(source))))
    else:
        prompt = _prompt(fields.get(source), served)
    if not prompt:
        raise invalid(source, fields.get(source), "what has at least one token")
    stream = _flag(fields, "stream")
    room = served.context - len(prompt)
    asked = _tokens(fields)
    new_tokens = asked if asked is not None else (max(1, room) if chat else COMPLETION_TOKENS)
    if new_tokens > room:
        raise ApiError(
            f"This model's maximum context length is {served.context} tokens. However, you requested "
            f"{len(prompt) + new_tokens} tokens ({len(prompt)} in the {source}, {new_tokens} in the completion).",
            param=source,
            code="context_length_exceeded",
        )
    return Wanted(chat, prompt, new_tokens, sampling, _stops(fields.get("stop")), stream, _usage(fields, stream))


def _fields(body: bytes) -> dict[str, Any]:
    try:
        plain = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ApiError(f"The body is not valid JSON: {error}", code="invalid_json") from None
    if not isinstance(plain, dict):
        raise ApiError(f"The body is a JSON {type(plain).__name__}: allowed: an object", code="invalid_json")
    return {name: value for name, value in plain.items() if value is not None}


def _known(fields: Mapping[str, Any], known: frozenset[str]) -> None:
    for name, value in fields.items():
        if name not in known:
            raise unknown(name)
        if name in NEUTRAL and not any(value == v and type(value) in (type(v), float) for v in NEUTRAL[name]):
            raise unsupported(name, value, " or ".join(repr(v) for v in NEUTRAL[name]))


def _model(fields: Mapping[str, Any], served: Served) -> None:
    model = fields.get("model")
    if not isinstance(model, str):
        raise invalid("model", model, f"the name of a model, {served.name!r}")
    if model != served.name:
        text = f"The model {model[:80]!r} does not exist; this village serves {served.name!r}"
        raise ApiError(text, status=404, param="model", code="model_not_found")


def _sampling(fields: Mapping[str, Any], fresh_seed: int, ends: tuple[int, ...]) -> Sampling | None:
    """Return how tokens are drawn; a temperature or a set of nothing leaves the likeliest one."""
    temperature, top_p = fields.get("temperature", 1), fields.get("top_p", 1)
    seed = fields.get("seed", fresh_seed)
    if not _number(temperature) or not 0 <= temperature <= TEMPERATURE_MAX:
        raise invalid("temperature", temperature, f"a number from 0 to {TEMPERATURE_MAX:g}")
    if not _number(top_p) or not 0 <= top_p <= 1:
        raise invalid("top_p", top_p, "a number from 0 to 1")
    if not _whole(seed) or not -SEED_BOUND <= seed < SEED_BOUND:
        raise invalid("seed", seed, "a 64-bit integer")
    if not isinstance(fields.get("user", ""), str):
        raise invalid("user", fields["user"], "a string")
    if temperature > 0 and top_p > 0:
        return Sampling(float(temperature), float(top_p), seed, ends)
    return Sampling(0.0, 1.0, 0, ends) if ends else None


def _prompt(prompt: Any, served: Served) -> tuple[int, ...]:
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str | list):
        prompt = prompt[0]
    if isinstance(prompt, str):
        return tuple(served.tokenizer.encode(prompt))
    if isinstance(prompt, list) and prompt and all(_whole(token) and 0 <= token < served.vocab for token in prompt):
        return tuple(prompt)
    raise invalid("prompt", prompt, f"one string, or one non-empty list of token ids from 0 to {served.vocab - 1}")


def _messages(messages: Any) -> list[dict[str, str]]:
    """Return a conversation as its messages' roles, texts and names."""
    if not isinstance(messages, list) or not messages:
        raise invalid("messages", messages, "a non-empty list of messages")
    found = []
    for at, message in enumerate(messages):
        where = f"messages[{at}]"
        if not isinstance(message, dict):
            raise invalid(where, message, "an object with role and content")
        role, name = message.get("role"), message.get("name")
        if role not in ROLES:
            raise invalid(f"{where}.role", role, ", ".join(ROLES))
        if name is not None and not isinstance(name, str):
            raise invalid(f"{where}.name", name, "a string")
        for extra in message.keys() - {"role", "content", "name"}:
            if message[extra] is not None:
                raise unknown(f"{where}.{extra}")
        text = _content(message.get("content"), f"{where}.content")
        found.append({"role": role, "content": text} | ({"name": name} if name is not None else {}))
    return found


def _content(content: Any, where: str) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list) and content:
        parts = [
            part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None for part in content
        ]
        if all(isinstance(part, str) for part in parts):
            return "".join(part for part in parts if part)
    raise invalid(where, content, "a string, or a list of parts of type text")


def _tokens(fields: Mapping[str, Any]) -> int | None:
    names = [name for name in ("max_completion_tokens", "max_tokens") if name in fields]
    for name in names:
        if not _whole(fields[name]) or fields[name] < 1:
            raise invalid(name, fields[name], "an integer of at least 1")
    if len(names) == 2 and fields[names[0]] != fields[names[1]]:
        raise invalid(
            "max_tokens", fields["max_tokens"], f"the same as max_completion_tokens={fields[names[0]]}, or none"
        )
    return fields[names[0]] if names else None


def _stops(stop: Any) -> tuple[str, ...]:
    stops = [] if stop is None else [stop] if isinstance(stop, str) else stop
    if not isinstance(stops, list) or len(stops) > STOPS_MAX or not all(isinstance(s, str) and s for s in stops):
        raise invalid("stop", stop, f"a non-empty string, or up to {STOPS_MAX} of them")
    return tuple(stops)


def _usage(fields: Mapping[str, Any], stream: bool) -> bool:
    options = fields.get("stream_options")
    if options is None:
        return False
    if not stream:
        raise invalid("stream_options", options, "only with stream=true")
    if not isinstance(options, dict) or options.keys() - {"include_usage"}:
        raise invalid("stream_options", options, "an object with include_usage")
    given = {name: value for name, value in options.items() if value is not None}
    return _flag(given, "include_usage", "stream_options.")


def _flag(fields: Mapping[str, Any], name: str, prefix: str = "") -> bool:
    value = fields.get(name, False)
    if not isinstance(value, bool):
        raise invalid(prefix + name, value, "true or false")
    return value


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_SHARED = frozenset({
    "model", "max_tokens", "temperature", "top_p", "seed", "stop", "stream", "stream_options", "user", "n", "logprobs",
    "frequency_penalty", "presence_penalty", "logit_bias",
})  # fmt: skip
_COMPLETION = _SHARED | {"prompt", "best_of", "echo", "suffix"}
_CHAT = _SHARED | {
    "messages", "max_completion_tokens", "top_logprobs", "response_format", "tools", "tool_choice", "store",
}  # fmt: skip
