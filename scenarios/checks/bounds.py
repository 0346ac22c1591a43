"""What a member of a log may hold of what others make it hold, and what members may say: the bounds that L5 asks about.

A limit of memory is the protocol's own: a place for each member, a constant of the module that keeps the things, or a
field of its configuration. A limit of messages is worked out from the protocol's phases. None of them knows how long a
run is, nor how much a liar says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from policies.config import ConsensusRules, HotstuffConfig, RaftConfig
from policies.consensus import HotStuff, Pbft, Raft
from policies.consensus.hotstuff import catch_up, certificates, checkpoint, evidence, sync, tree
from policies.consensus.pbft import execution, liveness, safety
from policies.consensus.raft import reads


class Held(NamedTuple):
    """So much of something, and the most that it may be."""

    what: str
    amount: int
    limit: int


Holding = Callable[[Any], Iterator[Held]]
"""What a member holds."""

ENTRIES_MAX = 4000
"""Entries of Raft's log that wait for a snapshot of its state machine: those come every 1,000 commands in a village
(`policies.registry`), and leaders' own entries are no commands (ours; half a day of the first village has 1,021)."""


def of_raft(member: Any) -> Iterator[Held]:
    """Yield what a member of Raft holds."""
    config, peers = member.config, member.progress.values()
    if member.applier:
        yield Held("entries applied since its snapshot", member.applied - member.log.start, ENTRIES_MAX)
    yield Held("messages under way to one member", max((len(p.in_flight) for p in peers), default=0), config.window)
    yield Held("reads of this term", len(member.open) + len(member.queued), reads.READS_MAX)
    # Beside those that were asked of a leader there may be as many that it answered itself when it led.
    yield Held("own reads", len(member.asked) + len(member.ready), 2 * reads.READS_MAX)


def of_hotstuff(member: Any) -> Iterator[Held]:
    """Yield what a member of HotStuff holds."""
    n, fetched, pool = len(member.epoch.members), member.catch_up.sync, member.asking.pool
    points = member.catch_up.checkpoints
    yield Held("votes", len(member.votes.latest), n)
    yield Held("time-outs", len(member.pace.time_outs), n)
    yield Held("votes for checkpoints", len(points.votes), n)
    yield Held("own snapshots", len(points.mine), checkpoint.SNAPSHOTS_MAX)
    yield Held("words for epochs", len(member.vouching.words.newest), n)
    yield Held("verified certificates", len(member.verifier.known), certificates.KNOWN_MAX)
    yield Held("views remembered of one member", _most(member.witness.seen), evidence.VIEWS_MAX)
    # Those that no certificate leads to go at the next certificate; until then there may be one more each term.
    yield Held("blocks not committed", len(member.trunk.tree.pending), 2 * tree.PENDING_MAX)
    yield Held("blocks fetched", len(fetched.parts), sync.HELD_MAX)
    yield Held("commands of one member", max(pool.held.values(), default=0), pool.pool_max)
    # As many again may be committed, and not told yet.
    yield Held("own reads", len(member.trunk.reads), 2 * pool.pool_max)


def of_pbft(member: Any) -> Iterator[Held]:
    """Yield what a member of PBFT holds."""
    n, slots, ahead, pool = len(member.committee.members), member.voter.slots, member.ahead, member.pool
    votes = (max(len(slot.prepares), len(slot.commits)) for slot in slots.values())
    yield Held("open places", len(slots), member.window)
    yield Held("votes at one place", max(votes, default=0), n)
    yield Held("batches at one place", max((len(slot.bodies) for slot in slots.values()), default=0), safety.BODIES_MAX)
    yield Held("view changes", len(ahead.changes), n)
    yield Held("early proposals of one member", _most(ahead.proposals), liveness.AHEAD_MAX)
    yield Held("places remembered of one member", _most(member.witness.seen), member.window)
    yield Held("checkpoints of one member", _most(member.checkpoints.said), execution.SAID_MAX)
    yield Held("own snapshots", len(member.execution.pending), execution.PENDING_MAX)
    yield Held("words for epochs", len(member.words.newest), n)
    yield Held("requests of one member", max(pool.held.values(), default=0), pool.each_max)
    yield Held("requests done", len(pool.done), liveness.DONE_MAX)


def _most(by_member: Any) -> int:
    """Return the most that is held of one member."""
    return max(map(len, by_member.values()), default=0)


def held(member: Any) -> Iterator[Held]:
    """Yield what a member holds, if its protocol is one of ours."""
    kinds: tuple[tuple[type, Holding], ...] = ((HotStuff, of_hotstuff), (Pbft, of_pbft), (Raft, of_raft))
    return next((holding(member) for kind, holding in kinds if isinstance(member, kind)), iter(()))


SPARE = 3.0
"""Members may say so many times what they need where all is well: what is lost or late comes again, and leaders are
given up (ours; the most that 400 to 900 seeds of an arena of `twin hunt` took was a quarter of what is allowed for
HotStuff, a third for Raft, and 0.45 for PBFT)."""


class Traffic(NamedTuple):
    """Messages between correct members: for a decision, and in each second beside that."""

    each: float
    per_s: float


def traffic(rules: ConsensusRules, n: int) -> Traffic:
    """Return what ``n`` members may say to one another while the network is well."""
    others, all_to_all = n - 1, n * (n - 1)
    if isinstance(rules, RaftConfig):  # to the leader, to all, and their answers; heartbeats, and their answers
        each, per_s = 1.0 + 2 * others, 2 * others / rules.heartbeat_s
    elif isinstance(rules, HotstuffConfig):
        # To the leader; a block and its votes, and as many for those that bring it home; a vote for a checkpoint.
        each = 1 + (rules.chain + 1) * 2 * others + all_to_all / rules.checkpoint_every
        # What the leader says that it is there and what members compare, each with an answer.
        per_s = 2 * (others + n / catch_up.COMPARE_HEARTBEATS) / rules.heartbeat_s
    else:  # to all, if the primary does nothing; pre-prepares, prepares, commits; a word for a checkpoint
        each = 2 * others + others * others + all_to_all + all_to_all / rules.checkpoint_every
        per_s = all_to_all / rules.resend_s  # what all say of themselves
    return Traffic(SPARE * each, SPARE * per_s)
