"""Tests of policies.serving.batching: its schedule is that of the plain rules, and its promises hold at every step."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.serving.batching import Batcher, BatchRules, Request, pool_blocks
from tests.policies.serving.slow_batcher import Slow

SMALL = BatchRules(blocks=6, tokens_max=12, requests_max=4, block_tokens=4, share=False)
REQUESTS = st.lists(
    st.tuples(st.integers(0, 12), st.integers(1, 14), st.integers(1, 10), st.integers(0, 2)), min_size=1, max_size=9
)
"""Iteration before which it comes, prompt, tokens out, class."""


@settings(max_examples=300, deadline=None)
@given(REQUESTS)
def test_the_schedule_is_that_of_the_plain_rules(requests: list[tuple[int, int, int, int]]) -> None:
    """Iteration by iteration the same chunks, decodes, contexts and ends as where every request counts for itself."""
    quick, slow = Batcher(SMALL), Slow(SMALL)
    for step in range(400):
        for key, (at, prompt, wanted, rank) in enumerate(requests):
            if at == step:
                quick.offer(Request(str(key), prompt, wanted, rank))
                slow.offer(key, prompt, wanted, rank)
        iteration, plain = quick.next(), slow.iterate()
        if iteration is None or plain is None:
            assert iteration is plain is None
            if step > 12:
                break
            continue
        chunks, decodes, done = plain
        assert [(int(c.request.key), c.tokens, c.context) for c in iteration.chunks] == chunks
        assert (iteration.decodes, iteration.context) == (len(decodes), sum(context for _, context in decodes))
        assert sorted(int(one.key) for one in quick.end().done) == sorted(done)
    assert not quick.running
    assert quick.waiting == 0


@settings(max_examples=200, deadline=None)
@given(REQUESTS, st.booleans(), st.integers(0, 40))
def test_every_request_emits_what_was_asked_within_the_limits(
    requests: list[tuple[int, int, int, int]], share: bool, cancelled: int
) -> None:
    """No iteration is above its budget, no block is lost, everybody ends, and who is cancelled gives all back."""
    rules = BatchRules(blocks=6, tokens_max=12, requests_max=4, block_tokens=4, share=share)
    batcher, all_of_them = Batcher(rules), []
    for step in range(400):
        for key, (at, prompt, wanted, rank) in enumerate(requests):
            if at == step:
                names = [("same", k) for k in range(prompt // 4)]
                all_of_them.append(Request(str(key), prompt, wanted, rank, names=names))
                batcher.offer(all_of_them[-1])
        iteration = batcher.next()
        if iteration is None:
            if step > 12:
                break
            continue
        assert iteration.decodes + sum(one.tokens for one in iteration.chunks) <= rules.tokens_max
        assert len(batcher.running) <= rules.requests_max
        if step == cancelled and all_of_them:
            batcher.cancel(all_of_them[-1])
        batcher.end()
        held = sum(one.unnamed for one in batcher.running.values())
        assert batcher.pool.blank + len(batcher.pool.idle) + len(batcher.pool.held) + held == rules.blocks
    for request in all_of_them:
        assert request.state in ("done", "cancelled")
        assert request.state == "cancelled" or request.emitted == request.wanted
    assert batcher.pool.room == rules.blocks


@settings(max_examples=200, deadline=None)
@given(REQUESTS, st.booleans())
def test_pieces_compute_every_token_once_and_in_order(requests: list[tuple[int, int, int, int]], share: bool) -> None:
    """The pieces are the iteration; a request's follow one another, and begin anew when it lost what it had."""
    rules = BatchRules(blocks=6, tokens_max=12, requests_max=4, block_tokens=4, share=share)
    batcher, spoken = Batcher(rules), dict[str, int]()
    cached: dict[tuple[str, int], int] = {}
    for step in range(400):
        for key, (at, prompt, wanted, rank) in enumerate(requests):
            if at == step:
                batcher.offer(Request(str(key), prompt, wanted, rank, names=[("same", k) for k in range(prompt // 4)]))
        iteration = batcher.next()
        if iteration is None:
            if step > 12:
                break
            continue
        pieces = batcher.pieces()
        assert sum(one.tokens for one in pieces) == iteration.decodes + sum(one.tokens for one in iteration.chunks)
        assert sum(one.speaks for one in pieces) == iteration.speaks
        for request, tokens, position, speaks in pieces:
            began = (request.key, request.preempted)
            assert position == cached.get(began, position if share else 0)
            cached[began] = position + tokens
            spoken[request.key] = spoken.get(request.key, 0) + speaks
            # What it has said is in the cache before it says more.
            assert not speaks or cached[began] == request.prompt + spoken[request.key] - 1
        batcher.end()
    assert spoken == {str(key): wanted for key, (_, _, wanted, _) in enumerate(requests)}
    with pytest.raises(RuntimeError, match="no iteration is under way"):
        batcher.pieces()


@settings(max_examples=300, deadline=None)
@given(REQUESTS)
def test_a_leap_is_that_many_iterations(requests: list[tuple[int, int, int, int]]) -> None:
    """Leaping ends every request in the iteration in which it ends step by step, under any shortage of blocks."""
    ends: list[dict[str, tuple[int, int]]] = []
    for leaps in (False, True):
        batcher, ended = Batcher(SMALL), {}
        for key, (_, prompt, wanted, rank) in enumerate(requests):
            batcher.offer(Request(str(key), prompt, wanted, rank))
        while batcher.next() is not None:
            for one in batcher.end(batcher.leap() if leaps else 1).done:
                ended[one.key] = (batcher.step, one.preempted)
        ends.append(ended)

    assert len(ends[0]) == len(requests)
    assert ends[0] == ends[1]


@settings(max_examples=200, deadline=None)
@given(REQUESTS, st.lists(st.none() | st.integers(0, 20), min_size=9, max_size=9))
def test_a_leap_is_that_many_iterations_where_requests_wait_in_vain(
    requests: list[tuple[int, int, int, int]], deadlines: list[int | None]
) -> None:
    """With deadlines, an iteration being a nanosecond, the same requests expire, and others end when they did."""
    ends: list[dict[str, tuple[int, str]]] = []
    for leaps in (False, True):
        batcher, every = Batcher(SMALL), []
        for key, (_, prompt, wanted, rank) in enumerate(requests):
            every.append(Request(str(key), prompt, wanted, rank, deadline_ns=deadlines[key]))
            batcher.offer(every[-1])
        ended: dict[str, tuple[int, str]] = {}
        while batcher.next(batcher.step) is not None:
            for one in batcher.end(batcher.leap() if leaps else 1).done:
                ended[one.key] = (batcher.step, one.state)
        ends.append(ended | {one.key: (0, one.state) for one in every if one.state != "done"})

    assert ends[0] == ends[1]


@pytest.mark.parametrize("under_way", [False, True])
def test_who_begins_again_ends_once(under_way: bool) -> None:
    """After the cache was lost, between two iterations or in one: every token once, one end, and all blocks free."""
    batcher = Batcher(BatchRules(blocks=20, tokens_max=64, requests_max=4, block_tokens=4))
    requests = [Request("a", 4, 6), Request("b", 9, 3)]
    for request in requests:
        batcher.offer(request)
    spoken, ended = 0, list[Request]()
    for step in range(20):
        if step == 2 and not under_way:
            batcher.begin_again()
        iteration = batcher.next()
        if iteration is None:
            break
        if step == 2 and under_way:
            batcher.begin_again()
        else:
            spoken += iteration.speaks
        ended += batcher.end().done

    assert (spoken, [one.key for one in ended]) == (9, ["b", "a"])
    assert batcher.pool.room == 20


def test_an_equal_beginning_is_not_computed_again_but_for_its_last_token() -> None:
    """The second of two equal prompts computes what the first has not left, and at least one token."""
    batcher = Batcher(BatchRules(blocks=20, tokens_max=64, requests_max=4, block_tokens=4))
    names = [("p", k) for k in range(4)]
    for key in ("a", "b"):
        batcher.offer(Request(key, 16, 1, names=names))
        iteration = batcher.next()
        assert iteration is not None
        assert [(one.tokens, one.context) for one in iteration.chunks] == ([(16, 0)] if key == "a" else [(4, 12)])
        batcher.end()


def test_who_lost_its_blocks_begins_again_with_what_it_had_emitted() -> None:
    """A preempted request computes its prompt and its own tokens again, and emits none of them twice."""
    batcher = Batcher(BatchRules(blocks=4, tokens_max=16, requests_max=2, block_tokens=4, share=False))
    old, new = Request("old", 4, 9), Request("new", 4, 9)
    batcher.offer(old)
    batcher.offer(new)
    emitted: list[int] = []
    while batcher.next() is not None:
        batcher.end()
        emitted.append(new.emitted)
    assert (new.preempted, old.preempted) == (1, 0)
    assert (new.emitted, new.state) == (9, "done")
    assert emitted == sorted(emitted)


def test_a_request_that_waited_too_long_is_not_begun() -> None:
    """Its deadline is asked when its turn comes; one that has begun is served to its end."""
    batcher = Batcher(BatchRules(blocks=2, tokens_max=8, requests_max=1, block_tokens=4, share=False))
    early, late = Request("early", 2, 3, deadline_ns=5), Request("late", 2, 3, deadline_ns=5)
    batcher.offer(early)
    batcher.offer(late)
    now = 0
    while batcher.next(now) is not None:
        batcher.end()
        now += 4
    assert (early.state, late.state) == ("done", "expired")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: BatchRules(blocks=0), "blocks is 0"),
        (lambda: BatchRules(blocks=4, tokens_max=8, requests_max=9), "requests_max is 9"),
        (lambda: Batcher(SMALL).offer(Request("r", 0, 4)), "request r: 0 tokens in"),
        (lambda: Batcher(SMALL).offer(Request("r", 20, 5)), r"20 \+ 5 tokens; allowed: up to 24"),
    ],
)
def test_what_cannot_be_served_is_refused(make: object, message: str) -> None:
    """One line names the request or the field, the value and what is allowed."""
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]


def test_an_iteration_is_ended_before_the_next() -> None:
    """The driver takes turns."""
    batcher = Batcher(SMALL)
    with pytest.raises(RuntimeError, match="no iteration"):
        batcher.end()
    batcher.offer(Request("r", 2, 2))
    batcher.next()
    with pytest.raises(RuntimeError, match="under way"):
        batcher.next()


def test_the_tightest_stage_decides_how_many_blocks_there_are() -> None:
    """Ten layers in 1600 bytes hold fewer blocks than two layers in 640."""
    assert pool_blocks([1600.0, 640.0], [10, 2], 2.0, 4) == 20
