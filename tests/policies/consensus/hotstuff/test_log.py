"""The log in the simulated world: loss, crashes, cuts, starving leaders, restarts of everybody."""

from __future__ import annotations

from typing import Literal

import msgspec
import pytest

from policies.consensus.hotstuff.sync import BLOCKS_MAX
from scenarios.adversaries import behaviours as b
from scenarios.schema import Network
from tests.policies.consensus.hotstuff.small_log import CALM, Get, SmallLog

CHAINS = pytest.mark.parametrize("chain", [2, 3])
LOSSY = Network(backbone_s=0.002, loss=0.1, duplicate=0.1, jitter_sigma=0.5)


@CHAINS
@pytest.mark.parametrize("n", [4, 7])
def test_commands_of_every_member_are_committed_by_all_in_one_order(n: int, chain: Literal[2, 3]) -> None:
    """In calm weather each command is committed once, by everybody, and equal states are equal bytes."""
    log = SmallLog(n, chain, network=CALM)
    asked = log.run(2, every=0.02, at=log.members)
    log.run(1)

    log.require_safe()
    log.require_live(asked, log.members)
    assert len(log.app("n0").state) == len(asked)
    assert {log.member(name).term for name in log.members} == {log.member("n0").term}


@CHAINS
@pytest.mark.parametrize("n", [4, 7])
def test_a_tenth_of_the_messages_lost_and_another_doubled_stops_nothing(n: int, chain: Literal[2, 3]) -> None:
    """Losses are made good by saying things again and by changes of view."""
    log = SmallLog(n, chain, network=LOSSY)
    asked = log.run(5, every=0.05, at=log.members)
    log.run(10)

    log.require_safe()
    log.require_live(asked, log.members)


@CHAINS
@pytest.mark.parametrize(("n", "f"), [(4, 1), (7, 2)])
@pytest.mark.parametrize("tenure", [1, 32])
def test_f_crashed_leaders_delay_and_stop_nothing(n: int, f: int, tenure: int, chain: Literal[2, 3]) -> None:
    """The first f leaders lose power and stay down: the others go on, with the leader changing at each view as well."""
    log = SmallLog(n, chain, network=CALM, tenure=tenure)
    log.run(1, every=0.05, at=log.members)
    down, up = log.members[:f], log.members[f:]
    for name in down:
        log.cluster.crash(name)
    asked = log.run(3, every=0.1, at=up)
    log.run(20)

    log.require_safe()
    log.require_live(asked, up)


@CHAINS
@pytest.mark.parametrize("seed", range(3))
def test_members_that_crash_and_return_forget_no_promise(seed: int, chain: Literal[2, 3]) -> None:
    """One after another loses power with a torn disk and comes back: one history, and nobody is accused."""
    log = SmallLog(4, chain, seed, LOSSY, snapshot_every=8, checkpoint_every=8)
    for k in range(12):
        name = log.members[k % 4]
        log.cluster.crash(name, torn=0.5)
        log.run(0.4, every=0.1, at=[other for other in log.members if other != name])
        log.cluster.restart(name)
        log.run(0.2, every=0.1, at=[other for other in log.members if other != name])
    asked = log.run(1, every=0.1, at=log.members)
    log.run(15)

    log.require_safe()
    log.require_live(asked, log.members)
    assert len(log.app("n0").state) > 40  # of 82; what only a crashed member's pool held is gone
    assert log.evidence() == []


@CHAINS
def test_what_was_committed_survives_a_power_cut_of_everybody(chain: Literal[2, 3]) -> None:
    """All four restart from their disks, tell it all again, and go on."""
    log = SmallLog(4, chain, network=CALM)
    asked = log.run(1, every=0.05, at=log.members)
    log.run(1)
    for name in log.members:
        log.cluster.crash(name)
    for name in log.members:
        log.cluster.restart(name)
    asked += log.run(1, every=0.1, at=log.members)
    log.run(5)

    log.require_safe()
    log.require_live(asked, log.members)


@CHAINS
def test_a_cut_without_a_quorum_commits_nothing_and_healing_brings_all_together(chain: Literal[2, 3]) -> None:
    """Two against two: nothing is committed; healed, what both sides were asked for is."""
    log = SmallLog(4, chain, network=CALM)
    log.run(1, every=0.1, at=log.members)
    log.cluster.partition(["n0", "n1"])
    log.run(0.1)
    before = [log.member(name).commit for name in log.members]
    asked = log.run(3, every=0.2, at=log.members)
    assert [log.member(name).commit for name in log.members] == before

    log.cluster.heal()
    log.run(20)
    log.require_safe()
    log.require_live(asked, log.members)


@CHAINS
def test_a_cut_off_minority_catches_up_by_fetching_blocks(chain: Literal[2, 3]) -> None:
    """The leader alone on an island: the others elect the next; healed, it fetches what it missed."""
    log = SmallLog(4, chain, network=CALM)
    log.run(0.5, every=0.1, at=log.members)
    log.cluster.partition(["n0"])
    asked = log.run(3, every=0.05, at=log.members[1:])
    log.cluster.heal()
    log.run(5)

    log.require_safe()
    log.require_live(asked, log.members)
    assert log.member("n0").term > 0


@CHAINS
def test_who_is_far_behind_catches_up_while_each_answer_finds_a_newer_certificate(chain: Literal[2, 3]) -> None:
    """A view is as long as an answer takes: what came is kept, and goes on below it, 64 blocks a request."""
    slow = msgspec.structs.replace(CALM, backbone_s=0.01)
    log = SmallLog(4, chain, network=slow, checkpoint_every=10_000, tenure=4096)
    near, far, ahead = log.member("n0"), log.member("n3"), log.members[:3]
    log.cluster.partition(["n3"])
    while near.trunk.tree.height < 250:
        log.run(0.1, every=0.005, at=ahead)
    began, asked = near.trunk.tree.height, list[int]()  # how far behind it was when it asked
    log.cluster.world.on_send.append(
        lambda now, node, sent: asked.append(near.trunk.tree.height - far.trunk.tree.height)
        if node.name == "n3" and msgspec.msgpack.decode(sent[3])[0] == "fetch" else None
    )  # fmt: skip
    log.cluster.heal()
    log.run(1, every=0.005, at=ahead)

    log.require_safe()
    assert near.trunk.tree.height > began + 20
    assert near.trunk.tree.height - far.trunk.tree.height < 5
    assert sum(behind > 5 for behind in asked) <= 250 // BLOCKS_MAX + 3


@CHAINS
def test_a_leader_that_ignores_one_member_is_given_up(chain: Literal[2, 3]) -> None:
    """n0 orders everybody's commands but n3's, and is never silent: n3's command is committed all the same."""
    deaf = b.Silent(path="consensus", side="receive", tags=("forward",))
    log = SmallLog(4, chain, network=CALM, adversaries={"n0": [deaf]}, tenure=4096)
    for _ in range(20):
        log.put("n0")  # the liar's own commands keep the log moving
        log.run(0.05)
    starved = log.put("n3")
    for _ in range(40):
        log.put("n0")
        log.run(0.05)
    log.run(5)

    log.require_safe()
    assert starved in log.app("n3").state
    assert log.member("n3").term > 0


@CHAINS
def test_a_member_that_the_leader_does_not_hear_is_served_through_the_others(chain: Literal[2, 3]) -> None:
    """What n3 sends n0 is lost: its command is passed on and committed, and the leader stays."""
    log = SmallLog(4, chain, network=CALM)
    log.run(0.5)
    log.cluster.world.network.sever(3, 0, one_way=True)
    asked = log.run(1, every=0.5, at=["n3"])
    log.run(0.5)

    log.require_live(asked, log.members)
    assert {log.member(name).term for name in log.members} == {0}


@CHAINS
def test_a_read_sees_every_command_committed_before_it_was_asked(chain: Literal[2, 3]) -> None:
    """At any member, after what another member has answered; a read costs a place in the log and no index."""
    log = SmallLog(4, chain, network=CALM)
    log.put("n1")
    log.run(0.5)
    log.cluster.request("n3", "client", "r", Get(7), "app")
    log.run(0.5)

    assert log.app("n3").read == {7: (1, 1)}
    assert log.member("n3").commit == 1


@CHAINS
def test_a_read_at_a_member_that_hears_nobody_is_not_answered(chain: Literal[2, 3]) -> None:
    """A member that is cut off answers no read from what it holds."""
    log = SmallLog(4, chain, network=CALM)
    log.put("n1")
    log.run(0.5)
    log.cluster.partition(["n3"])
    log.cluster.request("n3", "client", "r", Get(7), "app")
    log.run(5)
    assert log.app("n3").read == {}

    log.cluster.heal()
    log.run(5)
    assert log.app("n3").read[7][0] >= 1


def test_an_idle_log_is_quiet_and_keeps_its_leader() -> None:
    """With nothing to agree on a leader says so once a heartbeat: 4 members take fewer than 20 steps in 200 ms."""
    log = SmallLog(4, network=CALM)
    log.put("n1")
    log.run(1)
    views, steps = log.member("n0").pace.view, log.cluster.steps
    log.run(2)

    assert log.member("n0").pace.view == views
    assert log.member("n2").leader == "n0"
    assert log.cluster.steps - steps < 20 * 10


def test_who_leads_is_decided_once_a_term() -> None:
    """`Elected` is said by one member a term, under loss and with a leader a view; watchers hear of every term."""
    log = SmallLog(4, network=LOSSY, tenure=1)
    log.run(5, every=0.1, at=log.members)
    leaders: dict[int, set[str]] = {}
    for decision in log.cluster.decisions:
        if decision.kind == "leader":
            leaders.setdefault(decision.value[1], set()).add(decision.node)

    assert len(leaders) > 20
    assert all(names == {log.members[term % 4]} for term, names in leaders.items())
    assert {heard.leader for heard in log.app("n3").leaderships} == set(log.members)


def test_one_seed_is_one_history() -> None:
    """The digest of everything repeats."""
    runs = [SmallLog(4, 3, 5, LOSSY) for _ in range(2)]
    for log in runs:
        log.run(3, every=0.1, at=log.members)

    assert runs[0].cluster.digest == runs[1].cluster.digest


def test_members_that_are_none_are_refused() -> None:
    """No members, or one of them twice: one line says so."""
    from policies.config import HotstuffConfig
    from policies.consensus.hotstuff import HotStuff

    with pytest.raises(ValueError, match=r"members=\(\): expected at least one"):
        HotStuff(HotstuffConfig(), ())
    with pytest.raises(ValueError, match="nobody twice"):
        HotStuff(HotstuffConfig(), ("a", "b", "a"))
