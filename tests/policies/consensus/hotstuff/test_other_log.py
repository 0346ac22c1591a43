"""Two logs, one key: what a member signs in one of them means nothing in the other."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from policies.consensus import convicts
from policies.consensus.hotstuff import messages as m
from policies.consensus.hotstuff.epoch import genesis
from policies.wire import Message, encode
from sim.keys import KeyRing
from tests.policies.consensus.hotstuff.small_log import CALM, SmallLog

FOUR = ("n0", "n1", "n2", "n3")
KINDS = {kind.__struct_config__.tag: kind for kind in (m.Vote, m.TimeOut, m.CheckpointVote)}
Said = list[tuple[str, Any]]
OTHER = genesis((*FOUR, "n4"))[1].root.block
VERIFY = KeyRing(1).handle("n0").verify


def founded(n: int) -> tuple[SmallLog, Said]:
    """Return a log that n members founded, whose first leader has crashed, and what each of them said in it."""
    log, said = SmallLog(n, network=CALM, snapshot_every=5, checkpoint_every=5, tenure=256), Said()

    def heard(now: int, node: Any, effect: Any) -> None:
        kind = KINDS.get(msgspec.msgpack.decode(effect[3])[0])
        if kind is not None:
            said.append((node.name, msgspec.msgpack.decode(effect[3], type=kind)))

    log.cluster.world.on_send.append(heard)
    log.run(1, every=0.05, at=FOUR)
    log.cluster.crash("n0")
    log.run(2, every=0.1, at=FOUR[1:])
    return log, said


@pytest.fixture(scope="module")
def other() -> Said:
    """What n0 to n4 said in the log that they founded."""
    return founded(5)[1]


def of(said: Said, kind: type[Message], name: str) -> list[Any]:
    """Return what a member said of this kind."""
    return [message for who, message in said if who == name and type(message) is kind]


def test_a_vote_in_another_log_is_no_contradiction(other: Said) -> None:
    """Members vote for one block in a view of each log: whoever shows both to one log convicts nobody."""
    log, said = founded(4)
    mine = {vote.view: vote for vote in of(said, m.Vote, "n1")}
    pairs = [(mine[its.view], its) for its in of(other, m.Vote, "n1") if its.view in mine]
    assert len(pairs) > 10
    for one, its in pairs:
        assert one.block != its.block
        log.member("n2").on_message("n1", one)
        log.member("n2").on_message("n1", its)
        signed = [(vote.block, vote.signature) for vote in (one, its)]
        for name in (log.member("n2").log_name, OTHER):
            assert convicts(encode(m.Evidence("n1", name, one.epoch, one.view, *signed)), VERIFY) == ""

    assert log.member("n2").witness.accused == set()


REFUSED = {
    m.Vote: "a vote with a false signature",
    m.TimeOut: "a false time-out",
    m.CheckpointVote: "a checkpoint with a false signature",
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_said_in_another_log_is_refused(kind: type[Message], other: Said) -> None:
    """A vote, a time-out and a checkpoint are believed where they were said, and nowhere else."""
    member = SmallLog(4, network=CALM).member("n3")
    at_home = SmallLog(5, network=CALM).member("n3")
    last = of(other, kind, "n1")[-1]
    member.on_message("n1", last)
    at_home.on_message("n1", last)

    assert member.refused == {REFUSED[kind]: 1}
    assert REFUSED[kind] not in at_home.refused
