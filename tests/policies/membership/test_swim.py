"""SWIM with Lifeguard in the simulated world: detection, refutation, partitions, flapping, and slow members."""

from __future__ import annotations

from math import ceil, e
from statistics import mean

import msgspec
import pytest

from policies import port as p
from policies.cell import Cell
from policies.config import SwimConfig
from policies.membership import Swim
from policies.membership.messages import ALIVE, DEAD, SUSPECT, Ack, Gossip, Nack, Ping, PingRequest, Sync, Update
from policies.wire import encode
from scenarios.adversaries import behaviours as b
from sim.cluster import Cluster
from sim.guard import Guards
from sim.keys import KeyRing
from tests.policies.membership.groups import ROUGH, Group

FAST = SwimConfig(probe_s=0.2, ack_s=0.1, gossip_s=0.05, push_pull_s=3.0)
"""Five times faster than a local network's, so that runs are short."""


@pytest.mark.parametrize(("n", "crashes"), [(6, 80), (20, 40)])
def test_a_crash_is_suspected_within_the_expected_number_of_periods_whatever_the_size(n: int, crashes: int) -> None:
    """The first period in which somebody probes the victim has mean 1 / (1 - 1/e) = 1.58 (SWIM, section 3.1), and the
    suspicion comes a period after. The sample's mean lies within 25 %: two standard errors and a half of 40 crashes,
    more of 80."""
    quiet, periods = msgspec.structs.replace(FAST, gossip_s=1.0), []
    for seed in range(crashes):
        group = Group(quiet, n, seed)
        group.run(0.6 + seed * quiet.probe_s / crashes)
        crashed_s = group.cluster.now_s
        group.crash("n0")
        while not (found := group.seen("suspect", "n0", crashed_s)):
            group.run(quiet.probe_s / 4)
        # A probe that was on its way at the crash ends in the same period: it counts as the first.
        periods.append(max(1, ceil((found[0][0] - crashed_s) / quiet.probe_s - 1)))

    assert mean(periods) == pytest.approx(1 / (1 - 1 / e), rel=0.25)


@pytest.mark.parametrize("n", [2, 5, 16])
def test_everybody_learns_of_a_crash_and_nobody_else_is_accused(n: int) -> None:
    """With a tenth of all messages lost the victim is dead to all, within its suspicion, and the others live."""
    group = Group(FAST, n, network=ROUGH)
    group.run(5)
    group.crash("n0")
    group.run(10)

    assert {who for _, who, _ in group.seen("dead", "n0")} == set(group.names[1:])
    assert group.views(*group.names[1:]) == {tuple(sorted(group.names[1:]))}


def test_two_halves_find_together_after_a_partition() -> None:
    """Each half holds the other dead; tables are exchanged with the dead, too, and everybody refutes."""
    group = Group(FAST, 8)
    group.run(2)
    group.cluster.partition(["n0", "n1", "n2", "n3"])
    group.run(10)
    assert group.views("n0", "n3") == {("n0", "n1", "n2", "n3")}
    assert group.views("n4", "n7") == {("n4", "n5", "n6", "n7")}

    group.cluster.heal()
    group.run(4 * FAST.push_pull_s)
    assert group.views() == {group.names}


def test_a_flapping_member_troubles_nobody_else() -> None:
    """It dies and rises ten times; each of its lives is a later one, all others stay alive, and in the end it does."""
    group = Group(FAST, 8)
    group.run(2)
    for _ in range(10):
        group.crash("n3")
        group.run(1.5)
        group.restart("n3")
        group.run(1.0)
    group.run(3)

    assert group.views() == {group.names}
    assert {whom for _, _, whom in group.seen("dead")} <= {"n3"}
    lives = [x.value[3] for x in group.cluster.decisions if x.node == "n0" and x.value[1] == "n3"]
    assert lives == sorted(lives)
    assert lives[-1] >= 11


def test_a_member_that_nobody_expected_joins_by_speaking_up() -> None:
    """It knows one of the group; gossip tells it of all and all of it."""
    group = Group(FAST, 6, known=1)
    group.run(5)

    assert group.views() == {group.names}


def test_load_does_not_grow_with_the_group() -> None:
    """A member of 32 sends no more than half as much again as one of 8, while nothing happens (SWIM, section 3)."""
    sent = {}
    for n in (8, 32):
        group = Group(FAST, n)
        group.run(3)
        before = group.cluster.messages
        group.run(5)
        sent[n] = (group.cluster.messages - before) / n

    assert sent[32] < 1.5 * sent[8]


def test_without_lifeguard_slow_members_accuse_healthy_ones_many_times_more_often() -> None:
    """Three of twelve whose messages take 8 s: plain SWIM has them declare healthy members dead, Lifeguard hardly ever.
    The paper finds a fiftieth of the false positives (arXiv 1707.00788); at most a twentieth is asked here."""
    wrong = {}
    for lifeguard in (False, True):
        slow = {f"n{i}": [b.Delay(bound_s=8.0, exactly=True, from_s=2.0)] for i in range(3)}
        group = Group(SwimConfig(lifeguard=lifeguard), 12, adversaries=slow)
        group.run(60)
        wrong[lifeguard] = sum(whom not in slow for _, _, whom in group.seen("dead"))

    assert wrong[False] >= 40
    assert wrong[True] <= wrong[False] / 20, wrong


def test_members_are_pure_functions_of_what_they_hear() -> None:
    """Every eighth step is taken by a copy, too, with the same effects and the same state after it."""
    names = tuple(f"n{i}" for i in range(4))
    cluster = Cluster(lambda: Swim(FAST, names), 4, guards=Guards(copy_every=8))
    cluster.run(2)
    cluster.crash("n0")
    cluster.run(4)


# -- one member by hand -------------------------------------------------------------------------------


class One:
    """Member n0 of a group of n; what it sends is looked at."""

    def __init__(self, n: int = 6, config: SwimConfig = FAST) -> None:
        names = tuple(f"n{i}" for i in range(n))
        self.swim = Swim(config, names)
        self.cell = Cell(self.swim, "n0", names[1:], seed=1, keys=KeyRing(1).handle("n0"))
        self.now, self.timers, self.sent = 0, dict[str, tuple[int, int]](), list[tuple[str, object]]()
        self.step((p.START, "", {}, 0))
        self.sent.clear()

    def step(self, given: p.Input) -> None:
        queue = [given]
        while queue:
            for effect in self.cell.step(self.now, 0, queue.pop(0)):
                if effect[0] == p.SEND:
                    self.sent.append((effect[2], self.cell._decode[""](effect[3])))
                elif effect[0] == p.SET_TIMER:
                    self.timers[effect[2]] = effect[3:]
                elif effect[0] == p.CANCEL_TIMER:
                    self.timers.pop(effect[2], None)
                elif effect[0] == p.SAVE:
                    queue.append((p.DURABLE, "", effect[2]))

    def hear(self, sender: str, message: object) -> None:
        self.step((p.MESSAGE, "", sender, encode(message)))

    def fire(self, name: str) -> None:
        self.now, generation = self.timers.pop(name)
        self.step((p.TIMER, "", name, generation))

    def updates_to(self, name: str) -> list[Update]:
        return [u for to, m in self.sent if to == name for u in getattr(m, "updates", ())]


def test_a_member_refutes_what_is_said_of_it_by_a_later_life() -> None:
    """Suspected or dead, it says that it is alive in a life after the one spoken of."""
    member = One()
    life = member.swim.incarnation
    for said in (SUSPECT, DEAD):
        member.hear("n1", Gossip((("n0", life + 3, said, "n2"),)))
        assert member.swim.incarnation == life + 4
        life += 4
    assert member.swim.health.score == 2  # who is suspected twice may well be slow
    member.hear("n1", Ping(1, ()))

    assert ("n0", life, ALIVE, "n0") in member.updates_to("n1")


def test_hearing_of_an_older_life_of_itself_changes_nothing() -> None:
    """Only what is said of this life needs an answer."""
    member = One()
    member.hear("n1", Gossip((("n0", member.swim.incarnation + 1, SUSPECT, "n2"),)))
    life, score = member.swim.incarnation, member.swim.health.score
    member.hear("n1", Gossip((("n0", life - 1, DEAD, "n2"),)))

    assert (member.swim.incarnation, member.swim.health.score) == (life, score)


def test_whoever_is_suspected_hears_it_first_however_often_it_was_told() -> None:
    """The buddy system: a ping or ack to a suspect carries the suspicion."""
    member = One()
    member.hear("n2", Gossip((("n1", 1, SUSPECT, "n2"),)))
    member.swim.news.waiting.clear()
    member.hear("n1", Ping(1, ()))

    assert member.updates_to("n1") == [("n1", 1, SUSPECT, "n0")]


def test_a_probe_without_answer_goes_by_others_and_then_becomes_a_suspicion() -> None:
    """Three others are asked after the ack's time; with no answer of theirs either the period ends in a suspicion."""
    member = One()
    member.fire("probe")
    ((target, ping),) = [(to, m) for to, m in member.sent if isinstance(m, Ping)]
    member.fire("ack")
    asked = [(to, m) for to, m in member.sent if isinstance(m, PingRequest)]
    assert len(asked) == 3
    assert {m.target for _, m in asked} == {target}
    assert target not in {to for to, _ in asked}

    member.fire("probe")
    assert member.swim.table.entries[target] == (0, SUSPECT)
    assert member.swim.health.score == 3  # nobody that it asked said anything: perhaps it is this member's link
    assert ping.number


@pytest.mark.parametrize("by", ["target", "another"])
def test_an_answer_of_any_way_ends_a_probe_well(by: str) -> None:
    """The target's own ack or one handed on by another; what names another target is no answer."""
    member = One()
    member.fire("probe")
    ((target, ping),) = [(to, m) for to, m in member.sent if isinstance(m, Ping)]
    other = next(n for n in ("n1", "n2") if n != target)
    member.hear(other, Ack(ping.number, other, ()))
    assert not member.swim.probe.acked
    member.hear(target if by == "target" else other, Ack(ping.number, target, ()))
    member.fire("probe")

    assert member.swim.table.entries[target][1] == ALIVE
    assert member.swim.health.score == 0


def test_who_hears_nothing_for_another_says_at_least_that() -> None:
    """A relayed probe without an answer is nacked; one that comes late is still handed on; nacks spare the asker."""
    relay = One()
    relay.hear("n1", PingRequest(7, "n2", ()))
    ((to, ping),) = [(to, m) for to, m in relay.sent if isinstance(m, Ping)]
    assert to == "n2"
    relay.fire(f"nack {ping.number}")
    relay.hear("n2", Ack(ping.number, "n2", ()))
    assert next(m for to, m in relay.sent if to == "n1" and isinstance(m, Nack | Ack)) == Nack(7)
    assert [m.target for to, m in relay.sent if to == "n1" and isinstance(m, Ack)] == ["n2"]

    asker = One()
    asker.fire("probe")
    asker.fire("ack")
    for name in {to for to, m in asker.sent if isinstance(m, PingRequest)}:
        asker.hear(name, Nack(asker.swim.probe.number))
    asker.fire("probe")
    assert asker.swim.health.score == 0


def test_a_slow_member_gives_others_more_time() -> None:
    """Each point of local health adds a whole time-out to the next probe's (Lifeguard, section IV-A)."""
    member = One()
    member.fire("probe")
    begun = member.now
    assert member.timers["ack"][0] - begun == member.swim.ack_ns
    member.swim.health.change(2)
    member.swim.probe.acked = True  # the end of the period takes one back
    member.fire("probe")

    assert member.timers["ack"][0] - member.now == 2 * member.swim.ack_ns
    assert member.timers["probe"][0] - member.now == 2 * member.swim.probe_ns


def test_probes_for_others_are_bounded() -> None:
    """A flood of requests displaces its own."""
    member = One()
    for i in range(1000):
        member.hear("n1", PingRequest(i, "n2", ()))

    assert len(member.swim.relays) == 256


def test_a_probe_without_answer_says_nothing_of_a_life_that_began_meanwhile() -> None:
    """Whoever refutes, or rises again, while it is probed has answered: the ping went to an earlier life."""
    member = One()
    member.fire("probe")
    target = member.swim.probe.target
    other = next(n for n in ("n1", "n2") if n != target)
    member.fire("ack")
    member.hear(other, Gossip(((target, 1, ALIVE, target),)))
    member.fire("probe")

    assert member.swim.table.entries[target] == (1, ALIVE)


def test_a_table_that_repeats_a_suspicion_names_whose_it_is() -> None:
    """Only others that found it out themselves shorten a suspicion (Lifeguard, section IV-B: independent ones). Who
    sends its table has often but heard of it."""
    member, asker = One(), One()
    for one in (member, asker):
        one.hear("n2", Gossip((("n1", 1, SUSPECT, "n2"),)))
    due_ns = asker.timers["suspect n1"][0]
    member.hear("n3", Sync(True, ()))
    ((_, sync),) = [(to, m) for to, m in member.sent if isinstance(m, Sync)]
    assert ("n1", 1, SUSPECT, "n2") in sync.table
    asker.hear("n4", sync)

    assert asker.timers["suspect n1"][0] == due_ns


def test_a_nack_that_comes_twice_or_from_whom_nobody_asked_counts_once_or_not_at_all() -> None:
    """The network may double messages; two of three that were asked stay silent, whatever the third repeats."""
    asker = One(8)
    asker.fire("probe")
    asker.fire("ack")
    asked = [to for to, m in asker.sent if isinstance(m, PingRequest)]
    stranger = next(n for n in asker.swim.table.entries if n not in (*asked, asker.swim.probe.target))
    for name in (*asked[:1] * 4, stranger):
        asker.hear(name, Nack(asker.swim.probe.number))
    asker.fire("probe")

    assert asker.swim.health.score == 2


@pytest.mark.parametrize("update", [("n0", 2**64 - 1, DEAD, "n2"), ("n0", 2**62 + 1, ALIVE, "n2"), ("n0", 9, 7, "n2")])
def test_news_that_cannot_be_are_malformed(update: Update) -> None:
    """A life after the last number could not be said, and whoever refuted it would stop; a status that is none is no
    word of anybody."""
    member = One()
    life = member.swim.incarnation
    member.hear("n1", Gossip((update,)))

    assert (member.swim.incarnation, member.swim.health.score) == (life, 0)
    assert member.cell.malformed == 1


@pytest.mark.parametrize("last", [2**62, 2**21])
@pytest.mark.parametrize("status", [ALIVE, DEAD])
def test_a_member_whose_lives_somebody_exhausts_is_believed_when_it_speaks_itself(last: int, status: int) -> None:
    """A newcomer is told of a life that never was, and all others, too: none of the group is held dead for long."""
    cluster = Cluster(lambda: Swim(FAST, ("n0", "n1", "n2", "n3")), 4)
    for _ in range(2):  # before they know one another, and after
        for name in ("n0", "n2", "n3"):
            false = Gossip((("n1", last, status, "n3"),))
            for to in (name, "n1"):
                cluster.world.give(cluster.world.by_name[to], (p.MESSAGE, "", "n3", encode(false)))
        cluster.run(20)
        assert {cluster.policy(name).alive() for name in cluster.names} == {tuple(cluster.names)}
        assert {cluster.policy(name).table.entries["n1"][0] < 2**20 for name in ("n0", "n2", "n3")} == {True}
    cluster.crash("n1")
    cluster.run(20)

    assert {cluster.policy(name).alive() for name in ("n0", "n2", "n3")} == {("n0", "n2", "n3")}
