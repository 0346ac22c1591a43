"""What a link refuses is counted by its reason, and told once with who it was: a flood of it fills no file."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from policies.wire import WIRE_VERSION, encode
from real_backends.cluster import free_addresses, until
from real_backends.identity import Identity, make_village
from real_backends.node import make_parts, make_serve
from real_backends.node_files import read_events
from real_backends.serve import Serve
from real_backends.transports import tls
from real_backends.transports.frames import (
    CONTROL,
    FRAME_BYTES_MAX,
    HELLO,
    MESSAGE,
    REQUEST,
    Hello,
    decode,
    pack,
    read_frame,
)  # fmt: skip
from real_backends.transports.memory import Hub
from real_backends.transports.tls import TlsTransport
from tests.real_backends.beating import desks
from tests.real_backends.test_damage import config_of
from tests.real_backends.test_serve import Alone, _serve

Refusals = list[tuple[str, str, str]]
GREETING = pack(HELLO, encode(Hello(wire=WIRE_VERSION)))
LENGTH = FRAME_BYTES_MAX + 1
TOO_LONG = LENGTH.to_bytes(4, "little") + b"\x01"
OTHER = pack(HELLO, encode(Hello(wire=WIRE_VERSION + 1)))


def refused(
    folder: Path, said: bytes, times: int = 1, known: tuple[str, ...] = ("a", "b")
) -> tuple[Refusals, int, int]:
    """Let member a connect to b and say this; return what b told, and how often it counted that and closed links."""
    registry, addresses = make_village(folder, ("a", "b")), free_addresses(("b",))
    context = Identity("a", folder).context(server=False)
    told: Refusals = []

    async def run() -> tuple[int, int]:
        links = TlsTransport(Identity("b", folder), {name: registry[name] for name in known}, addresses)
        links.on_refused = lambda *refusal: told.append(refusal)
        await links.start(lambda sender, kind, body: decode(kind, body), lambda *hint: None)
        for _ in range(times):
            reader, writer = await asyncio.open_connection(*addresses["b"], ssl=context)
            writer.write(said)
            with contextlib.suppress(ConnectionError):
                await reader.read()
            writer.transport.abort()
        await until(lambda: links.counts["incoming_closed"] == times)
        await links.close()
        return links.counts[f"refused_{told[0][1]}"] if told else 0, links.counts["incoming_closed"]

    return told, *asyncio.run(run())


@pytest.mark.parametrize(
    ("said", "reason", "why"),
    [
        (
            GREETING + TOO_LONG,
            "length",
            f"frame of {LENGTH} ",
        ),
        (GREETING + bytes(5), "length", "frame of 0 bytes"),
        (GREETING + pack(MESSAGE, b"\xc1"), "body", "message frame: "),
        (OTHER, "version", f"wire version {WIRE_VERSION + 1}: this node's is {WIRE_VERSION}"),
        (pack(MESSAGE, b""), "greeting", "first frame: expected a hello, got kind 1 (message)"),
        (pack(HELLO, b"\xc1"), "greeting", "hello frame: "),
        (TOO_LONG, "length", f"frame of {LENGTH} "),
    ],
    ids=["too long", "too short", "malformed", "other version", "no hello", "malformed hello", "hello too long"],
)
def test_what_a_member_may_not_say_is_counted_by_reason_and_told_once(
    tmp_path: Path, said: bytes, reason: str, why: str
) -> None:
    """Its name stands in the note; who repeats it is counted each time, and told no more."""
    told, count, closed = refused(tmp_path, said, times=3)

    assert [(peer, what) for peer, what, _ in told] == [("a", reason)]
    assert told[0][2].startswith(why)
    assert (count, closed) == (3, 3)


def test_who_has_left_the_village_is_told_with_its_address(tmp_path: Path) -> None:
    """Such a peer has no name: all of them are told of once, with where the first came from."""
    told, count, closed = refused(tmp_path, GREETING, times=3, known=("b",))

    assert told == [("", "key", "127.0.0.1: its key is under no name of the registry")]
    assert (count, closed) == (3, 3)


def test_who_connects_and_goes_is_not_refused(tmp_path: Path) -> None:
    """A connection that ends is an ending and no offence."""
    registry, addresses = make_village(tmp_path, ("a", "b")), free_addresses(("a", "b"))
    told: Refusals = []

    async def run() -> TlsTransport:
        heard: list[bytes] = []
        ends = [TlsTransport(Identity(name, tmp_path), registry, addresses) for name in "ab"]
        ends[1].on_refused = lambda *refusal: told.append(refusal)
        for end in ends:
            await end.start(lambda sender, kind, body: heard.append(body), lambda *hint: None)
        ends[0].send("b", MESSAGE, b"one")
        await until(lambda: heard == [b"one"])
        await ends[0].close()
        await until(lambda: ends[1].counts["incoming_closed"] == 1)
        await ends[1].close()
        return ends[1]

    links = asyncio.run(run())
    assert told == []
    assert not [name for name in links.counts if name.startswith("refused")]


def test_a_peer_that_answers_in_another_version_is_refused_where_it_is_dialled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told once, however often it is dialled, and counted each time."""
    registry, addresses = make_village(tmp_path, ("a", "b")), free_addresses(("a", "b"))
    monkeypatch.setattr(tls, "BACKOFF_MAX_S", 0.05)
    told: Refusals = []

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            await read_frame(reader)
            writer.write(OTHER)
            await reader.read()
        writer.transport.abort()

    async def run() -> None:
        context = Identity("b", tmp_path).context(server=True)
        server = await asyncio.start_server(greet, *addresses["b"], ssl=context)
        links = TlsTransport(Identity("a", tmp_path), registry, addresses)
        links.on_refused = lambda *refusal: told.append(refusal)
        await links.start(lambda *frame: None, lambda *hint: None)

        def refused_twice() -> bool:
            links.send("b", MESSAGE, b"")
            return links.counts["refused_version"] >= 2

        await until(refused_twice)
        await links.close()
        server.close()

    asyncio.run(run())
    assert told == [("b", "version", f"wire version {WIRE_VERSION + 1}: this node's is {WIRE_VERSION}")]


def test_a_refusal_is_a_note_of_its_node(tmp_path: Path) -> None:
    """It stands among the node's events, with the peer's name, the reason and the words."""
    config = config_of(desks(1), "desk-0", tmp_path)

    async def run() -> None:
        parts = make_parts(config)
        serve = make_serve(config, parts, 1)
        await serve.start()
        parts.links.on_refused("desk-1", "version", "wire version 1: this node's is 2")
        await serve.stop()

    asyncio.run(run())
    found = [each["detail"] for each in read_events(tmp_path / "desk-0" / "events.jsonl") if each["name"] == "refused"]
    assert found == [{"peer": "desk-1", "reason": "version", "why": "wire version 1: this node's is 2"}]


def test_frames_that_a_node_drops_are_told_of_once_for_each_peer(tmp_path: Path) -> None:
    """Whole frames, too: of a kind that is none, of a word that is the owner's, and messages whose content is none."""

    async def run() -> Serve:
        serve = _serve(Alone(lambda me: None), tmp_path, Hub())
        await serve.start()
        for peer in ("b", "c", "b"):
            serve._on_frame(peer, 77, b"")
            serve._on_frame(peer, CONTROL, b"")
            serve._on_frame(peer, REQUEST, b"")
            serve._on_frame(peer, MESSAGE, encode(["", b"\xc1"]))
        serve._on_frame("b", MESSAGE, encode(["nowhere", b""]))
        await until(lambda: serve.cell.malformed == 4)
        await serve.stop()
        return serve

    counts = asyncio.run(run()).counts
    names = ["unknown_frames", "refused_control", "refused_requests", "malformed"]
    assert [counts[name] for name in names] == [3, 3, 3, 4]
    found = [(each["name"], each["detail"]["peer"]) for each in read_events(tmp_path / "events.jsonl")]
    assert sorted(found) == sorted((name, peer) for name in names for peer in "bc")


def test_a_disk_that_takes_no_note_stops_the_node_and_not_the_link(tmp_path: Path) -> None:
    """It takes no journal either; whoever sent the frame is not to blame."""

    async def run() -> BaseException | None:
        serve = _serve(Alone(lambda me: None), tmp_path, Hub())
        await serve.start()

        def full(*anything: object) -> None:
            raise OSError(28, "No space left on device")

        serve._events.add = full  # type: ignore[method-assign]
        serve._on_frame("b", 77, b"")
        await asyncio.wait((serve.stopped,))
        await serve.stop()
        return serve.stopped.exception()

    assert isinstance(asyncio.run(run()), OSError)
