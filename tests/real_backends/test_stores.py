"""Stores: the record log's file and the blobs survive what disks and peers do to them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.log import record, recover
from policies.wire import digest
from real_backends.stores.blobs import BlobStore
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


def test_a_blob_that_was_cut_short_is_written_again(tmp_path: Path) -> None:
    """What a power cut left of a blob is no reason not to keep it when it is put again, in this life or the next."""
    name = BlobStore(tmp_path).put(b"answer")
    (tmp_path / name).write_bytes(b"")
    store = BlobStore(tmp_path)
    store.put(b"answer")

    assert store.get(name) == b"answer"
    assert store.bytes == len(b"answer")


@pytest.mark.parametrize("name", ["../secret", "", "a" * 39, "/etc/hostname", "A" * 40])
def test_a_peer_cannot_name_a_path(tmp_path: Path, name: str) -> None:
    """Only digests are looked up, so no name leads outside the folder."""
    (tmp_path / "secret").write_bytes(b"private")

    assert BlobStore(tmp_path / "blobs").get(name) is None


def test_the_blobs_that_were_used_last_the_longest_ago_make_room(tmp_path: Path) -> None:
    """Beyond the store's size the oldest uses go first; the newest blob stays, and what is dropped is gone."""
    store = BlobStore(tmp_path, bytes_max=25)
    first, second = store.put(b"a" * 10), store.put(b"b" * 10)
    assert store.get(first) is not None  # used again
    third = store.put(b"c" * 10)

    assert [store.get(name) is not None for name in (first, second, third)] == [True, False, True]
    assert store.bytes == 20
    store.drop(first)
    assert store.get(first) is None
    assert store.bytes == 10
    huge = store.put(b"d" * 100)
    assert store.get(huge) is not None
    assert store.bytes == 100
    assert [path.name for path in tmp_path.iterdir()] == [huge]


def test_what_an_earlier_life_left_counts_towards_the_size(tmp_path: Path) -> None:
    """A store that is opened again knows its blobs, and makes room of them."""
    left = BlobStore(tmp_path).put(b"a" * 10)
    store = BlobStore(tmp_path, bytes_max=15)
    assert store.bytes == 10
    store.put(b"b" * 10)

    assert store.get(left) is None
    assert store.bytes == 10


def test_a_piece_is_cut_from_a_whole_blob(tmp_path: Path) -> None:
    """Pieces follow one another to the end; there are none of a blob that is absent or damaged."""
    store = BlobStore(tmp_path)
    name = store.put(b"0123456789")

    assert [store.piece(name, begin, 4) for begin in (0, 4, 8, 12)] == [b"0123", b"4567", b"89", b""]
    assert store.piece(digest(b"other"), 4, 4) is None
    assert store.piece("../secret", 4, 4) is None
    (tmp_path / name).write_bytes(b"damaged")
    assert store.piece(name, 0, 4) is None
    assert store.bytes == 0
