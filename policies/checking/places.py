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
        before: the neighbour that has committed to give what this stage has committed to have taken; "" if none has.
    """

    stage: Stage
    commitment: Commitment
    challenge: Challenge
    drawn: bytes
    drawn_ns: int
    before: str = ""
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


Need = tuple[str, str]
"""What somebody lacks: a blob's name, after the stage that took it, or "" for a prompt or an answer. A stage may name
any blob as what it took; what is found out of that must touch no other stage's."""


@dataclass
class Missing:
    """A blob that somebody lacks (`policies.checking.fetching`).

    Attributes:
        blob: its name.
        owner: who should hand it out.
        came: whether it is what ``owner`` took, as a stage.
        other: who has it as well, or "".
        holder, name: who is tried, and under which name it is to be had there.
        since_ns: when that began.
        job: the job that fetches it; 0 while ``other`` has not said its name.
        slow: the owner sent it, but not in time.
        withheld: nobody hands it out.
    """

    blob: str
    owner: str
    came: bool = False
    other: str = ""
    holder: str = ""
    name: str = ""
    since_ns: int = 0
    job: int = 0
    slow: bool = False
    withheld: bool = False

    @property
    def need(self) -> Need:
        """What it is."""
        return (self.owner if self.came else "", self.blob)

    def waits_for(self, node: str) -> bool:
        """Whether a neighbour is asked for its name."""
        return bool(node) and self.holder == self.other == node and not self.job and not self.withheld


@dataclass
class Check:
    """One attempt.

    Attributes:
        asked_ns: when its workers were first asked to commit.
        bound: node to its word.
        pledge: what was proposed, once it was.
        places: node to its place, of those that were drawn.
        missing: what somebody lacks.
        found: what was missing, to the name and the node by which it is to be had.
    """

    answered: Answered
    asked_ns: int
    bound: dict[str, Bound] = field(default_factory=dict)
    pledge: Pledge | None = None
    proposed_ns: int = 0
    places: dict[str, Place] = field(default_factory=dict)
    missing: dict[Need, Missing] = field(default_factory=dict)
    found: dict[Need, tuple[str, str]] = field(default_factory=dict)

    @property
    def key(self) -> Key:
        """Its name."""
        return Key(self.answered.client, self.answered.op_id, self.answered.attempt)

    def transcript(self, stage: Stage) -> Transcript:
        """Return what a stage is asked about."""
        a = self.answered
        _, source = self.found.get(("", a.prompt), ("", a.source))
        _, holder = self.found.get(("", a.output), ("", a.stages[0].node))
        return Transcript(
            self.key.op, a.model, stage, stage == a.stages[-1], a.prompt, source, a.prompt_tokens, a.output, holder,
            a.tokens, a.greedy,
        )  # fmt: skip

    def came(self, place: Place) -> tuple[str, str]:
        """Return the name of what a stage took, and from whom it is to be had."""
        assert place.opened is not None
        node, blob = place.stage.node, place.opened.came
        return self.found.get((node, blob), (blob, node if blob else ""))

    def lacks(self, blob: str, place: Place | None) -> Missing | None:
        """Return who should hand out what is lacked, of the check or of one place; None if it is nothing of theirs."""
        if place is not None and place.opened is not None and blob == place.opened.came:
            return Missing(blob, place.stage.node, True, place.before)
        if blob == self.answered.output:
            return Missing(blob, self.answered.stages[0].node)
        return Missing(blob, self.answered.source) if blob == self.answered.prompt else None

    def tokens_of(self, blob: str) -> int:
        """Return how many tokens the prompt or the answer has: by these names, the request's and the head's word."""
        return self.answered.tokens if blob == self.answered.output else self.answered.prompt_tokens

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


def neighbours(pledge: Pledge) -> list[tuple[str, str, bool]]:
    """Return the pairs (upstream, downstream) of which both are bound, and whether they committed to the same."""
    pairs = zip(pledge.stages, pledge.stages[1:], pledge.commitments, pledge.commitments[1:], strict=False)
    return [
        (left.node, right.node, follows(one, other))
        for left, right, one, other in pairs
        if left.last == right.first
    ]  # fmt: skip
