"""What every replicated log promises, whichever protocol it speaks (`policies.consensus` has the contract)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from policies.config import ConsensusRules, HotstuffConfig, PbftConfig, RaftConfig
from policies.consensus import replicated_log
from policies.consensus.hotstuff import trunk
from policies.consensus.pbft import ordering
from policies.local import GiveUp, Reconfigure
from policies.port import SEND, Effect, Policy
from policies.wire import Message
from scenarios.checks import consensus
from scenarios.checks.language import Checks
from sim.cluster import Cluster
from tests.policies.consensus.log_machine import Do, LogMachine, Look

PROTOCOLS: dict[str, ConsensusRules] = {
    "raft": RaftConfig(heartbeat_s=0.05, election_min_s=0.15, election_max_s=0.30, chunk_bytes=64),
    "hotstuff": HotstuffConfig(chain=2, timeout_s=0.2, heartbeat_s=0.2, checkpoint_every=10, chunk_bytes=64),
    "hotstuff, three-chain": HotstuffConfig(
        chain=3, timeout_s=0.2, heartbeat_s=0.2, checkpoint_every=10, chunk_bytes=64
    ),
    "pbft": PbftConfig(timeout_s=0.3, resend_s=0.1, checkpoint_every=8, chunk_bytes=64),
}
COMMANDS = 30

pytestmark = pytest.mark.parametrize("protocol", PROTOCOLS)


class Committee:
    """A committee in virtual time, its clients, and the checks of consensus over all that it decides."""

    def __init__(self, protocol: str, n: int = 4, seed: int = 1, members: int = 0, snapshot_every: int = 0) -> None:
        names = tuple(f"n{i}" for i in range(n))
        self.names, config = names, PROTOCOLS[protocol]
        self.checks = Checks(*consensus.safety())

        def mount() -> dict[str, Policy]:
            log = replicated_log(config, names[: members or n], "machine", ("machine",))
            return {"consensus": log, "machine": LogMachine(snapshot_every)}

        self.cluster = Cluster(mount, n=n, seed=seed)
        self.cluster.world.on_decide.append(
            lambda now, node, effect: self.checks.decided(now, node.name, effect[1], effect[2], effect[3])
        )
        self.asked = 0
        self.run(2)

    def run(self, seconds: float) -> None:
        """Let time pass."""
        self.cluster.run(seconds)

    def machine(self, name: str) -> LogMachine:
        """Return the state machine at a node."""
        machine = self.cluster.policy(name, "machine")
        assert isinstance(machine, LogMachine)
        return machine

    @property
    def leader(self) -> str:
        """Who leads, as most of those that are up say."""
        told = [self.machine(name).leader for name in self.names if self.cluster.world.by_name[name].up]
        return max(set(told), key=told.count)

    def do(self, *commands: bytes, at: Callable[[int], str] | None = None) -> None:
        """Have clients see to it that commands are applied: they come again, elsewhere, until it is so."""
        for tries in range(60):
            open_ = [c for c in commands if not any(c in self.machine(n).commands for n in self.up)]
            if not open_:
                return
            for number, command in enumerate(open_):
                node = at(number) if at else self.up[(tries + number) % len(self.up)]
                self.ask(node, Do(command))
            self.run(0.3)
        raise AssertionError(f"not applied: {open_}")

    def ask(self, name: str, operation: Message, op_id: str = "") -> None:
        """Give a state machine a client's operation."""
        self.asked += 1
        self.cluster.request(name, "client", op_id or str(self.asked), operation, path="machine")

    @property
    def up(self) -> list[str]:
        """Nodes that run."""
        return [name for name in self.names if self.cluster.world.by_name[name].up]

    def crash(self, name: str) -> None:
        """Crash a node, and tell the checks what it forgets."""
        self.cluster.crash(name)
        self.checks.restarted(name)

    def kept(self) -> None:
        """Nothing is broken, and all that run have the same state."""
        assert [check.broken for check in self.checks.all if check.broken] == []
        states = {tuple(self.machine(name).commands) for name in self.up}
        assert len(states) == 1, [len(state) for state in states]


def commands(name: str, count: int = COMMANDS) -> list[bytes]:
    """Return distinct commands."""
    return [f"{name}-{number}".encode() for number in range(count)]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_all_apply_the_same_commands_in_the_same_order_without_a_gap(protocol: str, seed: int) -> None:
    """Proposed anywhere, over links that lose and repeat."""
    committee = Committee(protocol, seed=seed)
    committee.do(*commands("a"))
    committee.run(2)

    committee.kept()
    assert set(committee.machine("n0").commands) == set(commands("a"))
    for name in committee.names:
        told = committee.machine(name).told
        assert told == sorted(set(told))


def test_a_command_proposed_at_any_member_commits(protocol: str) -> None:
    """Each member in turn is the only one that clients know."""
    committee = Committee(protocol)
    for name in committee.names:
        committee.do(f"at {name}".encode(), at=lambda number, name=name: name)
    committee.run(1)

    committee.kept()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_leader_crashes_and_nothing_is_lost(protocol: str, seed: int) -> None:
    """What was applied before stays, others lead, and who comes back has it all."""
    committee = Committee(protocol, seed=seed)
    committee.do(*commands("before"))
    old = committee.leader
    committee.crash(old)
    committee.run(2)
    assert committee.leader not in ("", old)

    committee.do(*commands("after"))
    committee.cluster.restart(old)
    committee.run(3)
    committee.kept()
    assert set(committee.machine(old).commands) == {*commands("before"), *commands("after")}


def test_a_restart_tells_everything_again(protocol: str) -> None:
    """Without a snapshot from the first command on, in the same order."""
    committee = Committee(protocol)
    committee.do(*commands("a"))
    committee.run(1)
    before = list(committee.machine("n1").told)
    committee.crash("n1")
    committee.cluster.restart("n1")
    committee.run(2)

    committee.kept()
    assert committee.machine("n1").told[: len(before)] == before


def test_a_restart_tells_the_snapshot_and_what_came_after_it(protocol: str) -> None:
    """Nothing that the snapshot holds is told again."""
    committee = Committee(protocol, snapshot_every=10)
    committee.do(*commands("a"))
    committee.run(1)
    committee.crash("n1")
    committee.cluster.restart("n1")
    committee.run(2)

    committee.kept()
    machine = committee.machine("n1")
    assert machine.restored
    assert all(index > machine.restored[0] for index in machine.told)


def test_a_member_that_was_away_catches_up_after_the_others_compacted(protocol: str) -> None:
    """It is given a state in place of the commands that nobody keeps any more."""
    committee = Committee(protocol, snapshot_every=10)
    away = next(name for name in committee.names if name != committee.leader)
    committee.crash(away)
    committee.do(*commands("a", 3 * COMMANDS))
    committee.cluster.restart(away)
    committee.run(5)

    committee.kept()
    assert committee.machine(away).restored


def test_a_member_that_was_away_while_others_only_read_catches_up_and_begins_there_again(
    protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A log that orders its reads asks for states behind them; they are taken over as any, though no index is new.

    Raft's log holds no reads: it has nothing to give.
    """
    monkeypatch.setattr(trunk, "SNAPSHOT_PERIODS", 2)  # 20 blocks
    monkeypatch.setattr(ordering, "SNAPSHOT_PERIODS", 2)  # 16 batches
    committee = Committee(protocol)
    committee.do(*commands("before", 4))
    committee.run(1)
    away = next(name for name in committee.names if name != committee.leader)
    committee.crash(away)
    for number in range(60):
        committee.ask(committee.up[0], Look(), f"read {number}")
        committee.run(0.1)
    lives = []
    for _ in range(2):
        committee.cluster.restart(away)
        committee.run(3)
        committee.kept()
        lives.append(committee.machine(away).restored)
        committee.crash(away)
    committee.cluster.restart(away)
    committee.run(1)
    committee.do(*commands("after", 4))
    committee.ask(away, Look(), "read at last")
    committee.run(2)

    committee.kept()
    assert sum(not reply.value.refused for reply in committee.cluster.replies if "read " in reply.op_id) >= 55
    assert (lives[0][-1:], lives[1][:1]) == (([], []) if protocol == "raft" else ([4], [4]))
    assert committee.cluster.replies[-1].value.commands == tuple(committee.machine(away).commands)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_read_sees_every_write_that_was_applied_before_it(protocol: str, seed: int) -> None:
    """At any member, one that was cut off meanwhile included: it is refused, or sees them."""
    committee = Committee(protocol, seed=seed)
    served = 0
    for number, name in enumerate(committee.names * 2):
        committee.cluster.partition([name])
        written = f"write {number}".encode()
        others = [other for other in committee.names if other != name]
        committee.do(written, at=lambda k, others=others: others[k % len(others)])
        committee.ask(name, Look(), f"cut off {number}")
        committee.run(0.2)
        committee.cluster.heal()
        committee.run(2)
        committee.ask(name, Look(), f"healed {number}")
        committee.run(1)
        seen = [reply.value for reply in committee.cluster.replies if reply.op_id.endswith(f" {number}")]
        assert all(value.refused or written in value.commands for value in seen)
        served += sum(not value.refused for value in seen)

    committee.kept()
    assert served >= len(committee.names)


@pytest.mark.parametrize("givers", [1, 3])
def test_a_leader_that_state_machines_give_up_is_left(protocol: str, givers: int) -> None:
    """By a quorum, though commands commit all the while; and if one alone gives it up, they go on to commit.

    Raft trusts whoever leads, and passes over it.
    """
    committee = Committee(protocol)
    committee.do(*commands("before", 4))
    old, term = committee.leader, committee.machine(committee.leader).term
    followers = [name for name in committee.names if name != old]
    for round_ in range(10):
        for name in followers[:givers]:
            committee.ask(name, GiveUp(term))
        committee.do(f"round {round_}".encode(), at=lambda number: followers[0])
    committee.run(1)

    committee.kept()
    if givers == 3:
        assert (committee.leader != old) == (protocol != "raft")
        assert len({committee.machine(name).term for name in committee.names}) == 1
    assert set(commands("before", 4)) <= set(committee.machine(old).commands)


def test_a_minority_commits_nothing(protocol: str) -> None:
    """What it takes in is applied once it is whole again, or never; what the others did stands."""
    committee = Committee(protocol)
    committee.do(*commands("before"))
    committee.cluster.partition(["n0"])
    applied = len(committee.machine("n0").commands)
    committee.ask("n0", Do(b"alone"))
    committee.run(3)
    assert b"alone" not in committee.machine("n0").commands
    assert len(committee.machine("n0").commands) >= applied

    committee.do(b"others", at=lambda number: "n2")
    committee.cluster.heal()
    committee.run(3)
    committee.kept()
    assert b"others" in committee.machine("n0").commands


def test_a_member_joins_and_another_leaves(protocol: str) -> None:
    """The new one has every command and is told who the members are; commits go on without the old one."""
    committee = Committee(protocol, n=5, members=4)
    committee.do(*commands("before"))
    wanted = ("n1", "n2", "n3", "n4")
    reconfigure(committee, wanted, wanted)
    committee.crash("n0")
    committee.do(*commands("after"))
    committee.run(2)
    committee.kept()
    assert set(committee.machine("n4").commands) == {*commands("before"), *commands("after")}


def reconfigure(committee: Committee, wanted: tuple[str, ...], up: tuple[str, ...]) -> None:
    """Have a client see to it that these are the members, as those that are ``up`` are told."""
    for _ in range(20):
        if {committee.machine(name).members for name in up} == {wanted}:
            return
        committee.ask(committee.leader, Reconfigure(wanted))
        committee.run(1)
    raise AssertionError(f"members: {[committee.machine(name).members for name in up]}")


@pytest.mark.parametrize("snapshot_every", [0, 10])
def test_a_member_that_slept_through_its_removal_is_told_and_falls_silent(protocol: str, snapshot_every: int) -> None:
    """By commands or by a state; afterwards it asks nobody for anything."""
    committee = Committee(protocol, n=6, members=5, snapshot_every=snapshot_every)
    gone = next(name for name in committee.names[:5] if name != committee.leader)
    wanted = tuple(name for name in committee.names if name != gone)
    committee.do(*commands("before"))
    committee.cluster.partition([gone])
    reconfigure(committee, wanted, wanted)
    committee.do(*commands("after"), at=lambda number: wanted[number % 5])
    committee.cluster.heal()
    committee.run(5)
    assert committee.machine(gone).members == wanted

    since_ns = int(committee.cluster.now_s * 1e9)
    committee.run(2)
    said = [e for e in committee.cluster.events if e.node == gone and e.now_ns > since_ns and _sends(e.effects)]
    assert said == []
    assert [check.broken for check in committee.checks.all if check.broken] == []


def _sends(effects: tuple[Effect, ...]) -> bool:
    return any(effect[0] == SEND for effect in effects)


def test_who_the_members_are_survives_a_power_cut_of_everybody(protocol: str) -> None:
    """After it the new ones go on, two of the first four gone for good."""
    committee = Committee(protocol, n=6, members=4, snapshot_every=10)
    committee.do(*commands("before"))
    wanted = ("n2", "n3", "n4", "n5")
    reconfigure(committee, wanted, wanted)
    for name in committee.names:
        committee.crash(name)
    for name in wanted:
        committee.cluster.restart(name)
    committee.run(3)
    committee.do(*commands("after"))
    committee.run(2)

    committee.kept()
    assert set(committee.machine("n5").commands) == {*commands("before"), *commands("after")}
    assert {committee.machine(name).members for name in wanted} == {wanted}


def test_a_run_is_its_digest(protocol: str) -> None:
    """The same seed gives the same history, crash and all."""

    def digest() -> str:
        committee = Committee(protocol, snapshot_every=10)
        committee.do(*commands("a"))
        committee.crash(committee.leader)
        committee.do(*commands("b"))
        return committee.cluster.digest

    assert digest() == digest()
