"""Standing by: who is prepared for which death, what the next attempt is told, and who forgets what when."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from policies import port as p
from policies.config import PreparedConfig
from policies.jobs import ExpectJob, PreparedJob, SessionJob, Standby
from policies.wire import encode
from policies.work import Capability, Emitted, Gone, Placed, Report
from tests.policies.small_village import LEND, RULES, TWO_HOLD_ALL, SmallVillage, ready

# What is asked here shall be worth a standby; keys and values would be, too, on links as fast as these.
DEADLY = PreparedConfig(deaths_per_h=3600.0, bytes_ratio=10.0, ways=("checkpoint",))


def under_way(workers: int = 4, audit_share: float = 0.0, recovery: PreparedConfig = DEADLY) -> SmallVillage:
    """Return a village whose pipeline of two stages has standbys, and runs one request for ever."""
    rules = msgspec.structs.replace(RULES, audit_share=audit_share)
    village = ready(workers, memory_bytes=TWO_HOLD_ALL, rules=rules, recovery=recovery)
    village.run(10.0)
    village.take()
    village.ask("1", prompt_tokens=400, new_tokens=100)
    village.run(1.0)
    return village


def one(village: SmallVillage) -> tuple[str, SessionJob]:
    """Return the head and the session that runs."""
    (((head, _), job),) = village.running.items()
    return head, job


def lost(village: SmallVillage, head: str, attempt: int, node: str, emitted: tuple[int, ...] = ()) -> None:
    """The head of an attempt says that a stage failed it, and gives the session up."""
    village.desk.sessions.clear()
    report = Report("anna", "1", village.attempt(attempt), "went down", node, "", 0, 0, b"", emitted)
    village.world.give(village.world.by_name[village.leader], (p.MESSAGE, "coordination", head, encode(report)))


def three() -> SmallVillage:
    """Return a village with one pipeline of two stages and one worker more, which can hold one of them."""
    return under_way(3)


def test_an_idle_worker_stands_by_for_the_stage_that_costs_least_bytes() -> None:
    """That is the first one: 4 bytes of a token against an activation, for the same replay; the attempt is told."""
    village = three()
    head, job = one(village)
    (spare,) = set(village.workers) - {stage.node for stage in job.stages}
    assert isinstance(job, PreparedJob)
    assert (job.kept, job.resume) == ("anna/1", False)
    ((index, node, way, every, until),) = (msgspec.structs.astuple(each) for each in job.standbys)
    assert (index, node, way, until) == (0, spare, "checkpoint", 500)
    assert every >= 1
    assert village.worker(spare).loaded == village.coordination().lines.spares[spare][0] > 0
    assert village.desk.held[spare] == (job.stages[0].first, job.stages[0].last)
    assert head == job.stages[0].node


def test_everybody_is_told_whom_to_believe() -> None:
    """Stages of their pipeline, and who stands by whose copies come, in each attempt; it is a stage of nothing yet."""
    village = three()
    _, job = one(village)
    (spare,) = set(village.workers) - {stage.node for stage in job.stages}
    pipelines = {stage.node: job.stages for stage in job.stages} | {spare: ()}
    assert {node: village.desk.admitted[node] for node in village.workers} == pipelines
    assert village.desk.expected == [(spare, ExpectJob("anna/1", village.attempt(1), job.stages[0].node))]
    lost(village, job.stages[0].node, 1, job.stages[0].node)
    village.run(1.0)
    _, then = one(village)
    assert then.stages[0].node == spare
    assert {village.desk.admitted[stage.node] for stage in then.stages} == {then.stages}


def test_a_worker_that_claims_to_compute_in_no_time_stops_no_leader() -> None:
    """Zero is within what a renewal may say: the idle one is weighed like any other, and the rest serve."""
    boaster = Capability(TWO_HOLD_ALL, 0.01, 0.001, 0.0, 1e7, 0.01)
    village = SmallVillage(3, TWO_HOLD_ALL, RULES, recovery=DEADLY, others={"w3": boaster})
    village.run(40.0)
    village.ask("1")
    village.run(5.0)

    assert len(village.answers("1")) == 1


def test_where_deaths_are_rare_nothing_is_prepared() -> None:
    """At one death in ten years a standby costs more than it saves: none is held, and nothing is copied."""
    village = under_way(3, recovery=PreparedConfig(deaths_per_h=1.0 / 87_660))
    assert one(village)[1].standbys == ()  # type: ignore[attr-defined]
    assert village.coordination().lines.spares == {}


@pytest.mark.parametrize("ratio", [1.0, 1.0 + 2**-10])
def test_no_more_is_copied_than_the_bytes_allow(ratio: float) -> None:
    """With no bytes to spare nobody gets copies; with 1 in 1,024 of 500 tokens' 104 bytes each, that many tokens."""
    village = under_way(3, recovery=msgspec.structs.replace(DEADLY, bytes_ratio=ratio))
    standbys: tuple[Standby, ...] = one(village)[1].standbys  # type: ignore[attr-defined]
    assert [each.until for each in standbys] == ([] if ratio == 1.0 else [int(500 * 104 / 4 / 2**10)])


@pytest.mark.parametrize("how", ["blamed", "crashed"])
def test_a_standby_takes_the_place_of_the_stage_it_stood_by_for(how: str) -> None:
    """The pipeline comes again with it and the stage that stayed; the next attempt resumes, with what was told."""
    village = three()
    head, job = one(village)
    (spare,) = set(village.workers) - {stage.node for stage in job.stages}
    before = len(village.seen(Placed))
    if how == "blamed":
        lost(village, head, 1, head, (7, 8))  # as a worker does that is lent no more
        village.run(1.0)
    else:
        said = Emitted("anna", "1", village.attempt(1), 0, (7, 8))
        village.world.give(village.world.by_name[village.leader], (p.MESSAGE, "coordination", head, encode(said)))
        village.crash(head)
        village.run(20.0)
    (placed,) = {each.stages for each in village.seen(Placed)[before:]}
    assert [stage.node for stage in placed] == [spare, job.stages[1].node]
    then_head, then = one(village)
    assert isinstance(then, PreparedJob)
    assert (then_head, then.resume, then.forced, then.kept) == (spare, True, (7, 8), job.kept)  # type: ignore[attr-defined]


def test_whoever_comes_up_stands_by_for_what_runs_already() -> None:
    """The only standby was not lent for a while; back, it gets copies from the running attempt, and when that attempt's
    stage dies it takes the place."""
    village = three()
    head, job = one(village)
    (spare,) = set(village.workers) - {stage.node for stage in job.stages}
    village.lend(spare, msgspec.structs.replace(LEND, on=False))
    village.run(1.0)
    said = Emitted("anna", "1", village.attempt(1), 0, (7, 8))
    village.world.give(village.world.by_name[village.leader], (p.MESSAGE, "coordination", head, encode(said)))
    village.lend(spare, LEND)
    village.run(10.0)

    ((node, late),) = village.desk.covered
    ((_, number),) = village.running
    assert (node, late.session) == (head, number)
    assert late.standbys == job.standbys  # type: ignore[attr-defined]
    lost(village, head, 1, head, (7, 8))
    village.run(1.0)
    assert one(village)[0] == spare


def test_a_new_leader_s_standbys_reach_the_attempt_that_runs_on() -> None:
    """The attempt goes on under the new leader's number; who stands by for it by then is told to its stages."""
    village = three()
    head, job = one(village)
    village.crash(village.leader)
    village.run(40.0)

    ((node, late),) = village.desk.covered
    assert one(village) == (head, job)
    assert (node, [each.index for each in late.standbys]) == (head, [0])


def test_whoever_comes_up_gets_nothing_of_a_request_that_is_audited() -> None:
    """Its pipelines come to their answers without one another's caches, whenever there are standbys."""
    village = under_way(3, audit_share=1.0)
    (spare,) = set(village.workers) - {stage.node for stage in one(village)[1].stages}
    village.lend(spare, msgspec.structs.replace(LEND, on=False))
    village.run(1.0)
    village.lend(spare, LEND)
    village.run(10.0)
    assert village.coordination().lines.spares
    assert village.desk.covered == []


def test_what_is_in_memory_is_not_read_again() -> None:
    """The pipeline that comes again is ready without a load, at its standby and at the stage that stayed."""
    village = three()
    head, job = one(village)
    loads: list[str] = []
    submit = village.desk.submit

    def counted(node: Any, path: str, job_id: int, payload: bytes) -> None:
        if msgspec.msgpack.decode(payload)[0] == "load":
            loads.append(node.name)
        submit(node, path, job_id, payload)

    village.desk.submit = counted  # type: ignore[method-assign]
    lost(village, head, 1, head)
    village.run(0.6)
    assert loads == []
    assert [stage.node for stage in one(village)[1].stages][1] == job.stages[1].node


def test_without_a_standby_there_is_another_plan() -> None:
    """The second stage has none, so its death is got over by planning; the attempt still resumes what there is."""
    village = three()
    _, job = one(village)
    second = job.stages[1].node
    village.crash(second)
    village.run(40.0)
    _, then = one(village)
    assert second not in [stage.node for stage in then.stages]
    assert then.resume  # type: ignore[attr-defined]


def test_a_request_that_is_audited_is_not_prepared() -> None:
    """Its pipelines come to their answers without one another's caches."""
    village = under_way(3, audit_share=1.0)
    assert not isinstance(one(village)[1], PreparedJob)


def test_whoever_holds_something_of_a_request_is_told_when_it_is_over() -> None:
    """Stages of all its attempts and its standbys forget it, when it is answered and when its client withdraws."""
    village = three()
    head, _ = one(village)
    lost(village, head, 1, head)
    village.take(1.0)
    village.run(30.0)
    assert village.state.outcomes[("anna", "1")]
    assert sorted(village.desk.freed) == [(name, "anna/1") for name in village.workers]
    assert (village.coordination().holders, village.coordination().covered) == ({}, {})


def test_a_worker_that_is_lent_no_more_forgets_all() -> None:
    """Its owner comes first: what it kept as a standby goes at once."""
    village = three()
    _, job = one(village)
    (spare,) = set(village.workers) - {stage.node for stage in job.stages}
    village.lend(spare, msgspec.structs.replace(LEND, on=False))
    village.run(0.5)
    assert (spare, "") in village.desk.freed


def test_dissolved_pipelines_tell_why() -> None:
    """The reason names the stage that was lost."""
    village = three()
    head, _ = one(village)
    lost(village, head, 1, head)
    village.run(1.0)
    assert {each.reason for each in village.seen(Gone)} == {f"{head}: a standby takes its place"}


def test_a_request_waits_for_its_own_pipeline_to_come_again() -> None:
    """Another pipeline is free all the time, and others may take it; but what is kept of the request is not there."""
    village = ready(5, memory_bytes=TWO_HOLD_ALL, rules=RULES, recovery=DEADLY)
    village.run(10.0)
    village.take()
    village.ask("1", prompt_tokens=400, new_tokens=100)
    village.run(1.0)
    head, job = one(village)
    assert len(village.state.placements) == 2
    ((_, spare),) = ((stage.first, node) for node, (_, _, stage) in village.coordination().lines.spares.items())
    lost(village, head, 1, head)
    village.ask("2")
    village.run(1.0)
    nodes = {job.op.split("/")[1]: [s.node for s in job.stages] for job in village.running.values()}
    assert nodes["1"] == [spare, job.stages[1].node]
    assert not set(nodes["2"]) & set(nodes["1"])


@pytest.mark.parametrize("placed", [False, True])
def test_nobody_waits_for_a_pipeline_that_does_not_come(placed: bool) -> None:
    """The stage that stayed dies as well, before the pipeline is placed again or is ready: the other one serves."""
    village = ready(5, memory_bytes=TWO_HOLD_ALL, rules=RULES, recovery=DEADLY)
    village.run(10.0)
    village.take()
    village.ask("1", prompt_tokens=400, new_tokens=100)
    village.run(1.0)
    head, job = one(village)
    village.lose = lambda sender, to, tag: tag == "keep_shard"  # so that it does not become ready
    before = len(village.seen(Placed))
    lost(village, head, 1, head)
    if placed:
        village.run(1.0)
        assert len(village.seen(Placed)) > before
    assert village.running == {}
    village.see(job.stages[1].node, "dead")
    village.run(1.0)  # far less than a lease
    _, then = one(village)
    assert not {stage.node for stage in then.stages} & {stage.node for stage in job.stages}
    assert village.coordination().again == {}


def test_a_new_leader_asks_what_its_pipelines_have() -> None:
    """It knows of no copies; what it starts goes on from what its stages keep of an earlier leader's attempt."""
    village = three()
    head, _ = one(village)
    village.crash(village.leader)
    village.crash(head)
    village.run(40.0)
    assert one(village)[1].resume  # type: ignore[attr-defined]
