"""Journals: rows come back in order, a torn or damaged tail ends them, and what is no journal is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import port as p
from policies.cell import Cell
from policies.port import Policy
from policies.wire import Message, encode
from scenarios.journal import Header, Journal, effects_checksum, read
from sim.keys import KeyRing

HEADER = Header("a", ("b",), 7, "sim", {"": {"class": "x:Y", "source_sha256": "0"}}, {"name": "t"})
INPUT = (p.MESSAGE, "", "b", b"\x01")


def a_journal(rows: int) -> Journal:
    """Return a journal of rows that count."""
    journal = Journal(HEADER)
    for number in range(rows):
        journal.add(number, 100 + number, INPUT, ((p.NOTE, "", "n", {"k": number}),))
    return journal


def test_what_was_added_is_read_back() -> None:
    """Header, times, inputs, checksums of effects and signatures return as they were, in order."""
    journal = a_journal(2)
    signed = ((p.SIGNED, "", b"signature"), (p.SEND, "", "b", b"x"), (p.SIGNED, "", True))
    journal.add(9, 109, (p.START, "", {"k": b"v"}, 1), signed)
    header, rows = read(journal.take())

    assert header == HEADER
    *first, last = list(rows)
    assert [row[:3] for row in first] == [(0, 100, INPUT), (1, 101, INPUT)]
    assert first[0][3] != first[1][3]
    assert last == (9, 109, (p.START, "", {"k": b"v"}, 1), effects_checksum(signed), [b"signature", True])
    assert journal.rows == 3


def test_taking_gives_each_byte_once() -> None:
    """Pieces taken on the way, one after another, are the whole journal."""
    journal, whole = a_journal(1), a_journal(3)
    pieces = journal.take()
    for number in (1, 2):
        journal.add(number, 100 + number, INPUT, ((p.NOTE, "", "n", {"k": number}),))
        pieces += journal.take()

    assert pieces == whole.take()
    assert journal.take() == b""


@given(st.integers(0, 400), st.integers(0, 7))
def test_a_torn_or_damaged_tail_ends_the_rows_before_it(cut: int, bit: int) -> None:
    """Whatever is cut off or flipped, the rows before are read and none after, and none is wrong."""
    data = a_journal(5).take()
    whole = list(read(data)[1])
    header_size = len(Journal(HEADER).take())
    cut = header_size + cut % (len(data) - header_size)
    flipped = bytearray(data)
    flipped[cut] ^= 1 << bit

    for damaged in (data[:cut], bytes(flipped)):
        rows = list(read(damaged)[1])
        assert rows == whole[: len(rows)]
        assert len(rows) < 5


@pytest.mark.parametrize("data", [b"", b"not a journal at all", Journal(HEADER).take()[:-1]])
def test_what_is_no_journal_is_refused(data: bytes) -> None:
    """An empty file, foreign bytes or half a header is a ValueError, not an empty journal."""
    with pytest.raises(ValueError, match="not a journal"):
        read(data)


class Ping(Message, tag="ping"):
    """Says nothing."""


class Echo(Policy):
    """Answers every message, with a number of its own random stream."""

    messages = (Ping,)

    def on_message(self, sender: str, message: Any) -> None:
        self.port.send(sender, Ping())
        self.port.note("drawn", number=self.port.rng.below(1000))


def test_a_journal_is_enough_to_step_a_fresh_cell_to_the_same_effects() -> None:
    """Inputs fed back give the same checksums row by row; another seed does not."""

    def cell(seed: int) -> Cell:
        return Cell(Echo(), "a", ("b",), seed=seed, keys=KeyRing(1).handle("a"))

    original, journal = cell(7), Journal(HEADER)
    for now, given_ in enumerate([(p.START, "", {}, 0), *[(p.MESSAGE, "", "b", encode(Ping()))] * 5]):
        journal.add(now, now, given_, original.step(now, now, given_))
    header, rows = read(journal.take())
    kept = list(rows)

    same, other = cell(header.seed), cell(8)
    again = [effects_checksum(same.step(now, wall, given_)) for now, wall, given_, *_ in kept]
    assert again == [row[3] for row in kept]
    assert again != [effects_checksum(other.step(now, wall, given_)) for now, wall, given_, *_ in kept]
