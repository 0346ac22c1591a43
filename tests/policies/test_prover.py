"""The prover alone in a Cell: every question has its own answer, and what is answered no more is kept no longer."""

from __future__ import annotations

from typing import Any
from unittest.mock import Mock

import msgspec
import pytest

from policies import port as p
from policies.cell import Cell
from policies.checking import Prover
from policies.checking.messages import REASON_CHARS_MAX, Bind, Bound, Draw, Key, Opened, Release, Unable
from policies.checking.prover import ASKED_MAX, KEPT_MAX
from policies.jobs import CommitJob, Job, Lost, OpenJob, ReleaseJob, Stage, Transcript
from policies.port import NS_PER_S
from policies.serving import Worker
from policies.verification import Challenge, belongs
from policies.wire import Message, encode
from policies.work import RESEND_NS, Capability, Leased, NotLeader
from sim.keys import KeyRing
from sim.proofs import Proofs
from tests.policies.small_village import COMMITTEE, LEND, SHAPE, Lender

TOKENS = 40  # of prompts, and of answers: more than one block of positions
_said: Any = msgspec.msgpack.Decoder(Bound | Opened | Unable).decode


class Bench:
    """A prover's Cell whose jobs are done at once.

    Attributes:
        did: the jobs, in order.
    """

    def __init__(self) -> None:
        self.cell = Cell({"prover": Prover(COMMITTEE)}, "w1", COMMITTEE, seed=1, keys=KeyRing(1).handle("w1"))
        self.proofs, self.node = Proofs(1, {SHAPE.name: SHAPE}, {}, {}), Mock()
        self.node.name = "w1"
        self.did: list[Any] = []
        self.cell.step(0, 0, (p.START, "", {}, 0))

    def ask(self, sender: str, message: Message) -> Any:
        """Return what is answered to a member."""
        said, given = [], [(p.MESSAGE, "prover", sender, encode(message))]
        while given:
            for effect in self.cell.step(0, 0, given.pop(0)):
                if effect[0] == p.SUBMIT:
                    job: Any = msgspec.msgpack.decode(effect[3], type=Job)
                    self.did.append(job)
                    given.append((p.JOB, "prover", effect[2], encode(self.proofs.outcome(self.node, job, 0))))
                elif effect[0] == p.SEND:
                    said.append((effect[2], _said(effect[3])))
        (answer,) = said
        assert answer[0] == f"{sender}/examiner"
        return answer[1]


def of(number: int) -> tuple[Key, Bind]:
    """Return a session's name, and the question for this worker's word for it."""
    key = Key("anna", str(number), 1)
    return key, Bind(
        key, Transcript(key.op, "m", Stage("w1", 0, 2), False, "p", "k1", TOKENS, "a", "w1", TOKENS, True)
    )  # fmt: skip


def test_what_was_shown_to_one_member_is_no_answer_to_another_place() -> None:
    """A member that asks out of turn does not make the worker show the leader a false place; who asks again is told."""
    bench, (key, bind) = Bench(), of(1)
    word = bench.ask("k1", bind).commitment
    of_liar, of_leader = Challenge(0, 0), Challenge(1, 1)
    shown = bench.ask("k2", Draw(key, of_liar))
    told = bench.ask("k1", Draw(key, of_leader))

    assert belongs(shown.opening, word, of_liar)
    assert isinstance(told, Unable)
    assert bench.ask("k2", Draw(key, of_liar)) == shown
    assert sum(isinstance(job, OpenJob) for job in bench.did) == 2


def test_the_evidence_for_a_word_that_nobody_releases_goes_in_the_end() -> None:
    """Each word beyond those that are kept lets the oldest one's evidence go, as if it had been released."""
    bench = Bench()
    for number in range(KEPT_MAX + 3):
        bench.ask("k1", of(number)[1])

    assert [job.op for job in bench.did if isinstance(job, ReleaseJob)] == [of(number)[0].op for number in range(3)]
    assert sum(isinstance(job, CommitJob) for job in bench.did) == KEPT_MAX + 3


def test_a_member_that_asks_on_and_on_takes_only_its_own_share() -> None:
    """What one asks beyond its bound is not begun, which is noted; another member is still answered."""
    bench = Bench()
    begun: list[str] = []
    for number in range(ASKED_MAX + 3):
        given = (p.MESSAGE, "prover", "k2", encode(of(number)[1]))
        begun += [str(effect[0] == p.SUBMIT or effect[2]) for effect in bench.cell.step(0, 0, given)]

    assert begun == ["True"] * ASKED_MAX + ["asked_too_much"] * 3
    prover: Any = bench.cell.policy("prover")
    assert len(prover.jobs) == ASKED_MAX
    assert isinstance(bench.ask("k1", of(-1)[1]), Bound)


def test_what_one_member_had_it_commit_to_is_no_word_for_another() -> None:
    """A member that lies about the answer asks first: the leader hears that there is no word, and no false one."""
    bench, (key, bind) = Bench(), of(1)
    lied = bench.ask("k2", Bind(key, msgspec.structs.replace(bind.of, output="b", tokens=TOKENS - 9)))
    assert lied.commitment.positions == 2 * TOKENS - 10
    told = bench.ask("k1", bind)
    assert isinstance(told, Unable), told
    assert (told.asked, told.lacks, told.disowns) == ("bind", "", False)


def test_a_word_is_asked_for_again_wherever_its_blobs_are() -> None:
    """The leader has fetched the answer meanwhile: the word is the same, and is not made again."""
    bench, (key, bind) = Bench(), of(1)
    word = bench.ask("k1", bind)
    assert bench.ask("k1", Bind(key, msgspec.structs.replace(bind.of, source="k1", holder="k1"))) == word
    assert sum(isinstance(job, CommitJob) for job in bench.did) == 1


def test_no_word_for_one_attempt_is_about_another() -> None:
    """A question whose key and transcript differ is not answered: its word would convict whoever gave it."""
    bench, (key, _), (_, other) = Bench(), of(1), of(2)
    given = (p.MESSAGE, "prover", "k2", encode(Bind(key, other.of)))
    assert not [effect for effect in bench.cell.step(0, 0, given) if effect[0] in (p.SUBMIT, p.SEND)]


def test_a_long_reason_is_cut_and_arrives() -> None:
    """What an executor says of its fault, however long, is no reason that the leader hears nothing."""
    bench, (_, bind) = Bench(), of(1)
    bench.proofs.outcome = lambda node, job, now_ns: Lost("x" * 9999)  # type: ignore[method-assign]
    told = bench.ask("k1", bind)
    assert isinstance(told, Unable)
    assert told.reason == "x" * REASON_CHARS_MAX


# -- where members may lie -------------------------------------------------------------------------------------------

FOUR = ("k1", "k2", "k3", "k4")
CAN = Capability(1000.0, 0.01, 0.001, 0.002, 1e6, 0.03)
OUT_OF_TURN = {"bind": of(1)[1], "draw": Draw(of(1)[0], Challenge(0, 0)), "release": Release(of(1)[0])}


class Device:
    """A worker that is lent, and its prover; k1 leads, as k2 has said too, and k4 lies."""

    def __init__(self) -> None:
        worker = Worker(FOUR, CAN, 60.0, liars=True)
        policies = {"harvest": Lender(), "worker": worker, "prover": Prover(FOUR, liars=True)}
        self.cell = Cell(policies, "w1", FOUR, seed=1, keys=KeyRing(1).handle("w1"))
        self.now = 0
        self.feed((p.START, "", {}, 0))
        self.feed((p.REQUEST, "harvest", "", "", encode(LEND)))
        self.hear("k1", Leased())
        self.hear("k2", NotLeader("k1"))

    def feed(self, given: tuple[Any, ...]) -> list[Any]:
        """Return the jobs that are submitted, and to whom it sends."""
        effects = self.cell.step(self.now, 0, given)
        jobs = [msgspec.msgpack.decode(effect[3], type=Job) for effect in effects if effect[0] == p.SUBMIT]
        return jobs + [effect[2] for effect in effects if effect[0] == p.SEND]

    def hear(self, sender: str, message: Message) -> list[Any]:
        return self.feed((p.MESSAGE, "worker", sender, encode(message)))

    def ask(self, sender: str, message: Message) -> list[Any]:
        return self.feed((p.MESSAGE, "prover", sender, encode(message)))


@pytest.mark.parametrize("kind", OUT_OF_TURN)
def test_a_member_that_does_not_lead_neither_binds_nor_draws_nor_releases(kind: str) -> None:
    """Whatever it asks too early nothing is done, before the leader asks and afterwards; the leader's word is given."""
    device, (key, bind) = Device(), of(1)
    others = [f"{member}/coordination" for member in FOUR[:3]]
    assert device.ask("k4", OUT_OF_TURN[kind]) == others  # who leads?
    (commit,) = device.ask("k1", bind)
    assert commit == CommitJob(bind.of)
    assert device.ask("k4", OUT_OF_TURN[kind]) == []  # it has asked just now
    assert device.ask("k1", Draw(key, Challenge(1, 1))) == [OpenJob(key.op, 1, 1)]


def test_who_leads_since_just_now_is_heard_once_another_says_so() -> None:
    """A new leader's first question has the worker ask around; once f others have said so, the next is answered."""
    device, (_, bind) = Device(), of(1)
    device.now += RESEND_NS
    assert device.ask("k3", bind) == ["k1/coordination", "k2/coordination", "k4/coordination"]
    device.hear("k2", NotLeader("k3"))
    device.now += RESEND_NS
    assert device.ask("k3", bind) == [CommitJob(bind.of)]
    assert device.ask("k1", of(2)[1]) == []


def test_a_worker_that_heard_one_word_alone_commits_to_nobody() -> None:
    """While it looks for a leader it takes one member's word for that; its own word it gives to none of them yet."""
    device = Device()
    device.now += 10 * 60 * NS_PER_S  # all that it heard is old
    device.hear("k4", Leased())
    assert all(isinstance(each, str) for each in device.ask("k4", of(1)[1]))
