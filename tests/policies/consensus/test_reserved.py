"""What is the leader's alone to ask: no other member gets it ordered, and nobody waits for it in vain."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies import port as p
from policies.commands import Dissolve, Evict, Put, Refuse, decode, is_leaders
from policies.config import ConsensusRules, HotstuffConfig, PbftConfig
from policies.consensus import replicated_log
from policies.consensus.hotstuff.messages import COMMAND, Entry, Forward
from policies.consensus.pbft import Pbft
from policies.consensus.pbft import messages as m
from policies.consensus.reserved import Reserved, nothing
from policies.local import Committed, Leadership, Propose
from policies.port import NS_PER_S, Policy
from policies.wire import WireError, encode
from sim.cluster import Cluster
from tests.policies.consensus.pbft_hand import NAMES, One

PROTOCOLS: dict[str, ConsensusRules] = {
    "hotstuff": HotstuffConfig(timeout_s=0.3, timeout_max_s=2.0, heartbeat_s=0.1, tenure=10_000),
    "pbft": PbftConfig(timeout_s=0.3, resend_s=0.1),
}
FAULTS = ("crash", "cut")
BOTH = pytest.mark.parametrize("protocol", PROTOCOLS)


def with_a_mark(command: bytes) -> bool:
    """What these logs reserve."""
    return command.startswith(b"!")


class Asking(Policy):
    """A state machine that asks for two commands at each turn, whoever leads, one of them reserved."""

    def __init__(self) -> None:
        self.count, self.leads = 0, False
        self.led: set[bytes] = set()  # reserved commands that it asked for while it led
        self.committed: list[Committed] = []

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        self.port.set_timer("ask", NS_PER_S // 5)

    def on_timer(self, name: str) -> None:
        self.port.set_timer("ask", NS_PER_S // 5)
        self.count += 1
        for mark in (b"!", b""):
            command = b"%s%s %d" % (mark, self.port.me.encode(), self.count)
            if mark and self.leads:
                self.led.add(command)
            self.port.tell("consensus", Propose(command))

    def on_local(self, sender: str, message: Any) -> None:
        if isinstance(message, Committed):
            self.committed.append(message)
        elif isinstance(message, Leadership):
            self.leads = message.leader == self.port.me


class Committee:
    """Four members, one of whom may know of no rule: it asks the leader, and then everybody, for whatever it wants."""

    def __init__(self, protocol: str, seed: int = 1, lawless: str = "", **more: Any) -> None:
        config = PROTOCOLS[protocol]

        def mount(reserved: Reserved) -> Mapping[str, Policy]:
            return {"consensus": replicated_log(config, NAMES, "app", ("app",), reserved), "app": Asking()}

        others = {lawless: partial(mount, nothing)} if lawless else None
        self.cluster = Cluster(partial(mount, with_a_mark), 4, seed, others=others, **more)

    def app(self, name: str) -> Asking:
        """Return a state machine."""
        app = self.cluster.policy(name, "app")
        assert isinstance(app, Asking)
        return app

    def log(self, name: str) -> Any:
        """Return a member of the log."""
        return self.cluster.policy(name, "consensus")

    def waiting(self, name: str) -> list[bytes]:
        """Return the commands that wait in a member's pool."""
        log = self.log(name)
        if isinstance(log, Pbft):
            return [waiting.request.command for waiting in log.pool.waiting.values()]
        return [waiting.entry.data for waiting in log.asking.pool.waiting.values()]


# -- the rule ------------------------------------------------------------------------------------------


@BOTH
def test_only_the_leaders_reserved_commands_are_ordered(protocol: str) -> None:
    """All commands of all members are committed, but of the reserved ones the leader's alone."""
    committee = Committee(protocol)
    committee.cluster.run(4)

    leader = committee.log("n1").leader
    committed = {c.command for c in committee.app("n1").committed}
    assert {c.split()[0].decode() for c in committed} == {*NAMES, f"!{leader}"}
    assert {c for c in committed if with_a_mark(c)} <= committee.app(leader).led


@BOTH
@pytest.mark.parametrize("lawless", ["n2", "n3"])
def test_a_leader_is_not_given_up_for_what_it_may_not_order(protocol: str, lawless: str) -> None:
    """One member asks the leader, and all, for reserved commands: none is ordered, and the first leader stays."""
    committee = Committee(protocol, lawless=lawless)
    committee.cluster.run(1)
    first = (committee.log("n0").term, committee.log("n0").leader)
    committee.cluster.run(6)

    committed = [c.command for c in committee.app("n0").committed]
    assert (committee.log("n0").term, committee.log("n0").leader) == first
    assert [c for c in committed if c.startswith(b"!%s" % lawless.encode())] == []
    assert len([c for c in committed if c.startswith(lawless.encode())]) > 20  # of what all may ask nothing is lost


@BOTH
@given(
    storm=st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(["crash", "cut"])), max_size=3),
    seed=st.integers(1, 99),
)
@settings(max_examples=10, deadline=None)
def test_what_is_ordered_was_asked_by_who_led_and_waits_with_nobody_else(
    protocol: str, storm: list[tuple[str, str]], seed: int
) -> None:
    """Members fall and are cut off, leaders change: nothing reserved is of a member that did not lead."""
    committee = Committee(protocol, seed)
    cluster = committee.cluster
    led: dict[str, set[bytes]] = {name: set() for name in NAMES}
    cluster.run(0.5)
    for name, what in storm:
        if what == "crash":
            led[name] |= committee.app(name).led
            cluster.crash(name)
        else:
            cluster.partition([name])
        cluster.run(1.5)
        if what == "crash":
            cluster.restart(name)
        else:
            cluster.heal()
        cluster.run(0.5)
    for name in NAMES:
        led[name] |= committee.app(name).led

    for name in NAMES:
        for committed in committee.app(name).committed:
            if with_a_mark(committed.command):
                assert committed.command in led[committed.command.split()[0][1:].decode()]
        if committee.log(name).role != "leader":
            assert not any(map(with_a_mark, committee.waiting(name)))


@BOTH
def test_who_leads_no_more_forgets_what_was_its_own_to_ask(protocol: str) -> None:
    """A leader alone on an island asks on; back among the others it follows, and nothing of that is ordered."""
    committee = Committee(protocol)
    committee.cluster.run(1)
    leader = committee.log("n1").leader
    committee.cluster.partition([leader])
    committee.cluster.run(0.2)
    alone = set(filter(with_a_mark, committee.waiting(leader)))
    committee.cluster.run(2)
    committee.cluster.heal()
    committee.cluster.run(2)

    other = next(name for name in NAMES if name != leader)
    assert alone
    assert committee.log(other).leader != leader
    assert not any(map(with_a_mark, committee.waiting(leader)))
    assert len(alone & {c.command for c in committee.app(other).committed}) < len(alone)


# -- in whosever name ----------------------------------------------------------------------------------


@BOTH
def test_a_leader_takes_no_entry_that_claims_to_be_its_own(protocol: str) -> None:
    """Whoever brings it: of what is reserved a leader orders what its own state machine asked, and nothing else."""
    committee = Committee(protocol)
    committee.cluster.run(1)
    leader = committee.log("n1").leader
    forged: Any = Forward((Entry(leader, 7, COMMAND, b"!forged"),), all=True)
    if protocol == "pbft":
        log = committee.log(leader)
        forged = m.Request(leader, 7, b"!forged", log.committee.sign_request(7, b"!forged"))
    world = committee.cluster.world
    for node in world.nodes:
        world.give(node, (p.MESSAGE, "consensus", "n2", encode(forged)))
    committee.cluster.run(2)

    assert b"!forged" not in [c.command for c in committee.app("n1").committed]


def test_a_primary_asks_nobody_to_see_to_its_reserved_commands() -> None:
    """Others would drop them; it doubts its view at once if they are not ordered, and asks all for the rest as ever."""
    member = One("n0", kind=partial(Pbft, reserved=with_a_mark))  # type: ignore[arg-type]
    member.tell(Propose(b"!mine"))
    member.tell(Propose(b"anybody's"))
    member.fire("patience")

    assert [request.command for request in member.said(m.Request)] == [b"anybody's"]
    assert member.pbft.doubts.impatient


# -- what a village reserves ---------------------------------------------------------------------------


def test_a_leaders_command_is_known_however_it_is_written() -> None:
    """A liar may write an array or a text longer than need be; the state reads it all the same."""
    refuse = encode(Refuse("c", "1", "no"))
    longer = b"\xdc\x00\x04\xd9\x06refuse" + refuse[8:]

    assert decode(longer) == decode(refuse) == Refuse("c", "1", "no")
    assert is_leaders(refuse)
    assert is_leaders(longer)
    assert not is_leaders(encode(Put("refuse", "refuse")))


COMMANDS = st.sampled_from((Refuse("c", "1", "no"), Evict("w", "no"), Dissolve(1, "no"), Put("k", "v"))).map(encode)


@given(st.one_of(st.binary(max_size=40), COMMANDS, st.tuples(COMMANDS, st.binary(max_size=3)).map(b"".join)))
def test_what_the_state_would_take_from_nobody_else_is_reserved(command: bytes) -> None:
    """Bytes that are no command are nobody's, and never an error."""
    try:
        known = isinstance(decode(command), Refuse | Evict | Dissolve)
    except WireError:
        known = False

    assert is_leaders(command) == known
