"""A village of two models: it serves as well as its workers allow, classes part ways, and nothing flaps."""

from __future__ import annotations

from collections import Counter

import msgspec
import pytest

from policies import port as p
from policies.checking.messages import Checked
from policies.config import CoordinationConfig, DegradeConfig, Service, SpotChecksConfig
from policies.gateway import Answer, AnswerBy, Part, PartBy, Refused
from policies.jobs import CommitJob, OpenJob, Outcome, RecheckJob, ReleaseJob
from policies.problem import Problem
from policies.wire import encode
from policies.work import Emitted, Offered
from sim.world import Node
from tests.policies.small_village import CARD, ONE_HOLDS_ALL, TWO_HOLD_ALL, SmallVillage, ready

SMALL = Problem("s", 2, 450.0, 50.0, 0.0, 50.0)
CRITICAL, STANDARD = 0, 2
DEGRADE = DegradeConfig(dwell_s=40.0, drain_s=20.0)


def rules(*services: Service, stream: bool = False, **degrade: float) -> CoordinationConfig:
    """The leader's rules, for these classes."""
    chosen = msgspec.structs.replace(DEGRADE, services=services, **degrade)
    return CoordinationConfig(
        lease_s=10.0, plan_every_s=5.0, audit_share=0.0, degrade=chosen, stream=stream, report_every=1
    )


def village(workers: int, *services: Service, memory_bytes: float = TWO_HOLD_ALL, **fields: float) -> SmallVillage:
    """A village in which two workers hold the large model and one the small, after its pipelines came up."""
    made = ready(workers, memory_bytes=memory_bytes, rules=rules(*services, **fields), smaller=(SMALL,))
    made.run(20.0)
    return made


def standing(of: SmallVillage) -> Counter[str]:
    """Pipelines by model, all of them loaded."""
    lines = of.coordination().lines
    assert all(lines.ready(line) for line in lines.lines.values())
    return Counter(line.model for line in lines.lines.values())


def answer(of: SmallVillage, op_id: str, priority: int = STANDARD) -> str:
    """Ask, wait a little, and return the model that answered; "m" is the one asked for."""
    of.ask(op_id, priority=priority)
    of.run(5.0)
    (message,) = [one for one in of.answers(op_id) if isinstance(one, Answer)]
    return message.model if isinstance(message, AnswerBy) else "m"


def test_large_small_large() -> None:
    """Three of four workers go: the last serves the small model. They return: the large one serves, after the dwell."""
    v = village(4, "standard")
    assert (standing(v), answer(v, "0")) == (Counter(m=2), "m")
    for name in ("w1", "w2", "w3"):
        v.crash(name)
    v.run(30.0)
    assert (standing(v), answer(v, "1")) == (Counter(s=1), "s")
    for name in ("w1", "w2", "w3"):
        v.restart(name)
    v.run(25.0)  # two of them are free and hold it at once; what serves stays until the third has been back for long
    assert (standing(v), answer(v, "2")) == (Counter(m=1, s=1), "m")
    v.run(60.0)
    assert (standing(v), answer(v, "3")) == (Counter(m=2), "m")
    assert [dict(one.lines) for one in v.seen(Offered)][-3:] == [{"s": 1}, {"m": 1, "s": 1}, {"m": 2}]


def test_fewer_copies_before_a_smaller_model() -> None:
    """Two of four go: one pipeline of the large model is left, and the small one is not needed."""
    v = village(4, "standard", "best_effort")
    for name in ("w1", "w3"):
        v.crash(name)
    v.run(30.0)
    assert (standing(v), answer(v, "0"), v.seen(Offered)[-1].kept) == (Counter(m=1), "m", ("best_effort",))


def test_critical_keeps_the_promise_and_others_the_model() -> None:
    """On two workers the small model twice where critical requests are served, else the large one once."""
    served = {service: village(2, service) for service in ("critical", "standard")}  # type: ignore[arg-type]
    assert standing(served["critical"]) == Counter(s=2)
    assert standing(served["standard"]) == Counter(m=1)
    both = village(4, "critical", "standard")
    assert standing(both) == Counter(m=1, s=2)  # each has its own: all may be served by the large one


def test_a_loss_that_breaks_a_promise_moves_what_still_serves() -> None:
    """Four workers keep the critical promise with the large model; of two that are left each holds the small one."""
    v = village(4, "critical", away=0.02)
    assert standing(v) == Counter(m=2)
    number, line = next(iter(v.coordination().lines.lines.items()))
    for name in line.nodes:
        v.crash(name)
    v.run(60.0)
    assert number not in v.coordination().lines.lines
    assert (standing(v), answer(v, "0", CRITICAL)) == (Counter(s=2), "s")
    assert v.seen(Offered)[-1].kept == ("critical",)


def test_a_class_that_keeps_the_model_waits_for_it_and_no_longer_than_it_has_time() -> None:
    """The large pipeline is full: a critical request is run by a small one, another waits, at last it is too."""
    v = village(4, "critical", "standard")
    v.take()  # sessions last for ever
    for number in range(5):
        v.ask(f"full{number}", deadline_s=1000.0)
    v.run(1.0)
    v.take(1.0)
    assert answer(v, "c", CRITICAL) == "s"
    v.ask("w", deadline_s=100.0)
    v.run(40.0)
    assert v.answers("w") == []
    v.run(20.0)
    (message,) = v.answers("w")
    assert isinstance(message, AnswerBy)
    assert message.model == "s"


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_is_one_model_s_unless_a_part_was_heard(stream: bool) -> None:
    """The large model is lost in the middle: the small one begins anew, or goes on from what the client has."""
    v = ready(2, memory_bytes=TWO_HOLD_ALL, rules=rules("standard", stream=stream), smaller=(SMALL,))
    v.run(20.0)
    v.take()
    v.ask("0", new_tokens=8)
    v.run(1.0)
    ((head, _),) = v.running
    told = Emitted("anna", "0", v.attempt(1), 0, (7, 8))
    v.world.give(v.world.by_name[v.leader], (p.MESSAGE, "coordination", head, encode(told)))
    v.run(1.0)
    v.take(30.0)
    v.crash("w1" if head == "w2" else "w2")
    v.run(25.0)
    forced = [job.forced for job in v.running.values()]
    v.run(30.0)
    answers = [one for one in v.answers("0") if isinstance(one, Answer)]
    assert len(answers) == 1
    assert isinstance(answers[0], AnswerBy)
    assert answers[0].model == ("m+s" if stream else "s")
    assert {one for one in v.answers("0") if isinstance(one, Part)} == ({Part(0, (7, 8))} if stream else set())
    assert forced == [((7, 8) if stream else ())]
    assert not any(isinstance(one, PartBy) for one in v.answers("0"))


def test_each_model_s_work_is_checked_as_its_own_and_what_two_said_is_not() -> None:
    """A check names the model that ran; nobody who went on from another model's tokens is held to them."""
    checks = SpotChecksConfig(share=1.0, wait_s=8.0)
    told = msgspec.structs.replace(rules("standard", stream=True), spot_checks=checks)
    v = ready(4, memory_bytes=TWO_HOLD_ALL, rules=told, smaller=(SMALL,))
    asked: list[tuple[str, str]] = []
    prove = v.desk.prove

    def proving(node: Node, job: CommitJob | RecheckJob | OpenJob | ReleaseJob) -> Outcome:
        if isinstance(job, CommitJob | RecheckJob):
            asked.append((job.of.op.split("/")[1], job.of.model))
        return prove(node, job)

    v.desk.prove = proving
    v.run(20.0)
    assert answer(v, "0") == "m"
    v.run(20.0)
    v.take()
    v.ask("1", new_tokens=8)
    v.run(1.0)
    ((head, _),) = v.running
    heard = Emitted("anna", "1", v.attempt(1), 0, (7, 8))
    v.world.give(v.world.by_name[v.leader], (p.MESSAGE, "coordination", head, encode(heard)))
    v.run(1.0)
    v.take(1.0)
    for name in set(v.workers) - {head}:
        v.crash(name)
    v.run(60.0)
    assert [one.model for one in v.answers("1") if isinstance(one, AnswerBy)] == ["m+s"]
    assert answer(v, "2") == "s"
    v.run(40.0)
    assert set(asked) == {("0", "m"), ("2", "s")}
    assert {one.op_id: one.word for one in v.seen(Checked)} == {"0": "honest", "2": "unchecked"}  # nobody else is left


def test_nothing_flaps() -> None:
    """A worker that comes and goes more often than the dwell moves nothing, and every request is answered."""
    v = village(3, "standard", memory_bytes=TWO_HOLD_ALL)
    v.crash("w1")
    v.crash("w2")
    v.run(30.0)
    assert standing(v) == Counter(s=1)
    placed = len(v.state.placements)
    for turn in range(4):
        v.restart("w1")
        v.run(25.0)
        assert answer(v, f"up{turn}") == "s"
        v.crash("w1")
        v.run(15.0)
        assert answer(v, f"down{turn}") == "s"
    assert (standing(v), len(v.state.placements)) == (Counter(s=1), placed)
    assert not [one for one in v.replies if isinstance(one[3], Refused)]


def test_with_one_model_nothing_is_offered() -> None:
    """A village as it was: no mix is asked for or announced, and answers are plain."""
    v = ready(2, memory_bytes=ONE_HOLDS_ALL, rules=rules("standard"))
    assert (v.coordination().cards, v.seen(Offered)) == ((CARD,), [])
    assert answer(v, "0") == "m"
