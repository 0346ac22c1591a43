"""A leader for a group without a log: a lease held by the votes of a majority, and a token that outlives it.

A vote binds its voter to one member for the lease's length on the voter's clock; the leader counts from before it
asked, and a little less, so that while clocks run at nearly equal rates no two hold a lease at once (Gray and Cheriton,
SOSP 1989). Whatever clocks do, terms do not repeat: a vote is durable before it leaves, and a term goes to one member
(as in Raft, section 5.2). So the term is a fencing token: a resource that refuses terms older than the newest it has
seen (`Fence`) is safe from a leader that was paused and does not know that its lease is over. For the same reason a
member counts its own vote, and tells its watchers whom it voted for, when that is durable: they may act on it at once.

Saved key: ``vote`` (term, member). A voter that rises again does not know how long it is bound and waits for a lease.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from policies.config import LeaseConfig
from policies.local import Leadership
from policies.membership.messages import JUMP_MAX, AskLease, Grant
from policies.port import NS_PER_S, Policy
from policies.wire import encode


class Fence:
    """What a resource keeps to refuse leaders of the past; the newest token must be as durable as the resource."""

    def __init__(self, newest: int = 0) -> None:
        self.newest = newest

    def admits(self, token: int) -> bool:
        """Return whether a leader of this term may act, and refuse all older ones from now on."""
        if token < self.newest:
            return False
        self.newest = token
        return True


class LeaseElection(Policy):
    """One member of a group that elects a leader.

    Args:
        config: times.
        members: the whole group, in the order in which everybody knows it.
        watchers: paths of this node that are told who leads (`Leadership`); its term is the fencing token.

    Raises:
        ValueError: a member is named twice, or the lease ends before it can be renewed.
    """

    messages = (AskLease, Grant)

    def __init__(self, config: LeaseConfig, members: tuple[str, ...], watchers: tuple[str, ...] = ()) -> None:
        if len(set(members)) < len(members):
            raise ValueError(f"members={members!r}: a member is named twice; every member votes once")
        if config.renew_s >= config.lease_s * (1 - config.drift):
            raise ValueError(f"renew_s={config.renew_s}: expected < lease_s * (1 - drift)")
        self.config, self.members, self.watchers = config, members, watchers
        self.lease_ns, self.renew_ns = int(config.lease_s * NS_PER_S), int(config.renew_s * NS_PER_S)
        self.held_ns = int(self.lease_ns * (1 - config.drift))
        self.term, self.voted_for = 0, ""  # this member's last vote
        self.newest = 0  # the highest term heard of
        self.bound_until = 0  # before then this member's vote is given
        self.role, self.leader, self.token = "follower", "", 0
        self.asking = self.round = self.asked_at = 0  # the term asked for, the question, and when it was put
        self.granted: set[str] = set()
        self.ballot = 0  # token of this member's vote while it is being written, 0 for none
        self.told = 0  # the term that watchers heard of last

    def on_start(self, saved: Mapping[str, bytes]) -> None:
        if "vote" in saved:
            self.term, self.voted_for = msgspec.msgpack.decode(saved["vote"], type=tuple[int, str])
            self.bound_until = self.port.now + self.lease_ns
        self._wait(self.renew_ns)

    def on_timer(self, name: str) -> None:
        if name == "campaign":
            self._follow("", self.term)
            self._ask(max(self.term, self.newest) + 1)
        elif name == "renew":
            # Above a term that somebody tried in vain, so that whoever voted in it can come back to this leader.
            self._ask(self.term if self.newest <= self.term else self.newest + 1)
        elif name == "give up":
            self._release(self.lease_ns)
        else:
            self._lose()

    def on_durable(self, token: int) -> None:
        # A driver that syncs many batches at once may name only the last; earlier ones are durable with it.
        if not 0 < self.ballot <= token:
            return
        self.ballot = 0
        if self.voted_for == self.port.me:
            self._count(self.port.me)
        else:
            self._follow(self.voted_for, self.term)

    # -- as a candidate and leader -------------------------------------------------------------------

    def _wait(self, spread_ns: int) -> None:
        """Try to lead when this member's vote is free, and a little later at random, so that members do not tie."""
        free = max(0, self.bound_until - self.port.now)
        self.port.set_timer("campaign", free + self.port.rng.below(spread_ns))

    def _ask(self, term: int) -> None:
        """Ask everybody for the lease of a term; it counts from now, before anybody can have granted it."""
        self.asking, self.round, self.asked_at, self.granted = term, self.round + 1, self.port.now, set()
        self._bind(term, self.port.me)
        self.port.set_timer("renew" if self.role == "leader" else "give up", self.renew_ns)
        for peer in self.members:
            if peer != self.port.me:
                self.port.send(peer, AskLease(term, self.round))

    def _count(self, voter: str) -> None:
        self.granted.add(voter)
        if 2 * len(self.granted) <= len(self.members) or self.port.now >= self.asked_at + self.held_ns:
            return
        self.port.set_timer("lease", self.asked_at + self.held_ns - self.port.now)
        if self.role != "leader":
            self.role = "leader"
            self.port.cancel_timer("give up")
            self.port.set_timer("renew", self.renew_ns)
        if self.token != self.asking:
            self.token = self.asking
            self.port.note("lease", term=self.token, held=True)
        self._follow(self.port.me, self.token)

    def _lose(self) -> None:
        """The lease is over: stop leading at once, and give the others a chance."""
        self.port.note("lease", term=self.token, held=False)
        self.role, self.token = "follower", 0
        self.port.cancel_timer("renew")
        self.port.cancel_timer("lease")
        self._follow("", self.term)
        self._release(self.lease_ns)

    def _release(self, spread_ns: int) -> None:
        """Give the round up: late answers to it are ignored, so this member's own vote is free again."""
        self.round += 1
        self.ballot = 0
        self.bound_until = self.port.now
        self._wait(spread_ns)

    # -- as a voter ----------------------------------------------------------------------------------

    def on_message(self, sender: str, message: Any) -> None:
        if sender not in self.members:
            return
        if isinstance(message, AskLease):
            self._on_ask(sender, message)
        elif message.granted and message.round == self.round and message.term == self.asking:
            self._count(sender)
        elif not message.granted:
            # One far ahead is a lie, or has asked in vain for very long, and may be needed: it is followed by steps.
            self.newest = max(self.newest, min(message.term, self.term + JUMP_MAX - 1))

    def _on_ask(self, sender: str, ask: AskLease) -> None:
        """Grant a term once, and none to another while this member's vote is given; the same one may go on.

        None is granted that is so far ahead that terms would be used up.
        """
        renews = sender == self.voted_for and self.term <= ask.term <= self.term + JUMP_MAX
        free = self.term < ask.term <= self.term + JUMP_MAX and self.port.now >= self.bound_until
        if not (renews or free):
            self.port.send(sender, Grant(self.term, ask.round, False))
            return
        if self.role == "leader":  # its own vote was free, so its lease is over
            self._lose()
        self.port.cancel_timer("give up")
        self.round += 1
        self._bind(ask.term, sender)
        self._wait(self.renew_ns)
        self.port.send(sender, Grant(ask.term, ask.round, True))

    def _bind(self, term: int, member: str) -> None:
        """Give this member's vote for the length of a lease from now."""
        self.term, self.voted_for = term, member
        self.ballot = self.port.save("vote", encode((term, member)))
        self.bound_until = self.port.now + self.lease_ns

    def _follow(self, leader: str, term: int) -> None:
        if (leader, term) == (self.leader, self.told):
            return
        self.leader, self.told = leader, term
        for path in self.watchers:
            self.port.tell(path, Leadership(term, leader))
