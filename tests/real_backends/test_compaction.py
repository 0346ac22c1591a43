"""A node's file of records is bounded however long it runs, and a crash while it is compacted loses nothing."""

from __future__ import annotations

import asyncio
import errno
import os
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from policies.log import DamagedLog, NoRoom, compact, record, recover
from real_backends import committer
from real_backends.cluster import LocalCluster, until
from real_backends.committer import Committer
from real_backends.stores import file
from real_backends.stores.file import FileStorage
from tests.real_backends.power import Power, PowerCut
from tests.real_backends.registers import (
    BOUND_S,
    PROTOCOLS,
    clients_of,
    members,
    require_kept,
    require_linearizable,
)

BATCHES = [[("view", b"%d" % number), (f"block/{number % 3}", bytes(40))] for number in range(8)]
STATES = [{}, *({"view": b"%d" % n, **{f"block/{k}": bytes(40) for k in range(min(n + 1, 3))}} for n in range(8))]


def nobody(what: str, fields: Any) -> None:
    """Take no note."""


def live(path: Path) -> int:
    """Write all batches, each acknowledged when it is synced; compact in between. Return how many are."""
    acknowledged = 0
    try:
        storage = FileStorage(path)
        size = len(storage.read())
        for number, batch in enumerate(BATCHES):
            data = record(batch, size)
            storage.append(data)
            storage.sync()
            size += len(data)
            acknowledged += 1
            if number % 3 == 2:
                size = compact(storage)
        storage.close()
    except PowerCut:
        pass
    return acknowledged


def cut_after(folder: Path, steps: int | None, monkeypatch: pytest.MonkeyPatch, kept: tuple[float, float]) -> int:
    """Live until the power fails, and leave what the disk holds then; return what was acknowledged."""
    for path in folder.iterdir():
        path.unlink()
    power = Power(folder, steps)
    monkeypatch.setattr(file, "os", power)
    acknowledged = live(folder / "node.log")
    power.cut(*kept)
    monkeypatch.setattr(file, "os", os)
    return acknowledged if steps is not None else power.done


@pytest.mark.parametrize("kept", [*product((0.0, 0.5, 1.0), (0.0, 0.6, 1.0))])
def test_a_power_cut_at_any_step_leaves_one_whole_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: tuple[float, float]
) -> None:
    """All that was acknowledged is found, nothing half, and the node goes on; what was cut short is cleared away."""
    for steps in range(cut_after(tmp_path, None, monkeypatch, kept)):
        acknowledged = cut_after(tmp_path, steps, monkeypatch, kept)
        storage = FileStorage(tmp_path / "node.log")
        found = recover(storage)

        assert found in STATES[acknowledged : acknowledged + 2]
        assert [path.name for path in tmp_path.iterdir()] == ["node.log"]
        storage.append(record([("later", b"1")], len(storage.read())))
        storage.sync()
        compact(storage)
        storage.close()
        assert recover(FileStorage(tmp_path / "node.log")) == {**found, "later": b"1"}


def test_a_full_disk_while_a_file_is_compacted_leaves_it_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is the disk's, and the next life finds everything."""

    class Full(Power):
        def write(self, number: int, data: object) -> int:
            raise OSError(28, "No space left on device")

    storage = FileStorage(tmp_path / "node.log")
    storage.append(b"".join(map(record, BATCHES)))
    storage.sync()
    monkeypatch.setattr(file, "os", Full(tmp_path))
    with pytest.raises(NoRoom, match="No space left"):
        compact(storage)
    assert [path.name for path in tmp_path.iterdir()] == ["node.log"]  # no part takes the room that appending needs
    monkeypatch.setattr(file, "os", os)

    assert recover(FileStorage(tmp_path / "node.log")) == STATES[-1]


class Small:
    """Stands for the module ``os`` where files have so much room together, or only so many of them can be open."""

    def __init__(self, folder: Path, room: int, files: int = 99) -> None:
        self.folder, self.room, self.files = folder, room, files

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def _free(self) -> int:
        return self.room - sum(path.stat().st_size for path in self.folder.iterdir())

    def statvfs(self, path: Path) -> Any:
        """Say how much is free, in blocks of a byte."""
        return SimpleNamespace(f_bavail=self._free(), f_frsize=1)

    def open(self, path: Path, flags: int, mode: int = 0o777) -> int:
        """Open a file, if one more may be open."""
        if self.files <= 0:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        self.files -= 1
        return os.open(path, flags, mode)

    def write(self, number: int, data: Any) -> int:
        """Write what there is room for."""
        if (free := self._free()) <= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.write(number, bytes(data)[:free])


@pytest.mark.parametrize("lacking", ["bytes", "descriptors"])
def test_a_committer_without_room_to_compact_goes_on_until_it_cannot_append(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lacking: str
) -> None:
    """It says so once, acknowledges what is durable and nothing else, compacts when it can, and stops when it must."""
    monkeypatch.setattr(committer, "COMPACT_BYTES", 2000)
    monkeypatch.setattr(committer, "AGAIN_BYTES", 300)
    monkeypatch.setattr(file, "SPARE_BYTES", 500)
    path, durable, noted, failed = tmp_path / "node.log", list[int](), list[Any](), list[Exception]()
    disk = Small(tmp_path, 10**6)
    monkeypatch.setattr(file, "os", disk)

    async def run() -> None:
        commits = Committer(
            FileStorage(path), lambda path, token: durable.append(token), failed.append,
            lambda what, fields: noted.append((what, fields)),
        )  # fmt: skip

        async def save(tokens: range) -> None:
            for token in tokens:
                commits.add("", token, [(f"key/{token % 10}", b"%0100d" % token)])
                await commits.wait()

        disk.room, disk.files = (3000, 99) if lacking == "bytes" else (10**6, 0)
        await save(range(22))
        assert (durable, failed) == ([*range(22)], [])
        assert 2800 < path.stat().st_size <= 3000
        assert [what for what, _ in noted] == ["no_room_to_compact"]
        assert os.strerror(errno.ENOSPC if lacking == "bytes" else errno.EMFILE) == noted[0][1]["why"]
        disk.room, disk.files = 10**6, 99
        await save(range(22, 28))
        assert [what for what, _ in noted] == ["no_room_to_compact", "compacted_again"]
        assert path.stat().st_size < 2000
        disk.room = 2600
        await save(range(28, 60))

    asyncio.run(run())
    (error,) = failed
    assert isinstance(error, OSError)
    assert error.errno == errno.ENOSPC
    assert [what for what, _ in noted] == ["no_room_to_compact", "compacted_again", "no_room_to_compact"]
    assert durable == [*range(len(durable))]
    found = recover(FileStorage(path))
    assert {value for value in found.values()} == {b"%0100d" % token for token in durable[-10:]}


def test_a_committer_keeps_its_file_at_twice_what_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of batches that supersede one another: all are acknowledged in order, and the last is found."""
    monkeypatch.setattr(committer, "COMPACT_BYTES", 2000)
    storage, durable, sizes = FileStorage(tmp_path / "node.log"), list[int](), list[int]()

    async def run() -> None:
        def acknowledge(path: str, token: int) -> None:
            durable.append(token)
            sizes.append(len(storage.read()))

        commits = Committer(storage, acknowledge, lambda error: None, nobody)
        for token in range(2000):
            commits.add("", token, [(f"key/{token % 10}", b"%0100d" % token)])
            if token % 5 == 4:
                await commits.wait()
        assert commits.size_bytes == len(storage.read())

    asyncio.run(run())
    assert durable == [*range(2000)]
    assert max(sizes) <= 2 * 2000 + 5 * 150
    assert recover(FileStorage(tmp_path / "node.log")) == {f"key/{k}": b"%0100d" % (1990 + k) for k in range(10)}


def test_damage_that_is_found_while_a_file_is_compacted_stops_the_node(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is acknowledged after it, and the file is left as it is."""
    monkeypatch.setattr(committer, "COMPACT_BYTES", 2000)
    path, failed = tmp_path / "node.log", list[Exception]()

    async def run() -> None:
        commits = Committer(FileStorage(path), lambda path, token: None, failed.append, nobody)
        for token in range(100):
            commits.add("", token, [("key", bytes(100))])
            await commits.wait()
            if token == 3:
                data = path.read_bytes()
                path.write_bytes(data[:50] + bytes([data[50] ^ 1]) + data[51:])

    asyncio.run(run())
    (error,) = failed
    assert isinstance(error, DamagedLog)
    assert 2000 <= path.stat().st_size < 2200


@pytest.mark.parametrize(
    "protocol", [pytest.param(p, marks=() if p == "hotstuff" else pytest.mark.nightly) for p in PROTOCOLS]
)
def test_a_real_committee_keeps_its_files_small_and_its_promises(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: str
) -> None:
    """Files are compacted all the while, members crash and come back: answers are linearizable, journals replay."""
    monkeypatch.setattr(committer, "COMPACT_BYTES", 20_000)
    replaced, replace = list[int](), FileStorage.replace

    def note(storage: FileStorage, data: bytes) -> None:
        replaced.append(len(data))
        replace(storage, data)

    monkeypatch.setattr(FileStorage, "replace", note)
    names, rules = ("n0", "n1", "n2", "n3"), PROTOCOLS[protocol]

    async def run() -> LocalCluster:
        cluster = LocalCluster(lambda name: members(rules, names, 20), names, tmp_path)
        async with cluster, clients_of(cluster, names, 3) as clients:
            for name in names[:2]:
                goal = clients.answers + 60
                await until(lambda goal=goal: clients.answers >= goal, BOUND_S)
                await cluster.crash(name)
                await cluster.start(name)
            goal, count = clients.answers + 40, len(replaced) + 4
            await until(lambda: clients.answers >= goal and len(replaced) >= count, BOUND_S)
        history.extend(clients.history)
        return cluster

    history: list[Any] = []
    cluster = asyncio.run(run())
    require_linearizable(history)
    require_kept({name: cluster.journal(name) for name in names}, rules, names, history, 20)
    for name in names:
        assert (tmp_path / name / "node.log").stat().st_size <= 2 * max(20_000, *replaced) + 100_000
