"""Text of one answer as its tokens come, up to the first stop sequence or the token that ends it.

Text that may be the start of a stop sequence is held back until that is decided.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from real_backends.gateway.tokenizer import BytePieces, Pieces


class TextStream:
    """Turns one answer's tokens into text.

    Args:
        stops: sequences before which the text ends; none is empty.
        pieces: what a token reads like; bytes where it is not given.
        ends: tokens that end an answer, and have no text.

    Attributes:
        tokens: how many were read; those after the stop are not.
        stopped: whether a stop sequence was met; then the text is complete.
        ended: whether a token ended it.
    """

    def __init__(self, stops: Sequence[str] = (), pieces: Pieces | None = None, ends: Collection[int] = ()) -> None:
        self.tokens, self.stopped, self.ended = 0, False, False
        self._stops, self._ends = tuple(stops), frozenset(ends)
        self._pieces = BytePieces() if pieces is None else pieces
        self._held = ""

    def feed(self, tokens: Sequence[int]) -> str:
        """Return the text that these tokens settle."""
        settled = []
        for token in tokens:
            if self.stopped:
                break
            self.tokens += 1
            if token in self._ends:
                self.ended = True
                break
            settled.append(self._add(self._pieces.add(token)))
        return "".join(settled)

    def end(self) -> str:
        """Return what was held back, once no token follows."""
        if self.stopped:
            return ""
        rest = self._add(self._pieces.end())
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
