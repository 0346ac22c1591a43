"""The simulated disk against a naive model, and with the recovery code that ships."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from policies.log import record, recover
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
