"""Stores: the record log's file and the blobs survive what disks and peers do to them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.log import record, recover
from policies.wire import digest
from real_backends.stores.blobs import ROOM_BYTES, BlobStore, Kind
from real_backends.stores.file import FileStorage


def test_log_survives_reopening(tmp_path: Path) -> None:
    """What was appended and synced is what a new process finds."""
    first = FileStorage(tmp_path / "node.log")
    first.append(record([("a/x", b"1"), ("a/y", b"2")]))
    first.append(record([("a/x", None)]))
    first.sync()
    first.close()

    assert recover(FileStorage(tmp_path / "node.log")) == {"a/y": b"2"}


@pytest.mark.parametrize("torn_bytes", range(1, 24))
def test_torn_tail_is_cut_off(tmp_path: Path, torn_bytes: int) -> None:
    """A record that was written in part is dropped, the file is whole again, and appending goes on behind it."""
    storage = FileStorage(tmp_path / "node.log")
    whole = record([("a/x", b"kept")])
    torn = record([("a/x", b"never acknowledged")])
    storage.append(whole + torn[:torn_bytes])

    assert recover(storage) == {"a/x": b"kept"}
    assert storage.read() == whole
    storage.append(record([("a/y", b"after")]))
    assert recover(storage) == {"a/x": b"kept", "a/y": b"after"}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=40), min_size=1, max_size=5), st.data())
def test_any_damage_keeps_a_prefix(
    tmp_path_factory: pytest.TempPathFactory, values: list[bytes], data: st.DataObject
) -> None:
    """Whatever byte of the file flips, recovery gives the state after some prefix of the batches."""
    storage = FileStorage(tmp_path_factory.mktemp("log") / "node.log")
    states = [{}]
    raw = b""
    for value in values:
        raw += record([("k", value)])
        states.append({"k": value})
    at = data.draw(st.integers(0, len(raw) - 1))
    storage.append(raw[:at] + bytes([raw[at] ^ (1 << data.draw(st.integers(0, 7)))]) + raw[at + 1 :])

    assert recover(storage) in states
    storage.close()


def test_blob_has_the_name_of_its_content(tmp_path: Path) -> None:
    """A blob comes back under its digest, and only under that."""
    store = BlobStore(tmp_path)
    name = store.put(b"prompt")

    assert name == digest(b"prompt")
    assert store.get(name) == b"prompt"
    assert store.get(digest(b"other")) is None


def test_damaged_blob_is_never_returned(tmp_path: Path) -> None:
    """A blob whose bytes changed on disk counts as absent and can be stored again."""
    store = BlobStore(tmp_path)
    name = store.put(b"answer")
    (tmp_path / name).write_bytes(b"answeR")

    assert store.get(name) is None
    store.put(b"answer")
    assert store.get(name) == b"answer"


@pytest.mark.parametrize("left", [b"", bytes(6)])
def test_a_blob_that_a_power_cut_spoilt_is_written_again(tmp_path: Path, left: bytes) -> None:
    """What a power cut left of a blob is no reason not to keep it when it is put again, in this life or the next."""
    name = BlobStore(tmp_path).put(b"answer")
    (tmp_path / name).write_bytes(left)
    store = BlobStore(tmp_path)
    store.put(b"answer")

    assert store.get(name) == b"answer"
    assert store.bytes_held == len(b"answer")


@pytest.mark.parametrize("name", ["../secret", "", "a" * 39, "/etc/hostname", "A" * 40])
def test_a_peer_cannot_name_a_path(tmp_path: Path, name: str) -> None:
    """Only digests are looked up, so no name leads outside the folder."""
    (tmp_path / "secret").write_bytes(b"private")

    assert BlobStore(tmp_path / "blobs").get(name) is None


def test_the_blobs_that_were_used_last_the_longest_ago_make_room(tmp_path: Path) -> None:
    """Beyond the store's size the oldest uses go first; the newest blob stays, and what is dropped is gone."""
    store = BlobStore(tmp_path, {"answers": 25})
    first, second = store.put(b"a" * 10), store.put(b"b" * 10)
    assert store.get(first) is not None  # used again
    third = store.put(b"c" * 10)

    assert [store.get(name) is not None for name in (first, second, third)] == [True, False, True]
    assert store.bytes_held == 20
    store.drop(first)
    assert store.get(first) is None
    assert store.bytes_held == 10
    huge = store.put(b"d" * 100)
    assert store.get(huge) is not None
    assert store.bytes_held == 100
    assert [path.name for path in tmp_path.iterdir()] == [huge]


def test_what_an_earlier_life_left_counts_towards_the_size(tmp_path: Path) -> None:
    """A store that is opened again knows its blobs, and makes room of them."""
    left = BlobStore(tmp_path).put(b"a" * 10)
    store = BlobStore(tmp_path, {"answers": 15})
    assert store.bytes_held == 10
    store.put(b"b" * 10)

    assert store.get(left) is None
    assert store.bytes_held == 10


def test_a_piece_is_cut_from_a_whole_blob(tmp_path: Path) -> None:
    """Pieces follow one another to the end; there are none of a blob that is absent or damaged."""
    store = BlobStore(tmp_path)
    name = store.put(b"0123456789")

    assert [store.piece(name, begin, 4) for begin in (0, 4, 8, 12)] == [b"0123", b"4567", b"89", b""]
    assert store.piece(digest(b"other"), 4, 4) is None
    assert store.piece("../secret", 4, 4) is None
    (tmp_path / name).write_bytes(b"damaged")
    assert store.piece(name, 0, 4) is None
    assert store.bytes_held == 0


@pytest.mark.parametrize("kind", ["fetched", "brought"])
def test_what_others_bring_or_make_a_node_fetch_displaces_nothing_of_its_own(tmp_path: Path, kind: Kind) -> None:
    """Answers, and what stages took and gave, stay where they are, however much more comes than there is room for."""
    store = BlobStore(tmp_path, dict.fromkeys(ROOM_BYTES, 25))
    own = [store.put(b"answer"), store.put(b"what was taken", "stages")]
    other = store.put(b"other", "fetched" if kind == "brought" else "brought", "honest")
    for number in range(9):
        store.put(bytes([number]) * 10, kind, "liar")

    assert all(store.get(name) for name in (*own, other))
    assert store.bytes_held <= 4 * 25


def test_a_peer_that_brings_more_and_more_displaces_its_own(tmp_path: Path) -> None:
    """What others brought stays while one has the most in the room, and so does what it brought as well as they."""
    store = BlobStore(tmp_path, {"brought": 30})
    theirs = [store.put(bytes([number]) * 5, "brought", f"client {number}") for number in range(2)]
    shared = store.put(b"shared", "brought", "client 1")
    assert store.put(b"shared", "brought", "liar") == shared
    for number in range(2, 9):
        newest = store.put(bytes([number]) * 10, "brought", "liar")

    assert all(store.get(name) for name in (*theirs, shared, newest))
    assert store.bytes_held == 5 + 5 + 6 + 10


def test_a_large_new_blob_is_not_its_own_victim(tmp_path: Path) -> None:
    """Where the newest blob is all that a peer has, those go that lie there the longest of whoever has the most."""
    store = BlobStore(tmp_path, {"fetched": 30})
    old = [store.put(bytes([number]) * 10, "fetched", f"peer {number}") for number in range(3)]
    large = store.put(b"l" * 20, "fetched", "other")

    assert [store.get(name) is not None for name in (*old, large)] == [False, False, True, True]


def test_blobs_of_a_byte_are_counted(tmp_path: Path) -> None:
    """However small they are, there are no more of them than a room has places for."""
    store = BlobStore(tmp_path, {"brought": 1000}, blobs_max=3)
    theirs = store.put(b"prompt", "brought", "client")
    for number in range(9):
        store.put(bytes([number]), "brought", "liar")

    assert store.get(theirs) == b"prompt"
    assert store.bytes_held == len(b"prompt") + 2
    assert len([path for path in (tmp_path / "brought").iterdir()]) == 3


def test_a_blob_that_is_kept_for_two_reasons_ends_with_the_last(tmp_path: Path) -> None:
    """What a stage took was also fetched for others: the session's end leaves it to them."""
    store = BlobStore(tmp_path)
    name = store.put(b"taken", "stages")
    store.put(b"taken", "fetched", "neighbour")
    store.drop(name, "stages")

    assert store.get(name) == b"taken"
    store.drop(name, "fetched")
    assert store.get(name) is None
    assert store.bytes_held == 0


def test_each_kind_is_found_again_by_the_next_life(tmp_path: Path) -> None:
    """What was brought counts as brought after a restart, too, and displaces no answer."""
    brought = BlobStore(tmp_path).put(b"a" * 20, "brought", "liar")
    store = BlobStore(tmp_path, {"answers": 15, "brought": 25})
    answer = store.put(b"b" * 10)
    newer = store.put(b"c" * 10, "brought", "liar")

    assert [store.get(name) is not None for name in (brought, answer, newer)] == [False, True, True]


def test_what_is_left_of_a_blob_takes_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fills up in the middle of a blob keeps no part of it, nor does a kill, after the next start."""
    store = BlobStore(tmp_path)

    def full(path: Path, data: bytes) -> int:
        with path.open("wb") as file:
            file.write(data[:3])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left"):
        store.put(b"answer")
    monkeypatch.undo()
    assert [path for path in tmp_path.iterdir() if path.is_file()] == []
    (tmp_path / "fetched" / f".{digest(b'answer')}.77.part").write_bytes(b"ans")
    BlobStore(tmp_path)
    assert [*(tmp_path / "fetched").iterdir()] == []
