"""Replay: journals step fresh Cells to the same effects, and the first difference is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from experiments.compose import UsageError
from experiments.replay import JournalKeys, replay
from policies import port as p
from policies.cell import Cell
from policies.port import Keys, Policy
from scenarios.journal import Header, Journal


class Secret:
    """A key handle whose answers nobody could guess."""

    def __init__(self) -> None:
        self.count = 0

    def sign(self, data: bytes) -> bytes:
        """Sign with a counter in place of a key."""
        self.count += 1
        return bytes([self.count]) * 64

    def verify(self, identity: str, data: bytes, signature: bytes) -> bool:
        """Say yes to every other question."""
        self.count += 1
        return self.count % 2 == 0


class Ticker(Policy):
    """Counts timers durably, signs each count, and draws from its random stream."""

    step_by = 1

    def on_start(self, saved: Any) -> None:
        """Go on from what was saved."""
        self.ticks = int(saved.get("ticks", b"0"))
        self.port.set_timer("tick", p.NS_PER_S)

    def on_timer(self, name: str) -> None:
        """Count, save and sign."""
        self.ticks += self.step_by
        self.port.save("ticks", str(self.ticks).encode())
        known = self.port.keys.verify("a", b"x", b"y")
        self.port.note("tick", ticks=self.ticks, draw=self.port.rng.random(), known=known,
                       signed=self.port.keys.sign(b"t").hex())  # fmt: skip
        self.port.set_timer("tick", p.NS_PER_S)


HEADER = Header(node="a", peers=(), seed=5, world="sim", policies={}, config={})


def journal_of() -> bytes:
    """Drive a Ticker through a restart, writing its journal as a world would."""
    journal, saved = Journal(HEADER), {}
    for life in range(2):
        cell = Cell(Ticker(), "a", (), seed=5, keys=Secret())
        now = life * 10 * p.NS_PER_S
        given: p.Input = (p.START, "", dict(saved), life)
        for tick in range(4):
            effects = cell.step(now, now, given)
            journal.add(now, now, given, effects)
            saved.update({key: value for e in effects if e[0] == p.SAVE for key, value in e[3]})
            for effect in [e for e in effects if e[0] == p.SAVE]:
                done = (p.DURABLE, effect[1], effect[2])
                journal.add(now, now, done, cell.step(now, now, done))
            now += p.NS_PER_S
            given = (p.TIMER, "", "tick", tick * 2 + 1 if tick == 0 else cell._timers[("", "tick")])
    return journal.take()


def factory(policy: type[Policy]) -> Callable[[Header], Callable[[Keys], Cell]]:
    """Return what `experiments.replay.village_cell` is for the village."""
    return lambda header: lambda keys: Cell(policy(), header.node, header.peers, seed=header.seed, keys=keys)


def test_a_journal_replays_to_the_same_effects() -> None:
    """Across a restart, with random draws and signatures that only the journal knows, every step is equal."""
    found = replay({"a": journal_of()}, factory(Ticker))

    assert found.passed
    assert found.steps == {"a": 14}


def test_the_first_difference_is_named() -> None:
    """A policy that does something else is caught at its first step that differs."""

    class Changed(Ticker):
        step_by = 2

    found = replay({"a": journal_of()}, factory(Changed))

    assert not found.passed
    (divergence,) = found.divergences
    assert (divergence.node, divergence.step, divergence.given) == ("a", 2, "timer()")
    assert "save()" in str(divergence)


def test_a_policy_that_stumbles_diverges() -> None:
    """An exception in the fresh Cell is a divergence, not a crash of the replay."""

    class Stumbles(Ticker):
        def on_timer(self, name: str) -> None:
            raise KeyError("gone")

    (divergence,) = replay({"a": journal_of()}, factory(Stumbles)).divergences
    assert "KeyError" in divergence.effects


def test_nothing_to_replay_is_said() -> None:
    """No journals, or a file that is none, is one line for the user."""
    with pytest.raises(UsageError, match=r"record them with record\.journals=all"):
        replay({})
    with pytest.raises(UsageError, match="a: not a journal: no header"):
        replay({"a": b"nonsense"}, factory(Ticker))


def test_a_torn_tail_is_left_out() -> None:
    """The last row, cut short by a kill, ends the journal and is no divergence."""
    assert replay({"a": journal_of()[:-3]}, factory(Ticker)).steps == {"a": 13}


def test_journal_keys_answer_in_order() -> None:
    """Each step's signatures and verdicts come back as they were given."""
    keys = JournalKeys()
    keys.load([b"s", True])

    assert keys.sign(b"data") == b"s"
    assert keys.verify("a", b"data", b"s") is True
    assert keys.verify("a", b"data", b"s") is False
