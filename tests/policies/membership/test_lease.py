"""Leases and fencing tokens: at most one holder while clocks run alike, and no harm by a second one if they do not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from policies import port as p
from policies.cell import Cell
from policies.config import LeaseConfig
from policies.membership import Fence, LeaseElection
from policies.membership.messages import JUMP_MAX, AskLease, Grant
from policies.port import NS_PER_S, Policy
from policies.wire import encode
from scenarios.adversaries import behaviours as b
from scenarios.schema import Network
from sim.cluster import Cluster
from sim.keys import KeyRing
from tests.policies.membership.groups import CALM, ROUGH

FAST = LeaseConfig(lease_s=1.0, renew_s=0.3)


class Electorate:
    """A cluster of lease elections and the spells in which members led."""

    def __init__(self, n: int = 5, seed: int = 1, network: Network = CALM, **more: object) -> None:
        self.names = tuple(f"n{i}" for i in range(n))
        self.cluster = Cluster(lambda: LeaseElection(FAST, self.names), n, seed, network, **more)  # type: ignore[arg-type]
        self.run = self.cluster.run
        self.crashed: list[tuple[float, str]] = []

    def crash(self, name: str) -> None:
        self.cluster.crash(name)
        self.crashed.append((self.cluster.now_s, name))

    def leaders(self) -> list[str]:
        return [n.name for n in self.cluster.world.nodes if n.up and self.cluster.policy(n.name).role == "leader"]

    def spells(self) -> list[tuple[float, float, str, int]]:
        """Return (from, to, who, term) of each time somebody held the lease, by its own word."""
        held: dict[str, tuple[float, int]] = {}
        spells = []
        ends = [(t, name, 0, False) for t, name in self.crashed]
        notes = [(x.time_s, x.node, int(x.fields["term"]), bool(x.fields["held"])) for x in self.cluster.notes]
        for time_s, name, term, begins in sorted(ends + notes):
            if name in held and not (begins and held[name][1] == term):
                spells.append((held[name][0], time_s, name, held.pop(name)[1]))
            if begins:
                held[name] = (time_s, term)
        return spells + [(since, float("inf"), name, term) for name, (since, term) in held.items()]

    def overlaps(self) -> list[tuple[str, str]]:
        """Return pairs that held the lease at one time."""
        spells = sorted(self.spells())
        return [(a[2], c[2]) for i, a in enumerate(spells) for c in spells[i + 1 :] if c[0] < a[1] and a[2] != c[2]]


@pytest.mark.parametrize("n", [1, 2, 5])
def test_a_group_gets_one_leader_and_keeps_it(n: int) -> None:
    """Renewals hold the lease although messages are lost, and everybody knows who leads."""
    group = Electorate(n, network=ROUGH)
    group.run(30)

    assert len(group.leaders()) == 1
    group.cluster.world.network.config = CALM
    group.run(3)
    assert {group.cluster.policy(name).leader for name in group.names} == set(group.leaders())
    assert len({who for _, _, who, _ in group.spells()}) <= 2


def test_a_crashed_leader_is_followed_by_another_after_its_lease_and_in_a_later_term() -> None:
    """Never before: what the old leader did under its lease was done alone."""
    group = Electorate()
    group.run(5)
    (old,) = group.leaders()
    since = group.cluster.policy(old).asked_at / NS_PER_S
    group.crash(old)
    group.run(5)
    group.cluster.restart(old)
    group.run(5)

    (new,) = group.leaders()
    first = min(spell[0] for spell in group.spells() if spell[2] == new)
    assert new != old
    assert since + FAST.lease_s <= first <= since + 4 * FAST.lease_s
    assert group.overlaps() == []
    terms = [term for *_, term in group.spells()]
    assert terms == sorted(terms)


def test_a_leader_that_is_cut_off_steps_down_before_another_steps_up() -> None:
    """It hears no renewal, and its lease ends on its own clock, which began before the voters'."""
    group = Electorate()
    group.run(5)
    (old,) = group.leaders()
    group.cluster.partition([old])
    group.run(5)
    assert old not in group.leaders()
    assert len(group.leaders()) == 1
    group.cluster.heal()
    group.run(5)

    assert len(group.leaders()) == 1
    assert group.overlaps() == []


def test_a_minority_has_no_leader() -> None:
    """Two of five cannot hold a lease, however long they try."""
    group = Electorate()
    group.run(5)
    group.cluster.partition(["n0", "n1"])
    group.run(20)

    assert not {"n0", "n1"} & set(group.leaders())


STEPS = st.lists(
    st.tuples(st.sampled_from(["run", "crash", "restart", "cut", "heal"]), st.integers(0, 4)), min_size=3, max_size=20
)


@settings(max_examples=20, deadline=None, derandomize=True, phases=[Phase.generate],
          suppress_health_check=[HealthCheck.too_slow])  # fmt: skip
@given(plan=STEPS, seed=st.integers(0, 2**16))
def test_no_schedule_gives_a_lease_to_two_or_a_term_to_two(plan: list[tuple[str, int]], seed: int) -> None:
    """Whatever crashes or is cut off: spells do not overlap, terms belong to one, and in the calm somebody leads."""
    group, down = Electorate(5, seed, ROUGH), set[str]()
    for what, who in plan:
        name = f"n{who}"
        if what == "crash" and name not in down:
            group.crash(name)
            down.add(name)
        elif what == "restart" and name in down:
            group.cluster.restart(name)
            down.discard(name)
        elif what == "cut":
            group.cluster.partition([name, f"n{(who + 1) % 5}"])
        elif what == "heal":
            group.cluster.heal()
        group.run(0.4)
    group.cluster.heal()
    for name in sorted(down):
        group.cluster.restart(name)
    group.run(15)

    assert group.overlaps() == []
    owner: dict[int, str] = {}
    assert all(owner.setdefault(term, who) == who for _, _, who, term in group.spells())
    assert len(group.leaders()) == 1


def test_with_clocks_beyond_the_assumed_drift_the_fence_keeps_the_resource_safe() -> None:
    """A leader whose clock runs at half the rate believes in its lease too long, beside its successor; a resource that
    has seen the successor's term refuses it from then on."""
    slow = {"n0": [b.SkewedClock(shape="linear", ppm=-500_000, monotonic=True)]}
    both = 0
    for seed in range(12):
        group = Electorate(3, seed, adversaries=slow)
        for _ in range(40):
            group.run(0.5)
            if "n0" in group.leaders():
                group.cluster.partition(["n0"])
                group.run(4)
                break
        fence = Fence()
        for _, _, _, term in sorted(group.spells()):
            assert fence.admits(term)
        for first, second in group.overlaps():
            both += 1
            assert first == "n0"
            terms = {who: term for _, _, who, term in group.spells()}
            assert terms[second] > terms[first]
            assert not fence.admits(terms[first])

    assert both


@given(st.lists(st.integers(0, 9)))
def test_a_fence_admits_exactly_what_is_no_older_than_all_it_has_seen(tokens: list[int]) -> None:
    """The same leader may come again, an older one may not."""
    fence, newest = Fence(), 0
    for token in tokens:
        assert fence.admits(token) is (token >= newest)
        newest = max(newest, token)


@pytest.mark.parametrize(
    ("config", "members", "says"),
    [
        (LeaseConfig(lease_s=1.0, renew_s=1.0), ("a",), "renew_s=1.0: expected < lease_s"),
        (FAST, ("a", "a"), "named twice"),
    ],
)
def test_what_cannot_work_is_refused(config: LeaseConfig, members: tuple[str, ...], says: str) -> None:
    """A lease that ends before it is renewed, a member that votes twice."""
    with pytest.raises(ValueError, match=says):
        LeaseElection(config, members)


def test_a_question_of_an_older_term_that_comes_late_is_not_granted() -> None:
    """Not even to whom this member has voted for since: its terms only grow."""
    group = Electorate(3)
    group.run(3)
    (leader,) = group.leaders()
    voter = next(name for name in group.names if name != leader)
    term = group.cluster.policy(voter).term
    late = (p.MESSAGE, "", leader, encode(AskLease(term - 1, 1)))
    group.cluster.world.give(group.cluster.world.by_name[voter], late)

    assert group.cluster.policy(voter).term == term


def test_half_of_a_group_is_no_majority() -> None:
    """Cut in two equal halves nobody leads."""
    group = Electorate(4)
    group.run(3)
    group.cluster.partition(["n0", "n1"])
    group.run(10)

    assert group.leaders() == []


def test_a_voter_that_rises_again_is_bound_by_the_vote_of_its_last_life() -> None:
    """It remembers the term, and gives its vote to nobody else for the length of a lease."""
    group = Electorate(3)
    group.run(3)
    (leader,) = group.leaders()
    voter, third = (name for name in group.names if name != leader)
    term = group.cluster.policy(voter).term
    group.crash(voter)
    group.cluster.restart(voter)
    asked = (p.MESSAGE, "", third, encode(AskLease(term + 1, 1)))
    group.cluster.world.give(group.cluster.world.by_name[voter], asked)

    assert (group.cluster.policy(voter).term, group.cluster.policy(voter).voted_for) == (term, leader)


class Watcher(Policy):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, str]] = []

    def on_local(self, sender: str, message: Any) -> None:
        self.told.append((message.term, message.leader))


class Voter:
    """One member, whose disk is the test."""

    def __init__(self, members: tuple[str, ...]) -> None:
        self.lease, self.watcher = LeaseElection(FAST, members, ("watcher",)), Watcher()
        policies = {"lease": self.lease, "watcher": self.watcher}
        self.cell = Cell(policies, "n0", members[1:], seed=1, keys=KeyRing(1).handle("n0"))
        self.campaign = next(e for e in self.step(0, (p.START, "", {}, 0)) if e[0] == p.SET_TIMER)

    def step(self, now_ns: int, given: p.Input) -> tuple[p.Effect, ...]:
        self.now_ns = now_ns
        return self.cell.step(now_ns, 0, given)

    def saved(self, effects: tuple[p.Effect, ...]) -> None:
        """Let what a step saves be durable."""
        (save,) = (effect for effect in effects if effect[0] == p.SAVE)
        self.step(self.now_ns, (p.DURABLE, "lease", save[2]))


def test_an_only_member_leads_when_its_vote_is_durable() -> None:
    """Told before, watchers would act under a term that the next life gives away again."""
    voter = Voter(("n0",))
    _, path, name, due, generation = voter.campaign
    effects = voter.step(due, (p.TIMER, path, name, generation))
    assert (voter.lease.role, voter.watcher.told) == ("follower", [])

    voter.saved(effects)
    assert (voter.lease.role, voter.watcher.told) == ("leader", [(1, "n0")])


def test_who_is_voted_for_is_told_when_the_vote_is_durable() -> None:
    """As the grant leaves then, and not before."""
    voter = Voter(("n0", "n1", "n2"))
    effects = voter.step(1, (p.MESSAGE, "lease", "n1", encode(AskLease(7, 1))))
    assert voter.watcher.told == []

    voter.saved(effects)
    assert voter.watcher.told == [(7, "n1")]


def test_a_vote_that_is_durable_after_its_round_was_given_up_counts_for_nothing() -> None:
    """An only member whose disk took longer than a renewal leads in no term that it gave up."""
    voter = Voter(("n0",))
    _, path, name, due, generation = voter.campaign
    effects = voter.step(due, (p.TIMER, path, name, generation))
    given_up = next(e for e in effects if e[0] == p.SET_TIMER and e[2] == "give up")
    voter.step(given_up[3], (p.TIMER, path, "give up", given_up[4]))
    voter.saved(effects)

    assert (voter.lease.role, voter.watcher.told) == ("follower", [])


@pytest.mark.parametrize("term", [2**62, 2**21])
def test_nobody_exhausts_the_terms_of_others(term: int) -> None:
    """Asked for a far term they are bound to none; told that it voted in one, they take a step of 2**42 to the last."""
    group = Electorate(3)
    for _ in range(2):
        for name, sender in (("n0", "n1"), ("n1", "n2"), ("n2", "n0")):
            for said in (AskLease(term, 1), Grant(term, 1, False)):
                group.cluster.world.give(group.cluster.world.by_name[name], (p.MESSAGE, "", sender, encode(said)))
        group.run(10)

    assert len(group.leaders()) == 1
    assert all(group.cluster.policy(name).term < 10 * JUMP_MAX for name in group.names)


def test_who_asked_in_vain_for_very_long_is_followed_by_those_who_did_not() -> None:
    """Cut off, it raised its term until it was far ahead: with a third one down, the two need each other to lead."""
    group = Electorate(3)
    group.cluster.policy("n0").term = 3 * JUMP_MAX
    group.crash("n2")
    group.run(15)

    assert len(group.leaders()) == 1
    assert group.overlaps() == []


@pytest.mark.parametrize("term", [2**64 - 1, 2**62 + 1])
def test_a_term_after_the_last_number_binds_nobody(term: int) -> None:
    """Whoever would lead after it could not say so, and would stop."""
    group = Electorate(3)
    for name, sender in (("n0", "n1"), ("n1", "n2"), ("n2", "n0")):
        group.cluster.world.give(group.cluster.world.by_name[name], (p.MESSAGE, "", sender, encode(AskLease(term, 1))))
    group.run(10)

    assert len(group.leaders()) == 1
    assert all(group.cluster.policy(name).term < 100 for name in group.names)
