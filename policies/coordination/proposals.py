"""What a leader has asked the log for and not seen in it: a log may lose what it is asked for, as one with a full pool.

Each command is asked for again at a tick, and then ever more seldom, until some command says the same: one that is only
slow leaves few copies. A copy changes nothing, since the state takes each of these once. (One exception does no harm: a
copy of a placement that comes when its pipeline is gone already places it again, of workers that the log has free.)
"""

from __future__ import annotations

from dataclasses import dataclass

from policies.commands import Accept, Attach, Command, Complete, Dissolve, Evict, Join, Place, Refuse
from policies.state import OpKey
from policies.state.requests import key_of

WAIT_TICKS_MAX = 8
"""Between two copies (our choice: some seconds)."""

Key = tuple[str | int, ...]


@dataclass
class _Asked:
    """A command, when it was asked for last, and how long it has from then on."""

    command: Command
    at_ns: int
    wait_ns: int


class Proposals:
    """One leader's commands under way.

    Args:
        tick_ns: how long a command has at first.

    Attributes:
        accepting: requests whose acceptance is under way.
        placing: workers of placements under way, and the pipeline of each.
    """

    def __init__(self, tick_ns: int) -> None:
        self._tick_ns = tick_ns
        self._asked: dict[Key, _Asked] = {}
        self.accepting: set[OpKey] = set()
        self.placing: dict[str, int] = {}

    def add(self, command: Command, now_ns: int) -> bool:
        """Keep a command that is to be asked for; return whether it is to be now: the very same may be under way."""
        key = _key(command)
        if key in self._asked and self._asked[key].command == command:
            return False
        self._asked[key] = _Asked(command, now_ns, self._tick_ns)
        if isinstance(command, Accept):
            self.accepting.add((command.client, command.op_id))
        elif isinstance(command, Place):
            self.placing.update(dict.fromkeys((stage.node for stage in command.stages), command.pipeline))
        return True

    def seen(self, command: Command) -> None:
        """Take note of what stands in the log, whatever it came to there."""
        self._drop(_key(command))

    def withdraw(self, request: OpKey) -> None:
        """Ask no more that a request is accepted."""
        self._drop(("accept", *request))

    def _drop(self, key: Key) -> None:
        asked = self._asked.pop(key, None)
        command = asked.command if asked is not None else None
        if isinstance(command, Accept):
            self.accepting.discard((command.client, command.op_id))
        elif isinstance(command, Place):
            self.placing = {node: number for node, number in self.placing.items() if number != command.pipeline}

    def due(self, now_ns: int) -> list[Command]:
        """Return what is to be asked for again now, in the order of first asking."""
        found = [asked for asked in self._asked.values() if now_ns - asked.at_ns >= asked.wait_ns]
        for asked in found:
            asked.at_ns, asked.wait_ns = now_ns, min(2 * asked.wait_ns, WAIT_TICKS_MAX * self._tick_ns)
        return [asked.command for asked in found]


def _key(command: Command) -> Key:
    """Return what two commands have in common of which one is enough."""
    if isinstance(command, Place | Dissolve):
        return (type(command).__name__, command.pipeline)
    if isinstance(command, Complete | Refuse):
        return ("outcome", *key_of(command))
    if isinstance(command, Accept):
        return ("accept", command.client, command.op_id)
    if isinstance(command, Attach):
        return ("attach", command.client, command.op_id)
    if isinstance(command, Evict):
        return ("evict", command.node, command.by)
    if isinstance(command, Join):
        return ("join", command.node)
    return ()  # nothing that a leader asks for
