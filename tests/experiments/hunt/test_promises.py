"""Each promise that an arena of agreement asks is seen broken, by a policy that breaks it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from experiments.hunt.arena import Play
from experiments.hunt.arenas import arena, raft
from experiments.hunt.swarm import draw
from policies import consensus
from policies.consensus import Raft, quorum
from policies.consensus.hotstuff import node
from policies.consensus.hotstuff.certificates import Votes
from policies.consensus.hotstuff.messages import Certificate, Vote
from policies.consensus.hotstuff.pacemaker import Pacemaker
from policies.consensus.hotstuff.safety import Safety
from policies.local import Propose
from policies.port import NS_PER_S
from scenarios.defects.raft import CutsOnEveryAppend
from tests.mutants.raft_logs import GoesBackWithTheLeader


class WritesOtherEntries(Raft):
    """One member keeps other commands than it was sent."""

    def _accept(self, prev: int, entries: tuple[tuple[int, bytes], ...]) -> None:
        odd = self.port.me == "n1"
        super()._accept(prev, tuple((term, b"other") for term, _ in entries) if odd else entries)


class Invents(Raft):
    """A member proposes more than it is asked for."""

    def on_local(self, sender: str, message: Any) -> None:
        super().on_local(sender, message)
        if isinstance(message, Propose):
            super().on_local(sender, Propose(b"invented"))


class Hasty(Raft):
    """Leaders say five times as often as they should that they are there."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.heartbeat_ns //= 5


class KeepsEveryVote(Votes):
    """A member keeps every vote it heard, and not each member's newest."""

    def add(self, voter: str, vote: Vote, members: tuple[str, ...]) -> Certificate | None:
        self.latest[f"{voter} in {vote.view}"] = vote
        return super().add(voter, vote, members)


def is_patient(pace: Pacemaker, *given: Any, deadline: Any = Pacemaker.deadline) -> int:
    """Give a leader five seconds more than a time-out."""
    return int(deadline(pace, *given)) + 5 * NS_PER_S


class CampaignsForEver(Raft):
    """One member hears nobody, and its term grows and grows."""

    def on_message(self, sender: str, message: Any) -> None:
        if self.port.me != "n1":
            super().on_message(sender, message)

    def _on_election_timeout(self) -> None:
        if self.port.me == "n1":
            self._campaign()
        else:
            super()._on_election_timeout()


def the_most(match: Iterable[int]) -> int:
    """Take what one member holds for what a majority does."""
    return max(match)


CASES: dict[str, tuple[str, int, tuple[tuple[Any, str, Any], ...]]] = {
    "logs_match": ("raft", 1, ((raft, "Raft", WritesOtherEntries),)),
    "committed_is_durable": ("raft", 1, ((quorum, "quorum_index", the_most),)),
    "state_in_order": ("raft", 2, ((raft, "Raft", GoesBackWithTheLeader),)),
    "only_what_was_asked_for": ("raft", 1, ((raft, "Raft", Invents),)),
    "everybody_catches_up": ("raft", 2, ((raft, "Raft", CutsOnEveryAppend),)),
    "views_converge": ("raft", 1, ((raft, "Raft", CampaignsForEver),)),
    "views_converge in the registry": ("registry", 3, ((consensus, "Raft", CampaignsForEver),)),
    "messages_per_decision": ("raft", 1, ((raft, "Raft", Hasty),)),
    "memory_is_bounded": ("hotstuff", 1, ((node, "Votes", KeepsEveryVote),)),
    "asked_in_calm_is_chosen": ("hotstuff", 8, ((Pacemaker, "deadline", is_patient),)),
    "decides_within_views": (
        "hotstuff", 1, ((Safety, "may_vote", lambda *_: False), (Pacemaker, "lengthen", lambda self: None)),
    ),
}  # fmt: skip
"""Promise to an arena, a seed, and what is replaced."""


@pytest.mark.parametrize("name", CASES)
def test_a_promise_is_kept_and_seen_broken(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The correct policy breaks nothing at that seed; with the bug the promise is among the broken ones."""
    at, seed, patches = CASES[name]
    place: Any = arena(at)
    trial = draw(place, place.shape, seed)
    right = Play(place, trial)
    assert right.go().check == ""
    for patch in patches:
        monkeypatch.setattr(*patch)

    wrong = Play(place, trial)
    wrong.go()

    assert name.split()[0] in {check.name for check in wrong.checks.all if check.broken}
