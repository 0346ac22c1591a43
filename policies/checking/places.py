"""What is known of one attempt while its work is checked: who is bound, what was drawn, and what others say of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from policies.checking.messages import Bound, Key, Opened
from policies.commands import Pledge
from policies.jobs import Stage, Transcript
from policies.local import Answered
from policies.verification import Challenge, Commitment, follows


@dataclass
class Place:
    """One stage's place that was drawn.

    Attributes:
        drawn: its lot, of which nobody but the leader knew before; who computes it again follows from it too.
        drawn_ns: when it fell.
        opened: what the worker showed, once it has.
        asked, asked_ns, sent_ns: the worker that computes it again; since when, and when it was last told so.
        tried: workers that were asked.
        words: worker to its verdict.
    """

    stage: Stage
    commitment: Commitment
    challenge: Challenge
    drawn: bytes
    drawn_ns: int
    opened: Opened | None = None
    asked: str = ""
    asked_ns: int = 0
    sent_ns: int = 0
    tried: list[str] = field(default_factory=list)
    words: dict[str, str] = field(default_factory=dict)

    def settled(self) -> str:
        """Return the word that stands: ``honest`` if nobody objects, else what two agree on; "" while none does."""
        false = [word for word in self.words.values() if word != "honest"]
        honest = len(self.words) - len(false)
        if len(false) >= 2:
            return false[0]
        return "honest" if honest >= 2 or (honest and not false) else ""

    def contradicted(self, word: str) -> list[str]:
        """Return the workers whose verdict two others do not share."""
        return [node for node, said in self.words.items() if (said == "honest") != (word == "honest")]


@dataclass
class Check:
    """One attempt.

    Attributes:
        asked_ns: when its workers were first asked to commit.
        bound: node to its word.
        pledge: what was proposed, once it was.
        places: node to its place, of those that were drawn.
    """

    answered: Answered
    asked_ns: int
    bound: dict[str, Bound] = field(default_factory=dict)
    pledge: Pledge | None = None
    proposed_ns: int = 0
    places: dict[str, Place] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        """Its name."""
        return Key(self.answered.client, self.answered.op_id, self.answered.attempt)

    def transcript(self, stage: Stage) -> Transcript:
        """Return what a stage is asked about."""
        a = self.answered
        return Transcript(
            self.key.op, a.model, stage, stage == a.stages[-1], a.prompt, a.source, a.prompt_tokens, a.output,
            a.stages[0].node, a.tokens, a.greedy,
        )  # fmt: skip

    def stage(self, node: str) -> Stage | None:
        """Return a node's stage, or None if it has none."""
        return next((stage for stage in self.answered.stages if stage.node == node), None)

    def fits(self, stage: Stage, c: Commitment) -> bool:
        """Whether a commitment is about this session and stage."""
        a = self.answered
        begin = a.prompt_tokens - 1 if stage == a.stages[-1] else 0
        return (c.session, c.first, c.last, c.positions, c.output_from) == (
            self.key.op, stage.first, stage.last, a.prompt_tokens + a.tokens - 1, begin,
        )  # fmt: skip

    def propose(self, now_ns: int) -> Pledge:
        """Return what shall stand in the log: the words of all that gave theirs, in the order of the pipeline."""
        stages = tuple(stage for stage in self.answered.stages if stage.node in self.bound)
        words = [self.bound[stage.node] for stage in stages]
        commitments, signatures = tuple(w.commitment for w in words), tuple(w.signature for w in words)
        a = self.answered
        self.pledge = Pledge(a.client, a.op_id, a.attempt, stages, commitments, signatures)
        self.proposed_ns = now_ns
        return self.pledge


def apart(pledge: Pledge) -> set[str]:
    """Return the nodes that did not commit to the same as a neighbour of theirs did."""
    pairs = zip(pledge.stages, pledge.stages[1:], pledge.commitments, pledge.commitments[1:], strict=False)
    return {
        stage.node
        for left, right, one, other in pairs
        if left.last == right.first and not follows(one, other)
        for stage in (left, right)
    }
