"""A tokenizer of bytes: text in, token ids out. Enough for prompts to be text; there is nothing to train."""

from __future__ import annotations

from collections.abc import Iterable

BEGIN = 256  # the first id after the 256 bytes; every prompt starts with it, so no prompt is empty

# Texts whose greedy continuations are certified (see certificate.py): several lengths, scripts and one empty
# text.
TEST_PROMPTS = (
    "",
    "Hello, village.",
    "The quick brown fox jumps over the lazy dog.",
    "aaaaaaaaaaaaaaaaaaaaaaaa",
    "0, 1, 1, 2, 3, 5, 8, 13, 21, 34, 55,",
    "Grüße aus dem Dorf; привет; 你好",
    "def add(a, b):\n    return a + b\n",
    "A phone is charging on a kitchen table. It is night, the owner sleeps, and the phone could work.",
)


def encode(text: str) -> list[int]:
    """Token ids of a prompt: BEGIN, then the bytes of its UTF-8 form."""
    return [BEGIN, *text.encode("utf-8")]


def decode(tokens: Iterable[int]) -> str:
    """Text of generated tokens; ids that are not bytes and bytes that are not UTF-8 become U+FFFD."""
    # 0xFF never occurs in UTF-8, so it stands for every id that is not a byte.
    return bytes(token if 0 <= token < 256 else 0xFF for token in tokens).decode("utf-8", errors="replace")
