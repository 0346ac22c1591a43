"""Group commit: what many steps save goes to the disk together, and what they say follows it.

The port holds back what is said until what was saved before is durable. A policy that saves in every step therefore
falls behind a slow disk without bound: a sync a step, each after the other. Here one write is under way at a time;
what is changed and said meanwhile is collected, and goes out with the next: group commit (DeWitt and others,
"Implementation techniques for main memory database systems", SIGMOD 1984).
"""

from __future__ import annotations

from policies.port import Port
from policies.wire import Message


class GroupCommit:
    """The durable half of a policy's port; call `flush` at the end of each step and `durable` from ``on_durable``."""

    def __init__(self, port: Port) -> None:
        self.port = port
        self._changed: dict[str, bytes | None] = {}
        self._said: list[tuple[str, tuple[str | Message, ...]]] = []
        self._under_way = 0  # token of the write, 0 if there is none

    def save(self, key: str, value: bytes) -> None:
        """Make ``value`` durable, later."""
        self._changed[key] = value

    def erase(self, key: str) -> None:
        """Forget ``key``, later."""
        self._changed[key] = None

    def send(self, to: str, message: Message) -> None:
        """Send when all that was saved before is durable."""
        self._said.append(("send", (to, message)))

    def reply(self, client: str, op_id: str, part: Message) -> None:
        """Answer when all that was saved before is durable."""
        self._said.append(("reply", (client, op_id, part)))

    def decide(self, kind: str, value: Message) -> None:
        """Announce when all that was saved before is durable."""
        self._said.append(("decide", (kind, value)))

    def flush(self) -> None:
        """Hand everything to the port, unless a write is under way."""
        if self._under_way:
            return
        for key, value in self._changed.items():
            self._under_way = self.port.erase(key) if value is None else self.port.save(key, value)
        self._changed.clear()
        for verb, arguments in self._said:
            getattr(self.port, verb)(*arguments)
        self._said.clear()

    def durable(self, token: int) -> None:
        """A write is over: let the next begin."""
        if token >= self._under_way:
            self._under_way = 0
            self.flush()
