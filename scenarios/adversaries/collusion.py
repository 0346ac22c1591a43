"""Collusion: members of a coalition tell one another what they hear.

They whisper by ordinary messages on a path of their own, so they collude in both worlds alike, at the speed of the
network, and every member's journal replays alone. Their plan needs no words: members draw from the same streams
(`Place.party`), take turns by the clock (`Place.my_turn`), and hold one another's keys.
"""

from __future__ import annotations

import msgspec

from policies import port as p
from policies.port import Effect, Input
from policies.wire import encode
from scenarios.adversaries.behaviours import Collude
from scenarios.adversaries.wrapped import Place, Steps, Wrapped

_whisper = msgspec.msgpack.Decoder(tuple[str, bytes]).decode


class ColludingCell(Wrapped[Collude]):
    """Passes on what it hears from others, and remembers what it is passed."""

    def __init__(self, cell: Steps, behaviour: Collude, place: Place, index: int) -> None:
        super().__init__(cell, behaviour, place, index)
        assert place.coalition is not None
        self._mates = [name for name in place.coalition.members if name != place.me]
        self._whispers = f"~~{place.coalition.name}"

    def act(self, given: Input) -> list[Effect]:
        if given[1] == self._whispers:
            if given[0] == p.MESSAGE and self.place.mate(given[2]):
                self.place.memory.append(_whisper(given[3]))
            return []
        out = super().act(given)
        if self.behaviour.whisper and self.acting and given[0] == p.MESSAGE and self.concerns(given, given[2]):
            out += [(p.SEND, self._whispers, mate, encode((given[1], given[3]))) for mate in self._mates]
        return out
