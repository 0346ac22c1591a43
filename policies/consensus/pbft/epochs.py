"""Epochs: who the members are, and how one set of them hands over to the next. Safety.

A change of members is a command of its own kind, alone in its batch, at a place of the log like any other, and takes
effect when it is executed, as in BFT-SMaRt (Bessani, Sousa and Alchieri, DSN 2014), whose batches are ordered one after
another. Here several are under way, so the log is a sequence of logs that stop (Malkhi, Lamport and Zhou, "Stoppable
Paxos", MSR-TR-2008-192; "Reconfiguring a state machine", SIGACT News 41(1), 2010): the change at place s ends its epoch
at s. Whatever the old members vote for at a later place is void, for nobody executes it: who has executed s is
in the next epoch, whose places begin at s + 1, whose quorums are those of the new members, and in which no signature of
the old epoch means anything.

Nor can two changes end one epoch: a member prepares a change only when it has executed every place below it (`safety`),
so whoever would prepare a second one has executed the first and left. Hence the decided batch alone, with its commits
by a quorum, proves who comes next (`Committee.ends`), and a newcomer follows such proofs from the first members on, or,
where those are forgotten, from an epoch for which a quorum of those members vouches (`policies.consensus.vouching`).

Views of an epoch begin at a number that those of the one before cannot reach, so that a view has one primary for ever.
Whoever may propose a command may propose a change. Where the state machines say which one they decided (`Allow`), no
correct member votes for another, nor twice for the same.
"""

from __future__ import annotations

import msgspec

from policies.consensus.pbft.messages import Batch, Decided
from policies.wire import encode

VIEWS = 1 << 32
"""Views that an epoch has room for: one a millisecond for 50 days."""
MARK = b"\xc1"
"""First byte of a change of members. MessagePack never uses it, so no encoded command begins with it."""
MEMBERS_MIN = 4
"""n >= 3f + 1 with f >= 1: fewer cannot outvote one liar."""
MEMBERS_MAX = 64
"""Members and learners of an epoch (our bound: everybody sends to each of them, and a step verifies their quorum)."""

Members = tuple[tuple[str, ...], tuple[str, ...]]
"""(members, learners)."""

_change = msgspec.msgpack.Decoder(tuple[int, tuple[str, ...], tuple[str, ...]]).decode


def problem(members: tuple[str, ...], learners: tuple[str, ...] = ()) -> str:
    """Return in words why these cannot be the members, or nothing."""
    everybody = (*members, *learners)
    if len(set(everybody)) < len(everybody):
        return f"members={everybody!r}: a member is named twice; every member votes once"
    if len(members) < MEMBERS_MIN:
        return f"members={members!r}: PBFT needs {MEMBERS_MIN} or more (n >= 3f + 1, f >= 1)"
    if len(everybody) > MEMBERS_MAX:
        return f"members: {len(everybody)} of them; allowed are {MEMBERS_MAX}"
    return ""


def command_of(epoch: int, members: tuple[str, ...], learners: tuple[str, ...]) -> bytes:
    """Return the command that ends ``epoch``. In any other it is void, so that an old one cannot be played again."""
    return MARK + encode((epoch, members, learners))


def change_of(command: bytes, epoch: int) -> Members | None:
    """Return the members that a command asks for in ``epoch``, or None if it asks for none that can be."""
    if not command.startswith(MARK):
        return None
    try:
        number, members, learners = _change(command[len(MARK) :])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return None if number != epoch or problem(members, learners) else (members, learners)


def change_in(batch: Batch, epoch: int) -> Members | None:
    """Return the members that a batch of ``epoch`` asks for, None if it is an ordinary one."""
    return change_of(batch[0][2], epoch) if len(batch) == 1 else None


def epoch_of(view: int) -> int:
    """Return the epoch to which a view belongs."""
    return view // VIEWS


def changed_by(entry: Decided) -> Members | None:
    """Return the members after a decided batch, None if it changes nothing."""
    return change_in(entry.batch, epoch_of(entry.view))


def allowed(batch: Batch, epoch: int) -> bool:
    """Return whether a batch may stand in ``epoch``: it is a change that can be, alone, or holds none."""
    return change_in(batch, epoch) is not None or not any(command.startswith(MARK) for _, _, command in batch)
