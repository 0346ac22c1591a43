"""The fault script: what it does to processes and links, that spells add up, and what it records; and a real kernel."""

from __future__ import annotations

import asyncio
import json
import selectors
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import msgspec
import psutil
import pytest

from policies.port import START
from real_backends.fault_script import FaultScript, check_faults
from real_backends.local import run_local
from real_backends.processes import Processes
from real_backends.transports.faulty import LinkFaults
from real_backends.victims import Victims
from scenarios import faults as f
from scenarios.faults import FaultError
from scenarios.journal import read
from scenarios.record import Record
from scenarios.schema import ScenarioError
from tests.real_backends import beating
from tests.real_backends.beating import desks

NAMES = ("a", "b", "c", "d")


class Jumping(selectors.DefaultSelector):
    """Where an event loop would wait, its time jumps."""

    now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "everybody waits for ever"
        self.now_s += timeout
        return super().select(0)


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop whose time passes only when nobody has anything to do."""

    def __init__(self) -> None:
        self._jumps = Jumping()
        super().__init__(self._jumps)

    def time(self) -> float:
        return self._jumps.now_s


class FakeProcesses:
    """Nodes that only note what is done to them."""

    names, network = NAMES, None

    def __init__(self) -> None:
        self.done: list[tuple[str, str]] = []
        self.links: dict[str, LinkFaults] = {}
        self.down: set[str] = set()
        self.paused: set[str] = set()
        self.disk_ends: dict[str, asyncio.Future[int]] = {}
        self.stops_when_full = True

    def up(self, name: str) -> bool:
        return name not in self.down

    def answers(self, name: str) -> bool:
        return name not in self.down | self.paused

    async def ask(self, name: str, command: str, data: Any = None) -> dict[str, Any]:
        if command == "faults":
            self.links[name] = msgspec.convert(data, LinkFaults)
            self.done.append((f"{len(self.links[name].cuts)} cuts", name))
        return {"active": int(name == "d")}

    async def start(self, name: str) -> None:
        self.done.append(("start", name))
        self.down.discard(name)

    async def kill(self, name: str) -> None:
        self.done.append(("kill", name))
        self.gone(name)

    def gone(self, name: str) -> None:
        self.down.add(name)

    def wipe(self, name: str) -> None:
        self.done.append(("wipe", name))

    def pause(self, name: str) -> None:
        self.done.append(("pause", name))
        self.paused.add(name)

    def resume(self, name: str) -> None:
        self.done.append(("resume", name))
        self.paused.discard(name)

    def fill_disk(self, name: str) -> None:
        self.done.append(("full", name))

    def empty_disk(self, name: str) -> None:
        self.done.append(("room", name))

    async def ended(self, name: str) -> int:
        if not self.stops_when_full:
            await asyncio.Event().wait()
        return 1


def _play(*faults: Any, stops_when_full: bool = True) -> tuple[FakeProcesses, FaultScript]:
    """Carry out a schedule on fakes, in no time."""
    fake = FakeProcesses()
    fake.stops_when_full = stops_when_full

    async def run() -> FaultScript:
        processes = cast(Processes, fake)
        victims = Victims(processes, NAMES[:2], NAMES[2:], {"pair": ["c", "d"]}, lambda: "a", 1)
        script = FaultScript(processes, victims, seed=1, duration_s=100.0, begun_s=asyncio.get_running_loop().time())
        await script.run(faults)
        return script

    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        return fake, runner.run(run())


def _phases(script: FaultScript) -> list[tuple[str, ...]]:
    return [row[1:5] for row in script.rows]


def test_the_end_of_one_partition_keeps_anothers_cuts() -> None:
    """Cuts are a list of spells: of two that overlap, equal ones too, the first to end takes only its own along."""
    fake, script = _play(
        f.Partition(at_s=0, for_s=4, group=("c",)), f.Partition(at_s=1, for_s=9, group=("group:pair", 1)),
        f.Partition(at_s=2, for_s=4, group=("c",)),
    )  # fmt: skip

    told = [what for what, name in fake.done if name == "a"]
    assert told == ["2 cuts", "4 cuts", "6 cuts", "4 cuts", "2 cuts", "0 cuts"]
    assert [row[0] for row in script.rows] == [0, 1, 2, 4, 6, 10]
    assert [row[2] for row in script.rows] == ["c", "c,d,b", "c", "c", "c", "c,d,b"]
    assert all(links == LinkFaults() for links in fake.links.values())


def test_every_kind_of_spell_reaches_the_links_and_ends() -> None:
    """Loss, delay, copies, reordering and cuts are told with the nodes they touch, and none is left behind."""
    fake, script = _play(
        f.Loss(at_s=0, for_s=5, share=0.1, nodes=("leader",)),
        f.Delay(at_s=0, for_s=5, by_s=0.2, nodes=("group:pair",)),
        f.Duplicate(at_s=0, for_s=5, share=0.3), f.Reorder(at_s=0, for_s=5, share=0.4, by_s=0.5),
        f.Cut(at_s=0, for_s=5, pairs=(("a", "b"),), one_way=True), f.Pause(at_s=2, for_s=1, node="d"),
    )  # fmt: skip

    seen = {row[1]: (row[2], row[4], json.loads(row[5])) for row in script.rows if row[3] == "start"}
    assert seen["loss"] == ("leader", "transport", {"share": 0.1, "for_s": 5.0})
    assert seen["delay"][0] == "group:pair"
    assert seen["cut"][0] == "a-b"
    assert seen["pause"] == ("d", "process", {"for_s": 1.0})
    assert sum(row[3] == "end" for row in script.rows) == len(seen) == 6
    assert all(links == LinkFaults() for links in fake.links.values())


def test_a_paused_node_is_told_of_the_links_when_it_goes_on() -> None:
    """A stopped process cannot answer, so a spell does not wait for it; overlapping pauses end with the last."""
    fake, _ = _play(
        f.Pause(at_s=0, for_s=3, node="c"), f.Pause(at_s=1, for_s=5, node="c"),
        f.Partition(at_s=2, for_s=9, group=(0,)),
    )  # fmt: skip

    assert [what for what, name in fake.done if name == "c"] == ["pause", "pause", "resume", "2 cuts", "0 cuts"]


def test_a_pause_of_an_earlier_life_stops_no_later_one() -> None:
    """A node that was killed while it was stopped runs when it is back; a pause of its new life ends by itself."""
    fake, _ = _play(
        f.Pause(at_s=0, for_s=9, node="c"), f.Crash(at_s=1, down_s=1, node="c"), f.Pause(at_s=3, for_s=2, node="c"),
        f.Pause(at_s=8, for_s=4, node="c"),
    )  # fmt: skip

    done = [what for what, name in fake.done if name == "c" and "cuts" not in what]
    assert done == ["pause", "kill", "start", "pause", "resume", "pause", "resume"]


@pytest.mark.parametrize(("down_s", "back"), [(5, ["start"]), (-1, [])])
def test_room_on_a_disk_brings_nobody_back_whom_a_crash_keeps_down(down_s: float, back: list[str]) -> None:
    """A node that was killed comes back when its crash is over, or never, although its disk was full for a while."""
    for at_s in (0, 2):  # before the crash, and in it
        fake, _ = _play(
            f.FullDisk(at_s=at_s, for_s=2, node="c"), f.Crash(at_s=1, down_s=down_s, node="c"), stops_when_full=False
        )
        assert [what for what, _ in fake.done if what in ("start", "room")] == back


def test_a_full_disk_stops_a_node_until_there_is_room() -> None:
    """It stops by the kernel, its crash is recorded, no other fault's restart brings it back early, and it starts."""
    fake, script = _play(f.FullDisk(at_s=2, for_s=8, node="c"), f.Crash(at_s=1, down_s=3, node="d"))
    assert [what for what, name in fake.done if name == "c" and "cuts" not in what] == ["full", "start"]
    assert [row for row in _phases(script) if row[1] == "c"] == [
        ("full_disk", "c", "start", "kernel"), ("crash", "c", "start", "kernel"), ("full_disk", "c", "end", "kernel"),
    ]  # fmt: skip

    fake, script = _play(
        f.Crash(at_s=0, down_s=3, node="c"), f.FullDisk(at_s=1, for_s=8, node="c"), stops_when_full=False
    )
    assert [what for what, _ in fake.done if what in ("start", "full", "room")] == ["start"]
    assert _phases(script) == [
        ("crash", "c", "start", "process"), ("full_disk", "c", "start", "kernel"), ("full_disk", "c", "end", "kernel"),
    ]  # fmt: skip
    assert len(script.restarts) == 1

    fake, _ = _play(f.FullDisk(at_s=0, for_s=2, node="c"), stops_when_full=False)
    assert [what for what, _ in fake.done] == ["full", "room"]  # it had nothing to write


def test_a_group_falls_together_and_a_lost_disk_is_wiped() -> None:
    """Each member of a group crashes; a victim that is down already is recorded as skipped."""
    fake, script = _play(
        f.Crash(at_s=0, down_s=4, node="group:pair", disk="lost"), f.Crash(at_s=2, down_s=1, node="worker")
    )

    assert [x for x in fake.done if x[0] in ("kill", "wipe")] == [
        ("kill", "c"), ("wipe", "c"), ("kill", "d"), ("wipe", "d"),
    ]  # fmt: skip
    assert ("crash", "worker", "skipped", "process") in _phases(script)
    assert len(script.restarts) == 2


def test_what_the_kernel_cannot_do_is_refused(tmp_path: Path) -> None:
    """A kill tears no write, so a crash that shall is one clear line, before any process starts."""
    with pytest.raises(FaultError, match=r"faults\[0\].writes='torn': .* world=local allows lost"):
        check_faults([f.Crash(at_s=0, node="a", writes="torn")])
    with pytest.raises(ScenarioError, match=r"faults\[0\].writes='corrupted'"):
        run_local(desks(2, faults=[{"kind": "crash", "at_s": 1, "node": "desk-0", "writes": "corrupted"}]), tmp_path)
    assert list(tmp_path.iterdir()) == []


# -- a real kernel --------------------------------------------------------------------------------------


@pytest.fixture
def record(tmp_path: Path) -> Callable[..., Record]:
    """Runs two real nodes that count under some faults."""
    return lambda *faults: run_local(
        desks(2, duration_s=5.0, faults=list(faults)), tmp_path / "run", policy=f"{beating.__file__}:Beating"
    )


def test_stopped_and_full_for_real(record: Callable[..., Record], tmp_path: Path) -> None:
    """SIGSTOP leaves a gap in a node's life and no new incarnation; a file limit stops one, and it starts again.

    What the second had announced before its disk was full it still knows afterwards.
    """
    (tmp_path / "run").mkdir()
    found = record(
        {"kind": "pause", "at_s": 2.0, "node": "desk-0", "for_s": 1.0},
        {"kind": "full_disk", "at_s": 2.0, "node": "desk-1", "for_s": 1.5},
    )

    assert found.manifest["fault_layers"] == {"crash": ["kernel"], "full_disk": ["kernel"], "pause": ["process"]}
    rows = {name: list(read(journal)[1]) for name, journal in found.journals.items()}
    starts = {name: [row[2][3] for row in mine if row[2][0] == START] for name, mine in rows.items()}
    assert starts == {"desk-0": [0], "desk-1": [0, 1]}
    gap_ns = max(b[0] - a[0] for a, b in zip(rows["desk-0"], rows["desk-0"][1:], strict=False))
    begun_s, ended_s = (row[0] for row in found.tables["faults"] if row[1] == "pause")
    # The kernel ran it in no less than the pause, whatever else the machine did; a late script may cut that short.
    assert gap_ns > 0.9e9 * (ended_s - begun_s) > 0.5e9
    beats = [(row[3], json.loads(row[4])[1]) for row in found.tables["decisions"] if row[1] == "desk-1"]
    restored = [k for k, (kind, _) in enumerate(beats) if kind == "restored"]
    assert beats[restored[1]][1] >= beats[restored[1] - 1][1] > 0
    assert not [c for c in psutil.Process().children(recursive=True) if "real_backends.node" in " ".join(c.cmdline())]
