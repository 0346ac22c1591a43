"""Sessions that begin alike, through real stages: blocks are computed once, and each says what it says alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from policies.config import BatchedConfig, OneByOneConfig, PolicyConfig, ServingRules, ShardingConfig
from policies.jobs import Done, Stage
from policies.serving.batching import Batcher
from policies.wire import Message, encode
from real_backends import executors_host
from real_backends.batch_frames import Tokens
from real_backends.batch_line import GONE_MAX, BatchLines
from real_backends.cluster import until
from real_backends.executors import DESK_TINY, PrefixGone
from real_backends.executors_host import ExecutorHost
from real_backends.stages import Stages
from real_backends.step_frames import Failed, Token
from real_backends.transports.faulty import Disturbance, LinkFaults
from real_backends.transports.frames import STAGE_RESULT
from tests.real_backends.session_nodes import STAGES, Node, run_nodes, said
from tests.real_backends.test_batches import SAID, all_said, alone, ask, same_where_decided, until_free

pytest.importorskip("torch", reason="torch is not installed: pip install 'villagetwin[torch]'")

SYSTEM = [(11 * k + 5) % DESK_TINY.vocab for k in range(40)]
PROMPTS = [SYSTEM + [(17 * n + 3 * k) % DESK_TINY.vocab for k in range(3 + 4 * n)] for n in range(4)] + [SYSTEM[:32]]
"""The first 32 tokens are two whole blocks, which all of them share; the next eight are shared, and are no block. The
last prompt is of whole blocks that are all there: one of them is computed again."""
ROOM = ShardingConfig(slots=4, context_tokens=96)
ALONE = PolicyConfig(sharding=ROOM, serving=OneByOneConfig(share_prefixes=True))
BATCHED = PolicyConfig(sharding=ROOM, serving=BatchedConfig(sessions=8, tokens_max=24, share_prefixes=True))
BOTH = pytest.mark.parametrize("policy", [ALONE, BATCHED], ids=["one by one", "batched"])
PAIR = (Stage("a", 0, 3), Stage("b", 3, 8))


@pytest.fixture(scope="module")
def references() -> list[tuple[list[int], list[float]]]:
    """What one process alone says to each prompt."""
    return [alone(prompt, SAID) for prompt in PROMPTS]


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Tokens that each node's shards computed, of prompts and answers."""
    seen = dict.fromkeys("abc", 0)
    begin = Stages.__init__

    def begun(self: Stages, *given: Any, **options: Any) -> None:
        begin(self, *given, **options)
        load = self.shards.load

        def loaded(model: str, first: int, last: int) -> Any:
            shard = load(model, first, last)
            if not hasattr(shard, "counted"):
                step, shard.counted = shard.step, True  # type: ignore[attr-defined]

                def counting(parts: Any) -> Any:
                    found = step(parts)
                    seen[self.transport.me] += sum(len(part.x) for part in parts)
                    return found

                shard.step = counting  # type: ignore[method-assign]
            return shard

        self.shards.load = loaded  # type: ignore[method-assign]

    monkeypatch.setattr(Stages, "__init__", begun)
    return seen


def whole(jobs: int) -> int:
    """Tokens that go through a stage for the first prompts when nothing is shared."""
    return sum(len(prompt) + SAID - 1 for prompt in PROMPTS[:jobs])


async def one_after_another(node: Node, jobs: range, line: tuple[Stage, ...]) -> None:
    for job in jobs:
        await ask(node, job, PROMPTS[job], line)
        await until(lambda job=job: job in node.ends)  # type: ignore[misc]


@BOTH
@pytest.mark.parametrize(
    ("line", "backends"),
    [((Stage("a", 0, 8),), ("torch",)), (STAGES, ("torch",)), (STAGES, ("jax",))],
    ids=["one stage", "three stages", "three stages, JAX"],
)
def test_what_began_alike_is_computed_once(
    tmp_path: Path, references: Any, computed: dict[str, int], policy: PolicyConfig, line: tuple[Stage, ...],
    backends: tuple[str, ...],
) -> None:  # fmt: skip
    """Each later session begins behind the blocks in common, on every stage, and says what it says alone."""

    async def act(nodes: dict[str, Node]) -> None:
        await one_after_another(nodes["a"], range(len(PROMPTS)), line)
        found = [said(nodes["a"], nodes["a"].ends[job]) for job in range(len(PROMPTS))]
        assert all(map(same_where_decided, found, references))
        for stage in line:
            assert computed[stage.node] == whole(len(PROMPTS)) - (32 + 32 + 32 + 16)
        await until_free(nodes)
        assert not any(shard.kv_bytes() for node in nodes.values() for shard in node.host.stages.shards.held.values())

    asyncio.run(run_nodes(tmp_path, act, policy=policy, backends=backends))


@BOTH
def test_sessions_side_by_side_share_what_is_there(
    tmp_path: Path, references: Any, computed: dict[str, int], policy: PolicyConfig
) -> None:
    """Together they hold the shared blocks once, in each lane, and say what each says alone."""

    async def act(nodes: dict[str, Node]) -> None:
        await one_after_another(nodes["a"], range(1), PAIR)
        for job in range(1, len(PROMPTS)):
            await ask(nodes["a"], job, PROMPTS[job], PAIR)
        found = await all_said(nodes["a"], len(PROMPTS))
        assert all(map(same_where_decided, found, references))
        saved = whole(len(PROMPTS)) - computed["b"]
        assert saved == 32 * 3 + 16 if policy is ALONE else saved >= 32 * 2
        await until_free(nodes)

    asyncio.run(run_nodes(tmp_path, act, policy=policy))


@BOTH
def test_a_stage_that_lost_its_blocks_says_so(
    tmp_path: Path, references: Any, computed: dict[str, int], policy: PolicyConfig
) -> None:
    """A session that would have begun behind them begins whole, on all stages; nobody is lost and no token is wrong."""

    async def act(nodes: dict[str, Node]) -> None:
        await one_after_another(nodes["a"], range(2), STAGES)
        shards = nodes["c"].host.stages.shards
        await nodes["c"].host.compute.run(lambda: [s.table.clear() for s in shards.held.values()])
        before = computed["c"]
        await one_after_another(nodes["a"], range(2, 4), STAGES)
        found = [said(nodes["a"], nodes["a"].ends[job]) for job in range(4)]
        assert all(map(same_where_decided, found, references))
        assert computed["c"] - before == sum(len(PROMPTS[job]) + SAID - 1 for job in (2, 3)) - 32

    asyncio.run(run_nodes(tmp_path, act, policy=policy))


@BOTH
def test_that_blocks_are_lost_is_said_again(
    tmp_path: Path, references: Any, monkeypatch: pytest.MonkeyPatch, policy: PolicyConfig
) -> None:
    """The frame that says so is lost; when the head sends its step again, it hears it, and the session begins whole."""
    monkeypatch.setattr(executors_host, "STEP_TRY_S", 0.1)
    monkeypatch.setattr(executors_host, "STEP_TRIES", 50)

    async def act(nodes: dict[str, Node]) -> None:
        await one_after_another(nodes["a"], range(1), STAGES)
        shards = nodes["c"].host.stages.shards
        await nodes["c"].host.compute.run(lambda: [s.table.clear() for s in shards.held.values()])
        take, lost = nodes["a"].host.on_frame, list[bytes]()

        def lossy(sender: str, kind: int, body: bytes) -> None:
            if kind == STAGE_RESULT and not lost:
                lost.append(body)
            else:
                take(sender, kind, body)

        nodes["a"].host.on_frame = lossy  # type: ignore[method-assign]
        await one_after_another(nodes["a"], range(1, 2), STAGES)
        assert same_where_decided(said(nodes["a"], nodes["a"].ends[1]), references[1])
        assert b"failed" in lost[0]

    asyncio.run(run_nodes(tmp_path, act, policy=policy))


@BOTH
def test_no_other_pipelines_blocks_are_shared(tmp_path: Path, references: Any, policy: PolicyConfig) -> None:
    """What a stage keeps of a pipeline whose other stages computed something false spoils no session of the next one,
    nor, of the same head, any of its next life."""

    async def act(nodes: dict[str, Node]) -> None:
        host, stages = nodes["a"].host, nodes["b"].host.stages
        run = stages._run
        stages._run = lambda *step: [0 * rows for rows in run(*step)]  # type: ignore[method-assign]
        await one_after_another(nodes["a"], range(1), STAGES)
        assert not same_where_decided(said(nodes["a"], nodes["a"].ends[0]), references[0])
        if isinstance(policy.serving, BatchedConfig):
            host._lines = BatchLines(host, policy.serving, policy.sharding, time.monotonic_ns)
        await one_after_another(nodes["a"], range(1, 3), (STAGES[0], Stage("d", 3, 5), STAGES[2]))
        found = [said(nodes["a"], nodes["a"].ends[job]) for job in (1, 2)]
        assert all(map(same_where_decided, found, references[1:3]))

    asyncio.run(run_nodes(tmp_path, act, policy=policy, names="abcd"))


@BOTH
def test_a_replay_shares_what_the_first_attempt_left(
    tmp_path: Path, references: Any, computed: dict[str, int], policy: PolicyConfig
) -> None:
    """A session that goes on from forced tokens says the rest, and computes of prompt and answer what no block has."""

    async def act(nodes: dict[str, Node]) -> None:
        await one_after_another(nodes["a"], range(1), PAIR)
        before, forced = computed["b"], tuple(references[0][0][:12])
        await ask(nodes["a"], 1, PROMPTS[0], PAIR, forced=forced)
        await until(lambda: 1 in nodes["a"].ends)
        assert same_where_decided(said(nodes["a"], nodes["a"].ends[1]), references[0])
        known = len(PROMPTS[0]) + len(forced)  # 55: three blocks
        assert computed["b"] - before == known - 48 + (SAID - len(forced) - 1)

    asyncio.run(run_nodes(tmp_path, act, policy=policy))


@pytest.mark.parametrize("serving", [OneByOneConfig(share_prefixes=True), BatchedConfig(share_prefixes=True)])
def test_a_tight_pool_gives_up_what_nobody_holds(tmp_path: Path, references: Any, serving: ServingRules) -> None:
    """Where there is room for one session alone, blocks of those before make way, and every session is answered."""
    policy = PolicyConfig(sharding=ShardingConfig(slots=1, context_tokens=80), serving=serving)

    async def act(nodes: dict[str, Node]) -> None:
        for turn in range(2):
            for job, prompt in enumerate(PROMPTS):
                await ask(nodes["a"], number := 5 * turn + job, prompt[turn * 7 :], PAIR)
                await until(lambda number=number: number in nodes["a"].ends)  # type: ignore[misc]
        assert all(isinstance(end, Done) for end in nodes["a"].ends.values())
        found = [said(nodes["a"], nodes["a"].ends[job]) for job in range(5)]
        assert all(map(same_where_decided, found, references))

    asyncio.run(run_nodes(tmp_path, act, policy=policy))


@pytest.mark.parametrize(
    "faults",
    [None, Disturbance(loss=0.1, duplicate=0.3, reorder=0.3, reorder_s=0.003)],
    ids=["sound links", "bad links"],
)
def test_stages_have_what_the_lanes_pool_has(
    tmp_path: Path, references: Any, monkeypatch: pytest.MonkeyPatch, faults: Disturbance | None
) -> None:
    """Where sessions take one another's blocks, over any links, no stage ever lacks one or has none to give."""
    monkeypatch.setattr(executors_host, "STEP_TRY_S", 0.1)
    monkeypatch.setattr(executors_host, "STEP_TRIES", 50)
    crowded = PolicyConfig(
        sharding=ShardingConfig(slots=1, context_tokens=80),
        serving=BatchedConfig(sessions=8, tokens_max=24, share_prefixes=True),
    )
    refused: list[Exception] = []
    run, preempt = Stages._run, Batcher._preempt
    preempted: list[int] = []

    def noting(self: Stages, *arguments: Any) -> Any:
        try:
            return run(self, *arguments)
        except Exception as error:
            refused.append(error)
            raise

    monkeypatch.setattr(Stages, "_run", noting)
    monkeypatch.setattr(Batcher, "_preempt", lambda self: (preempted.append(1), preempt(self))[1])

    async def act(nodes: dict[str, Node]) -> None:
        for node in nodes.values():
            node.transport.faults = LinkFaults((faults,) if faults else ())
        for job in range(10):
            await ask(nodes["a"], job, PROMPTS[job % 5])
        found = await all_said(nodes["a"], 10)
        assert all(map(same_where_decided, found, references * 2))

    asyncio.run(run_nodes(tmp_path, act, policy=crowded))
    assert refused == []
    assert preempted


def answering(host: ExecutorHost, forge: Callable[[str, int], Message | None]) -> None:
    """Let the last stage, b, answer a session's step, or a lane's, with what ``forge`` makes of it, where it does."""
    take = host.on_frame

    def false(sender: str, kind: int, body: bytes) -> None:
        ((name, awaited),) = host._waiting.items()
        forged = forge(name, awaited.number) if kind == STAGE_RESULT and not awaited.future.done() else None
        take(sender, kind, body if forged is None else encode(forged))

    host.on_frame = false  # type: ignore[method-assign]


@BOTH
@pytest.mark.parametrize("honest", [0, 2], ids=["at once", "later"])
def test_a_stage_that_lacks_what_nobody_shares_is_blamed(tmp_path: Path, policy: PolicyConfig, honest: int) -> None:
    """Nothing is shared, and a stage says that it has lost it: the session is lost to that stage, and not for ever."""

    async def act(nodes: dict[str, Node]) -> None:
        answers: list[int] = []

        def gone(name: str, number: int) -> Message | None:
            answers.append(number)
            return Failed(name, "lost", "b", gone=True) if len(answers) > honest else None

        answering(nodes["a"].host, gone)
        await ask(nodes["a"], 0, PROMPTS[0], PAIR)
        await until(lambda: 0 in nodes["a"].ends or len(answers) > 50)
        assert (nodes["a"].ends[0].node, len(answers)) == ("b", honest + 1)

    asyncio.run(run_nodes(tmp_path, act, policy=policy))


def test_a_stage_that_loses_blocks_again_and_again_is_blamed(tmp_path: Path) -> None:
    """A lane whose long prompts share begins again some times, and is lost when nobody comes to a token between."""
    roomy = PolicyConfig(
        sharding=ShardingConfig(slots=4, context_tokens=192),
        serving=BatchedConfig(sessions=8, tokens_max=64, share_prefixes=True),
    )

    async def act(nodes: dict[str, Node]) -> None:
        stages, gone = nodes["b"].host.stages, list[str]()
        run = stages._run

        def losing(holder: Any, entries: Any, model: str, stage: Stage, steps: Any, *more: Any) -> Any:
            if len(gone) < 50 and any(step.shared for step in steps):
                gone.append(holder.head)
                raise PrefixGone("lost")
            return run(holder, entries, model, stage, steps, *more)

        stages._run = losing  # type: ignore[method-assign]
        for job in range(4):  # two in each lane
            await ask(nodes["a"], job, [*range(90)], PAIR)
        await until(lambda: len(nodes["a"].ends) == 4)
        assert {end.node for end in nodes["a"].ends.values()} == {"b"}
        assert len(gone) == 2 * (GONE_MAX + 1)

    asyncio.run(run_nodes(tmp_path, act, policy=roomy))


def blames_the_last_stage(
    tmp_path: Path, references: Any, policy: PolicyConfig, wrong: Callable[[str, int], Message | None]
) -> None:
    """Of two sessions the first ends with the name of the stage that answers ``wrong``, and the second is answered."""

    async def act(nodes: dict[str, Node]) -> None:
        answering(nodes["a"].host, wrong)
        await one_after_another(nodes["a"], range(2), PAIR)
        assert nodes["a"].ends[0].node == "b"
        assert same_where_decided(said(nodes["a"], nodes["a"].ends[1]), references[1])

    asyncio.run(run_nodes(tmp_path, act, policy=policy))


@BOTH
@pytest.mark.parametrize("tokens", [(1 << 63,), (DESK_TINY.vocab,), (-1,)])
def test_a_last_stage_that_chooses_no_token_is_blamed(
    tmp_path: Path, references: Any, policy: PolicyConfig, tokens: tuple[int, ...]
) -> None:
    """Its session ends with its name, and the next one of the same pipeline is answered."""
    answers = list[int]()

    def wrong(name: str, number: int) -> Message | None:
        answers.append(number)
        if len(answers) != 2:  # in a batch the first one is a piece of the prompt, and nobody speaks
            return None
        return Tokens(name, number, tokens) if policy is BATCHED else Token(name, number, *tokens)

    blames_the_last_stage(tmp_path, references, policy, wrong)


@pytest.mark.parametrize("many", [0, 2])
def test_a_last_stage_that_chooses_too_many_or_few_is_blamed(tmp_path: Path, references: Any, many: int) -> None:
    """Its batch is lost with its name, and the lane goes on with the next session."""
    answers: list[int] = []

    def wrong(name: str, number: int) -> Message | None:
        answers.append(number)
        return Tokens(name, number, (1,) * many) if len(answers) == 2 else None

    blames_the_last_stage(tmp_path, references, BATCHED, wrong)


def test_a_lane_that_broke_is_not_used_again(
    tmp_path: Path, references: Any, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """A fault of our own in the middle of a batch loses who is there, and the next session is answered."""
    end, broke = Batcher.end, list[int]()

    def breaks(self: Batcher) -> Any:
        if not broke:
            broke.append(1)
            raise RuntimeError("a fault of ours")
        return end(self)

    monkeypatch.setattr(Batcher, "end", breaks)

    async def act(nodes: dict[str, Node]) -> None:
        await one_after_another(nodes["a"], range(2), PAIR)
        assert "a fault of ours" in nodes["a"].ends[0].reason
        assert same_where_decided(said(nodes["a"], nodes["a"].ends[1]), references[1])

    asyncio.run(run_nodes(tmp_path, act, policy=BATCHED))


def test_without_the_switch_nothing_is_shared(tmp_path: Path, computed: dict[str, int]) -> None:
    """The default computes every prompt whole, and keeps no block of a session that is over."""

    async def act(nodes: dict[str, Node]) -> None:
        await one_after_another(nodes["a"], range(3), PAIR)
        assert computed["b"] == whole(3)
        assert all(not shard.table._named for shard in nodes["b"].host.stages.shards.held.values())

    asyncio.run(run_nodes(tmp_path, act, policy=PolicyConfig(sharding=ROOM, serving=OneByOneConfig())))
