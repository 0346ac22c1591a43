"""Checkpoints: what is stable is forgotten, and whoever lacks it gets the state, proved."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
import pytest

from policies.consensus.chunks import Chunk, manifest_of, piece
from policies.consensus.hotstuff.checkpoint import Checkpoints
from policies.consensus.hotstuff.messages import CheckpointVote, Transferred
from scenarios.adversaries import behaviours as b
from tests.policies.consensus.hotstuff.small_log import CALM, Members, SmallLog

CHAINS = pytest.mark.parametrize("chain", [2, 3])


def small(chain: Literal[2, 3], **more: Any) -> SmallLog:
    """Return a log with a checkpoint each ten commands."""
    return SmallLog(4, chain, network=CALM, snapshot_every=10, checkpoint_every=10, **more)


@CHAINS
def test_memory_and_disk_do_not_grow_with_the_log(chain: Literal[2, 3]) -> None:
    """After 40 and after 240 commands a member holds about the same number of blocks, in memory and on its disk."""
    log, held = small(chain), []
    for seconds in (2, 10):
        log.run(seconds, every=0.05, at=log.members)
        log.run(0.5)
        member = log.member("n2")
        held.append((len(member.trunk.tree.blocks), len(member.trunk.spans)))

    assert log.member("n2").commit == 240
    assert abs(held[1][0] - held[0][0]) <= 4
    assert held[1][0] <= 12 * (chain + 1)
    assert held[1][1] <= 11


@CHAINS
def test_a_learner_forgets_what_members_have_made_stable(chain: Literal[2, 3]) -> None:
    """n4 votes for nothing and holds as few blocks as a member; and its next life begins at the checkpoint."""
    log = SmallLog(5, chain, network=CALM, members=4, snapshot_every=10, checkpoint_every=10)
    log.cluster.request("n1", "client", "change", Members(log.members, ("n4",)), "app")
    log.run(0.5)
    for seconds in (2, 10):
        asked = log.run(seconds, every=0.05, at=log.members)
        log.run(0.5)
        trees = [log.member(name).trunk.tree.blocks for name in ("n0", "n4")]
        assert abs(len(trees[0]) - len(trees[1])) <= 1
    log.cluster.crash("n4")
    log.cluster.restart("n4")
    log.run(1)

    log.require_live(asked, ("n0", "n4"))
    assert (log.app("n4").restored, log.app("n4").index) == (1, 240)


@CHAINS
def test_a_member_that_lags_behind_a_checkpoint_gets_the_state_and_then_blocks(chain: Literal[2, 3]) -> None:
    """n3 misses 60 commands of which the others forgot 50 and more: it restores, and then hears the rest."""
    log = small(chain)
    log.run(0.5, every=0.05, at=log.members)
    log.cluster.crash("n3")
    asked = log.run(3, every=0.05, at=log.members[:3])
    log.cluster.restart("n3")
    log.run(3)
    asked += log.run(0.5, every=0.1, at=log.members)
    log.run(1)

    log.require_safe()
    log.require_live(asked, log.members)
    assert log.app("n3").restored >= 1
    assert log.app("n3").index == log.app("n0").index


@CHAINS
def test_who_is_given_states_while_it_waits_has_nothing_ordered_twice(chain: Literal[2, 3]) -> None:
    """n3 is heard and hears nothing, time and again, while the others order what it asks, and forget it.

    Each time it is given a state that holds what waits in its pool. Only its state machine sees that, and asks for what
    is not there.
    """
    spells = [b.Silent(path="consensus", side="receive", from_s=t, until_s=t + 2) for t in (1.0, 4.0, 7.0)]
    log = small(chain, adversaries={"n3": spells})
    log.run(1.0)
    asked = []
    for _ in spells:
        asked += log.run(3, every=0.05, at=log.members)
    log.run(3)

    log.require_live(asked, log.members)
    assert log.app("n3").restored >= len(spells)
    assert len(log.app("n0").state) == len(asked)


@CHAINS
def test_a_restart_begins_at_the_stable_checkpoint(chain: Literal[2, 3]) -> None:
    """After a power cut the state machine is restored, and told only what came after."""
    log = small(chain)
    asked = log.run(2.25, every=0.05, at=log.members)
    log.run(0.5)
    for name in log.members:
        log.cluster.crash(name)
        log.cluster.restart(name)
    assert log.app("n0").restored == 1
    log.run(2)

    log.require_live(asked, log.members)
    restored = [d.value for d in log.cluster.decisions if d.kind == "restore" and d.node == "n0"]
    assert [value[1] for value in restored] == [40]


FORGED = {
    "state": lambda t: msgspec.structs.replace(t, manifest=manifest_of(b"\x90", 1 << 20)),
    "size": lambda t: msgspec.structs.replace(t, manifest=msgspec.structs.replace(t.manifest, size=1 << 30)),
    "index": lambda t: msgspec.structs.replace(t, stable=msgspec.structs.replace(t.stable, index=t.stable.index + 1)),
    "first": lambda t: msgspec.structs.replace(t, stable=msgspec.structs.replace(t.stable, first=1)),
    "too few": lambda t: msgspec.structs.replace(t, stable=msgspec.structs.replace(t.stable, votes=t.stable.votes[:2])),
    "one signer": lambda t: msgspec.structs.replace(
        t, stable=msgspec.structs.replace(t.stable, votes=t.stable.votes[:1] * 3)
    ),
    "block": lambda t: msgspec.structs.replace(t, block=msgspec.structs.replace(t.block, entries=())),
    "certificate": lambda t: msgspec.structs.replace(t, qc=msgspec.structs.replace(t.qc, votes=t.qc.votes[:2])),
}


@pytest.mark.parametrize("what", FORGED)
def test_a_state_that_nothing_proves_is_refused(what: str) -> None:
    """One changed part, and a member that lags takes nothing over; the true one is taken."""
    log = small(2)
    log.run(0.1)
    log.cluster.partition(["n3"])
    log.run(2, every=0.05, at=log.members[:3])
    true: Transferred = log.member("n0").catch_up.transfer.offer
    lagging = log.member("n3")
    lagging.catch_up.sync.want(true.qc)
    lagging.on_message("n0", FORGED[what](true))
    assert (lagging.commit, lagging.refused) == (0, {"a state that nothing proves": 1})
    assert lagging.catch_up.transfer.arriving is None

    lagging.on_message("n0", true)
    state = log.member("n0").catch_up.start.state
    lagging.on_message("n0", Chunk(true.stable.state, 0, piece(state, 0, 1 << 20)))
    assert lagging.applied == true.stable.index


def test_a_checkpoint_is_signed_once_in_each_stretch_and_own_snapshots_are_bounded() -> None:
    """The first snapshot in each ten commands; two are kept until they are stable."""
    checkpoints, signed = Checkpoints(10), []
    for index in range(1, 60, 3):
        if checkpoints.due(index):
            checkpoints.keep((index, 1), b"")
            signed.append(index)

    assert signed == [10, 22, 31, 40, 52]
    assert sorted(checkpoints.mine) == [(40, 1), (52, 1)]


def test_a_quorum_that_signed_before_our_state_was_there_is_enough() -> None:
    """Three of four, and then a fourth: stable each time one asks, by a quorum of signatures and no more."""
    checkpoints, members = Checkpoints(10), ("a", "b", "c", "d")
    for name in members:
        made = checkpoints.add(name, CheckpointVote(0, 10, 10, 5, b"block", b"x", name.encode()), members)
        assert (made is None) == (name in "ab")
    assert made is not None
    assert made.votes == (("a", b"a"), ("b", b"b"), ("c", b"c"))
    assert checkpoints.at((10, 5), members) == made
    assert checkpoints.at((11, 5), members) is None
    assert checkpoints.at((10, 6), members) is None


def test_different_states_make_no_checkpoint() -> None:
    """Two against two: nothing is stable, however often it is said."""
    checkpoints, members = Checkpoints(10), ("a", "b", "c", "d")
    for name, state in (("a", b"x"), ("b", b"x"), ("c", b"y"), ("d", b"y"), ("a", b"x")):
        vote = CheckpointVote(0, 10, 10, 5, b"block", state, b"s")
        assert checkpoints.add(name, vote, members) is None
