"""Sessions through real stages: the tokens are those of one process, whatever the links do, and losses are told."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from policies.jobs import Done, Job, LoadJob, Lost, PlanJob, Progress, Sampling, Stage
from policies.wire import digest, encode
from real_backends import executors_host
from real_backends.cluster import until
from real_backends.executors import DESK_TINY, Pipeline, make_shard, open_checkpoint, pack_activation, save_checkpoint
from real_backends.transports.faulty import Disturbance, LinkFaults
from tests.real_backends.session_nodes import (
    NEW_TOKENS,
    PROMPT,
    STAGES,
    WEIGHTS,
    Node,
    end_of,
    run_nodes,
    said,
    session_job,
    submit,
)

pytest.importorskip("torch", reason="torch is not installed: pip install 'villagetwin[torch]'")


@pytest.fixture(scope="module")
def reference() -> list[int]:
    """What one shard in one process answers."""
    return Pipeline([make_shard("torch", DESK_TINY, WEIGHTS, 0, 8)]).generate(PROMPT, NEW_TOKENS)


@pytest.mark.parametrize("stages", [(Stage("a", 0, 8),), (STAGES[0], Stage("b", 3, 8)), STAGES])
def test_a_pipeline_says_what_one_process_says(tmp_path: Path, reference: list[int], stages: tuple[Stage, ...]) -> None:
    """One, two or three stages give the reference's tokens, with progress, and forget the session afterwards."""

    async def act(nodes: dict[str, Node]) -> None:
        *progress, done = await end_of(nodes["a"], session_job(stages))
        assert said(nodes["a"], done) == reference
        assert progress == [Progress(5, tuple(reference[:5])), Progress(10, tuple(reference[5:10]))]
        assert done.first_token_ns > 0
        await until(lambda: sum(node.host.active for node in nodes.values()) == 0)

    asyncio.run(run_nodes(tmp_path, act))


def test_a_drawn_answer_is_the_same_however_it_is_cut(tmp_path: Path) -> None:
    """A pipeline draws what one process draws; the same attempt again, on other stages, draws it again."""
    sampling = Sampling(0.8, 0.9, 11)
    alone = Pipeline([make_shard("torch", DESK_TINY, WEIGHTS, 0, DESK_TINY.layers)])
    expected = alone.generate(PROMPT, NEW_TOKENS, sampling)
    assert expected != alone.generate(PROMPT, NEW_TOKENS)

    async def act(nodes: dict[str, Node]) -> None:
        for stages in ((Stage("a", 0, 8),), (STAGES[0], Stage("b", 3, 8)), STAGES):
            done = (await end_of(nodes["a"], session_job(stages, sampling=sampling)))[-1]
            assert said(nodes["a"], done) == expected

    asyncio.run(run_nodes(tmp_path, act))


def test_an_answer_ends_with_its_first_end(tmp_path: Path, reference: list[int]) -> None:
    """The end is part of the answer, nothing is computed after it, the session is noted with it and forgotten."""
    end = reference[6]
    expected = reference[: reference.index(end) + 1]

    async def act(nodes: dict[str, Node]) -> None:
        noted: list[int] = []
        nodes["a"].host.on_session = lambda path, job, tokens, *times: noted.append(tokens)
        done = (await end_of(nodes["a"], session_job(sampling=Sampling(0.0, 1.0, 0, (end, 511)))))[-1]
        assert (done.tokens, said(nodes["a"], done)) == (len(expected), expected)
        assert noted == [len(expected)]
        await until(lambda: sum(node.host.active for node in nodes.values()) == 0)

    asyncio.run(run_nodes(tmp_path, act))


def test_stages_serve_a_checkpoint_from_its_files(tmp_path: Path, reference: list[int]) -> None:
    """Nodes that each open a checkpoint's folder and read their own layers say what one process says."""
    save_checkpoint(tmp_path / "model", DESK_TINY, WEIGHTS, files=3)

    async def act(nodes: dict[str, Node]) -> None:
        for node in nodes.values():
            node.host.stages.shards.models["desk-tiny"] = lambda: open_checkpoint(tmp_path / "model")
        *_, done = await end_of(nodes["a"], session_job())
        assert said(nodes["a"], done) == reference

    asyncio.run(run_nodes(tmp_path, act))


@pytest.mark.parametrize("coding", ["f16", "int8"])
def test_compressed_activations_say_the_same_where_it_is_clear(
    tmp_path: Path, reference: list[int], coding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stages send on in the coding they were given, and the first token, which leads by far, is the reference's."""
    codings: list[str] = []

    def pack(array: Any, coding: str) -> Any:
        codings.append(coding)
        return pack_activation(array, coding)

    monkeypatch.setattr("real_backends.stages.pack_activation", pack)
    monkeypatch.setattr("real_backends.executors_host.pack_activation", pack)

    async def act(nodes: dict[str, Node]) -> None:
        *_, done = await end_of(nodes["a"], session_job())
        assert said(nodes["a"], done)[0] == reference[0]
        assert set(codings) == {coding}
        assert len(codings) == 2 * NEW_TOKENS

    asyncio.run(run_nodes(tmp_path, act, coding))


def test_duplicates_and_reordering_change_no_token(tmp_path: Path, reference: list[int]) -> None:
    """Frames that come twice or late never corrupt a stage's cache."""

    async def act(nodes: dict[str, Node]) -> None:
        for node in nodes.values():
            node.transport.faults = LinkFaults((Disturbance(duplicate=0.5, reorder=0.3, reorder_s=0.003),))
        assert said(nodes["a"], (await end_of(nodes["a"], session_job()))[-1]) == reference
        assert sum(node.transport.done["duplicated"] for node in nodes.values()) > 10

    asyncio.run(run_nodes(tmp_path, act))


def test_stale_frames_are_ignored(tmp_path: Path, reference: list[int]) -> None:
    """A step or a token from earlier in the session, delivered again much later, changes nothing."""

    async def act(nodes: dict[str, Node]) -> None:
        for node in nodes.values():
            take, seen = node.host.on_frame, []

            def replaying(*frame: Any, take: Any = take, seen: list[Any] = seen) -> None:
                for old in seen[:3]:
                    take(*old)
                seen.append(frame)
                take(*frame)

            node.host.on_frame = replaying  # type: ignore[method-assign]
        assert said(nodes["a"], (await end_of(nodes["a"], session_job()))[-1]) == reference

    asyncio.run(run_nodes(tmp_path, act))


def test_lost_frames_are_sent_again(tmp_path: Path, reference: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """A step whose answer was lost is asked again and gives the same token."""
    monkeypatch.setattr(executors_host, "STEP_TRY_S", 0.1)
    monkeypatch.setattr(executors_host, "STEP_TRIES", 50)

    async def act(nodes: dict[str, Node]) -> None:
        for node in nodes.values():
            node.transport.faults = LinkFaults((Disturbance(loss=0.15),))
        nodes["a"].blobs.store.put(np.array(PROMPT, dtype="<i4").tobytes())
        assert said(nodes["a"], (await end_of(nodes["a"], session_job()))[-1]) == reference
        assert sum(node.transport.done["lost"] for node in nodes.values()) > 0

    asyncio.run(run_nodes(tmp_path, act))


def test_a_lost_peer_ends_the_session(tmp_path: Path) -> None:
    """When a stage's node goes down, the job is lost at once and names it; a silent one is named after the tries."""

    async def act(nodes: dict[str, Node]) -> None:
        await nodes["b"].transport.close()
        await submit(nodes["a"], 1, session_job())
        await until(lambda: bool(nodes["a"].host._waiting))
        nodes["a"].host.on_peer("b", "down")
        await until(lambda: bool(nodes["a"].outcomes))
        assert nodes["a"].outcomes == [Lost("b went down", "b")]

    asyncio.run(run_nodes(tmp_path, act))


def test_silence_ends_the_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage that never answers costs the tries and no more; in a pair it is clear who it was."""
    monkeypatch.setattr(executors_host, "STEP_TRY_S", 0.01)

    async def act(nodes: dict[str, Node]) -> None:
        await nodes["b"].transport.close()
        stages = (Stage("a", 0, 3), Stage("b", 3, 8))
        (lost,) = await end_of(nodes["a"], session_job(stages))
        assert lost == Lost("no token at position 0 within 0.03 s", "b")

    asyncio.run(run_nodes(tmp_path, act))


@pytest.mark.parametrize(
    ("job", "reason", "node"),
    [
        (session_job(prompt=digest(b"none")), "cannot be had from c", "c"),
        (session_job((Stage("a", 0, 3), Stage("b", 4, 99))), "not placed here", "b"),
        (session_job(model="other"), "of 'other' are not placed here", "a"),
        (session_job(STAGES[1:]), "stage 0 is not on a", "a"),
        (session_job(new_tokens=500), "at most 256", "a"),
        (encode(PlanJob("lower", b"", 1)), "planner='lower': known are upper", ""),
        (encode(LoadJob("desk-tiny", 5, 5)), "not allowed", "a"),
    ],
    ids=["no prompt", "no such layers", "no such model", "not the head", "too long", "no such planner", "no layers"],
)
def test_impossible_jobs_are_lost_with_a_reason(tmp_path: Path, job: bytes, reason: str, node: str) -> None:
    """Every job that cannot end says why, and whose fault it was where that is known."""

    async def act(nodes: dict[str, Node]) -> None:
        lost = (await end_of(nodes["a"], job))[-1]
        assert isinstance(lost, Lost)
        assert reason in lost.reason
        assert lost.node == node

    asyncio.run(run_nodes(tmp_path, act))


@pytest.mark.parametrize(
    ("job", "expected"),
    [(PlanJob("upper", b"plan", 2), Done("", 0, 0, b"PLANPLAN")), (LoadJob("desk-tiny", 2, 4), Done("", 0, 0))],
)
def test_other_jobs_are_done(tmp_path: Path, job: Job, expected: Done) -> None:
    """A planner's bytes come back as the result; a loaded shard is simply done."""

    async def act(nodes: dict[str, Node]) -> None:
        assert await end_of(nodes["a"], encode(job)) == [expected]

    asyncio.run(run_nodes(tmp_path, act))


def test_a_cancelled_job_is_silent_and_frees_its_caches(tmp_path: Path) -> None:
    """After a cancel nothing is reported and no stage holds the session any more."""

    async def act(nodes: dict[str, Node]) -> None:
        await submit(nodes["a"], 1, session_job(new_tokens=200))
        await until(lambda: nodes["c"].host.stages.sessions == 1)
        nodes["a"].host.cancel("worker", 1)
        seen = len(nodes["a"].outcomes)
        await until(lambda: sum(node.host.active for node in nodes.values()) == 0)
        assert len(nodes["a"].outcomes) == seen

    asyncio.run(run_nodes(tmp_path, act))


def test_share_zero_pauses_and_a_share_resumes(tmp_path: Path, reference: list[int]) -> None:
    """With a compute share of 0 a session waits; with a share again it ends with the same tokens."""

    async def act(nodes: dict[str, Node]) -> None:
        await nodes["a"].host.stages.load("desk-tiny", 0, 8)
        before_s = nodes["a"].host.compute.busy_s
        nodes["a"].host.limit("compute", 0.0)
        nodes["a"].host.submit("worker", 1, session_job((Stage("a", 0, 8),)))
        for _ in range(50):
            await asyncio.sleep(0)
        assert nodes["a"].host.compute.busy_s == before_s
        nodes["a"].host.limit("compute", 0.9)
        await until(lambda: any(isinstance(o, Done) for o in nodes["a"].outcomes))
        assert said(nodes["a"], nodes["a"].outcomes[-1]) == reference

    asyncio.run(run_nodes(tmp_path, act))


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_impossible_shares_are_refused(tmp_path: Path, share: float) -> None:
    """A compute share outside 0..1 is one clear error."""

    async def act(nodes: dict[str, Node]) -> None:
        with pytest.raises(ValueError, match="compute share="):
            nodes["a"].host.limit("compute", share)

    asyncio.run(run_nodes(tmp_path, act))


@pytest.mark.parametrize("known", [1, 7, NEW_TOKENS - 1])
def test_an_attempt_goes_on_from_the_tokens_it_is_given(tmp_path: Path, reference: list[int], known: int) -> None:
    """None is decided again: fewer steps, the same answer, and progress goes on in the same places."""

    async def act(nodes: dict[str, Node]) -> None:
        asked: list[int] = []
        step = nodes["a"].host._step

        async def counted(job: Any, session: str, x: Any, *rest: Any) -> int:
            asked.append(len(x))
            return await step(job, session, x, *rest)

        nodes["a"].host._step = counted  # type: ignore[method-assign]
        *progress, done = await end_of(nodes["a"], session_job(forced=tuple(reference[:known])))
        assert said(nodes["a"], done) == reference
        assert asked == [len(PROMPT) + known] + [1] * (NEW_TOKENS - known - 1)
        assert progress == [Progress(n, tuple(reference[n - 5 : n])) for n in (5, 10) if n > known]

    asyncio.run(run_nodes(tmp_path, act))


@pytest.mark.parametrize("forced", [(1, -1), (1, DESK_TINY.vocab), (1,) * NEW_TOKENS])
def test_tokens_that_cannot_have_been_said_are_decided_anew(
    tmp_path: Path, reference: list[int], forced: tuple[int, ...]
) -> None:
    """Ids the model does not have, or as many as were asked for, end no session: it begins with the prompt."""

    async def act(nodes: dict[str, Node]) -> None:
        assert said(nodes["a"], (await end_of(nodes["a"], session_job(forced=forced)))[-1]) == reference

    asyncio.run(run_nodes(tmp_path, act))


@pytest.mark.parametrize("victim", ["b", "c"])
def test_a_session_that_loses_a_stage_is_finished_by_another_pipeline(
    tmp_path: Path, reference: list[int], victim: str
) -> None:
    """Its head tells what was decided up to then; the next attempt, on other stages, says the rest of the same."""

    async def act(nodes: dict[str, Node]) -> None:
        await submit(nodes["a"], 1, session_job(report_every=1))
        await until(lambda: len(nodes["a"].outcomes) >= 4)
        await nodes[victim].host.close()
        nodes["a"].host.on_peer(victim, "down")
        await until(lambda: isinstance(nodes["a"].outcomes[-1], Lost))
        lost = nodes["a"].outcomes[-1]
        assert 4 <= len(lost.emitted) < NEW_TOKENS
        assert list(lost.emitted) == reference[: len(lost.emitted)]
        nodes["a"].blobs.store.put(np.array(PROMPT, dtype="<i4").tobytes())
        stages = (Stage("a", 0, 4), Stage("b" if victim == "c" else "c", 4, 8))
        *_, done = await end_of(nodes["a"], session_job(stages, forced=lost.emitted))
        assert said(nodes["a"], done) == reference

    asyncio.run(run_nodes(tmp_path, act))
