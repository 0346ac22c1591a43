"""TLS links: version 1.3 only, both sides known by key, and nothing that a stranger or a lost peer can break."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from policies.wire import WIRE_VERSION, digest, encode
from real_backends.cluster import free_addresses, until
from real_backends.identity import Identity, Registry, make_village, node_id, read_registry
from real_backends.keys import Ed25519Keys
from real_backends.transports import frames, tls
from real_backends.transports.frames import HELLO, MESSAGE, Hello, pack
from real_backends.transports.tls import TlsTransport

Village = tuple[Path, Registry, dict[str, tls.Address]]


class Node:
    """A transport with what it heard."""

    def __init__(self, name: str, folder: Path, registry: Registry, addresses: dict[str, tls.Address]) -> None:
        self.transport = TlsTransport(Identity(name, folder), registry, addresses)
        self.heard: list[tuple[str, int, bytes]] = []
        self.hints: list[tuple[str, str]] = []

    async def __aenter__(self) -> Node:
        await self.transport.start(lambda *f: self.heard.append(f), lambda *h: self.hints.append(h))
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.transport.close()


@pytest.fixture
def village(tmp_path: Path) -> Village:
    """The nodes' identities, the registry and their addresses."""
    return tmp_path, make_village(tmp_path, ("a", "b", "c")), free_addresses(("a", "b", "c"))


def test_frames_arrive_from_the_proven_sender(village: Village) -> None:
    """A frame arrives whole, once, in order, under the name the registry has for the sender's key."""
    folder, registry, addresses = village

    async def run() -> list[tuple[str, int, bytes]]:
        async with Node("a", folder, registry, addresses) as a, Node("b", folder, registry, addresses) as b:
            for body in (b"one", b"", b"x" * 300_000):
                assert a.transport.send("b", MESSAGE, body)
            await until(lambda: len(b.heard) == 3)
            assert ("b", "up") in a.hints
            return b.heard

    assert asyncio.run(run()) == [("a", MESSAGE, b"one"), ("a", MESSAGE, b""), ("a", MESSAGE, b"x" * 300_000)]


async def _dial(address: tls.Address, context: ssl.SSLContext) -> tuple[str | None, bytes]:
    """Connect with the standard library alone; return the version negotiated and what the server said."""
    reader, writer = await asyncio.open_connection(*address, ssl=context)
    version = writer.get_extra_info("ssl_object").version()
    writer.write(pack(HELLO, encode(Hello(wire=WIRE_VERSION))))
    try:
        return version, await reader.read(100)
    finally:
        writer.transport.abort()


def test_a_handshake_that_outlives_the_close_is_not_greeted(village: Village) -> None:
    """Who was connected, but not through TLS, when the node closed, is cut off: a peer must not think it up."""
    folder, registry, addresses = village
    context = Identity("a", folder).context(server=False)

    async def run() -> bytes:
        async with Node("b", folder, registry, addresses):
            reader, writer = await asyncio.open_connection(*addresses["b"])
            for _ in range(10):  # turns in which the listener takes the connection
                await asyncio.sleep(0)
        with contextlib.suppress(OSError):
            await writer.start_tls(context)
            writer.write(pack(HELLO, encode(Hello(wire=WIRE_VERSION))))
            return await reader.read(100)
        return b""

    assert asyncio.run(run()) == b""


def test_tls_13_is_negotiated(village: Village) -> None:
    """Python's own client, free to choose, ends up with TLS 1.3 and is greeted."""
    folder, registry, addresses = village
    context = Identity("a", folder).context(server=False)
    context.minimum_version = ssl.TLSVersion.TLSv1_2

    async def run() -> tuple[str | None, bytes]:
        async with Node("b", folder, registry, addresses):
            return await _dial(addresses["b"], context)

    version, said = asyncio.run(run())
    assert version == "TLSv1.3"
    assert said == pack(HELLO, encode(Hello(wire=WIRE_VERSION)))


def test_tls_12_is_refused(village: Village) -> None:
    """A member that offers only TLS 1.2 gets no connection."""
    folder, registry, addresses = village
    context = Identity("a", folder).context(server=False)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    async def run() -> None:
        async with Node("b", folder, registry, addresses):
            await _dial(addresses["b"], context)

    with pytest.raises((ssl.SSLError, ConnectionError)):
        asyncio.run(run())


def _stranger_context(folder: Path, kind: str) -> ssl.SSLContext:
    """A client of another village, or one without any certificate."""
    if kind == "other village":
        make_village(folder / "other", ("a",))
        context = Identity("a", folder / "other").context(server=False)
        context.load_verify_locations(folder / "village.crt")  # it trusts us; we must not trust it
        return context
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(folder / "village.crt")
    return context


@pytest.mark.parametrize("kind", ["other village", "no certificate"])
def test_strangers_are_refused(village: Village, kind: str) -> None:
    """A peer whose certificate another village issued, or that shows none, is never heard nor greeted."""
    folder, registry, addresses = village
    context = _stranger_context(folder, kind)

    async def run() -> tuple[bytes, list[tuple[str, int, bytes]]]:
        async with Node("b", folder, registry, addresses) as b:
            try:
                _, said = await _dial(addresses["b"], context)
            except (ssl.SSLError, OSError):
                said = b""
            return said, b.heard

    assert asyncio.run(run()) == (b"", [])


def test_key_outside_the_registry_is_refused(village: Village) -> None:
    """A certificate of this village is not enough: a member that was struck off the registry is not heard."""
    folder, registry, addresses = village
    remaining = {"b": registry["b"]}

    async def run() -> tuple[list[tuple[str, int, bytes]], int]:
        async with Node("a", folder, registry, addresses) as a, Node("b", folder, remaining, addresses) as b:
            a.transport.send("b", MESSAGE, b"let me in")
            await until(lambda: ("b", "down") in a.hints)
            assert ("b", "up") not in a.hints
            return b.heard, b.transport.counts["refused_key"]

    assert asyncio.run(run()) == ([], 1)


def test_answering_with_another_members_key_is_refused(village: Village) -> None:
    """A member that answers at another's address is found out by its key and gets nothing."""
    folder, registry, addresses = village
    diverted = {**addresses, "b": addresses["a"]}

    async def run() -> tuple[list[tuple[str, int, bytes]], int]:
        async with Node("a", folder, registry, addresses) as a, Node("c", folder, registry, diverted) as c:
            c.transport.send("b", MESSAGE, b"for b only")
            await until(lambda: ("b", "down") in c.hints)
            return a.heard, c.transport.counts["refused_key"]

    assert asyncio.run(run()) == ([], 1)


def test_registry_changes_count_at_once(village: Village) -> None:
    """A member struck off while connected is cut off at its next frame."""
    folder, registry, addresses = village

    async def run() -> list[bytes]:
        live = dict(registry)
        async with Node("a", folder, registry, addresses) as a, Node("b", folder, live, addresses) as b:
            a.transport.send("b", MESSAGE, b"before")
            await until(lambda: len(b.heard) == 1)
            del live["a"]
            a.transport.send("b", MESSAGE, b"after")
            await until(lambda: ("b", "down") in a.hints)
            return [body for _, _, body in b.heard]

    assert asyncio.run(run()) == [b"before"]


def test_a_peer_that_returns_is_reached_again(village: Village) -> None:
    """Frames for an absent peer are dropped and counted; after its return new ones arrive."""
    folder, registry, addresses = village

    async def run() -> None:
        async with Node("a", folder, registry, addresses) as a:
            async with Node("b", folder, registry, addresses) as b:
                a.transport.send("b", MESSAGE, b"one")
                await until(lambda: len(b.heard) == 1)
            await until(lambda: ("b", "down") in a.hints)
            a.transport.send("b", MESSAGE, b"lost")
            await until(lambda: a.transport.counts["dropped_unreachable"] == 1)
            async with Node("b", folder, registry, addresses) as b:

                def heard_after_asking() -> bool:
                    a.transport.send("b", MESSAGE, b"two")
                    return bool(b.heard)

                await until(heard_after_asking)
                assert b.heard[0] == ("a", MESSAGE, b"two")

    asyncio.run(run())


def test_queue_is_bounded(village: Village, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit into a peer's queue is dropped and counted, and sending never blocks."""
    folder, registry, addresses = village
    monkeypatch.setattr(tls, "QUEUE_FRAMES_MAX", 3)

    async def run() -> tuple[list[bool], int]:
        async with Node("a", folder, registry, addresses) as a:
            sent = [a.transport.send("b", MESSAGE, b"") for _ in range(5)]
            assert not a.transport.send("nobody", MESSAGE, b"")
            return sent, a.transport.counts["dropped_queue_full"]

    assert asyncio.run(run()) == ([True, True, True, False, False], 2)


def test_port_in_use_is_one_clear_line(village: Village) -> None:
    """The error of a node whose port is taken names the node, the host and the port."""
    folder, registry, addresses = village

    async def run() -> None:
        async with Node("a", folder, registry, addresses), Node("b", folder, registry, {"b": addresses["a"]}):
            pass

    port = addresses["a"][1]
    with pytest.raises(OSError, match=rf"port {port} on 127.0.0.1 cannot be used by b: .*in use"):
        asyncio.run(run())


def test_what_was_sent_leaves_before_the_close(village: Village) -> None:
    """A close that may take its time lets all arrive that was sent, though much of it is still in this process."""
    folder, registry, addresses = village
    bodies = [bytes([number]) * (2 << 20) for number in range(6)]

    async def run() -> list[bytes]:
        async with Node("b", folder, registry, addresses) as b:
            async with Node("a", folder, registry, addresses) as a:
                a.transport.send("b", MESSAGE, b"")
                await until(lambda: len(b.heard) == 1)
                for body in bodies:
                    assert a.transport.send("b", MESSAGE, body)
                await a.transport.close(flush_s=30.0)
            await until(lambda: len(b.heard) == 7 or b.transport.counts["incoming_closed"] > 0)
            return [body for _, _, body in b.heard[1:]]

    assert asyncio.run(run()) == bodies


def test_a_frame_that_no_peer_would_take_is_not_sent(village: Village, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is dropped and counted, and the connection stands for what follows."""
    folder, registry, addresses = village
    for module in (tls, frames):
        monkeypatch.setattr(module, "FRAME_BYTES_MAX", 1000)

    async def run() -> None:
        async with Node("a", folder, registry, addresses) as a, Node("b", folder, registry, addresses) as b:
            assert a.transport.send("b", MESSAGE, bytes(999))
            assert not a.transport.send("b", MESSAGE, bytes(1000))
            assert a.transport.send("b", MESSAGE, b"next")
            await until(lambda: len(b.heard) == 2)
            assert a.transport.counts["dropped_too_long"] == 1
            assert a.hints == [("b", "up")]

    asyncio.run(run())


def test_nothing_is_dialled_after_the_close(village: Village) -> None:
    """A frame that comes late, of a thread or a timer, is dropped; no task is left to send it."""
    folder, registry, addresses = village

    async def run() -> None:
        async with Node("a", folder, registry, addresses) as a, Node("b", folder, registry, addresses):
            await a.transport.close()
            before = asyncio.all_tasks()
            assert not a.transport.send("b", MESSAGE, b"late")
            assert asyncio.all_tasks() == before

    asyncio.run(run())


def test_of_a_peer_the_newest_connection_is_read_and_no_other(village: Village) -> None:
    """One that a peer left open when its power failed, or opens beside another, is closed by the next."""
    folder, registry, addresses = village
    context = Identity("a", folder).context(server=False)

    async def run() -> int:
        async with Node("b", folder, registry, addresses) as b:
            left = []
            for _ in range(5):
                reader, writer = await asyncio.open_connection(*addresses["b"], ssl=context)
                writer.write(pack(HELLO, encode(Hello(wire=WIRE_VERSION))))
                await frames.read_frame(reader)
                left.append((reader, writer))
            for reader, _ in left[:-1]:
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
            left[-1][1].write(pack(MESSAGE, b"newest"))
            await until(lambda: b.heard == [("a", MESSAGE, b"newest")])
            found = len(b.transport.door._tasks)
            for _, writer in left:
                writer.transport.abort()
            return found

    assert asyncio.run(run()) == 1


def test_whoever_is_connected_and_says_nothing_is_closed(village: Village, monkeypatch: pytest.MonkeyPatch) -> None:
    """A member that does not greet holds a connection no longer than a handshake may take."""
    folder, registry, addresses = village
    monkeypatch.setattr(tls, "HANDSHAKE_S", 0.2)
    context = Identity("a", folder).context(server=False)

    async def run() -> bytes:
        async with Node("b", folder, registry, addresses):
            reader, writer = await asyncio.open_connection(*addresses["b"], ssl=context)
            try:
                async with asyncio.timeout(60):
                    return await reader.read()
            except ConnectionError:
                return b""
            finally:
                writer.transport.abort()

    assert asyncio.run(run()) == b""


def test_a_name_that_got_another_key_is_no_longer_the_old_keys(village: Village) -> None:
    """Whoever is connected under a name is cut off when the registry has another key for it."""
    folder, registry, addresses = village

    async def run() -> list[bytes]:
        live = dict(registry)
        async with Node("a", folder, registry, addresses) as a, Node("b", folder, live, addresses) as b:
            a.transport.send("b", MESSAGE, b"before")
            await until(lambda: len(b.heard) == 1)
            live["a"] = registry["c"]
            a.transport.send("b", MESSAGE, b"after")
            await until(lambda: ("b", "down") in a.hints)
            return [body for _, _, body in b.heard]

    assert asyncio.run(run()) == [b"before"]


def test_a_peer_whose_address_is_gone_for_a_while_is_reached_again(village: Village) -> None:
    """No address is as an absent peer: what waits is dropped, and a new address counts."""
    folder, registry, addresses = village

    async def run() -> None:
        mine = {name: addresses[name] for name in "ab"}
        async with Node("a", folder, registry, mine) as a, Node("b", folder, registry, addresses) as b:
            a.transport.send("b", MESSAGE, b"never")
            del mine["b"]
            await until(lambda: ("b", "down") in a.hints)
            mine["b"] = addresses["b"]

            def heard_after_asking() -> bool:
                a.transport.send("b", MESSAGE, b"again")
                return bool(b.heard)

            await until(heard_after_asking)
            assert b.heard[0] == ("a", MESSAGE, b"again")

    asyncio.run(run())


def test_registry_and_ids(village: Village) -> None:
    """The registry survives its file, private keys are readable by their owner only, an id is the key's digest."""
    folder, registry, _ = village

    assert read_registry(folder) == registry
    assert node_id(registry["a"]) == digest(registry["a"])
    assert (folder / "a.key").stat().st_mode & 0o077 == 0


def _corrupt(signature: bytes) -> bytes:
    return bytes([signature[0] ^ 1]) + signature[1:]


@pytest.mark.parametrize(
    ("identity", "data", "change", "expected"),
    [
        ("a", b"vote", lambda s: s, True),
        ("a", b"veto", lambda s: s, False),
        ("b", b"vote", lambda s: s, False),
        ("nobody", b"vote", lambda s: s, False),
        ("a", b"vote", _corrupt, False),
        ("a", b"vote", lambda s: s[:-1], False),
    ],
)
def test_signatures(
    village: Village, identity: str, data: bytes, change: Callable[[bytes], bytes], expected: bool
) -> None:
    """A signature holds for its signer, its bytes and nothing else."""
    folder, registry, _ = village
    signature = Ed25519Keys(Identity("a", folder).private_key(), registry).sign(b"vote")
    other = Ed25519Keys(Identity("b", folder).private_key(), registry)

    assert len(signature) == 64
    assert other.verify(identity, data, change(signature)) is expected


@pytest.mark.parametrize("names", [("a", "a"), ("village",), ("../x",), ("",)])
def test_bad_names_are_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    """Names are distinct file names; the error names the wrong one."""
    with pytest.raises(ValueError, match="name="):
        make_village(tmp_path, names)
