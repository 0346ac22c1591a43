"""Devices and the committee's watch in the simulated world: offline is offline, and every deployment ends once."""

from __future__ import annotations

from typing import Any

import pytest

from policies import port as p
from policies.cell import Cell
from policies.config import EdgeConfig
from policies.edge import Deploy, EdgeAgent, EdgeWatch, Ended, Phase, Place, Presence, Recall
from policies.edge.messages import Accepted, Maintain, Noted
from policies.jobs import Done, LoadJob, Lost
from policies.local import Lend
from policies.port import NS_PER_S
from policies.wire import encode
from scenarios.schema import Network
from sim.keys import KeyRing
from sim.network import Links, MessageNetwork
from sim.world import Node, World
from tests.policies.edge.bench_device import FINE, GIB, LENT, TAKEN, Bench, Lender, Listener, deploy

import msgspec  # isort: skip

COMMITTEE = ("k1", "k2")
DEVICES = ("d1", "d2")
_job: Any = msgspec.msgpack.Decoder(LoadJob | Any).decode
_reply: Any = msgspec.msgpack.Decoder(Accepted | Ended | Phase).decode
_announced: Any = msgspec.msgpack.Decoder(Presence | Phase).decode


class Town:
    """Two members and two devices; transfers take half a second, work two seconds.

    Attributes:
        heard: (client, op, message, last) of every reply.
        announced: (seconds, node, value) of every decision.
        running: (node, job id) of jobs at work.
    """

    def __init__(self, loss: float = 0.0, config: EdgeConfig | None = None) -> None:
        self.config = config or EdgeConfig(heartbeat_s=30.0, offline_after_s=60.0)
        self.heard: list[tuple[str, str, Any, bool]] = []
        self.announced: list[tuple[float, str, Any]] = []
        self.running: set[tuple[str, int]] = set()
        self.fails = False
        names = COMMITTEE + DEVICES
        network = Network(backbone_s=0.01, loss=loss, jitter_sigma=0.3, duplicate=loss)
        self.world = World(MessageNetwork(3, Links.alike(len(names), 0.005, 1e7), network))
        self.world.jobs = self
        self.world.on_reply = lambda now, node, e: self.heard.append((e[2], e[3], _reply(e[4]), e[5]))
        self.world.on_decide.append(
            lambda now, node, e: self.announced.append((now / NS_PER_S, node.name, _announced(e[3])))
        )
        for name in names:
            self.world.add(name, lambda name=name: self._cell(name, names))  # type: ignore[misc]
        for node in self.world.nodes:
            self.world.start(node)
        for name in DEVICES:
            self.read(name)
            self.lend(name)

    def _cell(self, name: str, names: tuple[str, ...]) -> Cell:
        policies: dict[str, p.Policy] = {"edge_watch": EdgeWatch(self.config)}
        if name in DEVICES:
            edge = EdgeAgent(self.config, COMMITTEE, 16 * GIB, 60 * NS_PER_S)
            policies = {"harvest": Lender(), "edge": edge, "worker": Listener()}
        return Cell(policies, name, names, seed=1, keys=KeyRing(1).handle(name))

    # -- the desk (`sim.world.Jobs`)

    def submit(self, node: Node, path: str, job_id: int, payload: bytes) -> None:
        """Take a job."""
        after_s = 0.5 if msgspec.msgpack.decode(payload)[0] == "load" else 2.0
        self.running.add((node.name, job_id))
        at = self.world.engine.now + int(after_s * NS_PER_S)
        self.world.engine.call_at(at, self._end, (node, node.epoch, path, job_id))

    def _end(self, argument: tuple[Node, int, str, int]) -> None:
        node, epoch, path, job_id = argument
        if node.epoch == epoch and (node.name, job_id) in self.running:
            self.running.discard((node.name, job_id))
            outcome = Lost("disk") if self.fails else Done("out", 4, 7)
            self.world.give(node, (p.JOB, path, job_id, encode(outcome)))

    def cancel(self, node: Node, job_id: int) -> None:
        """Stop a job."""
        self.running.discard((node.name, job_id))

    def node_down(self, node: Node) -> None:
        """Its jobs go with it."""
        self.running = {key for key in self.running if key[0] != node.name}

    # -- what a test does

    def lend(self, device: str, lend: Lend = LENT) -> None:
        """Harvest speaks."""
        self.world.give(self.world.by_name[device], (p.REQUEST, "harvest", "", "", encode(lend)))

    def read(self, device: str) -> None:
        """A good reading arrives."""
        self.world.give(self.world.by_name[device], (p.READINGS, "edge", encode(FINE)))

    def place(self, order: Deploy, device: str = "d1", op_id: str = "1", at: str = "") -> None:
        """A client asks the watch that knows the device, or another."""
        member = at or next(k for k in COMMITTEE if self.world.by_name[k].up and device in self.watch(k).devices)
        request = encode(Place(device, order))
        self.world.give(self.world.by_name[member], (p.REQUEST, "edge_watch", "anna", op_id, request))

    def recall(self, name: str, at: str, op_id: str) -> None:
        """A client gives a deployment up."""
        self.world.give(self.world.by_name[at], (p.REQUEST, "edge_watch", "anna", op_id, encode(Recall(name))))

    def maintain(self, device: str, on: bool) -> None:
        """An operator asks."""
        self.world.give(self.world.by_name[device], (p.REQUEST, "edge", "op", "m", encode(Maintain(on))))

    def crash(self, name: str) -> None:
        """A machine stops."""
        self.world.crash(self.world.by_name[name])

    def restart(self, name: str, asks: str = "") -> None:
        """It comes back; a device is read and lent again, and asks any member first, or this one."""
        self.world.start(self.world.by_name[name])
        if asks:
            self.edge(name)._member = COMMITTEE.index(asks)
        if name in DEVICES:
            self.read(name)
            self.lend(name)

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.world.run(self.world.engine.now / NS_PER_S + seconds)

    def cut(self, *names: str) -> None:
        """Cut these off from all others, and heal earlier cuts."""
        self.world.network.heal(self.world.network.cuts)
        self.world.network.cut_off([self.world.by_name[name].number for name in names])

    # -- what a test sees

    def edge(self, device: str = "d1") -> EdgeAgent:
        """A device's agent."""
        policy = self._policy(device, "edge")
        assert isinstance(policy, EdgeAgent)
        return policy

    def watch(self, member: str) -> EdgeWatch:
        """A member's watch."""
        policy = self._policy(member, "edge_watch")
        assert isinstance(policy, EdgeWatch)
        return policy

    def _policy(self, name: str, path: str) -> Any:
        cell = self.world.by_name[name].cell
        assert isinstance(cell, Cell)
        return cell.policy(path)

    def member_of(self, device: str) -> str:
        """The member that knows the device."""
        (member,) = [k for k in COMMITTEE if self.world.by_name[k].up and device in self.watch(k).devices]
        return member

    def ends(self, op_id: str = "1") -> list[tuple[str, str]]:
        """Return (outcome, reason) of every last reply to an operation."""
        return [(m.outcome, m.reason) for _, op, m, last in self.heard if op == op_id and last]

    def presence(self, device: str) -> list[tuple[float, bool, str]]:
        """Return (seconds, there, reason) of what watches announced about a device."""
        return [(s, v.there, v.reason) for s, _, v in self.announced if isinstance(v, Presence) and v.device == device]


def ready(**fields: Any) -> Town:
    """Return a town whose devices are online."""
    town = Town(**fields)
    town.run(1.0)
    return town


def test_a_deployment_goes_round_once() -> None:
    """Accepted when room is reserved, done when its work is; both ends agree that nothing is left."""
    town = ready()
    town.place(deploy(work=True))
    town.run(10.0)

    assert [(type(m).__name__, last) for _, _, m, last in town.heard] == [("Accepted", False), ("Ended", True)]
    assert town.heard[-1][2] == Ended("a", "done", "", "out", 4)
    assert (town.edge().held, town.edge().reports, town.watch(town.member_of("d1")).placed) == ({}, {}, {})


def test_a_silent_device_is_offline_at_both_ends_and_the_device_first() -> None:
    """Cut off, it is given up after a minute; by then it has stopped working on what is then reported lost."""
    town = ready()
    town.place(deploy())
    town.run(5.0)
    heard_s = max(s.heard_ns for k in COMMITTEE for name, s in town.watch(k).devices.items() if name == "d1") / 1e9
    town.cut("d1")
    town.run(80.0)

    assert town.ends() == [("lost", "the device is silent")]
    gone_s = next(s for s, there, reason in town.presence("d1") if not there and reason == "silent")
    stopped_s = next(s for s, n, v in town.announced if n == "d1" and isinstance(v, Phase) and v.event == "silence")
    assert stopped_s < gone_s <= heard_s + 60.0 + 31.0
    assert (town.running, town.edge().held) == (set(), {})
    town.cut()
    town.run(61.0)
    assert town.edge().life.state == "online"
    assert town.presence("d1")[-1][1] is True


def test_a_device_that_heard_nothing_and_was_heard_owes_nobody_an_end() -> None:
    """Its lease ran out, and it dropped all; its watch, which heard it all the while, says that this is lost."""
    town = ready()
    town.place(deploy())
    town.run(5.0)
    member = town.member_of("d1")
    deaf = town.world.network.cut_off([town.world.by_name["d1"].number], one_way=True)
    while town.edge().life.state != "connecting" or COMMITTEE[town.edge()._member] != member:
        town.run(1.0)
    town.world.network.heal(deaf)
    town.run(120.0)

    assert (town.edge().life.state, town.edge().held) == ("online", {})
    assert town.ends() == [("lost", "the device started anew")]
    assert town.watch(member).placed == {}


def test_a_device_that_is_heard_is_never_given_up() -> None:
    """An hour with a tenth of all messages lost and another doubled: nobody is called silent while nobody is."""
    town = ready(loss=0.1)
    town.run(60.0)
    before = len(town.announced)
    town.run(3600.0)

    assert town.announced[before:] == []
    assert all(town.edge(device).life.state == "online" for device in DEVICES)


def test_a_taken_device_hands_back_and_parts() -> None:
    """The client hears it at once, not after a minute's silence; the memory is free by then."""
    town = ready()
    town.place(deploy(work=True))
    town.run(1.5)
    town.lend("d1", TAKEN)
    town.run(1.0)

    assert [outcome for outcome, _ in town.ends()] == ["handed_back"]
    assert town.presence("d1")[-1][1:] == (False, "parted")
    assert (town.running, town.edge().room.used) == (set(), (0, 0, 0))


def test_a_crashed_device_loses_what_it_held_and_its_next_life_is_told_apart() -> None:
    """It is back before its lease ran out, yet its deployments are lost: another life sends other heartbeats."""
    town = ready()
    town.place(deploy())
    town.run(5.0)
    member = town.member_of("d1")
    town.crash("d1")
    town.run(2.0)
    town.restart("d1", asks=member)
    town.run(5.0)

    assert town.ends() == [("lost", "the device started anew")]
    assert town.edge().room.used == (0, 0, 0)
    assert town.watch(member).placed == {}


def test_a_member_that_forgot_withdraws_what_it_does_not_know() -> None:
    """Its crash leaves no orphan on the device, and the client that asks again is answered."""
    town = ready()
    town.place(deploy())
    town.run(5.0)
    member = town.member_of("d1")
    town.crash(member)
    town.restart(member)
    town.run(65.0)

    assert town.edge().held == {}
    assert town.edge().room.released == 1
    town.place(deploy(), op_id="2", at=town.member_of("d1"))
    town.run(5.0)
    assert town.ends("2") == [("refused", "it has ended here")]


def test_a_dead_member_is_replaced_by_the_other() -> None:
    """Devices go over to the next member; what the dead one placed is not worked on any more."""
    town = ready()
    town.place(deploy())
    town.run(5.0)
    town.crash(town.member_of("d1"))
    town.run(50.0)

    assert town.edge().life.state == "online"
    assert town.edge().held == {}
    assert "d1" in town.watch(town.member_of("d1")).devices


def test_a_recall_ends_a_deployment_for_both_who_wait() -> None:
    """Whoever placed it and whoever recalled it hear the same end; a second recall hears it again."""
    town = ready()
    town.place(deploy())
    town.run(5.0)
    town.recall("a", town.member_of("d1"), "2")
    town.run(5.0)
    town.recall("a", town.member_of("d1"), "3")
    town.recall("nothing", town.member_of("d1"), "4")
    town.run(1.0)

    assert town.ends("1") == town.ends("2") == town.ends("3") == [("withdrawn", "")]
    assert town.ends("4") == [("refused", "no such deployment")]


def test_a_device_that_is_not_there_is_refused_at_once() -> None:
    """Unknown, or known only to another member."""
    town = ready()
    town.place(deploy(), device="d9", at="k1")
    town.run(1.0)

    assert town.ends() == [("refused", "no device d9 is there")]


def test_an_operation_that_comes_again_is_one_deployment() -> None:
    """While it runs the client is told so, afterwards it hears the same end."""
    town = ready()
    town.place(deploy(work=True))
    town.run(1.0)
    town.place(deploy(work=True))
    town.run(10.0)
    town.place(deploy(work=True))
    town.run(1.0)

    assert [outcome for outcome, _ in town.ends()] == ["done", "done"]
    assert town.edge().room.released == 1


def test_another_deployment_of_the_same_name_is_refused() -> None:
    """Else its client would be told the end of what somebody else has placed: while that runs, and afterwards."""
    town = ready()
    town.place(deploy(work=True))
    town.run(1.0)
    town.place(deploy(priority=6, work=True), op_id="2")
    town.place(deploy(work=True), device="d2", op_id="3", at=town.member_of("d1"))
    town.run(10.0)
    town.place(deploy(priority=6, work=True), op_id="4")
    town.run(1.0)

    assert town.ends() == [("done", "")]
    assert [town.ends(op_id) for op_id in "234"] == [[("refused", "another deployment has this name")]] * 3


def test_maintenance_is_answered_and_keeps_the_device_away() -> None:
    """The operator hears in which state the device is, and the watch that it has parted."""
    town = ready()
    town.maintain("d1", True)
    town.run(5.0)

    assert town.heard[-1][2] == Phase("maintenance", "maintain")
    assert town.presence("d1")[-1][1:] == (False, "parted")
    town.maintain("d1", False)
    town.run(5.0)
    assert town.edge().life.state == "online"


@pytest.mark.parametrize("loss", [0.0, 0.2])
def test_every_deployment_ends_once_through_loss_crashes_and_owners(loss: float) -> None:
    """Forty deployments on two devices that come and go: one end each for its client, and no room left behind."""
    town = ready(loss=loss)
    names = [f"x{number}" for number in range(40)]
    for number, name in enumerate(names):
        device = DEVICES[number % 2]
        member = next((k for k in COMMITTEE if device in town.watch(k).devices), "k1")
        town.place(deploy(name, work=number % 3 > 0), device=device, op_id=name, at=member)
        town.run(3.0)
        if number % 7 == 3:
            town.lend(device, TAKEN)
            town.run(2.0)
            town.lend(device)
        if number % 11 == 5:
            town.crash(device)
            town.run(1.0)
            town.restart(device)
        town.run(4.0)
    for device in DEVICES:
        town.lend(device, TAKEN)
    town.run(200.0)

    assert {name: len(town.ends(name)) for name in names} == dict.fromkeys(names, 1)
    outcomes = {outcome for name in names for outcome, _ in town.ends(name)}
    assert {"done", "handed_back", "lost"} <= outcomes
    for device in DEVICES:
        assert (town.edge(device).room.used, town.edge(device).reports) == ((0, 0, 0), {})
    assert town.running == set()


def test_a_device_that_went_to_another_member_and_came_back_owes_the_first_an_end() -> None:
    """It gave up what the first had placed, which never found it silent: the first is told, and the client."""
    town = ready()
    town.place(deploy())
    town.run(5.0)
    first = town.member_of("d1")
    other = next(member for member in COMMITTEE if member != first)
    deaf = town.world.network.cut_off([town.world.by_name["d1"].number], one_way=True)
    while COMMITTEE[town.edge()._member] == first:
        town.run(1.0)
    town.world.network.heal(deaf)
    town.run(5.0)
    town.crash(other)
    town.run(120.0)

    assert COMMITTEE[town.edge()._member] == first
    assert all(there for _, there, _ in town.presence("d1"))
    assert town.ends() == [("handed_back", "another member leased the device")]
    assert (town.watch(first).placed, town.edge().reports) == ({}, {})


def test_a_report_outlives_the_silence_after_which_its_watch_gives_a_device_up() -> None:
    """Cut off as its owner takes it, for four minutes of the ten that its watch waits: the client hears the end."""
    town = ready(config=EdgeConfig(heartbeat_s=30.0, offline_after_s=600.0))
    town.place(deploy())
    town.run(5.0)
    town.cut("d1")
    town.lend("d1", TAKEN)
    town.run(240.0)
    town.cut()
    town.lend("d1")
    town.run(60.0)

    assert town.edge().life.state == "online"
    assert town.ends() == [("handed_back", "draining")]


def test_a_goodbye_that_a_newer_heartbeat_has_overtaken_is_not_believed() -> None:
    """Lent again while it drains, a device parts and connects in one step; in either order it is there."""
    device = Bench().running()
    device.lend(TAKEN)
    device.lend()
    parting, hello = (message for _, message in device.hear(Noted("a")))
    for order in ((parting, hello), (hello, parting)):
        watch = EdgeWatch(EdgeConfig())
        cell = Cell({"edge_watch": watch}, "k1", ("d", "k1"), seed=1, keys=None)  # type: ignore[arg-type]
        cell.step(0, 0, (p.START, "", {}, 0))
        for message in (device.said[0][1], *order):
            cell.step(0, 0, (p.MESSAGE, "edge_watch", "d", encode(message)))

        assert list(watch.devices) == ["d"]
