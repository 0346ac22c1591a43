"""Text to tokens and back: what any tokenizer does for the endpoint, and the one of bytes.

A checkpoint's own is `real_backends.gateway.own_tokenizer`.
"""

from __future__ import annotations

import codecs
from collections.abc import Mapping, Sequence
from typing import Protocol

from real_backends.executors import encode
from real_backends.executors.tokens import BEGIN

NO_BYTE = 0xFF
"""Stands for ids that are no byte: it never occurs in UTF-8, and becomes U+FFFD."""


class Pieces(Protocol):
    """One answer's text as its tokens come."""

    def add(self, token: int) -> str:
        """Return the text that is settled with this token."""
        ...

    def end(self) -> str:
        """Return what no further token can change."""
        ...


class Tokenizer(Protocol):
    """A model's tokens."""

    @property
    def ends(self) -> tuple[int, ...]:
        """Tokens that end an answer."""
        ...

    def encode(self, text: str) -> list[int]:
        """Return the prompt of a text."""
        ...

    def chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """Return the prompt of a conversation, messages of role, content and perhaps name, the answer's turn begun.

        Raises:
            ApiError: the model takes no such conversation.
        """
        ...

    def pieces(self) -> Pieces:
        """Return what turns one answer into text."""
        ...


class ByteTokenizer:
    """A byte is a token; a prompt begins with one that is no byte (`real_backends.executors.tokens`)."""

    ends: tuple[int, ...] = ()
    vocab_min = BEGIN + 1

    def encode(self, text: str) -> list[int]:
        """See `Tokenizer.encode`."""
        return encode(text)

    def chat(self, messages: Sequence[Mapping[str, str]]) -> list[int]:
        """See `Tokenizer.chat`: a line a message, a template of ours, as seeded models have none."""
        lines = [f"{message.get('name') or message['role']}: {message['content']}\n" for message in messages]
        return encode("".join(lines) + "assistant: ")

    def pieces(self) -> BytePieces:
        """See `Tokenizer.pieces`."""
        return BytePieces()


class BytePieces:
    """A character of several bytes is given out with its last one."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, token: int) -> str:
        """See `Pieces.add`."""
        return self._decoder.decode(bytes((token if 0 <= token < 256 else NO_BYTE,)))

    def end(self) -> str:
        """See `Pieces.end`."""
        return self._decoder.decode(b"", final=True)
