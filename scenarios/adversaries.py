"""Adversaries: an honest Cell with a wrapper around it that filters inputs and rewrites effects.

A wrapper offers the Cell's own ``step``, so it attaches in every driver. It acts from a time on; before that the node
is honest. What a liar's *activations* do to a pipeline it does not head is the executor's business: worlds are told
which nodes lie (`LIES`).
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Any, Protocol

import msgspec

from policies import port as p
from policies.jobs import Done, Outcome
from policies.port import Effect, Input
from policies.wire import encode

_outcome: Any = msgspec.msgpack.Decoder(Outcome).decode  # type: ignore[arg-type]

LIES = "wrong_results"


class Steps(Protocol):
    """A Cell, or something around one."""

    crypto_ops: int

    def step(self, now: int, wall: int, given: Input) -> tuple[Effect, ...]:
        """Feed one input."""
        ...


class Silent:
    """Goes on working but says nothing to anybody: every send and reply is dropped."""

    def __init__(self, cell: Steps, from_ns: int) -> None:
        self.cell, self.from_ns, self.crypto_ops = cell, from_ns, 0

    def step(self, now: int, wall: int, given: Input) -> tuple[Effect, ...]:
        """Feed one input; messages do not leave."""
        effects = self.cell.step(now, wall, given)
        self.crypto_ops, self.cell.crypto_ops = self.cell.crypto_ops, 0
        if now < self.from_ns:
            return effects
        return tuple(e for e in effects if e[0] not in (p.SEND, p.REPLY))


class WrongResults:
    """Answers at once and with confidence, but not what the model said: its sessions' outputs are replaced."""

    def __init__(self, cell: Steps, from_ns: int) -> None:
        self.cell, self.from_ns, self.crypto_ops = cell, from_ns, 0

    def step(self, now: int, wall: int, given: Input) -> tuple[Effect, ...]:
        """Feed one input; the policies inside are lied to about what their executor produced."""
        if now >= self.from_ns and given[0] == p.JOB:
            outcome = _outcome(given[3])
            if isinstance(outcome, Done) and outcome.output:
                lie = blake2b(outcome.output.encode(), digest_size=20, person=b"wrong result").hexdigest()
                forged = Done(lie, outcome.tokens, outcome.first_token_ns, outcome.result)
                given = (*given[:3], encode(forged))
        effects = self.cell.step(now, wall, given)
        self.crypto_ops, self.cell.crypto_ops = self.cell.crypto_ops, 0
        return effects


ADVERSARIES: dict[str, Callable[[Steps, int], Steps]] = {"silent": Silent, LIES: WrongResults}
"""Adversary by the name used in a scenario: (cell, time in ns from which it acts) to wrapped cell."""
