"""What was asked of a system: prompt, answer, batch, context; read from the words of a published row."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Conditions:
    """How the model is used.

    Attributes:
        prompt_tokens: of each stream.
        output_tokens: generated for each stream.
        batch: streams together.
        context_tokens: cached tokens of a stream during decode, mean; None: the prompt and half of the answer.
        depth_tokens: cached before the prompt comes.
        split: ``layers`` or ``tensor`` for several devices; empty: the engine's own.
        fused_attention: scores are never stored (flash attention).
        chunk_tokens: of a prompt that one pass takes in; 0: the engine's own.
        bytes_per_kv: of a number in the cache; 0: the model's own.
        old_build, old_metal: of llama.cpp before June 2024; on Metal before July 2025 (`models.inference.builds`).
        old_serving: of vLLM before September 2024.
    """

    prompt_tokens: int = 512
    output_tokens: int = 128
    batch: float = 1
    context_tokens: float | None = None
    depth_tokens: int = 0
    split: str = ""
    fused_attention: bool = False
    chunk_tokens: int = 0
    bytes_per_kv: float = 0.0
    old_build: bool = False
    old_metal: bool = False
    old_serving: bool = False

    def context(self) -> float:
        """Return the cached tokens of a stream during decode, mean."""
        if self.context_tokens is not None:
            return float(self.context_tokens)
        return self.depth_tokens + self.prompt_tokens + self.output_tokens / 2.0


_COUNT = r"[\s:=~]*(\d+(?:\.\d+)?)\s*(k\b)?"
_FIELDS = {
    "prompt": ("prompt(?:_tokens| tokens| length| len)?", "input(?:_tokens| tokens| length| len)?", "prefill", "isl"),
    "output": ("out(?:put)?(?:_tokens| tokens| length| len)?", "generat(?:e|ed|ion)", "osl", "gen", "tokens out"),
    "batch": ("batch(?: size)?", "bs", "concurrency", "streams", "users", "requests in flight", "batch_size"),
    "context": ("context(?: length| len)?", "ctx", "kv length", "mean context"),
    "depth": ("depth", r"@ ?d", "after"),
    "chunk": ("u_?batch(?:[ _]size)?", "ub", "chunk(?:[ _](?:size|tokens))?"),
}
_REVERSED = {
    "prompt": ("(?:token )?prompt", "input tokens", "tokens in", "prompt tokens"),
    "output": ("output tokens", "tokens out", "generated tokens", "new tokens"),
    "batch": ("concurrent", "streams", "users", "sequences"),
    "context": ("context", "ctx", "tokens of context", "token context"),
}


_CACHES = (
    (r"fp8|int8|8[ -]?bit", 1.0), (r"q8_0|q8", 1.0625), (r"q5_[01]", 0.6875), (r"q4_[01]|q4", 0.5625),
    (r"int4|4[ -]?bit", 0.5), (r"fp32|f32", 4.0), (r"fp16|bf16|f16", 2.0),
)  # fmt: skip


def read_cache(text: str) -> float:
    """Return the bytes of a number in the cache that a text names, as ``fp8 KV cache`` or ``ctk q8_0``; 0: none."""
    lower = text.lower()
    for name, size in _CACHES:
        if re.search(
            rf"\b(?:{name})[ -]kv\b|\bkv(?: cache)?(?: type)?[ =:]+(?:{name})\b|\b-?ctk[ =]+(?:{name})\b", lower
        ):
            return size
    return 0.0


def read_conditions(text: str) -> dict[str, float]:
    """Return the counts that a text names: ``prompt 512, batch 4, out 128``, ``8K context``, ``concurrency 32``."""
    lower, found = text.lower(), dict[str, float]()
    for name, names in _FIELDS.items():
        for word in names:
            match = re.search(rf"\b{word}{_COUNT}", lower)
            if match:
                found[name] = float(match[1]) * (1024 if match[2] else 1)
                break
    for name, names in _REVERSED.items():
        for word in names:
            match = re.search(rf"(\d+(?:\.\d+)?)(k)?[\s-]*{word}\b", lower)
            if match and name not in found:
                found[name] = float(match[1]) * (1024 if match[2] else 1)
                break
    return found
