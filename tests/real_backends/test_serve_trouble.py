"""Serve in trouble: what peers send, sensors that break, and disks without room or with damage cost what they must."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from policies.log import DamagedLog, record
from policies.readings import Row
from policies.wire import encode
from real_backends import serve as driver
from real_backends.blob_exchange import BlobExchange
from real_backends.cluster import until
from real_backends.damage import UNKNOWN
from real_backends.identity import OWNER
from real_backends.serve import INCARNATION_KEY, Serve
from real_backends.stores.blobs import BlobStore
from real_backends.transports.frames import CONTROL, MESSAGE, REQUEST, Control, Request, decode
from real_backends.transports.memory import Hub, MemoryTransport
from tests.real_backends.test_serve import MS, Alone, Number, Recorder, _serve


class Broken:
    """Sensors whose driver does what nobody foresaw."""

    missing: tuple[str, ...] = ()
    gone: Mapping[str, int] = {}

    def read(self, now_ns: int) -> Row:
        raise ZeroDivisionError("in the sensors")


def test_sensors_that_break_stop_the_node(tmp_path: Path) -> None:
    """A node that never read again would lend by its last readings for ever."""

    async def run() -> None:
        serve = _serve(Alone(lambda me: me.port.sense(MS)), tmp_path, Hub(), sensors=Broken())
        await serve.start()
        with pytest.raises(ZeroDivisionError, match="in the sensors"):
            await asyncio.wait_for(serve.stopped, 20)
        await serve.stop()

    asyncio.run(run())


def test_a_peer_that_sends_faster_than_a_node_steps_fills_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than so much of a sender's frames does not wait, others' and later ones do, and each is taken once."""
    monkeypatch.setattr(driver, "WAITING_BYTES_MAX", 10 * (driver.WAITING_EACH_BYTES + 20))
    policy = Alone(lambda me: None)

    async def run() -> Serve:
        hub = Hub()
        serve = _serve(policy, tmp_path, hub)
        await serve.start()
        await until(lambda: serve.counts["steps"] == 1)
        for number in range(50):
            serve._on_frame("b", MESSAGE, encode(["", encode(Number(number))]))
        serve._on_frame("b", MESSAGE, encode(["x" * 10_000, b""]))  # a path is no smaller for being nobody's
        serve._on_frame("c", MESSAGE, encode(["", encode(Number(99))]))
        await until(lambda: ("c", 99) in policy.got)
        serve._on_frame("b", MESSAGE, encode(["", encode(Number(100))]))
        await until(lambda: ("b", 100) in policy.got)
        await serve.stop()
        return serve

    serve = asyncio.run(run())
    assert policy.got == [*(("b", number) for number in range(10)), ("c", 99), ("b", 100)]
    assert serve.counts["dropped_waiting"] == 41


def test_control_of_anybody_but_the_owner_is_not_even_decoded(tmp_path: Path) -> None:
    """Its data may be as deep as a frame is long; the peer's link stands, and the owner's word counts."""
    heard: list[Control] = []

    async def run() -> Serve:
        serve = _serve(Alone(lambda me: None), tmp_path, Hub(), on_control=heard.append)
        await serve.start()
        deep = b"\x92\xa4ping\x81\xa1x" + b"\x91" * 100_000 + b"\xc0"
        with pytest.raises(RecursionError):
            decode(CONTROL, deep)
        serve._on_frame("b", CONTROL, deep)
        serve._on_frame("b", CONTROL, encode(Control("ping", {})))
        serve._on_frame(OWNER, CONTROL, encode(Control("ping", {})))
        await serve.stop()
        return serve

    assert asyncio.run(run()).counts["refused_control"] == 2
    assert heard == [Control("ping", {})]


def test_a_prompt_that_there_is_no_room_for_costs_its_request_alone(tmp_path: Path) -> None:
    """The owner's link stands; the client hears nothing and asks another gateway."""
    policy = Recorder()

    async def run() -> Serve:
        serve = _serve(policy, tmp_path, Hub())
        await serve.start()

        def full(*anything: Any) -> str:
            raise OSError(28, "No space left on device")

        serve.blobs.store.put = full  # type: ignore[method-assign]
        for op_id, blob in (("first", b"prompt"), ("second", None)):
            request = Request(path="", client="c", op_id=op_id, payload=encode(Number(1)), blob=blob)
            serve._on_frame(OWNER, REQUEST, encode(request))
        await until(lambda: getattr(policy, "total", 0) == 1)
        await serve.stop()
        return serve

    assert asyncio.run(run()).counts["unkept_blobs"] == 1


@pytest.mark.parametrize("lives", [0, 1], ids=["at once", "after a life that saved nothing"])
def test_damage_to_what_a_life_saved_last_is_told_from_a_torn_tail(tmp_path: Path, lives: int) -> None:
    """Nothing need be saved behind it: a quiet node vouches for its newest record, as does a life that read."""

    async def live(begin: Callable[[Alone], None]) -> None:
        serve = _serve(Alone(begin), tmp_path, Hub())
        await serve.start()
        await serve.stop()

    asyncio.run(live(lambda me: me.port.save("vote", b"for b")))
    path = tmp_path / "node.log"
    at, end = path.read_bytes().index(b"for b"), path.stat().st_size  # of the record that vouches for the vote
    for _ in range(lives):
        asyncio.run(live(lambda me: None))
    data = path.read_bytes()
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])

    with pytest.raises(DamagedLog) as caught:
        asyncio.run(live(lambda me: None))
    begin = len(record([(INCARNATION_KEY, bytes(8))])) + len(record([]))  # the life's number, vouched for
    what = f"byte {begin}: damaged, and the record that ends at byte {end} found it durable"
    assert str(caught.value) == f"{path}: {what}: {UNKNOWN}"


def test_damage_to_the_number_of_a_life_is_told_from_a_torn_tail(tmp_path: Path) -> None:
    """It stands behind all else where nothing was saved; a number that is used twice is a random stream drawn twice."""

    async def live() -> None:
        serve = _serve(Alone(lambda me: None), tmp_path, Hub())
        await serve.start()
        await serve.stop()

    asyncio.run(live())
    path = tmp_path / "node.log"
    data = path.read_bytes()
    path.write_bytes(bytes([data[0] ^ 1]) + data[1:])

    with pytest.raises(DamagedLog, match="found it durable"):
        asyncio.run(live())


def test_an_answer_that_cannot_be_kept_is_given(tmp_path: Path) -> None:
    """A gateway whose disk takes no blob still hands on the output that it fetched."""

    async def run() -> bytes | None:
        hub = Hub()
        exchanges = {name: BlobExchange(MemoryTransport(hub, name), BlobStore(tmp_path / name)) for name in "ab"}
        for exchange in exchanges.values():
            await exchange._transport.start(exchange.on_frame, lambda *hint: None)
        name = exchanges["a"].store.put(b"answer")

        def full(*anything: Any) -> str:
            raise OSError(28, "No space left on device")

        exchanges["b"].store.put = full  # type: ignore[method-assign]
        return await exchanges["b"].get(name, "a")

    assert asyncio.run(run()) == b"answer"
