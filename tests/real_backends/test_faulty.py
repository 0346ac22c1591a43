"""FaultyTransport: each fault does what it says, counts it, and is fixed by the seed."""

from __future__ import annotations

import asyncio
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from real_backends.cluster import until
from real_backends.transports.faulty import Cut, Disturbance, FaultyTransport, LinkFaults
from real_backends.transports.frames import MESSAGE
from real_backends.transports.memory import Hub, MemoryTransport
from sim import network


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
    arrived, sender = asyncio.run(_exchange(LinkFaults((Disturbance(loss=1.0),))))

    assert arrived == []
    assert sender.done["lost"] == 200


def test_loss_is_the_share_asked_for() -> None:
    """A share of 0.3 loses about 30 % of 2,000 frames (five standard deviations are 5 %)."""
    arrived, sender = asyncio.run(_exchange(LinkFaults((Disturbance(loss=0.3),)), frames=2000))

    assert abs(sender.done["lost"] / 2000 - 0.3) < 0.05
    assert len(arrived) == 2000 - sender.done["lost"]


def test_duplicates_are_fixed_by_the_seed() -> None:
    """The same seed repeats the same frames; another seed repeats others."""
    faults = LinkFaults((Disturbance(duplicate=0.2),))
    first, sender = asyncio.run(_exchange(faults, seed=5))
    again, _ = asyncio.run(_exchange(faults, seed=5))
    other, _ = asyncio.run(_exchange(faults, seed=6))

    assert first == again
    assert first != other
    assert len(first) == 200 + sender.done["duplicated"]
    assert sorted(set(first)) == list(range(200))


def test_one_fault_does_not_shift_another() -> None:
    """Switching duplication on loses exactly the frames that were lost without it."""
    lossy, _ = asyncio.run(_exchange(LinkFaults((Disturbance(loss=0.2),))))
    both, _ = asyncio.run(_exchange(LinkFaults((Disturbance(loss=0.2, duplicate=0.5),))))

    assert set(both) == set(lossy)


def test_reordering_lets_later_frames_overtake() -> None:
    """All frames arrive, but not in the order in which they were sent."""
    arrived, sender = asyncio.run(_exchange(LinkFaults((Disturbance(reorder=0.2),))))

    assert sender.done["reordered"] > 0
    assert arrived != sorted(arrived)
    assert sorted(arrived) == list(range(200))


def test_delay_keeps_every_frame() -> None:
    """Delayed frames all arrive."""
    arrived, sender = asyncio.run(_exchange(LinkFaults((Disturbance(delay_s=0.01),))))

    assert sorted(arrived) == list(range(200))
    assert sender.done["delayed"] == 200


def test_faults_add_up() -> None:
    """Two spells lose as many frames as one of both shares, and the very same ones."""
    one, _ = asyncio.run(_exchange(LinkFaults((Disturbance(loss=0.3),))))
    two, _ = asyncio.run(_exchange(LinkFaults((Disturbance(loss=0.1), Disturbance(loss=0.2)))))

    assert one == two


@pytest.mark.parametrize(("nodes", "lost"), [(("a",), 200), (("b",), 200), (("c",), 0), ((), 0), (None, 200)])
def test_a_disturbance_touches_frames_with_either_end_in_it(nodes: tuple[str, ...] | None, lost: int) -> None:
    """As in the twin: a frame suffers if its sender or its receiver is one of the nodes."""
    _, sender = asyncio.run(_exchange(LinkFaults((Disturbance(nodes=nodes, loss=1.0),))))

    assert sender.done["lost"] == lost


@given(
    st.sets(st.sampled_from("abcd"), min_size=1, max_size=3), st.sets(st.sampled_from("abcd"), min_size=1),
    st.booleans(), st.booleans(),
)  # fmt: skip
def test_cuts_and_disturbances_touch_what_the_twins_do(
    group: set[str], others: set[str], inwards: bool, outwards: bool
) -> None:
    """For every pair of nodes, a cut stops and a disturbance touches the same messages in both worlds."""
    ours = Cut(sources=tuple(group) if outwards else None, targets=tuple(others) if inwards else None)
    twins = network.Cut(
        frozenset(map(ord, group)) if outwards else None, frozenset(map(ord, others)) if inwards else None
    )
    spell, twin = Disturbance(nodes=tuple(group)), network.Disturbance(frozenset(map(ord, group)))
    for a, b in permutations("abcd", 2):
        if inwards or outwards:
            assert ours.stops(a, b) == twins.stops(ord(a), ord(b))
        assert spell.touches(a, b) == twin.touches(ord(a), ord(b))


def test_a_cut_is_one_way() -> None:
    """It stops what is sent to the second node, at either end, and lets the other direction through."""
    arrived, sender = asyncio.run(_exchange(LinkFaults(cuts=(Cut(sources=("a",), targets=("b",)),))))
    assert (arrived, sender.done["cut"]) == ([], 200)

    async def deaf() -> tuple[list[str], int]:
        hub, heard = Hub(), []
        a = FaultyTransport(MemoryTransport(hub, "a"), 1)
        b = MemoryTransport(hub, "b")
        await a.start(lambda sender, kind, body: heard.append(sender), lambda *hint: None)
        await b.start(lambda sender, kind, body: heard.append(sender), lambda *hint: None)
        a.faults = LinkFaults(cuts=(Cut(sources=("b",), targets=("a",)),))
        a.send("b", MESSAGE, b"")
        b.send("a", MESSAGE, b"")
        await until(lambda: a.done["cut"] + len(heard) == 2)
        return heard, a.done["cut"]

    assert asyncio.run(deaf()) == (["a"], 1)


def test_exempt_peers_are_never_touched() -> None:
    """The owner, who applies the faults, always gets through."""
    arrived, _ = asyncio.run(_exchange(LinkFaults((Disturbance(loss=1.0),), (Cut(targets=("owner",)),)), to="owner"))

    assert arrived == list(range(200))


@pytest.mark.parametrize("wrong", [{"loss": 1.5}, {"duplicate": -0.1}, {"delay_s": -1.0}, {"reorder": float("nan")}])
def test_impossible_faults_are_refused(wrong: dict[str, float]) -> None:
    """A share outside 0..1 or a negative time is one clear error that names the field."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Disturbance(**wrong)
