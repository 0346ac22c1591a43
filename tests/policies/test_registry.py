"""Registers beside a replicated log: every operation once, whatever is lost, retried, crashed or compacted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from policies.commands import Add, CompareAndSet, Configure, InSession, Put
from policies.config import ConsensusRules, HotstuffConfig, PbftConfig, RaftConfig
from policies.consensus import replicated_log
from policies.local import Propose, Read, Readable
from policies.port import Policy
from policies.registry import Done, Get, Refused, Registry
from policies.state import VillageState, sessions
from policies.state.configuration import Result
from policies.wire import Message, encode
from scenarios.checks import Checks
from scenarios.checks.state import EqualStates, done_once
from scenarios.schema import Network
from sim.cluster import Cluster

NAMES = ("n0", "n1", "n2", "n3", "n4")
PROTOCOLS: dict[str, ConsensusRules] = {
    "raft": RaftConfig(heartbeat_s=0.05, election_min_s=0.15, election_max_s=0.3),
    "hotstuff": HotstuffConfig(timeout_s=0.2, heartbeat_s=0.1, checkpoint_every=8),
    "pbft": PbftConfig(timeout_s=0.2, resend_s=0.1, checkpoint_every=4),
}
every_protocol = pytest.mark.parametrize("protocol", PROTOCOLS)
_reply: Any = msgspec.msgpack.Decoder(Result | Refused).decode


def member(protocol: str, **fields: Any) -> Mapping[str, Policy]:
    """Return one member's log and registers."""
    return {"consensus": replicated_log(PROTOCOLS[protocol], NAMES, "registry"), "registry": Registry(**fields)}


class Registers:
    """A cluster of registers, its clients, and the checks that are asked of it in every test."""

    def __init__(self, protocol: str, network: Network | None = None, seed: int = 1, **fields: Any) -> None:
        self.cluster = Cluster(lambda: member(protocol, **fields), 5, seed, network)
        self.equal = EqualStates("registry")
        self.checks = Checks(done_once(), self.equal)
        self.cluster.world.on_decide.append(
            lambda now, node, e: self.checks.decided(now, node.name, e[1], e[2], e[3])  # type: ignore[arg-type, return-value]
        )
        self.cluster.run(1.0)

    def ask(self, node: str, client: str, op_id: str, operation: Message) -> None:
        """A client asks a node."""
        self.cluster.request(node, client, op_id, operation, "registry")

    def run(self, seconds: float) -> None:
        """Let time pass, and ask the checks."""
        self.cluster.run(seconds)
        up = [name for name in NAMES if self.cluster.world.by_name[name].up]
        self.checks.look(int(self.cluster.now_s * 1e9), up, lambda node, path: self.cluster.policy(node, path))  # type: ignore[no-any-return]
        assert [check.broken for check in self.checks.all] == ["", ""]

    def heard(self, client: str, op_id: str) -> list[Result | Refused]:
        """What a client heard of an operation."""
        plain = [reply.value for reply in self.cluster.replies if (reply.client, reply.op_id) == (client, op_id)]
        return [_reply(encode(value)) for value in plain]

    @property
    def leader(self) -> str:
        """Who leads the newest term."""
        logs = {name: self.cluster.policy(name, "consensus") for name in NAMES if self.cluster.world.by_name[name].up}
        return max((log.term, name) for name, log in logs.items() if log.role == "leader")[1]

    def value(self, node: str, key: str = "x") -> Result:
        """What a register holds on a member."""
        state: VillageState = self.cluster.policy(node, "registry").state
        return state.configuration.get(key)


@every_protocol
def test_every_member_serves_and_each_request_has_one_answer(protocol: str) -> None:
    """Writes and reads at different members, one after another: each hears what the last one left."""
    registers = Registers(protocol)
    script: list[tuple[str, Message, Result]] = [
        ("n1", Put("x", 5), Result(True, 5, 1)),
        ("n2", Add("x", 2), Result(True, 7, 2)),
        ("n3", CompareAndSet("x", 7, "seven"), Result(True, "seven", 3)),
        ("n4", CompareAndSet("x", 7, 8), Result(False, "seven", 3)),
        ("n0", Configure("x", 9, 3), Result(True, 9, 4)),
        ("n1", Configure("x", 10, 3), Result(False, 9, 4)),
    ]
    for k, (node, operation, expected) in enumerate(script):
        registers.ask(node, "anna", str(k + 1), operation)
        registers.run(1.0)
        assert registers.heard("anna", str(k + 1)) == [expected]
        registers.ask(NAMES[-1 - k % 5], "ben", f"get {k}", Get("x"))
        registers.run(1.0)
        assert registers.heard("ben", f"get {k}") == [Result(True, *registers_last(expected))]
    registers.ask("n0", "ben", "none", Get("y"))
    registers.run(1.0)
    assert registers.heard("ben", "none") == [Result(False, None, 0)]


def registers_last(result: Result) -> tuple[Any, int]:
    """What a register holds after an operation."""
    return result.value, result.version


@every_protocol
@pytest.mark.parametrize("seed", range(1, 4))
def test_a_request_that_is_asked_again_everywhere_happens_once(protocol: str, seed: int) -> None:
    """A quarter of all messages is lost, and anna asks everybody three times: one addition, one result."""
    registers = Registers(protocol, Network(backbone_s=0.002, loss=0.25, duplicate=0.1), seed)
    for _ in range(3):
        for node in NAMES:
            registers.ask(node, "anna", "1", Add("x", 1))
            registers.run(0.05)
    registers.run(12.0)

    assert set(registers.heard("anna", "1")) == {Result(True, 1, 1)}
    assert {registers.value(node) for node in NAMES} == {Result(True, 1, 1)}
    registers.ask("n3", "anna", "1", Add("x", 1))
    registers.run(0.1)
    assert registers.heard("anna", "1")[-1] == Result(True, 1, 1)


@every_protocol
@pytest.mark.parametrize("seed", range(1, 4))
def test_a_write_outlives_the_leader_that_took_it(protocol: str, seed: int) -> None:
    """The leader falls right after it was asked, and again: clients hear each result once, and all copies agree."""
    registers = Registers(protocol, seed=seed)
    for k in range(1, 4):
        leader = registers.leader
        other = next(name for name in NAMES if name != leader)
        registers.ask(leader, "anna", str(k), Add("x", 1))
        registers.run(0.004)
        registers.cluster.crash(leader)
        registers.ask(other, "anna", str(k), Add("x", 1))
        registers.run(3.0)
        assert registers.heard("anna", str(k)) == [Result(True, k, k)]
        registers.cluster.restart(leader)
        registers.checks.restarted(leader)
        registers.run(1.0)
    assert {registers.value(node) for node in NAMES} == {Result(True, 3, 3)}


@every_protocol
def test_members_come_back_from_a_snapshot(protocol: str) -> None:
    """With a snapshot every 5 commands: who slept through 20 of them, and who starts anew, has state and sessions."""
    registers = Registers(protocol, snapshot_every=5)
    registers.cluster.crash("n4")
    for k in range(1, 21):
        registers.ask("n0", "anna", str(k), Add("x", 1))
        registers.run(0.3)
    slept_until_s = registers.cluster.now_s
    registers.cluster.restart("n4")
    registers.cluster.crash("n0")
    registers.run(1.0)
    registers.cluster.restart("n0")
    registers.run(2.0)

    assert {registers.value(node) for node in NAMES} == {Result(True, 20, 20)}
    assert len({registers.cluster.policy(node, "registry").state.snapshot() for node in NAMES}) == 1
    again = [d for d in registers.cluster.decisions if d.kind == "done" and d.time_s > slept_until_s]
    assert all(sum(d.node == node for d in again) < 20 for node in ("n0", "n4"))  # the log was compacted
    registers.ask("n4", "anna", "20", Add("x", 1))
    registers.run(1.0)
    assert registers.heard("anna", "20")[-1] == Result(True, 20, 20)


@every_protocol
def test_without_a_quorum_a_client_hears_what_is_not_known(protocol: str) -> None:
    """After all tries a write is refused as one that may still happen, a read as one that did not; both once."""
    registers = Registers(protocol, tries=3)
    registers.cluster.partition(["n0", "n1"])
    registers.ask("n0", "anna", "1", Put("x", 1))
    registers.ask("n0", "anna", "get", Get("x"))
    registers.run(5.0)

    assert registers.heard("anna", "1") == [Refused("no agreement in time: it may still happen", False)]
    assert registers.heard("anna", "get") == [Refused("no agreement in time", True)]
    registers.cluster.heal()
    registers.run(3.0)
    registers.ask("n3", "anna", "1", Put("x", 1))
    registers.run(1.0)
    assert registers.heard("anna", "1")[1:] == [Result(True, 1, 1)]


def test_operations_out_of_order_and_expired_sessions_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that skips a number, goes back, gives no number, or was forgotten, hears which."""
    monkeypatch.setattr(sessions, "SESSIONS_MAX", 1)
    registers = Registers("raft")
    for client, op_id, expected in [
        ("anna", "1", Result(True, 1, 1)),
        ("anna", "2", Result(True, 2, 2)),
        ("anna", "1", Refused("the client has gone on to operation 2: this one was answered", False)),
        ("anna", "4", Refused("expected operation 3", False)),
        ("anna", "first", Refused("op_id: expected the operation's number, from 1", True)),
        ("anna", "01", Refused("op_id: expected the operation's number, from 1", True)),
        ("ben", "1", Result(True, 3, 3)),
        ("anna", "3", Refused("the session has expired, or never began", False)),
    ]:
        registers.ask("n2", client, op_id, Add("x", 1))
        registers.run(1.0)
        assert registers.heard(client, op_id)[-1] == expected


def test_a_flood_of_requests_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A member without a quorum keeps so many operations, and refuses the rest at once."""
    monkeypatch.setattr("policies.registry.WAITING_MAX", 10)
    registers = Registers("raft")
    registers.cluster.partition(["n0"])
    for k in range(30):
        registers.ask("n0", f"client-{k}", "1", Put("x", k))
    registers.run(0.1)

    assert [registers.heard(f"client-{k}", "1") for k in range(10, 30)] == [[Refused("busy", True)]] * 20
    assert len(registers.cluster.policy("n0", "registry").writes) == 10


class Slow(Policy):
    """A log that answers each read a while after it was asked."""

    def __init__(self, after_ns: int) -> None:
        self.after_ns = after_ns

    def on_local(self, sender: str, message: Any) -> None:
        if isinstance(message, Read):
            self.port.set_timer(str(message.token), self.after_ns)

    def on_timer(self, name: str) -> None:
        self.port.tell("registry", Readable(int(name), 0))


def test_a_log_that_is_slower_than_a_try_answers_reads_and_none_that_is_later() -> None:
    """A read ends with its first try although others followed; those answer no later read of the same name."""
    cluster = Cluster(lambda: {"consensus": Slow(1_300_000_000), "registry": Registry(retry_s=0.5)}, 1)
    began = []
    for _ in range(2):
        began.append(cluster.now_s)
        cluster.request("n0", "client", "get", Get("x"), "registry")
        cluster.run(1.31)

    assert [round(reply.time_s - begun, 1) for reply, begun in zip(cluster.replies, began, strict=True)] == [1.3, 1.3]


@every_protocol
def test_what_is_no_command_stops_nobody(protocol: str) -> None:
    """A liar's bytes are agreed on: every member counts them, changes nothing and goes on."""
    registers = Registers(protocol)
    for command in (b"\xff\xff", encode(["in_session", 1]), encode(InSession("z", 7, 0, Put("x", 1)))):
        registers.cluster.policy(registers.leader, "registry").port.tell("consensus", Propose(command))
    registers.ask("n0", "anna", "1", Put("x", 1))
    registers.run(1.0)

    assert registers.heard("anna", "1") == [Result(True, 1, 1)]
    assert {registers.cluster.policy(node, "registry").state.applied for node in NAMES} == {4}


def test_the_check_sees_what_is_done_twice() -> None:
    """Of an operation that another command did, or that came to another result, the second is named."""
    for node, command, result in (("b", 9, Result(True, 1, 1)), ("b", 3, Result(True, 2, 2))):
        checks = Checks(done_once())
        checks.decided(1, "a", "registry", "done", encode(Done("anna", 1, 3, Result(True, 1, 1))))
        assert checks.all[0].holds
        checks.decided(2, node, "registry", "done", encode(Done("anna", 1, command, result)))
        assert checks.all[0].broken.startswith("t=2ns: b does anna/1 as (command, result)")


def test_parameters_out_of_range_are_refused() -> None:
    """One line names the argument, the value and what is allowed."""
    with pytest.raises(ValueError, match="tries=0: allowed are values above 0"):
        Registry(tries=0)
