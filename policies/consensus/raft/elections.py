"""Who leads: elections, and what keeps them rare. Safety is one vote a term and the comparison of logs; the rest is for
liveness.

- A member that misses its leader first asks whether it would be elected, in a term that it does not begin (PreVote,
  Ongaro's dissertation, section 9.6), so that one who was cut off does not return with a higher term.
- While a member hears a leader, it takes no notice of who asks for votes; and a leader that has not heard a quorum
  within an election time-out steps down (CheckQuorum, section 6.2), so that it does not keep others from electing one.
- A leader may ask a member to campaign at once (section 3.10); such a ballot is marked, and heard in any case.
"""

from __future__ import annotations

from policies.config import RaftConfig
from policies.consensus.messages import Elected
from policies.consensus.quorum import vote_result
from policies.consensus.raft.messages import PreVote, RequestPreVote, RequestVote, TimeoutNow, Vote
from policies.consensus.raft.state import State
from policies.port import NS_PER_S


class Elections(State):
    """A member that votes and campaigns; what it does as a leader is `policies.consensus.raft.leading`'s.

    Attributes:
        votes: voter to its answer, while it campaigns or asks whether it should.
        ballot: token of the save that makes its vote for itself durable, which counts from then on.
        drawn_for: the term that ``election_ns``, its time-out, was drawn for.
        lease_ns: for how long a leader that spoke is taken to live; 0 without CheckQuorum.
        heard_ns: when the leader last spoke; kept with CheckQuorum only.
    """

    def __init__(
        self, config: RaftConfig, members: tuple[str, ...], applier: str = "", watchers: tuple[str, ...] = ()
    ) -> None:
        super().__init__(config, members, applier, watchers)
        self.votes: dict[str, bool] = {}
        self.ballot = 0
        self.drawn_for, self.election_ns = -1, 0
        self.lease_ns = int(config.election_min_s * NS_PER_S) if config.check_quorum else 0
        self.heard_ns = 0

    # -- what leading adds -----------------------------------------------------------------------------------------

    def _begin_leading(self) -> None:
        """It was elected."""

    def _end_leading(self) -> None:
        """It leads no more."""

    # -- the rules that keep elections safe ------------------------------------------------------------------------

    def _up_to_date(self, last_term: int, last_index: int) -> bool:
        """Whether a candidate's log is at least as complete as the own one (section 5.4.1 of the Raft paper)."""
        return (last_term, last_index) >= (self.log.last_term, self.log.last)

    def _may_vote(self, candidate: str) -> bool:
        """Whether the vote of this term is still free, or is ``candidate``'s already (section 5.2)."""
        return self.voted_for in ("", candidate)

    def _result(self, votes: dict[str, bool]) -> str:
        """Whether these answers elect: ``won``, ``lost`` or ``pending``."""
        return vote_result(self.configurations.current.voters, votes)

    # -- time ------------------------------------------------------------------------------------------------------

    def _arm_election(self) -> None:
        if self.drawn_for != self.term:  # one time-out a term, as in etcd: a draw for every heartbeat buys nothing
            self.drawn_for = self.term
            low, high = self.config.election_min_s, self.config.election_max_s
            self.election_ns = int(self.port.rng.uniform(low, high) * NS_PER_S)
        self.port.set_timer("election", self.election_ns)

    def _hears_leader(self) -> bool:
        """Whether a leader lives, as far as this member can tell: then it takes no notice of who asks for votes."""
        if not self.lease_ns or not self.leader:
            return False
        if self.role == "leader":
            return True  # it would have stepped down
        return self.port.now - self.heard_ns < self.lease_ns

    def _on_election_timeout(self) -> None:
        if not self.voting:
            self._follow("")  # a learner waits to be found
        elif self.config.pre_vote:
            self._ask_first()
        else:
            self._campaign()

    # -- campaigning -----------------------------------------------------------------------------------------------

    def _ask_first(self) -> None:
        self.role, self.votes = "precandidate", {self.port.me: True}
        self._follow("")
        self._arm_election()
        self._ask(RequestPreVote(self.term + 1, self.log.last, self.log.last_term))

    def _campaign(self, forced: bool = False) -> None:
        self.term += 1
        self.role, self.voted_for, self.votes = "candidate", self.port.me, {}
        self._follow("")
        self.ballot = self._save_meta()
        self._arm_election()
        self._ask(RequestVote(self.term, self.log.last, self.log.last_term, forced))

    def _ask(self, ballot: RequestVote | RequestPreVote) -> None:
        voters = self.configurations.current.voters
        for peer in self.others:
            if peer in voters.incoming or peer in voters.outgoing:
                self.port.send(peer, ballot)
        self._count_votes()

    def _vote_durable(self) -> None:
        """Count the own vote, as etcd-io/raft does: sooner an only voter would lead a term that a crash undoes."""
        self.votes.setdefault(self.port.me, True)
        self._count_votes()

    def _count_votes(self) -> None:
        result = self._result(self.votes)
        if result == "lost":
            self.role = "follower"
        elif result == "won" and self.role == "precandidate":
            self._campaign()
        elif result == "won":
            self._lead()

    def _lead(self) -> None:
        self.role = "leader"
        self.port.cancel_timer("election")
        self.port.decide("leader", Elected(self.term))
        self._follow(self.port.me)
        self._begin_leading()

    def _step_down(self, term: int) -> None:
        """Follow in ``term``, which is this one or a later."""
        led = self.role == "leader"
        self.role = "follower"
        if term > self.term:
            self.term, self.voted_for = term, ""
            self._save_meta()
        if led:
            self._arm_election()
            self._end_leading()
        self._follow("")

    # -- messages --------------------------------------------------------------------------------------------------

    def _on_request_vote(self, sender: str, ask: RequestVote) -> None:
        granted = ask.term == self.term and self._may_vote(sender) and self._up_to_date(ask.last_term, ask.last_index)
        if granted:
            self.voted_for = sender
            self._save_meta()
            self._arm_election()
        self.port.send(sender, Vote(self.term, granted))

    def _on_vote(self, sender: str, vote: Vote) -> None:
        if vote.term == self.term and self.role == "candidate":
            self.votes.setdefault(sender, vote.granted)
            self._count_votes()

    def _on_request_pre_vote(self, sender: str, ask: RequestPreVote) -> None:
        """Answer whether it would vote so, and change nothing: no vote is given, no term begun, no time-out put off."""
        free = ask.term > self.term or (ask.term == self.term and self._may_vote(sender) and not self.leader)
        granted = free and self._up_to_date(ask.last_term, ask.last_index)
        self.port.send(sender, PreVote(ask.term if granted else self.term, granted))

    def _on_pre_vote(self, sender: str, answer: PreVote) -> None:
        if self.role == "precandidate" and (not answer.granted or answer.term == self.term + 1):
            self.votes.setdefault(sender, answer.granted)
            self._count_votes()

    def _on_timeout_now(self, sender: str, ask: TimeoutNow) -> None:
        if ask.term == self.term and sender == self.leader and self.voting:
            self._campaign(forced=True)
