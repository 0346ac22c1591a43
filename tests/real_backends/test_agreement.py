"""What exact means: equal bits however the model is cut, equal tokens across frameworks, batches and rebuilt caches."""

from __future__ import annotations

import functools

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
jax = pytest.importorskip("jax", reason="jax is not installed")

from real_backends import executors as ex  # noqa: E402  (needs torch and jax)
from real_backends.executors import jax_shard, precision, seeded, torch_shard  # noqa: E402
from real_backends.executors.agreement import Agreement, boundaries, compare, draw_streams, force  # noqa: E402

TINY = seeded.RECIPES["tiny"].spec
WEIGHTS = ex.make_checkpoint(TINY, 1, seeded.HEAD_GAIN)
STREAMS = draw_streams(TINY.vocab, 32, 64, 1)
WAYS = {  # backend, shards, sessions in a step, rebuilding the cache at every so many positions
    "torch, one at a time": ("torch", 3, 1, 0),
    "torch, cache rebuilt": ("torch", 2, 8, 16),
    "jax": ("jax", 2, 8, 0),
    "jax, cache rebuilt": ("jax", 1, 2, 16),
}


def line(backend: str, shards: int, dtype: str = "fp32") -> ex.Pipeline:
    cuts = ex.cut_evenly(TINY, shards)
    return ex.Pipeline([ex.make_shard(backend, TINY, WEIGHTS, a, b, device="cpu", dtype=dtype) for a, b in cuts])


@functools.cache
def logits(backend: str, shards: int, together: int, rebuild_every: int, dtype: str = "fp32") -> np.ndarray:
    return force(line(backend, shards, dtype), STREAMS, together=together, rebuild_every=rebuild_every)


NARROW_JAX = pytest.mark.nightly  # XLA compiles each format anew, for ten seconds and more


@pytest.mark.parametrize(
    ("backend", "dtype"),
    [
        *(("torch", dtype) for dtype in ex.DTYPES),
        ("jax", "fp32"),
        *(pytest.param("jax", dtype, marks=NARROW_JAX) for dtype in ("bf16", "fp16", "int8")),
    ],
)
def test_any_number_of_workers_gives_the_same_bits(backend: str, dtype: str) -> None:
    """With 1 to 4 workers all activations at a common cut, and all logits, are equal bit for bit."""
    tokens, prompts = draw_streams(TINY.vocab, 3, 40, 2), (17, 22, 27)
    seen: dict[tuple[int, int], list[bytes]] = {}  # (layer, step) to what left that layer, by number of workers
    for shards in (1, 2, 3, 4):
        pipeline = line(backend, shards, dtype)
        for step in range(3):  # a prompt of each session, then decoding together
            spans = [(0, end) if step == 0 else (end + step - 1, end + step) for end in prompts]
            parts = [ex.Part(f"s{s}", tokens[s, begin:end], begin) for s, (begin, end) in enumerate(spans)]
            for layer, rows in boundaries(pipeline, parts).items():
                seen.setdefault((layer, step), []).append(b"".join(row.tobytes() for row in rows))

    assert {layer for layer, _ in seen} == {1, 2, 3, 4}
    assert all(len(found) == 4 for (layer, _), found in seen.items() if layer == 4)
    assert all(len(set(found)) == 1 for found in seen.values())


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_other_ways_choose_the_same_tokens_where_it_is_clear(way: tuple[str, int, int, int]) -> None:
    """At 2,048 positions another framework, batch or cache changes no token whose lead exceeds 1e-3."""
    found = compare(logits("torch", 1, 8, 0), logits(*way))

    assert found.positions == 2048
    assert found.wrong == 0
    assert (
        found.differing <= found.close < 2048 * (1 - seeded.SHARE_MIN) + 3
    )  # binomial noise: mean 0.9, 3 more at most
    assert 0.0 < found.worst < 2e-4


@NARROW_JAX
def test_int8_is_the_same_in_both_frameworks() -> None:
    """Both frameworks hold the same integers, so int8 agrees between them as float32 does, though not with float32."""
    both = compare(logits("torch", 1, 8, 0, "int8"), logits("jax", 2, 8, 0, "int8"))
    rounded = compare(logits("torch", 1, 8, 0), logits("torch", 1, 8, 0, "int8"))

    assert both.wrong == 0
    assert both.worst < 2e-4
    assert 2e-4 < rounded.worst < 4.0
    assert rounded.differing < 0.06 * rounded.positions


@pytest.mark.parametrize(("dtype", "share"), [("bf16", 0.06), ("fp16", 0.012)])
@pytest.mark.parametrize("backend", ["torch", pytest.param("jax", marks=NARROW_JAX)])
def test_narrow_formats_stay_near_float32(backend: str, dtype: str, share: float) -> None:
    """A format of 8 or 11 significant bits changes few tokens: about as many as its rounding against the leads' law."""
    found = compare(logits("torch", 1, 8, 0), logits(backend, 1, 8, 0, dtype))

    assert 0 < found.differing < share * found.positions


def test_a_planted_error_is_seen() -> None:
    """The comparison counts a token that differs: below 1e-3 as a difference, above as wrong."""
    expected = np.float32([[0.0, 1.0, 1.0005], [0.0, 1.0, 3.0], [2.0, 2.0, 1.0]])
    found = expected.copy()
    found[0, 1], found[1, 1] = 1.001, 3.5

    assert compare(expected, found) == Agreement(3, close=2, differing=2, wrong=1, worst=2.5)
    assert compare(expected, expected).differing == 0  # the tie of the last row goes to the lowest id in both


def test_a_batch_is_checked_before_it_runs() -> None:
    """A step with one bad part, a session twice, or too many new sessions changes no session."""
    for backend in ("torch", "jax"):
        (shard,) = line(backend, 1).shards
        shard.forward("a", np.array([1, 2]), 0)
        one = np.array([3])
        for parts, message in [
            ([ex.Part("a", one, 2), ex.Part("b", one, 5)], "session 'b' holds 0 tokens"),
            ([ex.Part("a", one, 2), ex.Part("b", np.array([512]), 0)], "token 512"),
            ([ex.Part("b", one, 0), ex.Part("b", one, 0)], "named twice"),
        ]:
            with pytest.raises(ValueError, match=message):
                shard.step(parts)
        with pytest.raises(ex.SessionsFull, match="64 sessions"):
            shard.step([ex.Part(f"n{n}", one, 0) for n in range(64)])
        assert shard.sessions() == 1
        with pytest.raises(ValueError, match="dtype: 'int4' is not allowed"):
            line(backend, 1, "int4")


def test_a_warm_jax_shard_compiles_nothing_more() -> None:
    """After `warm_up` no prompt length, batch size or position of a session makes JAX compile."""
    spec = ex.ModelSpec("odd", layers=2, hidden=24, heads=3, kv_heads=1, head_dim=8, ffn=40, vocab=37, context=32)
    shard = ex.make_shard("jax", spec, ex.make_checkpoint(spec, 0), 0, 2, device="cpu")
    shard.warm_up(sessions=8)
    programs = [f._cache_size() for f in (jax_shard._layer, jax_shard._look_up, jax_shard._logits)]
    one = np.array([1])
    shard.forward("long", np.ones(29, np.int64), 0)
    shard.forward("long", np.ones(3, np.int64), 29)  # no room for padding
    for sessions in (1, 2, 3, 5, 8, 11):
        shard.step([ex.Part(f"s{s}", np.ones(1 + 7 * (s % 2), np.int64), 0) for s in range(sessions)])
        shard.step([ex.Part(f"s{s}", one, 1) for s in range(sessions)])

    assert [f._cache_size() for f in (jax_shard._layer, jax_shard._look_up, jax_shard._logits)] == programs


def test_quantised_rows_are_within_half_a_step() -> None:
    """int8 rows come back within half a scale, use the full range, and a row of zeros stays zero."""
    rows = (
        np.random.Generator(np.random.PCG64(0)).standard_normal((9, 33), dtype=np.float32)
        * np.logspace(-6, 6, 9, dtype=np.float32)[:, None]
    )
    rows[4] = 0
    values, scales = precision.quantise_rows(rows)

    assert (np.abs(values * scales[:, None] - rows) <= scales[:, None] * 0.5001).all()
    assert (np.abs(values).max(axis=1) == np.where(np.arange(9) == 4, 0, 127)).all()


def test_torch_is_told_to_keep_full_precision() -> None:
    """Making a shard forbids TF32 and reduced-precision sums, whatever the process had before."""
    torch.set_float32_matmul_precision("medium")
    torch_shard.demand_precision()

    assert torch.get_float32_matmul_precision() == "highest"
    assert not torch.backends.cuda.matmul.allow_tf32
    assert not torch.backends.cudnn.allow_tf32


def test_the_recipes_are_what_they_are_called() -> None:
    """`tiny` is 4 layers of 64, `small` 12 of 768 with about 110 million parameters."""
    sizes = {}
    for name, recipe in seeded.RECIPES.items():
        shapes = ex.tensor_shapes(recipe.spec, 0, recipe.spec.layers)
        sizes[name] = (recipe.spec.layers, recipe.spec.hidden, sum(int(np.prod(shape)) for shape in shapes.values()))

    assert sizes["tiny"][:2] == (4, 64)
    assert sizes["small"][:2] == (12, 768)
    assert sizes["small"][2] == pytest.approx(110e6, rel=0.03)
