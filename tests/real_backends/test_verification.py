"""A stage that committed to its work is challenged, opens, and is computed again by a second worker.

The cheats are those a lazy worker would try: another layer's weights, a layer left out, weights rounded to four bits, a
cache that belongs to another history. Tolerances are the stored ones.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from models.inference.tolerances import pair_of, stored_tolerances
from policies.verification import Verdict, draw_challenge, follows
from real_backends import executors as ex
from real_backends.executors import cheats, seeded
from real_backends.executors.agreement import draw_streams
from real_backends.executors.recheck import recheck
from real_backends.executors.witness import Evidence, Witness

pytest.importorskip("torch")

SPEC = replace(seeded.RECIPES["tiny"].spec, context=128)
RIGHT = ex.make_checkpoint(SPEC, 1, seeded.HEAD_GAIN)
PROMPT, OTHER = draw_streams(SPEC.vocab, 2, 40, 3)
NEW, CUT = 25, 2
SECRETS = 8
PAIRS = [  # worker, format, verifier; JAX compiles for each format
    ("torch", "fp32", "torch"), ("torch", "fp16", "torch"), ("torch", "bf16", "torch"), ("torch", "int8", "torch"),
    ("torch", "fp32", "jax"), ("torch", "fp16", "jax"), ("jax", "fp32", "torch"), ("jax", "fp16", "jax"),
]  # fmt: skip


@cache
def verifier(backend: str, dtype: str, first: int, last: int) -> ex.Shard:
    if backend == "jax":
        pytest.importorskip("jax")
    return ex.make_shard(backend, SPEC, RIGHT, first, last, device="cpu", dtype=dtype)


def serve(weights: ex.Weights, backend: str, dtype: str) -> tuple[list[Witness], np.ndarray]:
    """Answer the prompt on two witnessed stages; return them and all tokens."""
    if backend == "jax":
        pytest.importorskip("jax")
    shards = [
        Witness(ex.make_shard(backend, SPEC, weights, first, last, device="cpu", dtype=dtype))
        for first, last in ((0, CUT), (CUT, SPEC.layers))
    ]
    return shards, answer(ex.Pipeline(shards), list(PROMPT), 0)


def answer(line: ex.Pipeline, x: list[int], position: int) -> np.ndarray:
    tokens = list(PROMPT)
    for _ in range(NEW):
        tokens.append(int(np.argmax(line.logits("s", x, position))))
        x, position = tokens[-1:], len(tokens) - 1
    return np.array(tokens)


def commit(shards: list[Witness], tokens: np.ndarray) -> list[Evidence]:
    return [shard.commit("s", "client/op/1", tokens, len(PROMPT)) for shard in shards]


def check(evidence: Evidence, tokens: np.ndarray, backend: str, secret: int, came: np.ndarray | None = None) -> Verdict:
    """Check one commitment with a worker of the right weights: from the tokens, or from what the stage took."""
    commitment = evidence.commitment
    dtype = commitment.executor.split()[1]
    starts = (0, CUT, SPEC.layers) if came is None else (commitment.first, commitment.last)
    starts = tuple(start for start in starts if start <= commitment.last)
    shards = [verifier(backend, dtype, a, b) for a, b in itertools.pairwise(starts)]
    challenge = draw_challenge(secret.to_bytes(16, "little"), commitment)
    tolerance = stored_tolerances()[pair_of(commitment.executor, f"{backend} {dtype}")]
    return recheck(shards, tokens, commitment, challenge, evidence.open(challenge), tolerance, came)


def words(shards: list[Witness], tokens: np.ndarray, backend: str) -> list[str]:
    """Every secret's verdict on both stages, each from what it took."""
    first, last = commit(shards, tokens)
    came = shards[1].inputs("s")
    found = [check(first, tokens, backend, secret).word for secret in range(SECRETS)]
    return found + [check(last, tokens, backend, secret, came).word for secret in range(SECRETS)]


@pytest.mark.parametrize(("backend", "dtype", "by"), PAIRS)
def test_an_honest_worker_passes_whoever_checks_it(backend: str, dtype: str, by: str) -> None:
    """Both frameworks find both stages honest, from activations and from tokens, and the neighbours agree."""
    shards, tokens = serve(RIGHT, backend, dtype)
    first, last = commit(shards, tokens)

    assert follows(first.commitment, last.commitment)
    assert set(words(shards, tokens, by)) == {"honest"}
    assert {check(last, tokens, by, secret).word for secret in range(4)} == {"honest"}


@pytest.mark.parametrize(
    ("backend", "dtype", "by"),
    [("torch", "fp32", "jax"), ("torch", "fp16", "jax"), ("torch", "bf16", "torch"), ("torch", "int8", "torch")],
)
@pytest.mark.parametrize("cheat", ["wrong layer", "skipped layer"])
def test_false_layers_are_found_at_every_place(backend: str, dtype: str, by: str, cheat: str) -> None:
    """A stage that runs another layer's weights, or hands on what it got, fails every check of it, in every format."""
    doctored = {
        "wrong layer": cheats.wrong_layer(SPEC, cheats.wrong_layer(SPEC, RIGHT, 1, 0), 3, 2),
        "skipped layer": cheats.skipped_layer(cheats.skipped_layer(RIGHT, 1), 3),
    }
    shards, tokens = serve(doctored[cheat], backend, dtype)

    assert "honest" not in words(shards, tokens, by)


@pytest.mark.parametrize("by", ["torch", "jax"])
@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_four_bits_for_sixteen_are_found(backend: str, by: str) -> None:
    """Weights rounded to four bits fail every check of a worker that says float16."""
    shards, tokens = serve(cheats.four_bits(RIGHT), backend, "fp16")

    assert "honest" not in words(shards, tokens, by)


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "int8"])
def test_a_stale_cache_is_found(dtype: str) -> None:
    """A stage whose first block of the cache is another prompt's fails every check, though its tokens are right."""
    shards, _ = serve(RIGHT, "torch", dtype)
    for shard in shards:
        shard.drop("s")
    line = ex.Pipeline(shards)
    line.logits("s", list(OTHER[:16]), 0)
    tokens = answer(line, list(PROMPT[16:]), 16)

    first, last = commit(shards, tokens)
    for evidence in (first, last):
        assert "honest" not in [check(evidence, tokens, "torch", secret).word for secret in range(SECRETS)]


def test_a_token_that_is_not_the_models_is_found() -> None:
    """All layers right and another token at the end: the last stage fails where that position is looked at."""
    shards, tokens = serve(RIGHT, "torch", "fp32")
    tokens[-1] = (tokens[-1] + 1) % SPEC.vocab
    _, last = commit(shards, tokens)
    found = {check(last, tokens, "torch", secret).word for secret in range(SECRETS)}

    assert found == {"honest", "tokens"}


def test_inputs_that_were_not_committed_to_are_refused() -> None:
    """A verifier does not compute from other tokens or activations, nor with other layers."""
    shards, tokens = serve(RIGHT, "torch", "fp32")
    _, last = commit(shards, tokens)
    came = shards[1].inputs("s")

    with pytest.raises(ValueError, match="these tokens are not those"):
        check(last, tokens + 1, "torch", 1, came)
    with pytest.raises(ValueError, match="these activations are not those"):
        check(last, tokens, "torch", 1, came + 1)
    challenge = draw_challenge(bytes(16), last.commitment)
    tolerance = stored_tolerances()["torch fp32 | torch fp32"]
    with pytest.raises(ValueError, match=r"layers \[0, 2\) cannot check \[2, 4\)"):
        recheck([verifier("torch", "fp32", 0, 2)], tokens, last.commitment, challenge, last.open(challenge), tolerance)


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_a_cache_is_shown_as_it_was_filled(backend: str) -> None:
    """Keys and values come by layer and position, copied; a session that is not there is one clear error."""
    if backend == "jax":
        pytest.importorskip("jax")
    shard = ex.make_shard(backend, SPEC, RIGHT, 0, CUT, device="cpu")
    shard.forward("a", PROMPT[:20], 0)
    keys, values = shard.cached("a")
    shard.forward("a", PROMPT[20:21], 20)
    longer, _ = shard.cached("a")

    assert keys.shape == values.shape == (CUT, 20, SPEC.kv_heads, SPEC.head_dim)
    assert longer.shape[1] == 21
    assert np.array_equal(longer[:, :20], keys)
    assert np.abs(keys).min(axis=(0, 2, 3)).all()
    with pytest.raises(ValueError, match="session 'b': there is none"):
        shard.cached("b")


def test_what_is_kept_for_a_challenge_is_counted() -> None:
    """The cache in its own format, and 32 bytes a block and 64 a position of sketches."""
    shards, tokens = serve(RIGHT, "torch", "fp16")
    first, last = commit(shards, tokens)
    positions = len(tokens) - 1
    cached = positions * CUT * 2 * SPEC.kv_heads * SPEC.head_dim * 2

    assert first.bytes_kept == cached + 32 * 4 + 64 * positions
    assert last.bytes_kept == cached + 32 * 2 + 64 * NEW
