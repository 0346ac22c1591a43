"""The worker alone in a Cell: leases, shards, sessions, and reports until heard."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies import port as p
from policies.cell import Cell
from policies.commands import Receipt
from policies.jobs import (
    EXPIRED,
    AdmitJob,
    CoverJob,
    Done,
    ExpectJob,
    LoadJob,
    Lost,
    PreparedJob,
    Progress,
    SessionJob,
    Stage,
    Standby,
)
from policies.local import Lend
from policies.port import NS_PER_S
from policies.serving import Worker
from policies.wire import encode
from policies.work import (
    RESEND_NS,
    Assign,
    AssignPrepared,
    Began,
    Capability,
    Cover,
    Emitted,
    Expect,
    Keep,
    Leased,
    Leave,
    Load,
    NotLeader,
    Renew,
    Report,
    Settled,
)
from sim.keys import KeyRing
from tests.policies.small_village import LEND, Lender

COMMITTEE = ("k1", "k2", "k3")
FULL = Capability(1000.0, 0.01, 0.001, 0.002, 1e6, 0.03)
STAGES = (Stage("w", 0, 2), Stage("v", 2, 4))
ASSIGN = Assign("anna", "1", 1, "m", STAGES, "p", "k1", 8, 4, 64)
TAKEN = Lend(False, 0.0, 0.0, "owner is back")
_said: Any = msgspec.msgpack.Decoder(Renew | Leave | Began | Emitted | Report).decode
_job: Any = msgspec.msgpack.Decoder(SessionJob | PreparedJob | CoverJob | LoadJob | AdmitJob | ExpectJob).decode


class Bench:
    """A worker's Cell with a lender; k1 leads."""

    def __init__(self, committee: tuple[str, ...] = COMMITTEE, *, liars: bool = False) -> None:
        self.worker = Worker(committee, FULL, 60.0, liars=liars)
        policies = {"harvest": Lender(), "worker": self.worker}
        self.cell = Cell(policies, "w", committee, seed=1, keys=KeyRing(1).handle("w"))
        self.now = 0
        self.timers: dict[str, tuple[int, int]] = {}
        self.jobs: dict[int, Any] = {}
        self.believed: list[AdmitJob | ExpectJob] = []
        self.feed((p.START, "", {}, 0))
        self.worker.leader = "k1"

    def feed(self, given: tuple[Any, ...]) -> list[tuple[str, Any]]:
        """Feed one input and return (to, message) of what was sent."""
        said = []
        for effect in self.cell.step(self.now, 0, given):
            if effect[0] == p.SEND:
                said.append((effect[2].removesuffix("/coordination"), _said(effect[3])))
            elif effect[0] == p.SET_TIMER:
                self.timers[effect[2]] = (effect[3], effect[4])
            elif effect[0] == p.CANCEL_TIMER:
                self.timers.pop(effect[2])
            elif effect[0] == p.SUBMIT:
                job = _job(effect[3])
                if isinstance(job, AdmitJob | ExpectJob):
                    self.believed.append(job)
                else:
                    self.jobs[effect[2]] = job
            elif effect[0] == p.CANCEL:
                del self.jobs[effect[2]]
        return said

    def lend(self, lend: Lend = LEND) -> list[tuple[str, Any]]:
        """Harvest speaks."""
        return self.feed((p.REQUEST, "harvest", "", "", encode(lend)))

    def hear(self, message: Any, sender: str = "k1") -> list[tuple[str, Any]]:
        """A committee member speaks."""
        return self.feed((p.MESSAGE, "worker", sender, encode(message)))

    def fire(self, timer: str) -> list[tuple[str, Any]]:
        """Let time pass until a timer fires."""
        self.now, generation = self.timers.pop(timer)
        return self.feed((p.TIMER, "worker", timer, generation))

    def end(self, job_id: int, outcome: Any) -> list[tuple[str, Any]]:
        """A job reports."""
        return self.feed((p.JOB, "worker", job_id, encode(outcome)))

    def loaded(self) -> Bench:
        """Lend the device and load its shard for pipeline 5."""
        self.lend()
        self.hear(Load(5, "m", 0, 2))
        (job_id,) = self.jobs
        self.end(job_id, Done("", 0, 0))
        self.jobs.clear()
        return self


# -- leases ------------------------------------------------------------------------------------------


def test_a_lent_device_renews_twice_a_lease_with_what_it_lends() -> None:
    """At once, then every half lease; seconds grow as the share of compute shrinks."""
    bench = Bench()
    half = Lend(True, 0.5, 0.25, "idle")

    assert bench.lend(half) == [("k1", Renew(Capability(250.0, 0.02, 0.002, 0.004, 1e6, 0.03), 0))]
    bench.hear(Leased())
    assert bench.timers["renew"][0] == 30 * NS_PER_S
    assert bench.fire("renew")[0][0] == "k1"


def test_a_device_that_is_not_lent_says_nothing() -> None:
    """Not before, and after it was taken only goodbye."""
    bench = Bench()
    assert bench.lend(TAKEN) == []

    bench.lend()
    assert bench.lend(TAKEN) == [("k1", Leave("owner is back"))]
    assert "renew" not in bench.timers


def test_a_silent_leader_is_left_for_the_next_member_after_one_renewal() -> None:
    """One unanswered renewal, then each further member gets as long, round and round."""
    bench = Bench()
    bench.lend()
    bench.hear(Leased())

    asked = [bench.fire("renew")[0][0] for _ in range(5)]
    assert asked == ["k1", "k2", "k3", "k1", "k2"]
    assert bench.now == 5 * 30 * NS_PER_S


def test_a_redirect_is_followed_at_once_and_a_shrug_after_a_while() -> None:
    """With a known leader now; with none in a quarter of the usual time; only the member that was asked is heard."""
    bench = Bench()
    bench.lend()
    bench.hear(NotLeader("k2"), "k3")
    assert bench.worker.leader == "k1"

    bench.hear(NotLeader("k3"))
    assert bench.fire("renew")[0][0] == "k3"
    bench.hear(NotLeader(""), "k3")
    before = bench.now
    assert bench.fire("renew")[0][0] == "k1"
    assert bench.now - before == 7.5 * NS_PER_S


def test_nobody_outside_the_committee_gives_orders() -> None:
    """A stranger's assignment, load or lease changes nothing."""
    bench = Bench().loaded()
    bench.believed.clear()
    for message in (ASSIGN, Load(9, "m", 0, 1), Expect("anna", "1", 1, "v"), Leased(), NotLeader("k2")):
        assert bench.hear(message, "stranger") == []

    assert bench.believed == []
    assert (bench.jobs, bench.worker.leader, bench.worker.pipeline) == ({}, "k1", 5)


# -- who leads where members may lie -----------------------------------------------------------------


FOUR = ("k1", "k2", "k3", "k4")


def doubting() -> Bench:
    """A lent worker of a committee of four, one of whom may lie; k1 leads, as k2 and k3 have said."""
    bench = Bench(FOUR, liars=True)
    bench.lend()
    for member in ("k2", "k3"):
        bench.hear(NotLeader("k1"), member)
    bench.hear(Leased())
    return bench


def test_whoever_says_unasked_that_it_leads_is_not_believed_at_its_word() -> None:
    """Its lease, its orders and what it settles count for nothing; the others are asked, though not at every word."""
    bench = doubting()

    assert [to for to, _ in bench.hear(Leased(), "k4")] == ["k1", "k2", "k3"]
    assert bench.hear(Load(9, "m", 0, 1), "k4") == []
    assert (bench.worker.leader, bench.worker.pipeline, bench.jobs) == ("k1", 0, {})


def test_a_new_leader_is_believed_once_another_member_points_to_it() -> None:
    """Two of four say so, one of whom is correct: it is asked at once, and what it orders is done."""
    bench = doubting()
    bench.now += NS_PER_S
    bench.hear(Leased(), "k2")
    bench.hear(NotLeader("k2"), "k3")

    assert bench.worker.leader == "k2"
    assert bench.fire("renew")[0][0] == "k2"
    bench.hear(Load(9, "m", 0, 1), "k2")
    assert bench.worker.pipeline == 9


def test_a_worker_asks_the_others_in_turn_and_leaves_a_liar_that_holds_it() -> None:
    """The liar answers every renewal with a lease. After a round the words of two others are heard, and followed."""
    bench = Bench(FOUR, liars=True)
    bench.worker.leader = "k4"
    bench.lend()
    asked = []
    for _ in range(3):
        bench.hear(Leased(), "k4")
        (first, _), (other, _) = bench.fire("renew")
        asked.append(other)
        bench.hear(NotLeader("k1"), other) if other != "k1" else bench.hear(Leased(), "k1")
        if bench.worker.leader == "k1":
            break
        assert first == "k4"

    assert bench.worker.leader == "k1"
    assert len(set(asked)) == len(asked) == 2


def test_words_grow_old() -> None:
    """Whom two named two leases ago has nobody's word now: who says that it leads is not believed for it."""
    bench = doubting()
    bench.now += 121 * NS_PER_S
    assert bench.worker.words.named(FOUR, 1, bench.now) == ""

    bench.hear(Leased(), "k4")
    assert bench.worker.leader == "k1"


@given(st.lists(st.tuples(st.sampled_from(FOUR[1:]), st.sampled_from(FOUR), st.booleans()), max_size=30))
def test_nothing_that_one_liar_says_turns_a_worker_from_its_leader(said: list[tuple[str, str, bool]]) -> None:
    """k4 says anything, the others point to k1 whenever they say something: the worker stays with k1."""
    bench = doubting()
    for sender, leader, leads in said:
        bench.now += NS_PER_S
        if sender != "k4":
            bench.hear(NotLeader("k1"), sender)
        else:
            bench.hear(Leased() if leads else NotLeader(leader), sender)
    assert bench.worker.leader == "k1"


# -- shards ------------------------------------------------------------------------------------------


def test_a_shard_is_loaded_once_and_reported_when_it_is_in_memory() -> None:
    """A repeated order starts no second load; the renewal that names it follows at once."""
    bench = Bench()
    bench.lend()
    bench.hear(Load(5, "m", 0, 2))
    bench.hear(Load(5, "m", 0, 2))
    ((job_id, job),) = bench.jobs.items()
    assert job == LoadJob("m", 0, 2)

    ((_, renew),) = bench.end(job_id, Done("", 0, 0))
    assert renew.loaded == 5
    bench.hear(Load(5, "m", 0, 2))
    assert len(bench.jobs) == 1


def test_a_new_order_replaces_a_load_that_still_runs() -> None:
    """The old one is given up, and its end would mean nothing."""
    bench = Bench()
    bench.lend()
    bench.hear(Load(5, "m", 0, 2))
    bench.hear(Load(6, "m", 2, 4))
    ((job_id, job),) = bench.jobs.items()

    assert job == LoadJob("m", 2, 4)
    assert bench.end(job_id, Done("", 0, 0))[0][1].loaded == 6
    bench.hear(Load(0, "", 0, 0))
    assert (bench.worker.pipeline, bench.worker.loaded) == (0, 0)


def test_a_load_that_fails_is_ordered_again() -> None:
    """Nothing is in memory, so the same order starts it anew."""
    bench = Bench()
    bench.lend()
    bench.hear(Load(5, "m", 0, 2))
    bench.end(*bench.jobs, Lost("disk"))
    bench.hear(Load(5, "m", 0, 2))

    assert len(bench.jobs) == 2


def test_the_executor_hears_what_the_leader_says_of_its_peers() -> None:
    """Of each new order its pipeline, also where nothing is read for it; and, standing by, whose copies come."""
    bench = Bench().loaded()
    bench.believed.clear()
    bench.hear(Keep(6, "m", 0, 2, STAGES))
    bench.hear(Keep(6, "m", 0, 2, STAGES))
    assert (bench.believed, bench.jobs, bench.worker.loaded) == ([AdmitJob("m", STAGES)], {}, 6)

    bench.hear(Keep(7, "m", 2, 4))
    bench.hear(Expect("anna", "1", 3, "v"))
    bench.hear(Keep(0, "", 0, 0))
    assert bench.believed[1:] == [AdmitJob("m", ()), ExpectJob("anna/1", 3, "v"), AdmitJob("", ())]


# -- sessions and reports ----------------------------------------------------------------------------


def test_an_assignment_is_confirmed_run_once_and_reported_with_a_signature() -> None:
    """However often it arrives; progress is not reported."""
    bench = Bench().loaded()
    assert bench.hear(ASSIGN) == bench.hear(ASSIGN) == [("k1", Began("anna", "1", 1))]
    ((job_id, job),) = bench.jobs.items()
    assert job == SessionJob("anna/1/1", "m", STAGES, "p", "k1", 8, 4, 64)

    assert bench.end(job_id, Progress(2)) == []
    ((to, report),) = bench.end(job_id, Done("out", 4, 7))
    assert (to, report.output, report.tokens, report.first_token_ns, report.reason) == ("k1", "out", 4, 7, "")
    receipt = encode(Receipt("anna", "1", "out", 4, STAGES))
    assert KeyRing(1).handle("k1").verify("w", receipt, report.signature)
    bench.jobs.clear()
    assert bench.hear(ASSIGN) == [("k1", Began("anna", "1", 1))]
    assert bench.jobs == {}


def test_a_session_has_its_request_s_class_and_a_deadline_on_the_worker_s_own_clock() -> None:
    """The time that an assignment leaves is counted from when it is heard; a lost one names its reason alone."""
    bench = Bench().loaded()
    bench.now = 5 * NS_PER_S
    bench.hear(msgspec.structs.replace(ASSIGN, rank=3, left_ns=2 * NS_PER_S))
    ((job_id, job),) = bench.jobs.items()

    assert (job.rank, job.deadline_ns) == (3, 7 * NS_PER_S)
    ((_, report), *_) = bench.end(job_id, Lost(EXPIRED))
    assert (report.reason, report.node) == (EXPIRED, "")


def test_a_worker_tells_the_tokens_of_what_runs() -> None:
    """Each report's tokens with their place in the answer; without tokens, or of no job of its own, nothing."""
    bench = Bench().loaded()
    bench.hear(ASSIGN)
    (job_id,) = bench.jobs
    assert bench.end(job_id, Progress(2)) == []
    assert bench.end(job_id + 1, Progress(2, (5, 6))) == []
    assert bench.end(job_id, Progress(3, (7,))) == [("k1", Emitted("anna", "1", 1, 2, (7,)))]


def test_a_report_is_sent_until_it_is_settled_also_to_a_new_leader() -> None:
    """Every RESEND_NS; afterwards no timer is left."""
    bench = Bench().loaded()
    bench.hear(ASSIGN)
    bench.end(next(iter(bench.jobs)), Done("out", 4, 7))
    assert bench.timers["resend"][0] == RESEND_NS
    assert bench.fire("resend")[0][0] == "k1"
    bench.hear(Leased(), "k2")
    assert [to for to, _ in bench.fire("resend")] == ["k2"]

    bench.hear(Settled("anna", "1", 1), "k2")
    assert bench.fire("resend") == []
    assert "resend" not in bench.timers


def test_a_settled_attempt_that_still_runs_is_stopped() -> None:
    """The leader has another answer; nothing more is said of this one."""
    bench = Bench().loaded()
    bench.hear(ASSIGN)

    assert bench.hear(Settled("anna", "1", 1)) == []
    assert bench.jobs == {}


@pytest.mark.parametrize("lent", [False, True])
def test_an_assignment_that_cannot_run_is_lost_at_once(lent: bool) -> None:
    """Not lent, or its shard not in memory: it says so, and if it is lent the leader hears what it holds."""
    bench = Bench()
    if lent:
        bench.lend()
    said = bench.hear(ASSIGN)

    assert [type(m) for _, m in said] == [Began, Report] + [Renew] * lent
    assert (said[1][1].reason, said[1][1].node) == ("not lent", "w")


def test_an_owner_who_comes_back_ends_everything_within_the_step() -> None:
    """Sessions are stopped and reported lost, with the reason, and the device leaves."""
    bench = Bench().loaded()
    bench.hear(ASSIGN)
    bench.hear(msgspec.structs.replace(ASSIGN, op_id="2"))
    said = bench.lend(TAKEN)

    assert [type(m) for _, m in said] == [Report, Report, Leave]
    assert {m.reason for _, m in said} == {"owner is back"}
    assert bench.jobs == {}
    assert (bench.worker.pipeline, bench.worker.loaded) == (0, 0)


def test_a_lost_session_names_the_node_that_failed() -> None:
    """As its executor knew it."""
    bench = Bench().loaded()
    bench.hear(ASSIGN)
    said = bench.end(next(iter(bench.jobs)), Lost("stage is down", "v"))

    assert (said[0][1].reason, said[0][1].node, said[0][1].output) == ("stage is down", "v", "")


def test_an_attempt_begins_with_what_was_decided_and_a_lost_one_tells_it() -> None:
    """Tokens of an earlier attempt go to the executor, and those of a lost session to the leader."""
    bench = Bench().loaded()
    bench.hear(msgspec.structs.replace(ASSIGN, forced=(7, 8)))
    ((job_id, job),) = bench.jobs.items()
    assert job.forced == (7, 8)
    said = bench.end(job_id, Lost("stage is down", "v", (7, 8, 9)))
    assert [m.emitted for _, m in said if isinstance(m, Report)] == [(7, 8, 9)]


def test_standbys_are_of_stages_that_there_are_and_of_the_attempt_that_is_named() -> None:
    """Those of an assignment, those that come up later, and those of a later leader for what runs on; no others."""
    bench, by = Bench().loaded(), [Standby(index, "u", "buddy", 1, 9) for index in (-1, 0, 1, 2)]
    fields = msgspec.structs.asdict(ASSIGN)
    bench.hear(AssignPrepared(**fields, standbys=tuple(by)))
    ((job_id, job),) = bench.jobs.items()
    assert job.standbys == (by[1], by[2])
    for attempt in (1, 2):
        bench.hear(Cover("anna", "1", attempt, tuple(by[2:])))
    bench.hear(AssignPrepared(**(fields | {"attempt": 2}), standbys=(by[0], by[1])))
    told = [each for each in bench.jobs.values() if isinstance(each, CoverJob)]
    assert told == [CoverJob(job_id, (by[2],)), CoverJob(job_id, (by[1],))]
