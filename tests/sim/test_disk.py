"""The simulated disk against a naive model, and with the recovery code that ships."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.log import DamagedLog, record, recover
from sim.disk import Disk

WRITES = st.lists(st.tuples(st.binary(max_size=20), st.booleans()), max_size=10)


@given(WRITES, st.floats(0, 1))
def test_a_crash_keeps_what_was_synced_and_a_prefix_of_the_rest(
    writes: list[tuple[bytes, bool]], torn_share: float
) -> None:
    """After a crash the file is the synced bytes and the first ``torn_share`` of what came after."""
    disk, whole, synced = Disk(), b"", 0
    for data, sync in writes:
        disk.append(data)
        whole += data
        if sync:
            disk.sync()
            synced = len(whole)
    assert disk.read() == whole
    lost = disk.crash(torn_share)

    kept = disk.read()
    assert whole.startswith(kept)
    assert synced <= len(kept) == len(whole) - lost
    assert len(kept) == synced + int((len(whole) - synced) * torn_share)
    assert disk.crash() == 0


@given(
    st.lists(st.dictionaries(st.sampled_from("abc"), st.one_of(st.none(), st.binary(max_size=8))), max_size=6),
    st.data(),
)
def test_recovery_reads_whole_batches_only(batches: list[dict[str, bytes | None]], data: st.DataObject) -> None:
    """Whatever part of the tail survives, recovery returns the state after some number of whole batches."""
    disk = Disk()
    for batch in batches:
        disk.append(record(batch.items()))
    disk.crash(data.draw(st.floats(0, 1)))
    saved = recover(disk)

    states: list[dict[str, bytes]] = [{}]
    for batch in batches:
        after = {**states[-1], **batch}
        states.append({key: value for key, value in after.items() if value is not None})
    assert saved in states
    assert recover(disk) == saved


def test_a_sync_covers_only_what_was_written_when_it_began() -> None:
    """A sync that was started at a size leaves what was appended later at risk, and never goes back."""
    disk = Disk()
    disk.append(b"first")
    size = disk.size
    disk.append(b"second")
    disk.sync_to(size)
    disk.sync_to(2)
    disk.crash()

    assert disk.read() == b"first"
    disk.truncate(2)
    assert (disk.read(), disk.synced, disk.size) == (b"fi", 2, 2)


def drawing(*values: float) -> Callable[[], float]:
    """Return draws that come as listed."""
    return iter(values).__next__


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6), st.integers(0, 6), st.data())
def test_scattered_writes_are_a_subset_with_zeros_in_the_gaps(
    sizes: list[int], synced: int, data: st.DataObject
) -> None:
    """Synced bytes stay; of the other writes exactly the drawn ones are there, and nothing after the last of them."""
    disk, parts = Disk(), [bytes([65 + k]) * (size + 1) for k, size in enumerate(sizes)]
    for k, part in enumerate(parts):
        if k == synced:
            disk.sync()
        disk.append(part)
    if synced >= len(parts):
        disk.sync()
    kept = [k < synced or data.draw(st.booleans()) for k in range(len(parts))]
    disk.scatter(drawing(*(0.0 if one else 0.9 for k, one in enumerate(kept) if k >= synced)))

    last = max((k for k, one in enumerate(kept) if one), default=-1)
    assert disk.read() == b"".join(p if kept[k] else bytes(len(p)) for k, p in enumerate(parts[: last + 1]))
    assert disk.crash() == 0


@given(st.floats(0, 1, exclude_max=True))
def test_garbled_writes_differ_in_one_bit_that_was_not_synced(at: float) -> None:
    """One bit behind the synced part is flipped; with nothing at risk nothing is."""
    disk, whole = Disk(), b"durable" + b"at risk!"
    disk.append(b"durable")
    disk.sync()
    disk.garble(drawing())
    assert disk.read() == b"durable"
    disk.append(b"at risk!")
    disk.garble(drawing(at))

    differ = [int.bit_count(a ^ b) for a, b in zip(disk.read(), whole, strict=True)]
    assert sum(differ) == 1
    assert sum(differ[:7]) == 0


@given(st.lists(st.binary(min_size=1, max_size=9), min_size=1, max_size=6), st.floats(0, 1, exclude_max=True))
def test_rot_spares_the_last_good_copy_unless_it_may_strike_it(values: list[bytes], at: float) -> None:
    """By default recovery can tell that a disk has rotted; only the newest record is spared, and only by default."""
    disk = Disk()
    for value in values:
        disk.append(record([("k", value)], disk.synced))
        disk.sync()
    before = disk.read()
    struck = disk.rot(drawing(at))

    assert struck is (len(values) > 1)
    if struck:
        with pytest.raises(DamagedLog):
            recover(disk)
    else:
        assert disk.read() == before
    alone = Disk()
    alone.append(before)
    alone.sync()
    assert alone.rot(drawing(at), last_copy=True)
    assert sum(int.bit_count(a ^ b) for a, b in zip(alone.read(), before, strict=True)) == 1


RECORDS = st.lists(st.tuples(st.binary(max_size=9), st.booleans()), min_size=1, max_size=7)


@given(RECORDS, st.floats(0, 1, exclude_max=True), st.floats(0, 1, exclude_max=True))
def test_a_misdirected_write_is_noticed_wherever_it_landed(
    values: list[tuple[bytes, bool]], which: float, where: float
) -> None:
    """One write's bytes stand elsewhere and its own place is empty; recovery refuses, whatever was synced together."""
    disk, at = Disk(), [0]
    for value, sync in values:
        disk.append(record([("k", value)], disk.synced))
        at.append(disk.size)
        if sync:
            disk.sync()
    disk.sync()
    before, proven = disk.read(), max(disk._proven)
    struck = disk.misdirect(drawing(which, where))
    after = disk.read()

    assert struck is (at.index(proven) > 1)  # where one record alone is proven, it has nowhere to go
    assert after[proven:] == before[proven:]
    if struck:
        whole = list(pairwise(at))
        moved = [(b, e) for b, e in whole if after[b:e] != before[b:e]]
        assert any(before[b:e] in after and after.find(before[b:e]) != b for b, e in moved)
        with pytest.raises(DamagedLog):
            recover(disk)
    else:
        assert after == before


def test_a_record_that_stands_where_another_belongs_is_noticed() -> None:
    """A later record of the same length, whole, over an earlier one: it says itself that it was written behind it."""
    disk = Disk()
    for value in (b"1", b"2", b"3"):
        disk.append(record([("k", value)], disk.synced))
        disk.sync()
    size = disk.size // 3
    first, second, third = (disk.read()[k * size : (k + 1) * size] for k in range(3))
    for data in (second + second + third, third + second + third, first + third + third):
        astray = Disk()
        astray.append(data)
        astray.sync()
        with pytest.raises(DamagedLog, match="the record here was written behind byte"):
            recover(astray)
