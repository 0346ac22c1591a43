"""Batches through real stages: the tokens are those of sessions that step alone, and no cache outlives its session."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from policies.config import BatchedConfig, PolicyConfig, ShardingConfig
from policies.jobs import EXPIRED, Done, Lost, Sampling, Stage
from policies.serving.batching import Batcher
from policies.wire import digest
from real_backends import batch_line, executors_host, stages, step_frames
from real_backends.batch_frames import Batch, Slice, parts_of
from real_backends.cluster import until
from real_backends.executors import DESK_TINY, Pipeline, make_shard
from real_backends.stages import Stages
from real_backends.transports.faulty import Disturbance, LinkFaults
from tests.real_backends.session_nodes import STAGES, WEIGHTS, Node, run_nodes, said, session_job, submit

pytest.importorskip("torch", reason="torch is not installed: pip install 'villagetwin[torch]'")

LENGTHS = (3, 40, 14, 9, 30, 5, 33)
PROMPTS = [[(7 * n + 31 * k) % DESK_TINY.vocab for k in range(length)] for n, length in enumerate(LENGTHS)]
SAID = 20
GAP = 1e-3
"""Where the two best logits are closer, another batch may choose the other (docs/executors.md)."""

ROOMY = PolicyConfig(
    sharding=ShardingConfig(slots=8, context_tokens=64), serving=BatchedConfig(sessions=8, tokens_max=24)
)
"""Prompts of up to 40 tokens come in chunks."""
CROWDED = PolicyConfig(
    sharding=ShardingConfig(slots=1, context_tokens=80), serving=BatchedConfig(sessions=8, tokens_max=24)
)
"""Five blocks for sessions that need up to four each: they lose them to one another."""


def alone(prompt: list[int], count: int) -> tuple[list[int], list[float]]:
    """Return what one process says to a prompt by itself, and the lead of each token over the next best."""
    pipeline = Pipeline([make_shard("torch", DESK_TINY, WEIGHTS, 0, DESK_TINY.layers)])
    found, leads, chunk, position = list[int](), list[float](), prompt, 0
    for _ in range(count):
        logits = pipeline.logits("one", chunk, position)
        second, best = np.sort(logits)[-2:]
        found.append(int(np.argmax(logits)))
        leads.append(float(best - second))
        chunk, position = [found[-1]], position + len(chunk)
    return found, leads


@pytest.fixture(scope="module")
def references() -> list[tuple[list[int], list[float]]]:
    """What one process alone says to each prompt."""
    return [alone(prompt, SAID) for prompt in PROMPTS]


def same_where_decided(found: list[int], reference: tuple[list[int], list[float]]) -> bool:
    """Whether tokens are equal up to the first lead below `GAP`; what follows another token is another text."""
    for token, expected, lead in zip(found, *reference, strict=True):
        if token != expected:
            return lead <= GAP
    return True


async def ask(
    node: Node, job: int, prompt: list[int], line: tuple[Stage, ...] = STAGES, *, placed: bool = True, **changes: Any
) -> None:
    """Submit a session; its prompt lies with its head. What is not ``placed`` no leader has seen to."""
    blob = np.array(prompt, dtype="<i4").tobytes()
    node.blobs.store.put(blob)
    fields = {"prompt": digest(blob), "source": "a", "prompt_tokens": len(prompt), "new_tokens": SAID, **changes}
    if placed:
        await submit(node, job, session_job(line, **fields))
    else:
        node.host.submit("worker", job, session_job(line, **fields))


async def all_said(node: Node, jobs: int) -> list[list[int]]:
    """Return the answers of jobs 0 .. n - 1."""
    await until(lambda: set(range(jobs)) <= set(node.ends))
    return [said(node, node.ends[job]) for job in range(jobs)]


async def until_free(nodes: dict[str, Node]) -> None:
    """Wait until no node has a session, a lane or a cache any more."""
    await until(lambda: sum(node.host.active for node in nodes.values()) == 0)
    for node in nodes.values():
        await node.host.compute.run(lambda: None)  # what was dropped before is gone now
        assert [shard.sessions() for shard in node.host.stages.shards.held.values() if shard.sessions()] == []


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """(sessions, tokens) of every step that any stage runs."""
    seen: list[tuple[int, int]] = []
    before = Stages._run

    def counting(self: Stages, lane: Any, entries: Any, model: str, stage: Stage, steps: Any, *rest: Any) -> Any:
        seen.append((len(steps), sum(len(step.part.x) for step in steps)))
        return before(self, lane, entries, model, stage, steps, *rest)

    monkeypatch.setattr(Stages, "_run", counting)
    return seen


@pytest.mark.parametrize("line", [(Stage("a", 0, 8),), (STAGES[0], Stage("b", 3, 8)), STAGES])
def test_a_batch_says_what_each_session_says_alone(
    tmp_path: Path, references: Any, line: tuple[Stage, ...], steps: list[tuple[int, int]]
) -> None:
    """Sessions that step together, prompts in chunks, say what one process says to each wherever that is decided."""

    async def act(nodes: dict[str, Node]) -> None:
        for job, prompt in enumerate(PROMPTS):
            await ask(nodes["a"], job, prompt, line)
        found = await all_said(nodes["a"], len(PROMPTS))
        assert all(map(same_where_decided, found, references))
        await until_free(nodes)
        assert max(sessions for sessions, _ in steps) == -(-len(PROMPTS) // len(line))
        assert max(tokens for _, tokens in steps) == 24
        assert all(nodes["a"].ends[job].first_token_ns > 0 for job in range(len(PROMPTS)))

    asyncio.run(run_nodes(tmp_path, act, policy=ROOMY))


def test_as_many_batches_are_under_way_as_there_are_stages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While a lane's batch is with other stages, the head runs another lane's."""
    under_way: set[str] = set()
    most = 0
    before = executors_host.ExecutorHost.ask

    async def counting(self: Any, batch: Batch, *rest: Any) -> Any:
        nonlocal most
        under_way.add(batch.lane)
        most = max(most, len(under_way))
        found = await before(self, batch, *rest)
        under_way.remove(batch.lane)
        return found

    monkeypatch.setattr(executors_host.ExecutorHost, "ask", counting)

    async def act(nodes: dict[str, Node]) -> None:
        for job, prompt in enumerate(PROMPTS):
            await ask(nodes["a"], job, prompt)
        await all_said(nodes["a"], len(PROMPTS))

    asyncio.run(run_nodes(tmp_path, act, policy=ROOMY))
    assert most == len(STAGES)


def test_a_session_that_lost_its_blocks_goes_on_where_it_was(
    tmp_path: Path, references: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With too few blocks sessions are recomputed, none emits a token twice, and stages hold only who runs."""
    lost: list[str] = []
    before = Batcher._preempt
    monkeypatch.setattr(Batcher, "_preempt", lambda self: (lost.append("one"), before(self))[1])
    most = 0

    async def act(nodes: dict[str, Node]) -> None:
        nonlocal most
        for job, prompt in enumerate(PROMPTS):
            await ask(nodes["a"], job, prompt)
        while len(nodes["a"].ends) < len(PROMPTS):
            await asyncio.sleep(0)
            shards = nodes["c"].host.stages.shards.held.values()
            most = max([most, *(shard.sessions() for shard in shards)])
        found = await all_said(nodes["a"], len(PROMPTS))
        assert all(map(same_where_decided, found, references))
        await until_free(nodes)

    asyncio.run(run_nodes(tmp_path, act, policy=CROWDED))
    assert lost
    assert 1 < most <= 5


@pytest.mark.parametrize(
    ("faults", "counted"),
    [
        (Disturbance(duplicate=0.5, reorder=0.3, reorder_s=0.003), "duplicated"),
        (Disturbance(loss=0.1), "lost"),
    ],
)
def test_lost_and_repeated_frames_change_no_token(
    tmp_path: Path, references: Any, monkeypatch: pytest.MonkeyPatch, faults: Disturbance, counted: str
) -> None:
    """Batches and answers that come twice, late or never corrupt no cache."""
    monkeypatch.setattr(executors_host, "STEP_TRY_S", 0.1)
    monkeypatch.setattr(executors_host, "STEP_TRIES", 50)

    async def act(nodes: dict[str, Node]) -> None:
        for node in nodes.values():
            node.transport.faults = LinkFaults((faults,))
        for job, prompt in enumerate(PROMPTS):
            await ask(nodes["a"], job, prompt)
        found = await all_said(nodes["a"], len(PROMPTS))
        assert all(map(same_where_decided, found, references))
        assert sum(node.transport.done[counted] for node in nodes.values()) > 0

    asyncio.run(run_nodes(tmp_path, act, policy=CROWDED))


def test_a_batch_closes_what_its_blocks_are_taken_from(tmp_path: Path, references: Any) -> None:
    """Caches are closed by the batch that needs their blocks: no other frame has to arrive, and none is short."""
    held: list[tuple[int, int]] = []

    async def act(nodes: dict[str, Node]) -> None:
        for node in (nodes["b"], nodes["c"]):
            take = node.host.on_frame

            def deaf(*frame: Any, node: Node = node, take: Any = take) -> None:
                if not isinstance(stages._decode(frame[2]), step_frames.Close):
                    take(*frame)
                held.extend((one.kv_bytes(), one.pool_bytes()) for one in node.host.stages.shards.held.values())

            node.host.on_frame = deaf  # type: ignore[method-assign]
        for job, prompt in enumerate(PROMPTS):
            await ask(nodes["a"], job, prompt, new_tokens=40)
        found = await all_said(nodes["a"], len(PROMPTS))
        assert all(map(same_where_decided, [said[:SAID] for said in found], references))

    asyncio.run(run_nodes(tmp_path, act, policy=CROWDED))
    assert max(kv / pool for kv, pool in held) == 1.0


def test_who_leaves_frees_its_blocks_and_disturbs_nobody(tmp_path: Path, references: Any) -> None:
    """Cancelled sessions are silent and hold no cache anywhere; the others say what they would have said."""

    async def act(nodes: dict[str, Node]) -> None:
        host = nodes["a"].host
        for job, prompt in enumerate(PROMPTS):
            await ask(nodes["a"], job, prompt)
        await ask(nodes["a"], 50, PROMPTS[0], new_tokens=40)
        await ask(nodes["a"], 51, PROMPTS[1], new_tokens=24)
        await until(lambda: nodes["c"].host.stages.sessions > 2)
        host.cancel("worker", 50)
        host.cancel("worker", 51)
        found = await all_said(nodes["a"], len(PROMPTS))
        assert all(map(same_where_decided, found, references))
        await until_free(nodes)
        assert set(nodes["a"].ends) == set(range(len(PROMPTS)))
        assert host._lines is not None
        assert host._lines._lanes == {}
        assert host._nodes == {}

    asyncio.run(run_nodes(tmp_path, act, policy=ROOMY))


def test_a_batch_draws_what_each_session_draws_alone(tmp_path: Path) -> None:
    """Each by its own seed, beside sessions that choose greedily; and goes on from tokens that are forced."""
    drawn = [None, Sampling(0.9, 0.95, 5), Sampling(1.3, 1.0, 6)]
    prompts = PROMPTS[: len(drawn)]
    alone = [Pipeline([make_shard("torch", DESK_TINY, WEIGHTS, 0, DESK_TINY.layers)]) for _ in drawn]
    expected = [one.generate(prompt, SAID, how) for one, prompt, how in zip(alone, prompts, drawn, strict=True)]
    assert len({tuple(tokens) for tokens in expected}) == len(drawn)

    async def act(nodes: dict[str, Node]) -> None:
        for job, (prompt, how) in enumerate(zip(prompts, drawn, strict=True)):
            await ask(nodes["a"], job, prompt, sampling=how, forced=tuple(expected[job][:job]))
        assert await all_said(nodes["a"], len(drawn)) == expected

    asyncio.run(run_nodes(tmp_path, act, policy=ROOMY))


def test_a_lost_stage_ends_its_sessions_and_frees_the_others(tmp_path: Path) -> None:
    """When a stage's node goes down every session of the line is lost, each hears who it was, and no cache is left."""

    async def act(nodes: dict[str, Node]) -> None:
        for job, prompt in enumerate(PROMPTS):
            await ask(nodes["a"], job, prompt, new_tokens=24)
        await until(lambda: nodes["c"].host.stages.sessions > 2)
        await nodes["b"].transport.close()
        while len(nodes["a"].ends) < len(PROMPTS):  # as often as a lane asks again
            nodes["a"].host.on_peer("b", "down")
            await asyncio.sleep(0)
        assert {(lost.reason, lost.node) for lost in nodes["a"].ends.values()} == {("b went down", "b")}
        await until_free({name: nodes[name] for name in "ac"})

    asyncio.run(run_nodes(tmp_path, act, policy=ROOMY))


def test_a_stage_that_forgot_loses_those_who_run_and_serves_the_next(tmp_path: Path, references: Any) -> None:
    """A stage that lost its caches says so; who had one there is lost, and the line serves whoever comes then."""

    async def act(nodes: dict[str, Node]) -> None:
        await ask(nodes["a"], 20, PROMPTS[0], new_tokens=40)
        await ask(nodes["a"], 21, PROMPTS[1], new_tokens=24)
        at_c = nodes["c"].host.stages
        await until(lambda: at_c.sessions == 4)
        for name in list(at_c._sessions):
            await at_c.drop(name)
        await until(lambda: {20, 21} <= set(nodes["a"].ends))
        assert {lost.node for lost in nodes["a"].ends.values()} == {"c"}
        assert all("not allowed" in lost.reason for lost in nodes["a"].ends.values())
        await ask(nodes["a"], 0, PROMPTS[0])
        assert same_where_decided((await all_said(nodes["a"], 1))[0], references[0])
        await until_free(nodes)

    asyncio.run(run_nodes(tmp_path, act, policy=ROOMY))


@pytest.mark.parametrize(
    ("prompt", "changes", "reason", "node"),
    [
        (PROMPTS[0], {"new_tokens": 500}, "at most 256", "a"),
        (PROMPTS[0], {"new_tokens": 100}, "allowed: up to 64", "a"),
        ([DESK_TINY.vocab], {}, "expected 0..511", "a"),
        (PROMPTS[0], {"model": "other"}, "model='other'", "a"),
        (PROMPTS[0], {"stages": (Stage("a", 0, 3), Stage("b", 4, 99))}, "no token at position 0", "b"),
    ],
    ids=["too long", "no room ever", "no such token", "no such model", "no such layers"],
)
def test_an_impossible_session_harms_nobody(
    tmp_path: Path, references: Any, prompt: list[int], changes: Any, reason: str, node: str
) -> None:
    """A session that can never run is lost with its reason; the batch it would have been in goes on."""
    few = PolicyConfig(sharding=ShardingConfig(slots=2, context_tokens=64), serving=BatchedConfig(sessions=8))

    async def act(nodes: dict[str, Node]) -> None:
        for job in range(2):
            await ask(nodes["a"], job, PROMPTS[job])
        fields = dict(changes)
        await ask(nodes["a"], 9, prompt, fields.pop("stages", STAGES), placed=False, **fields)
        found = await all_said(nodes["a"], 2)
        await until(lambda: 9 in nodes["a"].ends)
        assert all(map(same_where_decided, found, references[:2]))
        lost = nodes["a"].ends[9]
        assert isinstance(lost, Lost)
        assert reason in lost.reason
        assert lost.node == node
        await until_free({"a": nodes["a"]})
        assert nodes["a"].host._lines is not None
        assert nodes["a"].host._lines._lanes == {}

    asyncio.run(run_nodes(tmp_path, act, policy=few))


@pytest.mark.parametrize("slices", [(), (Slice("s", 0, 2, True),), (Slice("s", 0, 4, True), Slice("t", 0, -1, True))])
def test_slices_that_are_not_the_rows_are_refused(slices: tuple[Slice, ...]) -> None:
    """A peer's slices must be exactly the rows of its activations."""
    with pytest.raises(ValueError, match="batch: slices of"):
        parts_of(slices, np.zeros((3, 8), np.float32))


def test_a_stage_warms_every_batch_that_may_come(tmp_path: Path) -> None:
    """Shards are warmed for as many sessions as a line takes at once."""
    warmed: list[int] = []

    def make(*arguments: Any) -> Any:
        shard = make_shard(*arguments)
        before: Callable[[int], None] = shard.warm_up
        shard.warm_up = lambda sessions=1: (warmed.append(sessions), before(sessions))[1]  # type: ignore[method-assign]
        return shard

    async def act(nodes: dict[str, Node]) -> None:
        for node in nodes.values():
            node.host.stages.shards.make = make
        await ask(nodes["a"], 0, PROMPTS[0])
        await until(lambda: 0 in nodes["a"].ends)
        assert isinstance(nodes["a"].ends[0], Done)

    asyncio.run(run_nodes(tmp_path, act, policy=ROOMY))
    assert warmed == [8] * len(STAGES)


ALONE = (Stage("a", 0, 8),)


@pytest.fixture
def begin_with(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Hold all batches until so many sessions are in a lane."""

    def hold(sessions: int) -> None:
        before, there = batch_line._Lane._compute, False

        async def held(self: Any, *rest: Any) -> Any:
            nonlocal there
            await until(lambda: there or len(self.served) == sessions)
            there = True
            return await before(self, *rest)

        monkeypatch.setattr(batch_line._Lane, "_compute", held)

    return hold


def test_whoever_waits_in_a_lane_is_admitted_by_class(tmp_path: Path, begin_with: Callable[[int], None]) -> None:
    """Where the cache is full, a session of a class that goes first is served before one that came earlier."""
    begin_with(3)

    async def act(nodes: dict[str, Node]) -> None:
        for job, rank in enumerate((0, 3, 1)):
            await ask(nodes["a"], job, PROMPTS[1], ALONE, rank=rank)
        await all_said(nodes["a"], 3)
        assert list(nodes["a"].ends) == [0, 2, 1]

    asyncio.run(run_nodes(tmp_path, act, policy=CROWDED))


def test_the_lowest_class_in_a_lane_loses_its_blocks(tmp_path: Path, begin_with: Callable[[int], None]) -> None:
    """Where two sessions outgrow the cache, the one of the lower class gives way, although it came first."""
    begin_with(2)

    async def act(nodes: dict[str, Node]) -> None:
        for job, rank in enumerate((3, 1)):
            await ask(nodes["a"], job, PROMPTS[2], ALONE, rank=rank, new_tokens=50)
        answers = await all_said(nodes["a"], 2)
        assert list(nodes["a"].ends) == [1, 0]
        assert [len(answer) for answer in answers] == [50, 50]

    asyncio.run(run_nodes(tmp_path, act, policy=CROWDED))


def test_whoever_waits_in_a_lane_beyond_its_deadline_is_told(tmp_path: Path, begin_with: Callable[[int], None]) -> None:
    """It is lost for that, by nobody's fault, before who runs has ended; who has time is served."""
    begin_with(3)

    async def act(nodes: dict[str, Node]) -> None:
        for job, deadline_ns in enumerate((None, 1, 2**62)):
            await ask(nodes["a"], job, PROMPTS[1], ALONE, deadline_ns=deadline_ns)
        await until(lambda: len(nodes["a"].ends) == 3)
        assert list(nodes["a"].ends) == [1, 0, 2]
        assert nodes["a"].ends[1] == Lost(EXPIRED)
        assert [type(nodes["a"].ends[job]) for job in (0, 2)] == [Done, Done]
        await until_free(nodes)

    asyncio.run(run_nodes(tmp_path, act, policy=CROWDED))
