"""FaultyTransport: each fault does what it says, counts it, and is fixed by the seed."""

from __future__ import annotations

import asyncio

import pytest

from real_backends.cluster import until
from real_backends.transports.faulty import FaultyTransport, LinkFaults
from real_backends.transports.frames import MESSAGE
from real_backends.transports.memory import Hub, MemoryTransport


async def _exchange(
    faults: LinkFaults, *, seed: int = 1, frames: int = 200, to: str = "b"
) -> tuple[list[int], FaultyTransport]:
    """Send numbered frames from a to ``to`` and return the numbers that arrived, in order."""
    hub = Hub()
    arrived: list[int] = []
    sender = FaultyTransport(MemoryTransport(hub, "a"), seed, exempt=("owner",))
    receiver = MemoryTransport(hub, to)
    await receiver.start(lambda peer, kind, body: arrived.append(int.from_bytes(body, "little")), lambda *hint: None)
    await sender.start(lambda *frame: None, lambda *hint: None)
    sender.faults = faults
    for number in range(frames):
        sender.send(to, MESSAGE, number.to_bytes(4, "little"))
    done = sender.done
    await until(lambda: len(arrived) == frames - done["lost"] - done["cut"] + done["duplicated"])
    return arrived, sender


def test_no_faults_change_nothing() -> None:
    """Without faults every frame arrives once and in order."""
    arrived, sender = asyncio.run(_exchange(LinkFaults()))

    assert arrived == list(range(200))
    assert sum(sender.done.values()) == 0


def test_loss_of_one_drops_all() -> None:
    """A share of 1 loses every frame and counts each."""
    arrived, sender = asyncio.run(_exchange(LinkFaults(loss=1.0)))

    assert arrived == []
    assert sender.done["lost"] == 200


def test_loss_is_the_share_asked_for() -> None:
    """A share of 0.3 loses about 30 % of 2,000 frames (five standard deviations are 5 %)."""
    arrived, sender = asyncio.run(_exchange(LinkFaults(loss=0.3), frames=2000))

    assert abs(sender.done["lost"] / 2000 - 0.3) < 0.05
    assert len(arrived) == 2000 - sender.done["lost"]


def test_duplicates_are_fixed_by_the_seed() -> None:
    """The same seed repeats the same frames; another seed repeats others."""
    faults = LinkFaults(duplicate=0.2)
    first, sender = asyncio.run(_exchange(faults, seed=5))
    again, _ = asyncio.run(_exchange(faults, seed=5))
    other, _ = asyncio.run(_exchange(faults, seed=6))

    assert first == again
    assert first != other
    assert len(first) == 200 + sender.done["duplicated"]
    assert sorted(set(first)) == list(range(200))


def test_one_fault_does_not_shift_another() -> None:
    """Switching duplication on loses exactly the frames that were lost without it."""
    lossy, _ = asyncio.run(_exchange(LinkFaults(loss=0.2)))
    both, _ = asyncio.run(_exchange(LinkFaults(loss=0.2, duplicate=0.5)))

    assert set(both) == set(lossy)


def test_reordering_lets_later_frames_overtake() -> None:
    """All frames arrive, but not in the order in which they were sent."""
    arrived, sender = asyncio.run(_exchange(LinkFaults(reorder=0.2)))

    assert sender.done["reordered"] > 0
    assert arrived != sorted(arrived)
    assert sorted(arrived) == list(range(200))


def test_delay_keeps_every_frame() -> None:
    """Delayed frames all arrive."""
    arrived, sender = asyncio.run(_exchange(LinkFaults(delay_s=0.01)))

    assert sorted(arrived) == list(range(200))
    assert sender.done["delayed"] == 200


def test_a_cut_is_one_way() -> None:
    """``cut_to`` stops what is sent; ``cut_from`` stops what arrives and lets this node's own frames out."""
    arrived, sender = asyncio.run(_exchange(LinkFaults(cut_to=("b",))))
    assert (arrived, sender.done["cut"]) == ([], 200)

    async def deaf() -> tuple[list[str], int]:
        hub, heard = Hub(), []
        a = FaultyTransport(MemoryTransport(hub, "a"), 1)
        b = MemoryTransport(hub, "b")
        await a.start(lambda sender, kind, body: heard.append(sender), lambda *hint: None)
        await b.start(lambda sender, kind, body: heard.append(sender), lambda *hint: None)
        a.faults = LinkFaults(cut_from=("b",))
        a.send("b", MESSAGE, b"")
        b.send("a", MESSAGE, b"")
        await until(lambda: a.done["cut"] + len(heard) == 2)
        return heard, a.done["cut"]

    assert asyncio.run(deaf()) == (["a"], 1)


def test_exempt_peers_are_never_touched() -> None:
    """The owner, who applies the faults, always gets through."""
    arrived, _ = asyncio.run(_exchange(LinkFaults(loss=1.0, cut_to=("owner",)), to="owner"))

    assert arrived == list(range(200))


@pytest.mark.parametrize("wrong", [{"loss": 1.5}, {"duplicate": -0.1}, {"delay_s": -1.0}, {"reorder": float("nan")}])
def test_impossible_faults_are_refused(wrong: dict[str, float]) -> None:
    """A share outside 0..1 or a negative time is one clear error that names the field."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LinkFaults(**wrong)
