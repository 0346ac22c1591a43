"""Which membership a member acts on: the latest in its log, whether committed or not (section 6 of the Raft paper).

A configuration takes effect when it is appended, and is undone when its entry is cut off again, so a short history is
kept: those after the last snapshot, and the one that held there.
"""

from __future__ import annotations

import msgspec

from policies.consensus.changes import Membership
from policies.wire import WireError, encode

MARK = b"\xc1"
"""First byte of a command that is a configuration. MessagePack never uses it, so no encoded command begins with it."""

_decode = msgspec.msgpack.Decoder(Membership).decode


def command_of(membership: Membership) -> bytes:
    """Return the command that makes ``membership`` the configuration."""
    return MARK + encode(membership)


def membership_in(command: bytes) -> Membership:
    """Return the membership in a command that begins with `MARK`.

    Raises:
        WireError: it holds none.
    """
    return decode(command[len(MARK) :])


def decode(data: bytes) -> Membership:
    """Return the membership in ``data``.

    Raises:
        WireError: it holds none.
    """
    try:
        return _decode(data)
    except (msgspec.MsgspecError, ValueError) as error:
        raise WireError(f"membership: {error}") from None


class Configurations:
    """The configurations of a log.

    Attributes:
        current: the one in effect.
        index: of its entry, 0 for the one that a member was made with.
    """

    def __init__(self, first: Membership) -> None:
        self._history: list[tuple[int, Membership]] = [(0, first)]
        self.index, self.current = self._history[-1]

    def add(self, index: int, membership: Membership) -> None:
        """The entry at ``index``, the last of the log, makes ``membership`` the configuration."""
        self._history.append((index, membership))
        self.index, self.current = index, membership

    def truncate(self, last: int) -> bool:
        """Undo what stood after ``last``; return whether the current one did."""
        changed = self.index > last
        while self._history[-1][0] > last:
            self._history.pop()
        self.index, self.current = self._history[-1]
        return changed

    def at(self, index: int) -> Membership:
        """Return the configuration that holds at ``index``, which is not before the last snapshot."""
        return next(membership for begun, membership in reversed(self._history) if begun <= index)

    def compact(self, index: int) -> None:
        """Forget those that were over at ``index``."""
        while len(self._history) > 1 and self._history[1][0] <= index:
            self._history.pop(0)

    def reset(self, index: int, membership: Membership) -> None:
        """Begin anew: a snapshot that ends at ``index`` came with ``membership``."""
        self._history = [(index, membership)]
        self.index, self.current = index, membership
