"""A machine that Hypothesis drives: any program of a few Raft members' deliveries, losses, time-outs and crashes."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from policies import port as p
from policies.config import RaftConfig
from policies.consensus.raft import Raft
from policies.local import Reconfigure, Transfer
from policies.port import NS_PER_S
from scenarios.checks import Checks, consensus, logs
from scenarios.checks.byzantine import NoDoubleVote
from scenarios.checks.votes import RAFT
from tests.policies.hand_cluster import CONFIG, ONE_ENTRY, HandCluster, Member
from tests.policies.raft_watch import Broken

NAMES = ("n1", "n2", "n3", "n4")
TINY = msgspec.structs.replace(CONFIG, max_batch=2, window=2, chunk_bytes=8)
"""Everything on, and every bound within reach."""
MEMBERS = (NAMES[:3], NAMES[:2], NAMES[1:4], NAMES[2:4], NAMES)


class RaftMachine(RuleBasedStateMachine):
    """Any order of deliveries, losses, copies, partitions, time-outs, syncs, crashes and requests.

    The watch asks at each step, and so do the checks that every run of the world is asked.
    """

    kind: Callable[..., Raft] = Member

    @initialize(config=st.sampled_from([ONE_ENTRY, TINY]))
    def begin(self, config: RaftConfig) -> None:
        """Three members, and one of them leads, so that short programs get somewhere."""
        self.cluster = HandCluster(4, self.kind, config, voters=3)
        self.checks = Checks(*consensus.safety(), NoDoubleVote(RAFT), logs.LogsMatch(), logs.StateInOrder())
        self.cluster.on_effect = self._hear
        self.cluster.elect("n1")
        self.commands = 4
        for number in range(self.commands):  # so that there is something to compact, which n3 lacks
            self.cluster.propose("n1", b"%d" % number)
            self.cluster.settle("n1", "n2")

    def _hear(self, name: str, effect: p.Effect) -> None:
        if effect[0] == p.DECIDE:
            self.checks.decided(self.cluster.now, name, "consensus", *effect[2:])
        elif effect[0] == p.SEND:
            self.checks.said(self.cluster.now, name, "consensus", *effect[2:])

    @invariant()
    def promises_are_kept(self) -> None:
        """What is promised of announcements, messages and logs holds, as in every run."""
        cluster = self.cluster
        up = [name for name in cluster.names if name not in cluster.down]
        self.checks.look(cluster.now, up, lambda name, _: cluster.raft(name))
        if broken := self.checks.first_broken:
            raise Broken(f"{broken.name}: {broken.broken}")

    @precondition(lambda self: self.cluster.post)
    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        """A message arrives, perhaps out of order."""
        self.cluster.deliver(data.draw(st.integers(0, len(self.cluster.post) - 1)))

    @precondition(lambda self: self.cluster.post)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        """A message is lost."""
        self.cluster.post.pop(data.draw(st.integers(0, len(self.cluster.post) - 1)))

    @precondition(lambda self: 0 < len(self.cluster.post) < 40)
    @rule(data=st.data())
    def duplicate(self, data: st.DataObject) -> None:
        """A message arrives and will arrive again."""
        letter = self.cluster.post[data.draw(st.integers(0, len(self.cluster.post) - 1))]
        self.cluster.post.append(letter)

    @rule(name=st.sampled_from(NAMES[:3]), timer=st.sampled_from(["election", "heartbeat", "quorum", "transfer"]))
    def fire(self, name: str, timer: str) -> None:
        """A timer fires, however early."""
        self.cluster.now += NS_PER_S
        self.cluster.fire(name, timer)

    @rule(name=st.sampled_from(NAMES[:3]), batches=st.integers(1, 4))
    def sync(self, name: str, batches: int) -> None:
        """Some writes become durable."""
        self.cluster.sync(name, batches)

    @rule(name=st.sampled_from(NAMES[:3]))
    def crash_or_restart(self, name: str) -> None:
        """A member loses its memory and unsynced writes, or comes back."""
        if name in self.cluster.down:
            self._restart(name)
        else:
            self.cluster.crash(name)

    def _restart(self, name: str) -> None:
        self.checks.restarted(name)
        self.cluster.restart(name)

    @rule(island=st.sets(st.sampled_from(NAMES), max_size=2))
    def part_or_heal(self, island: set[str]) -> None:
        """Some are parted from the others, or nobody any more; what is on its way arrives."""
        self.cluster.island = frozenset(island)

    @rule(name=st.sampled_from(NAMES[:3]))
    def propose(self, name: str) -> None:
        """A client asks."""
        self.commands += 1
        self.cluster.propose(name, b"%d" % self.commands)

    @rule(name=st.sampled_from(NAMES[:3]))
    def compact(self, name: str) -> None:
        """A state machine offers a snapshot."""
        if name not in self.cluster.down:
            self.cluster.compact(name)

    @rule(name=st.sampled_from(NAMES[:3]))
    def read(self, name: str) -> None:
        """A client reads."""
        if name not in self.cluster.down:
            self.cluster.read(name)

    @rule(name=st.sampled_from(NAMES[:3]), to=st.sampled_from(NAMES[:3]))
    def transfer(self, name: str, to: str) -> None:
        """A leader is asked to let another lead."""
        self.cluster.ask(name, Transfer(to))

    @rule(name=st.sampled_from(NAMES[:3]), members=st.sampled_from(MEMBERS), learner=st.booleans())
    def reconfigure(self, name: str, members: tuple[str, ...], learner: bool) -> None:
        """Other members are asked for, one more or less or two others at once, and perhaps a learner."""
        learners = tuple(n for n in NAMES if n not in members) if learner else ()
        self.cluster.ask(name, Reconfigure(members, learners))

    @rule(name=st.sampled_from(NAMES))
    def quiet(self, name: str) -> None:
        """For a while everything works for all but one, as far as no partition is between them."""
        others = [n for n in NAMES if n != name]
        self.cluster.settle(*others)

    def teardown(self) -> None:
        """Once all is well again, a leader is elected and commits."""
        cluster = self.cluster
        cluster.island = frozenset()
        for name in sorted(cluster.down):
            self._restart(name)
        cluster.settle()
        leader = ""
        for name in NAMES * 3:
            cluster.now += 3 * NS_PER_S
            cluster.fire(name, "election")
            cluster.settle()
            leader = next((n for n in NAMES if cluster.raft(n).role == "leader"), leader)
            if leader:
                cluster.fire(leader, "transfer")
                cluster.fire(leader, "heartbeat")
                cluster.settle()
        _require(leader != "", "nobody is elected")
        token = cluster.read(leader)
        cluster.propose(leader, b"last")
        cluster.settle()
        for _ in range(2):
            cluster.now += NS_PER_S
            cluster.fire(leader, "heartbeat")
            cluster.settle()
        members = cluster.raft(leader).configurations.current
        _require(not members.voters.joint, "a change of the members does not end")
        lack = [name for name in members.everybody if cluster.machine(name).commands[-1:] != [b"last"]]
        _require(not lack, f"{lack} have not applied the last command")
        _require(cluster.machine(leader).readable.get(token, 0) > 0, "a read is not answered")


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise Broken(f"recovers: {what}")
