"""Votes in both worlds: nobody votes twice in a term, whatever is doubled, lost or crashed; so one leader a term."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from policies.config import RaftConfig
from policies.consensus.raft import Raft
from policies.consensus.raft.messages import RequestVote
from policies.consensus.raft.messages import Vote as RaftVote
from policies.election import AskVote, Election, Vote
from policies.port import Policy
from policies.wire import Message

Start = Callable[..., Any]
MEMBERS = ("n0", "n1", "n2")


class Patient(Election):
    """Never campaigns within a test, and counts what it has heard."""

    patience_s = (1000.0, 2000.0)
    heard = 0

    def on_message(self, sender: str, message: Any) -> None:
        super().on_message(sender, message)
        self.heard += 1


class PatientRaft(Raft):
    """Never campaigns within a test, and counts what it has heard."""

    heard = 0

    def __init__(self) -> None:
        super().__init__(RaftConfig(election_min_s=1000.0, election_max_s=2000.0), MEMBERS)

    def on_message(self, sender: str, message: Any) -> None:
        super().on_message(sender, message)
        self.heard += 1


class Hasty(Patient):
    """Answers before its vote is durable: the mistake that the port prevents."""

    def vote(self, term: int, candidate: str) -> None:
        super().vote(term, candidate)
        self.port.send(candidate, Vote(term), early=True)


class Ask(Message, frozen=True, tag="ask"):
    """To a candidate: ask n0 for its vote in this term."""

    term: int


class Candidate(Policy):
    """Asks n0 for votes when told to, and remembers those it got."""

    requests = (Ask,)

    def __init__(self, messages: tuple[type[Message], ...], ballot: Callable[[int], Message]) -> None:
        self.messages = messages  # type: ignore[misc]
        self.ballot = ballot
        self.won: list[int] = []

    def on_request(self, client: str, op_id: str, operation: Ask) -> None:
        self.port.send("n0", self.ballot(operation.term))

    def on_message(self, sender: str, message: Any) -> None:
        if isinstance(message, Vote) or (isinstance(message, RaftVote) and message.granted):
            self.won.append(message.term)


def electorate(voter: type[Policy]) -> Callable[[str], Policy]:
    """Return policies by name: ``voter`` at n0, and two candidates who speak its language."""
    ballot: Callable[[int], Message] = AskVote
    if issubclass(voter, Raft):

        def ballot(term: int) -> Message:
            return RequestVote(term, 0, 0)

    return lambda name: voter() if name == "n0" else Candidate(voter.messages, ballot)


def ask(village: Any, candidate: str, term: int) -> None:
    """Have a candidate ask, and wait until n0 has heard it."""
    voter = village.cell("n0").policy("")
    heard = voter.heard
    village.request(candidate, f"{candidate}-{term}-{heard}", Ask(term))
    village.until(lambda: voter.heard > heard)


@pytest.mark.parametrize("voter", [Patient, PatientRaft])
@pytest.mark.parametrize("torn", [0.0, 0.5, 1.0])
def test_duplicate_request_before_fsync_then_crash(start: Start, voter: type[Policy], torn: float) -> None:
    """Asked twice while its disk hangs, then crashed, a node has given no vote, or the one that it kept."""
    village = start(electorate(voter))
    first, second = village.cell("n1").policy(""), village.cell("n2").policy("")
    village.hold_disk("n0")
    ask(village, "n1", 5)
    ask(village, "n1", 5)
    assert first.won == []

    village.crash("n0", torn)
    village.restart("n0")
    ask(village, "n2", 5)
    ask(village, "n1", 5)
    village.until(lambda: bool(first.won or second.won))
    ask(village, "n2", 6)  # a later term is free again; its answer comes behind all others
    village.until(lambda: 6 in second.won)

    assert (5 in first.won) != (5 in second.won)
    if torn in (0.0, 1.0):  # in between it depends on where the tear is
        assert (5 in first.won) == (torn == 1.0)


@pytest.mark.parametrize("voter", [Patient, PatientRaft])
def test_an_answered_vote_survives(start: Start, voter: type[Policy]) -> None:
    """After a crash a node refuses another candidate of the term and answers the same one again."""
    village = start(electorate(voter))
    first, second = village.cell("n1").policy(""), village.cell("n2").policy("")
    ask(village, "n1", 5)
    village.until(lambda: first.won == [5])
    village.crash("n0")
    village.restart("n0")
    ask(village, "n2", 5)
    ask(village, "n1", 5)
    village.until(lambda: first.won == [5, 5])
    ask(village, "n2", 6)
    village.until(lambda: bool(second.won))

    assert second.won == [6]


def test_the_check_can_fail(start: Start) -> None:
    """A voter that answers early does vote twice: these tests would see it."""
    village = start(electorate(Hasty))
    village.hold_disk("n0")
    ask(village, "n1", 5)
    village.until(lambda: village.cell("n1").policy("").won == [5])
    village.crash("n0")
    village.restart("n0")
    ask(village, "n2", 5)
    village.until(lambda: 5 in village.cell("n2").policy("").won)


class Quick(Election):
    """Campaigns soon, so that real time is short, yet later than a loaded machine holds a process back."""

    beat_s = 0.03
    patience_s = (0.15, 0.3)


class QuickRaft(Raft):
    """Campaigns soon, so that real time is short, yet later than a loaded machine holds a process back."""

    def __init__(self) -> None:
        super().__init__(RaftConfig(heartbeat_s=0.05, election_min_s=0.5, election_max_s=1.0), MEMBERS)


@pytest.mark.parametrize("policy", [Quick, QuickRaft])
def test_one_leader_a_term(start: Start, policy: type[Policy]) -> None:
    """Through duplicates, loss, a crash, a partition and their end, leaders follow one another in different terms."""
    village = start(lambda name: policy())

    def leaders() -> list[tuple[int, str]]:
        found = [(value[1], n) for n in MEMBERS for kind, value in village.decisions(n) if kind == "leader"]
        return sorted(found)

    village.faults(loss=0.1, duplicate=1.0)
    village.until(lambda: len(leaders()) >= 1)
    village.faults(duplicate=1.0)
    old = leaders()[-1]
    village.crash(old[1], 0.5)
    village.until(lambda: leaders()[-1] > old)
    village.restart(old[1])
    old = leaders()[-1]
    village.partition([old[1]])
    village.until(lambda: leaders()[-1] > old and leaders()[-1][1] != old[1])
    village.heal()
    healed = leaders()[-1][0]
    village.until(lambda: all(_term(village, name) >= healed for name in MEMBERS))

    terms = [term for term, _ in leaders()]
    assert len(terms) == len(set(terms)) >= 3


def _term(village: Any, name: str) -> int:
    policy: Any = village.cell(name).policy("")
    return int(policy.term)


def test_a_lone_node_leads_itself(start: Start) -> None:
    """One of one is a majority."""
    village = start(lambda name: Quick(), 1)
    village.until(lambda: bool(village.decisions("n0")))

    assert village.decisions("n0") == [("leader", ["lead", 1])]


def test_saved_votes_are_read_back(start: Start) -> None:
    """A restarted node is in the term, and with the vote, that it saved."""

    def saved(village: Any) -> Mapping[str, Any]:
        policy = village.cell("n0").policy("")
        return {"term": policy.term, "voted_for": policy.voted_for}

    village = start(electorate(Patient))
    ask(village, "n1", 9)
    village.until(lambda: village.cell("n1").policy("").won == [9])
    village.crash("n0")
    village.restart("n0")

    assert saved(village) == {"term": 9, "voted_for": "n1"}
