"""The mixer: several models over the same workers. What it answers can be held, serves best, and moves little."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.degradation import KEEPS, Share, worth
from policies.jobs import Stage
from policies.mixing import MIXER, Line, Mixed, Mixing, as_model
from policies.problem import Plan, Problem, Worker
from policies.sharding import JOBS, PLANNERS, check_plan, token_s
from policies.wire import WireError, encode

LARGE = Problem("large", 4, 900.0, 100.0, 0.0, 100.0)
SMALL = Problem("small", 2, 450.0, 50.0, 0.0, 50.0)
CARDS = (LARGE, SMALL)
Standing = tuple[tuple[str, tuple[Stage, ...]], ...]
memories = st.lists(st.sampled_from([500.0, 1000.0, 2000.0, 4000.0]), min_size=0, max_size=6)


def pool(memories: Sequence[float]) -> tuple[Worker, ...]:
    """Workers that differ in memory alone."""
    return tuple(Worker(f"w{k}", m, 0.01, 0.001, 0.001, 1e7, 0.01) for k, m in enumerate(memories))


def mixed(workers: Sequence[Worker], services: Sequence[str], standing: Standing = (), away: float = 0.05) -> Mixed:
    """What the mixer answers."""
    asked = Mixing("latency_dp", CARDS, tuple(workers), standing, tuple(services), away)
    return msgspec.msgpack.decode(JOBS[MIXER](encode(asked), max(1, len(workers))), type=Mixed)


def shares(lines: Sequence[Line]) -> tuple[Share, ...]:
    """A mix as degradation counts it."""
    own = [[len(line.stages) for line in lines if line.model == card.model] for card in CARDS]
    return tuple(Share(max(stages, default=1), len(stages)) for stages in own)


@settings(max_examples=60)
@given(memories, st.lists(st.sampled_from(sorted(KEEPS)), max_size=3, unique=True))
def test_what_it_answers_can_be_held_and_idle_workers_would_help_nobody(
    memories: list[float], services: list[str]
) -> None:
    """Each line covers its model in its workers' memory, no worker is in two, one more small line is worth nothing."""
    workers = pool(memories)
    answer = mixed(workers, services)
    for card in CARDS:
        own = [line for line in answer.lines if line.model == card.model]
        if own:
            problem = msgspec.structs.replace(card, workers=tuple(as_model(card, LARGE, w) for w in workers))
            assert not check_plan(problem, Plan(tuple(o.stages for o in own), tuple(o.token_s for o in own)))
            assert all(line.token_s == token_s(problem, line.stages) for line in own)
    used = [stage.node for line in answer.lines for stage in line.stages]
    assert len(used) == len(set(used))
    idle = [worker for worker in workers if worker.node not in used]
    if any(worker.memory_bytes >= 1000.0 for worker in idle):  # the small model fits there
        large, small = shares(answer.lines)
        more = (large, small._replace(copies=small.copies + 1))
        assert worth(services, 0.05, more) == worth(services, 0.05, (large, small))
    assert bool(answer.lines) != bool(answer.infeasible)


@settings(max_examples=60)
@given(memories, st.lists(st.sampled_from(sorted(KEEPS)), max_size=3, unique=True))
def test_no_other_way_to_share_the_workers_is_worth_more(memories: list[float], services: list[str]) -> None:
    """However many workers are set aside for the small model, the planner's lines on the two parts are not better."""
    workers = pool(memories)
    ours = worth(services, 0.05, shares(mixed(workers, services).lines))
    rich = sorted(workers, key=lambda worker: worker.memory_bytes)
    for count in range(len(workers) + 1):
        parts = (rich[count:], rich[:count])
        lines = [
            Line(card.model, stages, 1.0)
            for card, part in zip(CARDS, parts, strict=True)
            if part
            for stages in msgspec.msgpack.decode(
                PLANNERS["latency_dp"](encode(msgspec.structs.replace(card, workers=tuple(part))), len(part)), type=Plan
            ).pipelines
        ]
        assert ours <= worth(services, 0.05, shares(lines))


def test_what_stands_stays_unless_something_is_better() -> None:
    """Asked again with its own answer standing it gives that answer, whichever workers come into question first."""
    workers = pool([2000.0] * 4)
    for services, order in itertools.product((["critical"], ["standard"]), itertools.permutations(workers)):
        first = mixed(order, services)
        standing = tuple((line.model, line.stages) for line in first.lines)
        assert set(mixed(workers, services, standing).lines) == set(first.lines)


def test_standing_lines_on_other_workers_count_and_stay() -> None:
    """Two free workers: large for standard. For critical small twice, as beside a large line that keeps the promise."""
    there = (("large", (Stage("x0", 0, 2), Stage("x1", 2, 4))),)
    free = pool([2000.0] * 2)

    def models(services: Sequence[str], standing: Standing) -> list[tuple[str, str]]:
        return [(line.model, line.stages[0].node[0]) for line in mixed(free, services, standing).lines]

    assert models(["standard"], there) == [("large", "x"), ("large", "w")]
    assert models(["critical"], there) == [("large", "x"), ("small", "w"), ("small", "w")]
    assert models(["critical", "standard"], ()) == [("small", "w")] * 2
    assert models(["standard"], ()) == [("large", "w")]


def test_the_large_model_comes_back_whoever_is_served() -> None:
    """Six workers with six small lines: where large ones keep the promise, every class prefers them."""
    workers = pool([2000.0] * 6)
    standing = tuple(("small", (Stage(worker.node, 0, 2),)) for worker in workers)
    for service in KEEPS:
        models = [line.model for line in mixed(workers, [service], standing, away=0.01).lines]
        assert models == ["large"] * 3


def test_bad_input_is_one_line() -> None:
    """Bytes that are no question, and a planner that nobody knows."""
    with pytest.raises(WireError, match="mixing: "):
        JOBS[MIXER](b"\x00", 1)
    with pytest.raises(ValueError, match="planner is 'mixer'; allowed: documented, "):
        JOBS[MIXER](encode(Mixing("mixer", CARDS, (), (), (), 0.05)), 1)
