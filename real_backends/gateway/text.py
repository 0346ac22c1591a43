"""Text of one answer: bytes to characters as tokens come, up to the first stop sequence.

The tokenizer is `real_backends.executors.tokens`: a byte is a token. A character of several bytes is given out with
its last byte, and text that may be the start of a stop sequence is held back until that is decided.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence

NO_BYTE = 0xFF
"""Stands for ids that are no byte: it never occurs in UTF-8, and becomes U+FFFD."""


class TextStream:
    """Turns one answer's tokens into text.

    Args:
        stops: sequences before which the text ends; none is empty.

    Attributes:
        tokens: how many were read; those after the stop are not.
        stopped: whether a stop sequence was met; then the text is complete.
    """

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self.tokens, self.stopped = 0, False
        self._stops = tuple(stops)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""

    def feed(self, tokens: Sequence[int]) -> str:
        """Return the text that these tokens settle."""
        settled = []
        for token in tokens:
            if self.stopped:
                break
            self.tokens += 1
            settled.append(self._add(self._decoder.decode(bytes((token if 0 <= token < 256 else NO_BYTE,)))))
        return "".join(settled)

    def end(self) -> str:
        """Return what was held back, once no token follows."""
        if self.stopped:
            return ""
        rest = self._add(self._decoder.decode(b"", final=True))
        return rest if self.stopped else rest + self._release(self._held)

    def _add(self, text: str) -> str:
        if not text:
            return ""
        held = self._held + text
        found = [at for stop in self._stops if (at := held.find(stop)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            return held[: min(found)]
        self._held = held
        return self._release(held[: len(held) - self._doubtful(held)])

    def _release(self, text: str) -> str:
        self._held = self._held[len(text) :]
        return text

    def _doubtful(self, text: str) -> int:
        """Return how many characters at the end begin a stop sequence."""
        longest = max((len(stop) - 1 for stop in self._stops), default=0)
        for length in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-length:]) for stop in self._stops):
                return length
        return 0
