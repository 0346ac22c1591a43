"""Who votes and who listens, and how that may change: pure functions from one membership to the next.

Two majorities of different memberships may miss each other, and then two leaders could be elected. So a change either
touches one voter, for then all old and new majorities still meet (`simple`), or it passes through a joint
configuration, in which the old voters and the new ones must both agree (`enter_joint`, later `leave_joint`). Sources:
Ongaro and Ousterhout, ATC 2014, section 6; Ongaro's dissertation (2014), sections 4.1 and 4.3. What is refused, and
that a voter who is to become a learner waits until the old voters have gone, is as etcd-io/raft does it.

When a membership takes effect, and that only one change is under way, is the protocol's duty and not known here.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from policies.consensus.quorum import Voters
from policies.wire import Message


class Membership(Message, frozen=True):
    """Who belongs to the log; each group in the order in which its members joined it.

    Attributes:
        voters: whose agreement counts; joint while the voters change.
        learners: who hears everything and has no vote.
        learners_next: old voters who become learners when the joint configuration is left.
        auto_leave: the leader is to leave the joint configuration as soon as it is committed.

    Raises:
        ValueError: somebody is a voter and a learner, or what belongs to a joint configuration stands outside one.
    """

    voters: Voters
    learners: tuple[str, ...] = ()
    learners_next: tuple[str, ...] = ()
    auto_leave: bool = False

    def __post_init__(self) -> None:
        incoming, outgoing = self.voters.incoming, self.voters.outgoing
        if outgoing and not incoming:
            raise ValueError(f"voters.incoming: empty, while {outgoing!r} are outgoing; somebody must follow them")
        if len(set(self.learners)) < len(self.learners) or len(set(self.learners_next)) < len(self.learners_next):
            raise ValueError(f"learners: {self.learners + self.learners_next!r} name a member twice")
        if both := [name for name in self.learners if name in incoming or name in outgoing]:
            raise ValueError(f"learners: {both!r} are voters, too; a member is one or the other")
        if wrong := [name for name in self.learners_next if name in incoming or name not in outgoing]:
            raise ValueError(f"learners_next: {wrong!r}; only outgoing voters who do not stay may stand there")
        if self.auto_leave and not outgoing:
            raise ValueError("auto_leave: true, but there is no joint configuration to leave")

    @property
    def everybody(self) -> tuple[str, ...]:
        """All who must be sent the log, each once: voters of both halves, then learners."""
        return tuple(dict.fromkeys((*self.voters.incoming, *self.voters.outgoing, *self.learners)))


class Change(Message, frozen=True):
    """One thing to do to one member.

    ``update`` changes nothing here: it carries news about a member through the log. An empty ``member`` changes
    nothing either: it is what remains of a change that the state machine refused after it was proposed.
    """

    kind: Literal["add_voter", "add_learner", "remove", "update"]
    member: str


def simple(membership: Membership, changes: Iterable[Change]) -> Membership:
    """Return the membership after changes that together add or remove at most one voter.

    Raises:
        ValueError: the configuration is joint, more than one voter changes, or no voter remains.
    """
    if membership.voters.joint:
        raise ValueError("simple change: the configuration is joint; it must be left first")
    after = _apply(membership, changes)
    if len(moved := set(membership.voters.incoming) ^ set(after.voters.incoming)) > 1:
        raise ValueError(f"simple change: voters {sorted(moved)!r} change; more than one needs a joint configuration")
    return after


def enter_joint(membership: Membership, changes: Iterable[Change], auto_leave: bool = False) -> Membership:
    """Return the joint configuration of the present voters and of those after any changes.

    Raises:
        ValueError: the configuration is joint already, nobody votes yet, or no voter remains.
    """
    if membership.voters.joint:
        raise ValueError("enter joint: the configuration is joint already; it must be left first")
    if not membership.voters.incoming:
        raise ValueError("enter joint: there is no voter yet, so there is nothing to be joint with")
    old = membership.voters.incoming
    return _apply(Membership(Voters(old, old), membership.learners, (), auto_leave), changes)


def leave_joint(membership: Membership) -> Membership:
    """Return the membership in which only the new voters count, and those held back are learners.

    Raises:
        ValueError: the configuration is not joint.
    """
    if not membership.voters.joint:
        raise ValueError("leave joint: the configuration is not joint")
    return Membership(Voters(membership.voters.incoming), membership.learners + membership.learners_next)


def between(membership: Membership, members: Iterable[str], learners: Iterable[str] = ()) -> tuple[Change, ...]:
    """Return the changes after which ``members`` vote, ``learners`` listen, and nobody else belongs.

    Applied by `simple`, or by `enter_joint` and later `leave_joint`, they lead exactly there.

    Raises:
        ValueError: the configuration is joint, the goal has no voter, or it names somebody twice.
    """
    if membership.voters.joint:
        raise ValueError("members: the configuration is joint; it must be left before the next change")
    goal = Membership(Voters(tuple(members)), tuple(learners))
    if not goal.voters.incoming:
        raise ValueError("members: empty; at least one voter must remain")
    voters = (Change("add_voter", name) for name in goal.voters.incoming if name not in membership.voters.incoming)
    listen = (Change("add_learner", name) for name in goal.learners if name not in membership.learners)
    gone = (Change("remove", name) for name in membership.everybody if name not in goal.everybody)
    return (*voters, *listen, *gone)


class _Groups(NamedTuple):
    """The groups that a change may alter; the outgoing voters are none of them."""

    incoming: tuple[str, ...]
    learners: tuple[str, ...]
    learners_next: tuple[str, ...]

    def without(self, member: str) -> _Groups:
        """Take a member out of whichever group holds it."""
        return _Groups(*(tuple(name for name in group if name != member) for group in self))


def _apply(membership: Membership, changes: Iterable[Change]) -> Membership:
    outgoing = membership.voters.outgoing
    groups = _Groups(membership.voters.incoming, membership.learners, membership.learners_next)
    for change in changes:
        member = change.member
        if not member or change.kind == "update":
            continue
        rest = groups.without(member)
        if change.kind == "remove":
            groups = rest
        elif change.kind == "add_voter":
            if member not in groups.incoming:
                groups = rest._replace(incoming=(*rest.incoming, member))
        elif member in outgoing:  # still a voter of the old half, and nobody is a voter and a learner
            groups = rest._replace(learners_next=(*rest.learners_next, member))
        elif member not in groups.learners:
            groups = rest._replace(learners=(*rest.learners, member))
    if not groups.incoming:
        raise ValueError("change of members: no voter remains; at least one must")
    return Membership(Voters(groups.incoming, outgoing), groups.learners, groups.learners_next, membership.auto_leave)
