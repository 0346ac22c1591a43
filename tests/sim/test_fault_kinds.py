"""Every kind of fault, on nodes that only report what they are given: what it does, to whom, and that it ends."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, get_args

import msgspec
import pytest

from models import draws
from policies import port as p
from policies.log import recover
from policies.port import NS_PER_S
from policies.wire import encode
from scenarios import faults as f
from scenarios.schema import Network
from sim.disk import Disk
from sim.faults import Faults
from sim.network import Links, MessageNetwork
from sim.world import World

NAMES = ("a", "b", "c", "d")


class Ticker:
    """A Cell that saves a line and wakes up each second, and remembers when, by which wall clock, and what it heard."""

    crypto_ops = 0

    def __init__(self, seen: list[tuple[float, float]]) -> None:
        self.seen, self.number = seen, 0

    def step(self, now: int, wall: int, given: tuple[Any, ...]) -> tuple[Any, ...]:
        """Note the time; save, and set the next alarm."""
        if given[0] == p.START:
            self.seen.append((now / NS_PER_S, -float(len(given[2]))))
        elif given[0] == p.TIMER:
            self.seen.append((now / NS_PER_S, wall / NS_PER_S))
        else:
            return ()
        self.number += 1
        batch = ((f"k{self.number}", encode(self.number)),)
        return ((p.SET_TIMER, "", "tick", now + NS_PER_S, self.number), (p.SAVE, "", self.number, batch))


class Yard:
    """Four tickers and a schedule of faults."""

    def __init__(self, *faults: Any, seed: int = 1, until_s: float = 30.0) -> None:
        self.world = World(MessageNetwork(seed, Links.alike(4, 0.001, 1e9), Network()))
        self.seen: dict[str, list[tuple[float, float]]] = {name: [] for name in NAMES}
        for name in NAMES:
            self.world.start(self.world.add(name, lambda name=name: Ticker(self.seen[name])))
        self.slowed: list[tuple[str, float]] = []
        self.faults = Faults(
            self.world, NAMES[:2], NAMES[2:], seed=seed, duration_s=until_s, restart=self.world.start,
            groups={"pair": ["c", "d"], "all": NAMES},
            slowed=lambda node, factor: self.slowed.append((node.name, factor)),
        )  # fmt: skip
        self.faults.schedule(faults)
        self.world.run(until_s)

    def ticks(self, name: str) -> list[int]:
        """Return the whole seconds in which a node woke up."""
        return [int(at_s) for at_s, _ in self.seen[name]]

    def phases(self, kind: str) -> list[tuple[float, str, str]]:
        """Return (time, node, phase) of a kind's rows."""
        return [(row[0], row[2], row[3]) for row in self.faults.rows if row[1] == kind]


def test_a_pause_holds_a_node_back_and_what_waited_is_done_afterwards() -> None:
    """A paused node does nothing, keeps its memory, and goes on from where it was."""
    yard = Yard(f.Pause(at_s=3.5, node="a", for_s=5.0))

    assert yard.ticks("a")[:6] == [0, 1, 2, 3, 8, 9]
    assert yard.ticks("b")[:6] == [0, 1, 2, 3, 4, 5]
    assert yard.world.by_name["a"].incarnation == 0


@pytest.mark.parametrize(
    "other",
    [
        f.Pause(at_s=4.5, node="a", for_s=1.0), f.Pause(at_s=3.5, node="a", for_s=2.0),
        f.Pause(at_s=2.5, node="a", for_s=1.0), f.Slow(at_s=4.5, node="a", for_s=1.0),
    ],
    ids=["inside", "at once", "before it", "slow"],
)  # fmt: skip
def test_a_pause_lasts_whatever_else_ends_meanwhile(other: Any) -> None:
    """A node stands still until the last of its pauses is over, also where one ends as the next begins."""
    pause = f.Pause(at_s=3.5, node="a", for_s=5.0)
    alone = [2, 8, 9] if other == f.Pause(at_s=2.5, node="a", for_s=1.0) else [2, 3, 8, 9]
    for faults in ((pause, other), (other, pause)):
        assert [at for at in Yard(*faults).ticks("a") if 2 <= at <= 9] == alone


def test_a_pause_needs_a_process_and_ends_with_it() -> None:
    """Nobody stops a node that is down; one that fell while it was stopped comes back as one that runs."""
    yard = Yard(
        f.Crash(at_s=2.5, node="a", down_s=2.0), f.Pause(at_s=3.5, node="a", for_s=9.0),
        f.Pause(at_s=2.5, node="b", for_s=9.0), f.Crash(at_s=3.5, node="b", down_s=2.0),
        f.Slow(at_s=6.5, node="b", for_s=1.0),
    )  # fmt: skip

    assert yard.phases("pause") == [(2.5, "b", "start"), (3.5, "a", "skipped"), (11.5, "b", "end")]
    assert yard.ticks("a")[:6] == [0, 1, 2, 4, 5, 6]
    assert yard.ticks("b")[:6] == [0, 1, 2, 5, 6, 7]


def test_a_slow_nodes_steps_cost_more_and_slowness_multiplies() -> None:
    """Two spells that overlap multiply; afterwards a step costs what it did, and the executor is told each time."""
    before = Yard().world.by_name["a"].cost
    yard = Yard(f.Slow(at_s=1, node="a", factor=10, for_s=10), f.Slow(at_s=2, node="a", factor=3.3, for_s=5), until_s=3)
    assert yard.world.by_name["a"].cost.base_ns == pytest.approx(33 * before.base_ns)
    assert yard.slowed == [("a", 10.0), ("a", 33.0)]
    yard.world.run(20)
    assert yard.world.by_name["a"].cost == before
    assert yard.slowed[-1] == ("a", 1.0)


def test_what_a_slow_node_wrote_is_durable_soon_after_the_spell() -> None:
    """A step that would have lasted for seconds ends with the spell, and so does the disk's wait for its end."""
    yard = Yard(f.Slow(at_s=1.5, node="a", factor=200_000, for_s=2.0), until_s=3.4)
    disk = yard.world.by_name["a"].disk
    assert disk.synced < disk.size

    yard.world.run(3.6)
    assert disk.synced == disk.size
    yard.world.run(30)
    assert yard.world.by_name["a"].disk.synced == yard.world.by_name["a"].disk.size
    assert yard.ticks("a")[-5:] == yard.ticks("b")[-5:]


def test_a_clock_that_is_off_tells_another_time_and_comes_back() -> None:
    """A step moves the wall clock at once, a drift more and more; no timer notices."""
    yard = Yard(f.Clock(at_s=5.5, node="a", offset_s=-2.0, drift_ppm=1000.0, for_s=10.0))
    off = {int(at_s): wall_s - at_s for at_s, wall_s in yard.seen["a"] if wall_s > 0}

    assert off[5] == pytest.approx(0.0, abs=1e-6)
    assert off[6] == pytest.approx(-2.0 + 0.5e-3, abs=1e-5)
    assert off[15] == pytest.approx(-2.0 + 9.5e-3, abs=1e-5)
    assert off[16] == pytest.approx(0.0, abs=1e-6)
    assert yard.ticks("a") == yard.ticks("b")


def test_what_is_wrong_with_a_clock_twice_adds_up_and_each_ends_by_itself() -> None:
    """Drifts of spells that overlap add up, and the end of one, or of a mere step, leaves the other's as it was."""
    yard = Yard(
        f.Clock(at_s=1.5, node="a", drift_ppm=1e5, for_s=20.0), f.Clock(at_s=3.5, node="a", offset_s=4.0, for_s=2.0),
        f.Clock(at_s=7.5, node="a", drift_ppm=1e5, for_s=2.0),
    )  # fmt: skip
    off = {int(at_s): wall_s - at_s for at_s, wall_s in yard.seen["a"] if wall_s > 0}

    expected = {2: 0.05, 3: 0.15, 4: 4.25, 5: 4.35, 6: 0.45, 7: 0.55, 8: 0.70, 9: 0.90, 10: 0.85, 21: 1.95, 22: 0.0}
    assert {at: off[at] for at in expected} == pytest.approx(expected, abs=1e-6)


def test_a_lost_disk_is_empty_at_the_restart() -> None:
    """Amnesia: of five saves none is left; a node whose disk was kept has what it saved."""
    yard = Yard(
        f.Crash(at_s=4.5, node="a", down_s=1.0, disk="lost"), f.Crash(at_s=4.5, node="b", down_s=1.0), until_s=6
    )

    assert [kept for _, kept in yard.seen["a"] if kept <= 0] == [0.0, 0.0]
    assert [kept for _, kept in yard.seen["b"] if kept <= 0] == [0.0, -5.0]


def test_a_group_falls_together() -> None:
    """A crash that names a group takes every member down at once, and each comes back."""
    yard = Yard(f.Crash(at_s=2.5, node="group:pair", down_s=3.0))

    assert yard.phases("crash") == [(2.5, "c", "start"), (2.5, "d", "start"), (5.5, "c", "end"), (5.5, "d", "end")]


def test_a_cascade_spreads_faster_the_more_have_fallen() -> None:
    """The first falls at once; with a chance of one and no relief all fall at the next step, with none nobody else."""
    none = Yard(f.Cascade(at_s=1, group="group:all", chance=0.0, down_s=-1))
    fast = Yard(f.Cascade(at_s=1, group="group:all", chance=1.0, step_s=2.0, down_s=-1))
    alone = sum(
        len(Yard(f.Cascade(at_s=1, group="group:all", chance=0.2, steepness=0, down_s=-1), seed=s).phases("crash"))
        for s in range(40)
    )
    steep = sum(
        len(Yard(f.Cascade(at_s=1, group="group:all", chance=0.2, steepness=4, down_s=-1), seed=s).phases("crash"))
        for s in range(40)
    )

    assert len(none.phases("crash")) == 1
    assert [at_s for at_s, _, _ in fast.phases("crash")] == [1.0, 3.0, 3.0, 3.0]
    assert alone < steep


def test_cascades_of_one_schedule_do_not_share_their_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whom the second one strikes first says nothing of who falls at a step of the first: no draw is read twice."""
    read: list[tuple[int, int]] = []
    words = draws.uniform

    def noting(seed: int, purpose: str, entity: Any, index: Any, *more: Any) -> Any:
        if purpose == "cascade":
            read.append((entity, index))
        return words(seed, purpose, entity, index, *more)

    monkeypatch.setattr(draws, "uniform", noting)
    Yard(*(f.Cascade(at_s=1.0 + k, group="group:all", chance=0.1, steps=9, down_s=1.0) for k in range(3)))

    assert len(read) == len(set(read)) > 20


def test_a_slow_disk_delays_what_is_durable_and_nothing_else() -> None:
    """While it lasts a sync takes that much longer."""
    yard = Yard(f.SlowDisk(at_s=2.5, node="a", by_s=0.6, for_s=20), until_s=3.5)
    a, b = yard.world.by_name["a"].disk, yard.world.by_name["b"].disk

    assert a.synced < a.size
    assert b.synced == b.size
    yard.world.run(3.9)
    assert a.synced == a.size


@pytest.mark.parametrize("kind", [f.FailingDisk, f.FullDisk])
def test_a_disk_that_cannot_write_stops_its_node_until_it_can(kind: Any) -> None:
    """The node stops at its next save, stays down as long as the spell, and comes back with what was durable."""
    yard = Yard(kind(at_s=2.5, node="a", for_s=6.0))

    assert yard.ticks("a") == [0, 1, 2, 3, 8, *range(9, 30)]
    assert [round(-kept) for _, kept in yard.seen["a"] if kept <= 0] == [0, 3]
    assert [phase for _, _, phase in yard.phases(f.kind_of(kind(at_s=0, node="a")))] == ["start", "end"]


@pytest.mark.parametrize("other", [f.FailingDisk, f.FullDisk])
def test_a_disk_works_again_after_the_last_of_its_spells(other: Any) -> None:
    """Of two spells that overlap, the first to end brings nobody back; so it is with the one that ends within."""
    for spells in (
        (f.FullDisk(at_s=2.5, node="a", for_s=6.0), other(at_s=3.5, node="a", for_s=1.0)),
        (other(at_s=2.5, node="a", for_s=3.0), f.FullDisk(at_s=5.5, node="a", for_s=3.0)),
    ):
        assert Yard(*spells).ticks("a")[:6] == [0, 1, 2, 3, 8, 9]


@pytest.mark.parametrize("down_s", [5.0, -1.0])
def test_the_end_of_a_disks_spell_brings_nobody_back_whom_a_crash_keeps_down(down_s: float) -> None:
    """A node that crashed comes back when the crash is over, or never, although its disk was full for a while."""
    back = [6, 7, 8, 9] if down_s > 0 else []
    for at_s in (1.5, 3.5):  # before the crash, and in it
        full = f.FullDisk(at_s=at_s, node="a", for_s=2.0)
        assert Yard(full, f.Crash(at_s=1.7, node="a", down_s=down_s), until_s=9.9).ticks("a") == [0, 1, *back]


def test_a_write_at_the_moment_at_which_the_disk_works_again_is_written() -> None:
    """A save of the very moment at which there is room again stops nobody: its node would stay down for good."""
    yard = Yard(f.FullDisk(at_s=2.5, node="a", for_s=0.5))
    disk = yard.world.by_name["a"].disk

    assert yard.phases("crash") == []
    assert yard.ticks("a") == list(range(30))
    assert len(recover(disk)) == 30
    assert disk.synced == disk.size


def test_each_failure_of_a_disk_tears_by_draws_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """What failing disks and torn crashes leave is keyed by their places in the schedule: no two tear alike."""
    shares: list[float] = []
    monkeypatch.setattr(Disk, "crash", lambda disk, torn_share=0.0: shares.append(torn_share))
    crash = f.Crash(at_s=1.5, node="b", down_s=1.0, writes="torn")
    Yard(crash, *(f.FailingDisk(at_s=2.5 + 4 * k, node="a", for_s=2.0) for k in range(3)))

    assert len(shares) == len(set(shares)) == 4


@pytest.mark.parametrize("damage", ["bit", "misdirected"])
def test_a_damaged_disk_keeps_its_node_down_when_it_is_next_read(damage: Any) -> None:
    """Nothing happens before the restart; then the log refuses, and the node stays down for good."""
    yard = Yard(f.Rot(at_s=6.5, node="a", damage=damage), f.Crash(at_s=8.5, node="a", down_s=1.0))

    assert yard.ticks("a") == list(range(9))
    assert yard.phases("damaged_log") == [(9.5, "a", "start")]
    assert not yard.world.by_name["a"].up


def test_healing_ends_everything_at_once_and_lets_nothing_more_begin() -> None:
    """After `heal` no cut, disturbance, slowness or clock error is left, all nodes are up, later faults stay out."""
    yard = Yard(
        f.Partition(at_s=1, group=("a",), for_s=100), f.Loss(at_s=1, share=0.5, for_s=100),
        f.Slow(at_s=1, node="b", for_s=100), f.Clock(at_s=1, node="b", offset_s=9, for_s=100),
        f.Crash(at_s=2, node="c", down_s=-1), f.FullDisk(at_s=1, node="d", for_s=100),
        f.Pause(at_s=2, node="a", for_s=90),
        f.Crash(at_s=11, node="b", down_s=-1), f.Churn(mean_hours=0.001), until_s=10,
    )  # fmt: skip
    yard.faults.heal()
    yard.world.run(20)

    network = yard.world.network
    assert (network.cuts, network.disturbances, yard.faults.active) == ([], [], {})
    assert all(node.up for node in yard.world.nodes)
    assert yard.world.by_name["b"].wall_offset == 0
    assert [yard.ticks(name)[-1] for name in NAMES] == [19] * 4
    assert {row[0] for row in yard.faults.rows if row[0] > 10} == set()


def test_taking_a_fault_out_moves_no_other_ones_luck() -> None:
    """A fault's draws are keyed by its place in the schedule; the others' torn writes stay as they were."""
    crash = f.Crash(at_s=4.5, node="a", down_s=1.0, writes="torn")
    late = f.Crash(at_s=29.0, node="b")

    assert Yard(crash, late).seen["a"] == Yard(crash).seen["a"]


def every_kind() -> Iterable[Any]:
    """Return one fault of each kind, with what it must be given."""
    needs = {
        "at_s": 1.0, "node": "a", "share": 0.1, "by_s": 0.1, "group": ("a",), "pairs": (("a", "b"),),
    }  # fmt: skip
    for kind in get_args(f.Fault):
        fields = {field.name for field in msgspec.structs.fields(kind) if field.required}
        yield kind(**{name: value for name, value in needs.items() if name in fields} | (
            {"group": "group:pair"} if kind is f.Cascade else {}
        ))  # fmt: skip


@pytest.mark.parametrize("fault", list(every_kind()), ids=f.kind_of)
def test_every_kind_is_checked_by_the_names_it_holds(fault: Any) -> None:
    """A schedule passes with its nodes and groups there; without them one line names the field that is wrong."""
    f.check((fault,), NAMES, 2, {"pair": ["c", "d"]})
    named = [value for _, value in f._named(fault)]
    if named:
        with pytest.raises(f.FaultError, match=r"^faults\[0\]\.(node|nodes|group|pairs)="):
            f.check((fault,), ("x", "y"), 0, {})


def test_rows_are_plain() -> None:
    """What a fault was is in its row, as JSON, without what the row already says."""
    yard = Yard(f.Delay(at_s=1, by_s=0.2, nodes=("a", "b"), for_s=2))

    assert yard.phases("delay") == [(1.0, "a,b", "start"), (3.0, "a,b", "end")]
    assert json.loads(yard.faults.rows[0][5]) == {"for_s": 2.0, "by_s": 0.2}


def test_a_spell_that_strikes_nobody_is_skipped_and_does_nothing() -> None:
    """Where nobody leads, bad links of the leader are nobody's: one row says so, and no disturbance is left."""
    yard = Yard(f.Loss(at_s=1, share=0.5, nodes=("leader",), for_s=5), until_s=3)

    assert yard.phases("loss") == [(1.0, "leader", "skipped")]
    assert yard.world.network.disturbances == []


def test_a_cut_may_name_members_by_index_and_groups() -> None:
    """Roles and groups are resolved when the cut begins; a node is never cut off from itself."""
    yard = Yard(f.Cut(at_s=1, pairs=(("committee:0", "group:pair"), ("a", "a2")), for_s=5), until_s=3)
    network, number = yard.world.network, {node.name: node.number for node in yard.world.nodes}

    assert network.stopped(number["a"], number["c"])
    assert network.stopped(number["d"], number["a"])
    assert not network.stopped(number["a"], number["b"])
