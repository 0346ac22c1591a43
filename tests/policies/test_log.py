"""The record log: whatever happens to the bytes, what comes back is what some moment before had saved."""

from __future__ import annotations

import zlib
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.log import RECORD_BYTES_MAX, Batch, DamagedLog, compact, frame, frames, record, recover
from policies.wire import encode
from sim.disk import Disk
from tests.policies.strategies import batches

Batches = list[list[tuple[str, bytes | None]]]


def disk(data: bytes) -> Disk:
    """Return a disk that holds these bytes."""
    made = Disk()
    made.append(data)
    made.sync()
    return made


def replay(all_batches: Batches) -> dict[str, bytes]:
    """Return what these batches say, by a dictionary's own rules."""
    saved: dict[str, bytes] = {}
    for batch in all_batches:
        for key, value in batch:
            saved.pop(key, None)
            if value is not None:
                saved[key] = value
    return saved


@given(batches)
def test_what_was_saved_is_recovered(written: Batches) -> None:
    """Later values win, and nil erases."""
    assert recover(disk(b"".join(record(b) for b in written))) == replay(written)


@given(batches, st.data())
def test_a_cut_anywhere_recovers_a_prefix_of_whole_batches(written: Batches, data: st.DataObject) -> None:
    """Exactly the batches that are there in full; the rest is cut off, and a second recovery changes nothing."""
    ends = [0, *accumulate(len(record(b)) for b in written)]
    cut = data.draw(st.integers(0, ends[-1]))
    torn = disk(b"".join(record(b) for b in written)[:cut])
    whole = max(k for k, end in enumerate(ends) if end <= cut)

    assert recover(torn) == replay(written[:whole])
    assert torn.size == torn.synced == ends[whole]
    assert recover(torn) == replay(written[:whole])


@given(batches.filter(bool), st.data())
def test_a_flipped_byte_costs_its_batch_and_what_follows_never_half(written: Batches, data: st.DataObject) -> None:
    """Damage is seen by the checksum: the batches before it stand, no batch is read in part or altered."""
    parts = [record(b) for b in written]
    ends = [0, *accumulate(map(len, parts))]
    at = data.draw(st.integers(0, ends[-1] - 1))
    damaged = bytearray(b"".join(parts))
    damaged[at] ^= data.draw(st.integers(1, 255))
    hit = max(k for k, end in enumerate(ends) if end <= at)

    assert recover(disk(bytes(damaged))) == replay(written[:hit])


@given(batches, st.integers(1, 40))
def test_a_tail_of_zeros_is_damage_and_not_a_record(written: Batches, zeros: int) -> None:
    """File systems may leave zeros after a power cut; the checksum of nothing is zero, so length tells."""
    left = disk(b"".join(record(b) for b in written) + bytes(zeros))

    assert recover(left) == replay(written)
    assert left.size == sum(len(record(b)) for b in written)


@given(batches, batches)
def test_a_log_goes_on_after_a_recovery(before: Batches, later: Batches) -> None:
    """What is written behind a torn tail that was cut off is found again."""
    log = disk(b"".join(record(b) for b in before) + b"\x10\x00torn")
    recover(log)
    for batch in later:
        log.append(record(batch))

    assert recover(log) == replay(before + later)


def test_a_length_beyond_any_batch_is_damage() -> None:
    """A damaged length asks for no memory."""
    huge = (RECORD_BYTES_MAX + 1).to_bytes(4, "little") + bytes(4)

    assert list(frames(huge + bytes(100))) == []


@pytest.mark.parametrize("batch", [(("a", b"1"),), (("a", None), ("b", b""))])
def test_a_record_is_its_documented_bytes(batch: Batch) -> None:
    """Length, checksum, body: little endian, and the body is MessagePack."""
    body = encode((7, tuple(batch)))
    data = record(batch, 7)

    assert data == frame(body)
    assert data == len(body).to_bytes(4, "little") + zlib.crc32(body).to_bytes(4, "little") + body


@given(st.lists(st.binary(min_size=1, max_size=40), min_size=2, max_size=8), st.data())
def test_damage_of_what_was_durable_is_told_from_a_torn_tail(values: list[bytes], data: st.DataObject) -> None:
    """A flipped bit in a record that a later one found durable stops recovery; the file is left as it is."""
    parts: list[bytes] = []
    for value in values:
        parts.append(record([("k", value)], sum(map(len, parts))))
    hit = data.draw(st.integers(0, 8 * sum(map(len, parts[:-1])) - 1))
    damaged = bytearray(b"".join(parts))
    damaged[hit // 8] ^= 1 << hit % 8
    log = disk(bytes(damaged))

    with pytest.raises(DamagedLog, match=r"^byte \d+: damaged, and the record that ends at byte \d+ found it durable$"):
        recover(log)
    assert log.read() == bytes(damaged)


@given(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=6), st.data())
def test_a_value_that_looks_like_a_record_proves_nothing(values: list[bytes], data: st.DataObject) -> None:
    """Damage before a stored value which is itself a whole record of another log is still a torn tail."""
    log = disk(b"\xff" * data.draw(st.integers(1, 30)) + frame(encode(b"".join(frame(v) for v in values))))

    assert recover(log) == {}
    assert log.size == 0


@given(batches, batches)
def test_a_compacted_log_stands_for_the_same_and_goes_on(before: Batches, later: Batches) -> None:
    """No more is written than what is held, once, whatever was written before; all of it is durable."""
    log = disk(b"".join(record(b) for b in before))
    size = compact(log)
    held = replay(before)

    assert recover(log) == held
    assert log.size == log.synced == size
    assert size <= sum(len(record((item,), size)) for item in held.items()) + len(record((), size))
    for batch in later:
        log.append(record(batch, size))
    assert recover(log) == replay(before + later)


@given(batches.filter(lambda written: bool(replay(written))), st.data())
def test_damage_to_a_compacted_log_stops_recovery_though_nothing_was_written_since(
    written: Batches, data: st.DataObject
) -> None:
    """Whatever bit of what it holds flips; and a damaged log is not compacted, which would forget the damage."""
    log = disk(b"".join(record(b) for b in written))
    compact(log)
    held = bytearray(log.read())
    *_, before_last, _ = (end for _, end in frames(bytes(held)))
    hit = data.draw(st.integers(0, 8 * before_last - 1))
    held[hit // 8] ^= 1 << hit % 8
    damaged = disk(bytes(held))

    for read in (recover, compact):
        with pytest.raises(DamagedLog):
            read(damaged)
    assert damaged.read() == bytes(held)
