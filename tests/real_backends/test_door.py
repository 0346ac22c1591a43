"""A node's door: whoever dials and proves no key takes few of its descriptors, and keeps no member out."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from policies.wire import WIRE_VERSION, encode
from real_backends.cluster import free_addresses, until
from real_backends.identity import Identity, make_village
from real_backends.transports import door, tls
from real_backends.transports.frames import GREETING, HELLO, MESSAGE, Hello, pack, read_frame
from real_backends.transports.tls import Address, TlsTransport

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Village:
    """Node b listens; a, c and d are members, and anybody may dial."""

    def __init__(self, folder: Path, host: str = "127.0.0.1") -> None:
        self.folder, self.registry = folder, make_village(folder, ("a", "b", "c", "d"))
        self.address: Address = (host, free_addresses(("b",))["b"][1])
        self.heard: list[tuple[str, int, bytes]] = []
        self.told: list[tuple[str, str, str]] = []
        self.open: list[asyncio.StreamWriter] = []
        self.links = TlsTransport(Identity("b", folder), self.registry, {"b": self.address})
        self.links.on_refused = lambda *refusal: self.told.append(refusal)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[None]:
        """Let b listen meanwhile."""
        await self.links.start(lambda *frame: self.heard.append(frame), lambda *hint: None)
        try:
            yield
        finally:
            await self.links.close()
            for writer in self.open:
                writer.transport.abort()

    async def stranger(self, host: str = "127.0.0.1") -> Streams:
        """Connect from this host, and say nothing; return once b knows."""
        before = self.links.door.unproven + self.links.counts["dropped_unproven"]
        streams = await asyncio.open_connection(*self.address, local_addr=(host, 0))
        self.open.append(streams[1])
        await until(lambda: self.links.door.unproven + self.links.counts["dropped_unproven"] > before)
        return streams

    async def member(self, name: str) -> Streams:
        """Connect as a member, and be greeted."""
        context = Identity(name, self.folder).context(server=False)
        reader, writer = await asyncio.open_connection(*self.address, ssl=context)
        self.open.append(writer)
        writer.write(GREETING)
        assert await read_frame(reader) == (HELLO, encode(Hello(wire=WIRE_VERSION)))
        return reader, writer


async def cut(streams: Streams) -> bool:
    """Return true once the other side has ended the connection."""
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(60):
            assert await streams[0].read() == b""
    return True


def test_of_those_who_prove_nothing_so_many_are_held_and_a_member_comes_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The oldest goes for the newest, and is counted; a member's handshake takes its place as any other's."""
    monkeypatch.setattr(door, "UNPROVEN_MAX", 3)
    village = Village(tmp_path)

    async def run() -> None:
        async with village.listening():
            strangers = [await village.stranger() for _ in range(5)]
            assert [await cut(each) for each in strangers[:2]] == [True, True]
            assert (village.links.door.unproven, village.links.counts["dropped_unproven"]) == (3, 2)
            _, writer = await village.member("a")
            assert await cut(strangers[2])
            writer.write(pack(MESSAGE, b"heard"))
            await until(lambda: village.heard == [("a", MESSAGE, b"heard")])
            assert (village.links.door.unproven, village.links.counts["dropped_unproven"]) == (2, 3)

    asyncio.run(run())


def test_who_dials_most_gives_up_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another host's connection, older than any of its, stands."""
    monkeypatch.setattr(door, "UNPROVEN_MAX", 3)
    village = Village(tmp_path)

    async def run() -> None:
        async with village.listening():
            other = await village.stranger("127.0.0.2")
            flood = [await village.stranger("127.0.0.3") for _ in range(6)]
            assert all([await cut(each) for each in flood[:4]])
            context = Identity("a", tmp_path).context(server=False)
            await other[1].start_tls(context)  # it is who it should be, only slow
            other[1].write(GREETING + pack(MESSAGE, b"slow"))
            await until(lambda: village.heard == [("a", MESSAGE, b"slow")])
            assert village.links.counts["dropped_unproven"] == 4

    asyncio.run(run())


def test_who_has_proven_its_key_takes_no_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a place for one, all members are connected at once, one after another."""
    monkeypatch.setattr(door, "UNPROVEN_MAX", 1)
    village = Village(tmp_path)

    async def run() -> None:
        async with village.listening():
            writers = [(await village.member(name))[1] for name in "acd"]
            for number, writer in enumerate(writers):
                writer.write(pack(MESSAGE, bytes([number])))
            await until(lambda: len(village.heard) == 3)
            assert (village.links.door.unproven, village.links.counts["dropped_unproven"]) == (0, 0)

    asyncio.run(run())
    assert sorted(village.heard) == [("a", MESSAGE, b"\x00"), ("c", MESSAGE, b"\x01"), ("d", MESSAGE, b"\x02")]


def test_who_says_nothing_is_shown_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A handshake takes no longer than it may; that is counted, and told of once."""
    monkeypatch.setattr(tls, "HANDSHAKE_S", 0.1)
    village = Village(tmp_path)

    async def run() -> None:
        async with village.listening():
            strangers = [await village.stranger() for _ in range(2)]
            assert all([await cut(each) for each in strangers])
            await until(lambda: village.links.counts["refused_silent"] == 2)
            assert village.links.door.unproven == 0

    asyncio.run(run())
    assert village.told == [("", "silent", "127.0.0.1: no handshake within 0.1 s")]


def test_who_speaks_no_tls_is_told_of_once(tmp_path: Path) -> None:
    """Each time is counted; a connection that just ends is none of these."""
    village = Village(tmp_path)

    async def run() -> None:
        async with village.listening():
            for _ in range(2):
                streams = await village.stranger()
                streams[1].write(b"GET / HTTP/1.1\r\n\r\n")
                await streams[0].read()
            (await village.stranger())[1].transport.abort()
            await until(lambda: village.links.door.unproven == 0)
            assert village.links.counts["refused_handshake"] == 2

    asyncio.run(run())
    assert [(peer, reason) for peer, reason, _ in village.told] == [("", "handshake")]
    assert village.told[0][2].startswith("127.0.0.1: ")


def test_a_close_shows_out_who_waits_at_the_door(tmp_path: Path) -> None:
    """Nothing is left that would greet anybody, or hold a descriptor."""
    village = Village(tmp_path)

    async def run() -> None:
        async with village.listening():
            strangers = [await village.stranger() for _ in range(3)]
            before = asyncio.all_tasks()
            await village.links.close()
            assert all([await cut(each) for each in strangers])
            assert village.links.door.unproven == 0
            assert asyncio.all_tasks() <= before
            with pytest.raises(ConnectionError):
                await asyncio.open_connection(*village.address)

    asyncio.run(run())


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_a_node_listens_by_name_and_by_either_family(tmp_path: Path, host: str) -> None:
    """A member comes in by whichever address its configuration names."""
    if host == "::1":
        try:
            socket.create_server((host, 0), family=socket.AF_INET6).close()
        except OSError:
            pytest.skip("this machine has no IPv6")
    village = Village(tmp_path, host)

    async def run() -> None:
        async with village.listening():
            await village.member("a")

    asyncio.run(run())
