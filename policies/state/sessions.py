"""Client sessions: an operation happens once, however often it is proposed (Ongaro's dissertation, section 6.3).

A client numbers its operations from 1 and has one under way at a time. The state remembers of each client the last
number done and its reply. There are at most `SESSIONS_MAX` sessions; then the one whose last operation is oldest in
the log is forgotten, on every member the same one, and what its client asks next is refused: it cannot know what
became of the last.

A session opens with operation 1, so a forgotten client's late copy of operation 1 must not open it again. Every copy
says how many commands its proposer had applied when it proposed, and nobody proposes what it has seen done: so a copy
of something forgotten names a time before that was done, and is refused. (A client that itself repeats its
operation 1 after so many others came and went does it again: it has to give up earlier.)
"""

from __future__ import annotations

from typing import Any

from policies.commands import InSession
from policies.state.configuration import Result
from policies.state.part import Part

SESSIONS_MAX = 1024
"""Our bound: far above the clients that a committee serves at a time, and below a megabyte of snapshot."""

CLIENT_BYTES_MAX = 128
"""Longer names get no session (our bound)."""

Session = tuple[int, Result, int]  # last sequence done, its reply, number of the command that did it


class Sessions(Part):
    """Sessions by client, the one that was idle longest first.

    Attributes:
        by_client: client to (last sequence, its reply, the command that did it).
        forgotten: the newest command of a session that was forgotten.
    """

    name, form = "sessions", tuple[tuple[tuple[str, Session], ...], int]

    def __init__(self) -> None:
        self.by_client: dict[str, Session] = {}
        self.forgotten = 0

    def last(self, client: str) -> int:
        """Return the last sequence that was done; 0 without a session."""
        return self.by_client[client][0] if client in self.by_client else 0

    def reply(self, client: str, sequence: int) -> Result | None:
        """Return the reply to an operation, if it is the last that was done."""
        session = self.by_client.get(client)
        return session[1] if session is not None and session[0] == sequence else None

    def due(self, command: InSession) -> bool:
        """Whether this operation is the client's next, and no late copy of a forgotten one."""
        if command.sequence != self.last(command.client) + 1 or len(command.client.encode()) > CLIENT_BYTES_MAX:
            return False
        return command.client in self.by_client or command.seen >= self.forgotten

    def done(self, command: InSession, reply: Result, number: int) -> None:
        """Remember the reply to an operation done as command ``number``; forget who was idle longest."""
        self.by_client.pop(command.client, None)
        self.by_client[command.client] = (command.sequence, reply, number)
        if len(self.by_client) > SESSIONS_MAX:
            self.forgotten = self.by_client.pop(next(iter(self.by_client)))[2]

    def saved(self) -> Any:
        return tuple(self.by_client.items()), self.forgotten

    def load(self, saved: Any) -> None:
        sessions, self.forgotten = saved
        self.by_client = dict(sessions)
        numbers = [session[2] for session in self.by_client.values()]
        if len(self.by_client) < len(sessions) or len(sessions) > SESSIONS_MAX:
            raise ValueError(f"{len(sessions)} sessions of {len(self.by_client)} clients, at most {SESSIONS_MAX}")
        if numbers != sorted(set(numbers)) or self.forgotten >= min(numbers, default=self.forgotten + 1):
            raise ValueError("sessions are not in the order of their commands")
