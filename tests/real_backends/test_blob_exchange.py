"""Blobs between nodes: pieces put together, absence believed of the holder alone, and silence waited out."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from policies.wire import WireError, digest, encode
from real_backends import blob_exchange
from real_backends.blob_exchange import BlobExchange, HandsOutNothing, WrongSize
from real_backends.stores.blobs import BlobStore
from real_backends.transports.frames import BLOB_GET, BLOB_PUT, PIECE_BYTES, BlobGet, BlobPut
from real_backends.transports.memory import Hub, MemoryTransport


def exchanges(folder: Path, **kinds: type[BlobExchange]) -> dict[str, BlobExchange]:
    """Return nodes on one hub, that hear each other once `started`."""
    hub = Hub()
    return {
        name: kind(MemoryTransport(hub, name), BlobStore(folder / name)) for name, kind in kinds.items()
    }  # fmt: skip


async def started(nodes: dict[str, BlobExchange]) -> None:
    for node in nodes.values():
        await node._transport.start(node.on_frame, lambda peer, hint: None)


def play(nodes: dict[str, BlobExchange], act: Coroutine[Any, Any, None]) -> None:
    """Let them talk."""

    async def whole() -> None:
        await started(nodes)
        try:
            await act
        finally:
            for node in nodes.values():
                await node._transport.close()

    asyncio.run(whole())


@pytest.mark.parametrize("size", [0, 5, PIECE_BYTES - 1, PIECE_BYTES, 2 * PIECE_BYTES + 3])
def test_a_blob_of_any_size_comes_whole(tmp_path: Path, size: int) -> None:
    """What was put there is what is got here, in as many pieces as it takes, and is kept."""
    nodes = exchanges(tmp_path, a=BlobExchange, b=BlobExchange)
    data = bytes(k % 251 for k in range(size))

    async def act() -> None:
        name = nodes["a"].store.put(data)
        assert await nodes["b"].get(name, "a") == data
        assert nodes["b"].store.get(name) == data

    play(nodes, act())


@pytest.mark.parametrize("size", [0, 5, PIECE_BYTES // 8 - 1, PIECE_BYTES // 8, PIECE_BYTES + 3])
def test_a_node_that_is_held_to_small_pieces_asks_for_such(tmp_path: Path, size: int) -> None:
    """No piece that comes is larger than its share of the usual one, and together they are the blob."""
    nodes = exchanges(tmp_path, a=BlobExchange, b=BlobExchange)
    nodes["b"].chunk_share = 0.125
    data, came = bytes(k % 251 for k in range(size)), list[int]()

    async def act() -> None:
        name, piece = nodes["a"].store.put(data), nodes["a"].store.piece

        def counted(name: str, begin: int, count: int) -> bytes | None:
            found = piece(name, begin, count)
            came.append(-1 if found is None else len(found))
            return found

        nodes["a"].store.piece = counted  # type: ignore[method-assign]
        assert await nodes["b"].get(name, "a") == data

    play(nodes, act())
    assert max(came) <= PIECE_BYTES // 8
    assert len(came) == 1 + size // (PIECE_BYTES // 8)


def test_who_joins_a_piece_takes_it_as_it_was_asked_for(tmp_path: Path) -> None:
    """Limits move while a small piece is on its way: it is no blob's end to one who would have asked for more."""
    nodes, data = exchanges(tmp_path, a=BlobExchange, b=BlobExchange), bytes(range(250)) * 1000

    async def act() -> None:
        name = nodes["a"].store.put(data)
        nodes["b"].chunk_share = 0.125
        first = asyncio.ensure_future(nodes["b"].get(name, "a"))
        await asyncio.sleep(0)
        nodes["b"].chunk_share = 1.0
        assert await nodes["b"].get(name, "a") == await first == data

    play(nodes, act())


@pytest.mark.parametrize("count", [0, -1, PIECE_BYTES + 1, "all"])
def test_a_piece_of_a_size_that_cannot_be_is_refused(tmp_path: Path, count: Any) -> None:
    """Nobody makes a holder send more than the largest piece, or nothing for ever."""
    nodes = exchanges(tmp_path, a=BlobExchange)
    with pytest.raises(WireError, match="blob_get frame: "):
        nodes["a"].on_frame("b", BLOB_GET, encode([digest(b"x"), 0, count]))


def test_absence_is_believed_of_the_holder_alone(tmp_path: Path) -> None:
    """A peer that was not asked says that there is none, and something false; the holder's answer is what counts."""
    nodes = exchanges(tmp_path, a=BlobExchange, b=BlobExchange)
    heard: list[str] = []

    async def act() -> None:
        name = nodes["a"].store.put(b"what was said")
        serve = nodes["a"]._serve

        def after_the_liar(sender: str, wanted: BlobGet) -> None:
            for data in (None, b"something else"):
                heard.append("liar")
                nodes["b"].on_frame("c", BLOB_PUT, encode(BlobPut(name, data)))
            serve(sender, wanted)

        nodes["a"]._serve = after_the_liar  # type: ignore[method-assign]
        assert await nodes["b"].get(name, "a") == b"what was said"
        assert await nodes["b"].get(digest(b"unknown"), "a") is None

    play(nodes, act())
    assert heard[:2] == ["liar", "liar"]


def test_two_holders_are_asked_apart(tmp_path: Path) -> None:
    """One of them has it; that the other has not ends only what was asked of that one."""
    nodes = exchanges(tmp_path, a=BlobExchange, b=BlobExchange, c=BlobExchange)

    async def act() -> None:
        name = nodes["a"].store.put(b"answer")
        assert await asyncio.gather(nodes["b"].get(name, "c"), nodes["b"].get(name, "a")) == [None, b"answer"]

    play(nodes, act())


def test_who_gives_up_leaves_the_piece_to_those_who_wait_on(tmp_path: Path) -> None:
    """Two jobs want one blob of one holder; the first is given up, and what comes then is the second one's."""
    nodes = exchanges(tmp_path, a=BlobExchange, b=BlobExchange)

    async def act() -> None:
        name, asked = nodes["a"].store.put(b"answer"), list[tuple[str, BlobGet]]()
        serve, both = nodes["a"]._serve, asyncio.Event()

        def late(sender: str, wanted: BlobGet) -> None:
            asked.append((sender, wanted))
            if len(asked) == 2:
                both.set()

        nodes["a"]._serve = late  # type: ignore[method-assign]
        first, second = (asyncio.ensure_future(nodes["b"].get(name, "a")) for _ in range(2))
        await both.wait()
        first.cancel()
        await asyncio.wait((first,))
        serve(*asked[0])
        assert await second == b"answer"
        assert len(asked) == 2  # it was not asked for again
        assert nodes["b"]._waiting == {}

    play(nodes, act())


def test_a_holder_that_sends_something_else_has_nothing(tmp_path: Path) -> None:
    """Pieces that do not make up the blob of that name are no blob, and nothing is kept of them."""
    nodes = exchanges(tmp_path, a=BlobExchange, b=BlobExchange)

    async def act() -> None:
        name = digest(b"right")
        nodes["a"].store.piece = lambda *wanted: b"wrong"  # type: ignore[method-assign]
        assert await nodes["b"].get(name, "a") is None
        assert nodes["b"].store.get(name) is None
        assert nodes["b"]._waiting == {}

    play(nodes, act())


def test_silence_ends_after_the_last_try(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A holder that says nothing is asked so many times, and then has nothing."""
    monkeypatch.setattr(blob_exchange, "FETCH_TRY_S", 0.01)
    nodes = exchanges(tmp_path, a=HandsOutNothing, b=BlobExchange)

    async def act() -> None:
        name = nodes["a"].store.put(b"mine")
        assert await nodes["b"].get(name, "a") is None
        assert nodes["b"]._waiting == {}

    play(nodes, act())
    assert nodes["b"]._transport.counts["sent_blob_get"] == blob_exchange.FETCH_TRIES


def test_no_blob_is_fetched_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A holder that sends piece after piece is left when that is more than any blob has."""
    monkeypatch.setattr(blob_exchange, "BLOB_BYTES_MAX", 3 * PIECE_BYTES)
    nodes = exchanges(tmp_path, a=BlobExchange, b=BlobExchange)
    begun: list[int] = []

    async def act() -> None:
        def piece(name: str, begin: int, count: int) -> bytes:
            begun.append(begin)
            return bytes(count)

        nodes["a"].store.piece = piece  # type: ignore[method-assign]
        assert await nodes["b"].get(digest(b"endless"), "a") is None

    play(nodes, act())
    assert len(begun) == 4


@pytest.mark.parametrize("size", [1, 3 * PIECE_BYTES, 9 * PIECE_BYTES])
def test_a_blob_of_another_size_is_refused_before_it_is_held(tmp_path: Path, size: int) -> None:
    """A holder is asked for no more than a piece beyond what a blob must have, and nothing of it is kept."""
    nodes = exchanges(tmp_path, a=BlobExchange, b=BlobExchange)
    begun: list[int] = []

    async def act() -> None:
        name, piece = nodes["a"].store.put(bytes(size)), nodes["a"].store.piece

        def counted(name: str, begin: int, count: int) -> bytes | None:
            begun.append(begin)
            return piece(name, begin, count)

        nodes["a"].store.piece = counted  # type: ignore[method-assign]
        with pytest.raises(WrongSize):
            await nodes["b"].get(name, "a", 2 * PIECE_BYTES)
        assert nodes["b"].store.bytes_held == 0
        assert max(begun) <= 2 * PIECE_BYTES
        with pytest.raises(WrongSize):  # nor is one that is here
            await nodes["a"].get(name, "a", 2 * PIECE_BYTES)
        assert await nodes["b"].get(name, "a", size) == bytes(size)

    play(nodes, act())
