"""A worker's side of checks: it commits to what it did, shows what is drawn, and computes others' places again.

Whatever is asked again is answered with the answer that was given. What is kept is soft: a restart or an owner who
comes back loses it, and the worker says so; it is no crime to be taken back.

Where members may lie, it hears the leader alone, whom f + 1 of them bear out (`policies.serving.words`): a liar that
asked first for a word about something else, or let a place be drawn or the evidence go, would have an honest worker
answer for that. An examiner asks again and again, so that one who leads since just now is heard a little later.
"""

from __future__ import annotations

from typing import Any

import msgspec

from policies.checking.messages import (
    REASON_CHARS_MAX,
    Bind,
    Bound,
    Draw,
    Found,
    Hand,
    Handed,
    Key,
    Opened,
    Recheck,
    Release,
    Unable,
)
from policies.jobs import (
    CommitJob,
    Disowned,
    Done,
    HandJob,
    Job,
    Lacking,
    OpenJob,
    Progress,
    RecheckJob,
    ReleaseJob,
    Shown,
    Transcript,
)
from policies.local import Led, Lend, Speaks
from policies.port import Policy
from policies.verification import Challenge, Commitment, Opening, Verdict
from policies.wire import MALFORMED, Message, encode

KEPT_MAX = 256
"""Answers kept to be given again (our choice; far more than a worker has sessions at once)."""
ASKED_MAX = 128
"""Jobs that one member may have asked for at once (our choice, twice a worker's sessions): one that lies and asks on
takes neither memory without end nor the place of the one that leads."""

Asked = Bind | Draw | Hand | Recheck
Name = tuple[str, str, Key, Challenge | None, str | Transcript]
"""Kind of question, whose place, of which attempt, which place, and who holds what it takes, or what is to be committed
to: an answer to another one would be a false opening, or a false word, and any member may ask."""

_commitment = msgspec.msgpack.Decoder(Commitment).decode
_shown = msgspec.msgpack.Decoder(Shown).decode
_opening = msgspec.msgpack.Decoder(Opening).decode
_verdict = msgspec.msgpack.Decoder(Verdict).decode


class Prover(Policy):
    """One device's prover.

    Args:
        committee: who may ask.
        liars: whether it is one that bears members that lie; if not, each is believed.
    """

    messages = (Bind, Draw, Hand, Release, Recheck)

    def __init__(self, committee: tuple[str, ...], *, liars: bool = False) -> None:
        self.committee, self.liars = committee, liars
        self.asked: list[tuple[str, Asked | Release]] = []  # while the worker is asked who leads: within a step
        self.jobs: dict[int, tuple[str, Asked]] = {}  # by number, with who asked
        self.answers: dict[Name, Message] = {}

    def on_local(self, sender: str, message: Any) -> None:
        """The worker says who leads, or that its owner has the device back, and nothing is kept any more."""
        if isinstance(message, Led):
            member, asked = self.asked.pop(0)
            if member == message.leader:
                self._hear(member, asked)
            return
        if not isinstance(message, Lend) or message.on:
            return
        for job_id in self.jobs:
            self.port.cancel(job_id)
        for name in self.answers:
            self._let_go(name)
        self.jobs.clear()
        self.answers.clear()

    def on_message(self, sender: str, message: Any) -> None:
        if sender not in self.committee:
            return
        if self.liars:
            self.asked.append((sender, message))
            self.port.tell("worker", Speaks(sender))
        else:
            self._hear(sender, message)

    def _hear(self, sender: str, message: Asked | Release) -> None:
        if isinstance(message, Release):
            for word in [each for each in self.answers if each[0] == "bind" and each[2] == message.key]:
                del self.answers[word]
                self._let_go(word)
            return
        if isinstance(message, Bind | Recheck) and message.of.op != message.key.op:
            return  # the word for one attempt would be about another
        name = _name(message)
        if (answer := self.answers.get(name)) is not None:
            self.port.send(f"{sender}/examiner", answer)
        elif not any(_name(asked) == name for _, asked in self.jobs.values()):
            if sum(by == sender for by, _ in self.jobs.values()) >= ASKED_MAX:
                self.port.note("asked_too_much", member=sender)
                return
            self.jobs[self.port.submit(_job(message))] = (sender, message)

    def on_job(self, job_id: int, outcome: Any) -> None:
        if isinstance(outcome, Progress) or job_id not in self.jobs:
            return
        sender, asked = self.jobs.pop(job_id)
        answer = self._answer(asked, outcome)
        if not isinstance(answer, Unable):  # which may pass: asked again, it is tried again
            self.answers[_name(asked)] = answer
            if len(self.answers) > KEPT_MAX:
                oldest = next(iter(self.answers))
                del self.answers[oldest]
                self._let_go(oldest)  # nobody has released it: the word was lost, or another leads
        self.port.send(f"{sender}/examiner", answer)

    def _answer(self, asked: Asked, outcome: Any) -> Message:
        reason = "" if isinstance(outcome, Done) else outcome.reason or "lost"
        try:
            if isinstance(outcome, Done) and isinstance(asked, Bind):
                commitment = _commitment(outcome.result)
                return Bound(asked.key, commitment, self.port.keys.sign(encode(commitment)))
            if isinstance(outcome, Done) and isinstance(asked, Draw):
                shown = _shown(outcome.result)
                return Opened(asked.key, _opening(shown.opening), shown.came)
            if isinstance(outcome, Done) and isinstance(asked, Hand):
                return Handed(asked.key, outcome.output)
            if isinstance(outcome, Done) and isinstance(asked, Recheck):
                return Found(asked.key, asked.of.stage.node, _verdict(outcome.result))
        except MALFORMED as error:
            reason = str(error)
        kind, node, *_ = _name(asked)
        lacks = outcome.blob if isinstance(outcome, Lacking) else ""
        reason = reason[:REASON_CHARS_MAX]
        return Unable(asked.key, kind, reason, node, lacks, isinstance(outcome, Disowned))  # type: ignore[arg-type]

    def _let_go(self, name: Name) -> None:
        """An answer is given no more: if it was a word, the evidence for it goes as well."""
        kind, _, key, *_ = name
        if kind == "bind":
            self.port.submit(ReleaseJob(key.op))


def _name(asked: Asked) -> Name:
    if isinstance(asked, Recheck):
        return "recheck", asked.of.stage.node, asked.key, asked.challenge, asked.holder
    if isinstance(asked, Draw):
        return "draw", "", asked.key, asked.challenge, ""
    if isinstance(asked, Hand):
        return "hand", "", asked.key, None, ""
    # Whoever holds the answer: a word that was begun where it cannot be had is asked for again where it can.
    return "bind", "", asked.key, None, asked.of.wherever()


def _job(asked: Asked) -> Job:
    if isinstance(asked, Bind):
        return CommitJob(asked.of)
    if isinstance(asked, Draw):
        return OpenJob(asked.key.op, asked.challenge.block, asked.challenge.layer)
    if isinstance(asked, Hand):
        return HandJob(asked.key.op)
    at, opening = asked.challenge, encode(asked.opening)
    return RecheckJob(asked.of, encode(asked.commitment), at.block, at.layer, opening, asked.came, asked.holder)
