"""Shards, pipelines and sessions against the reference, the certificate and one another."""

from __future__ import annotations

import functools
import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="torch is not installed")
jax = pytest.importorskip("jax", reason="jax is not installed")

from real_backends import executors as ex  # noqa: E402  (needs torch and jax)
from real_backends.executors import certificate as cert  # noqa: E402
from real_backends.executors import jax_shard  # noqa: E402
from real_backends.executors.reference import reference_steps  # noqa: E402

CERTIFICATE = ex.read_certificate()
WEIGHTS = ex.make_checkpoint(ex.DESK_TINY, ex.DEFAULT_SEED)
PROMPTS = [ex.encode(text) for text in ex.TEST_PROMPTS]
TINY = replace(ex.DESK_TINY, name="two-layers", layers=2, context=64)
CUTS = {
    "torch whole": "t:0-8",
    "torch in 3": "t:0-3 t:3-5 t:5-8",
    "jax in 3": "j:0-2 j:2-7 j:7-8",
    "mixed, torch first": "t:0-3 j:3-6 t:6-8",
    "mixed, jax first": "j:0-1 t:1-4 j:4-8",
}


@functools.cache
def shard(backend: str, first: int, last: int) -> ex.Shard:
    return ex.make_shard(backend, ex.DESK_TINY, WEIGHTS, first, last, device="cpu")


def pipeline(cut: str) -> ex.Pipeline:
    """A pipeline from words like "t:0-3 j:3-8"."""
    shards = []
    for word in cut.split():
        backend, layers = word.split(":")
        first, last = layers.split("-")
        shards.append(shard({"t": "torch", "j": "jax"}[backend], int(first), int(last)))
    return ex.Pipeline(shards)


def step(line: ex.Pipeline, session: str, tokens: list[int], position: int) -> int:
    return int(np.argmax(line.logits(session, tokens, position)))


# ---- the certificate and the checkpoint


def test_certificate_holds() -> None:
    """The stored margin, tokens and digest of the default seed are found again here, and wide enough."""
    found = cert.make_certificate(ex.DESK_TINY, ex.DEFAULT_SEED)

    assert found["checkpoint_sha256"] == CERTIFICATE["checkpoint_sha256"]
    assert found["tokens"] == CERTIFICATE["tokens"]
    assert found["margin_min"] >= cert.MARGIN_MIN
    assert found["margin_min"] == pytest.approx(CERTIFICATE["margin_min"], abs=1e-4)
    assert ex.certify(ex.DESK_TINY, WEIGHTS, ex.TEST_PROMPTS[:2], 4) >= found["margin_min"]


def test_continuations_are_not_degenerate() -> None:
    """The certified answers differ between prompts and keep changing, so a lost history shows."""
    answers = CERTIFICATE["tokens"]

    assert len({tuple(answer) for answer in answers}) == len(ex.TEST_PROMPTS)
    assert min(len(set(answer)) for answer in answers) >= cert.NEW_TOKENS // 2


def test_weights_are_keyed_by_seed_and_name() -> None:
    """Another seed changes every tensor; a deeper model keeps the layers it shares with a shallower one."""
    other = ex.make_checkpoint(ex.DESK_TINY, ex.DEFAULT_SEED + 1)
    shallow = ex.make_checkpoint(TINY, ex.DEFAULT_SEED)

    assert all(not np.array_equal(WEIGHTS[name], other[name]) for name in WEIGHTS)
    assert all(np.array_equal(WEIGHTS[name], shallow[name]) for name in shallow)


# ---- greedy tokens


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS.keys())
def test_pipeline_continues_every_prompt_like_the_reference(cut: str) -> None:
    """However the model is cut, whichever backends hold the pieces, the tokens are the certified ones."""
    line = pipeline(cut)

    answers = [line.generate(prompt, cert.NEW_TOKENS) for prompt in PROMPTS]

    assert answers == CERTIFICATE["tokens"]
    assert all(one.sessions() == 0 for one in line.shards)


@given(cut=st.data())
@settings(max_examples=8, deadline=None)
def test_any_cut_gives_the_same_tokens(cut: st.DataObject) -> None:
    """Any cut into contiguous shards of any backends continues any prompt like the reference."""
    bounds = [0, *sorted(cut.draw(st.sets(st.integers(1, 7), max_size=7))), 8]
    words = [f"{cut.draw(st.sampled_from('tj'))}:{a}-{b}" for a, b in itertools.pairwise(bounds)]
    which = cut.draw(st.integers(0, len(PROMPTS) - 1))

    answer = pipeline(" ".join(words)).generate(PROMPTS[which], 8)

    assert answer == CERTIFICATE["tokens"][which][:8]


@pytest.mark.parametrize("cut", ["t:0-8", "j:0-8"])
def test_logits_agree_far_below_the_margin(cut: str) -> None:
    """A backend's logits differ from the reference by less than a tenth of the margin demanded."""
    line, worst = pipeline(cut), 0.0
    for prompt in PROMPTS[::2]:
        chunk, position = prompt, 0
        for token, logits in reference_steps(ex.DESK_TINY, WEIGHTS, prompt, 16):
            worst = max(worst, float(np.abs(line.logits("forced", chunk, position) - logits).max()))
            chunk, position = [token], position + len(chunk)
    line.drop("forced")

    assert 0.0 < worst < cert.MARGIN_MIN / 10


@pytest.mark.parametrize("backend", ["torch", "jax"])
@pytest.mark.parametrize(
    "spec",
    [
        replace(TINY, name="tied-mqa", kv_heads=1, tied_head=True, context=24),
        replace(TINY, name="mha-odd", heads=3, kv_heads=3, head_dim=10, hidden=36, ffn=50, vocab=301, context=24),
    ],
    ids=lambda spec: spec.name,
)
def test_other_shapes_agree_with_the_reference(spec: ex.ModelSpec, backend: str) -> None:
    """Tied heads, one or all key/value heads, and sizes that are no powers of two all work."""
    weights = ex.make_checkpoint(spec, 1)
    parts = [(0, 1), (1, 2)]
    line = ex.Pipeline([ex.make_shard(backend, spec, weights, a, b, device="cpu") for a, b in parts])
    tokens = [7, 300, 41, 41, 256, 0, 9]
    ((_, expected),) = reference_steps(spec, weights, tokens, 1)

    logits = line.logits("s", tokens[:4], 0)
    logits = line.logits("s", tokens[4:], 4)

    np.testing.assert_allclose(logits, expected, atol=1e-4, rtol=0)


def test_jax_stays_in_float32_under_64_bit_mode() -> None:
    """A process that runs JAX in 64 bits, as the twin does, gets the same tokens in float32."""
    with jax.enable_x64(True):
        line = ex.Pipeline([ex.make_shard("jax", ex.DESK_TINY, WEIGHTS, 0, 8, device="cpu")])
        assert line.logits("s", PROMPTS[1], 0).dtype == np.float32
        assert line.generate(PROMPTS[1], 4) == CERTIFICATE["tokens"][1][:4]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_gives_the_certified_tokens() -> None:
    """On a GPU the greedy tokens are the certified ones as well."""
    line = ex.Pipeline([ex.make_shard("torch", ex.DESK_TINY, WEIGHTS, 0, 8, device="cuda")])

    assert [line.generate(prompt, cert.NEW_TOKENS) for prompt in PROMPTS] == CERTIFICATE["tokens"]


# ---- sessions and caches


@given(order=st.lists(st.integers(0, 2), max_size=40), backends=st.sampled_from(["t:0-4 j:4-8", "j:0-4 t:4-8"]))
@settings(max_examples=8, deadline=None)
def test_interleaved_sessions_do_not_disturb_one_another(order: list[int], backends: str) -> None:
    """Three sessions on the same shards, stepped in any order, each get the tokens they get alone."""
    line = pipeline(backends)
    answers: list[list[int]] = [[], [], []]
    for who in order:
        history = PROMPTS[who + 1] + answers[who]
        if answers[who]:
            token = step(line, f"s{who}", history[-1:], len(history) - 1)
        else:
            token = step(line, f"s{who}", history, 0)
        answers[who].append(token)
    for who in range(3):
        line.drop(f"s{who}")

    for who, answer in enumerate(answers):
        certified = CERTIFICATE["tokens"][who + 1]
        assert answer[: len(certified)] == certified[: len(answer)]


@pytest.mark.parametrize("cut", ["t:0-3 j:3-5 t:5-8", "j:0-3 t:3-5 j:5-8"])
def test_replay_rebuilds_a_lost_cache(cut: str) -> None:
    """After a drop, one replay of the whole history continues the same answer."""
    line, certified = pipeline(cut), CERTIFICATE["tokens"][3]
    history = list(PROMPTS[3])
    line.logits("live", history, 0)
    line.drop("live")

    history += certified[:12]
    tokens = [step(line, "live", history, 0)]
    for _ in range(6):
        history.append(tokens[-1])
        tokens.append(step(line, "live", history[-1:], len(history) - 1))
    line.drop("live")

    assert tokens == certified[12:19]


@pytest.mark.parametrize("cut", ["t:0-8", "j:0-8"])
@given(data=st.data())
@settings(max_examples=5, deadline=None)
def test_chunks_retries_and_rewinds_do_not_change_the_answer(cut: str, data: st.DataObject) -> None:
    """A prefill in chunks of any size, with steps sent again from earlier on, ends at the same token."""
    line, prompt = pipeline(cut), PROMPTS[7]
    position, token = 0, -1
    while position < len(prompt):
        size = data.draw(st.integers(1, len(prompt) - position))
        line.logits("s", prompt[position : position + size], position)
        back = data.draw(st.integers(0, position))
        token = step(line, "s", prompt[back : position + size], back)
        position += size
    line.drop("s")

    assert token == CERTIFICATE["tokens"][7][0]


@pytest.mark.parametrize("count", [1, 3, 5, 7])
def test_padding_does_not_run_over_the_end_of_the_context(count: int) -> None:
    """The last tokens that fit the context are computed right although their padded size would not fit."""
    tokens = [int(t) for t in np.random.Generator(np.random.PCG64(3)).integers(0, 512, ex.DESK_TINY.context)]
    start = len(tokens) - count
    logits = []
    for cut in ("t:0-8", "j:0-8"):
        line = pipeline(cut)
        line.logits("end", tokens[:start], 0)
        logits.append(line.logits("end", tokens[start:], start))
        with pytest.raises(ValueError, match="at most 256"):
            line.logits("end", [0], len(tokens))
        line.drop("end")

    np.testing.assert_allclose(logits[0], logits[1], atol=cert.MARGIN_MIN / 10, rtol=0)


def test_activations_of_a_chunked_prefill_are_returned_whole() -> None:
    """A middle shard that splits a prefill near the end of the context returns every row."""
    noise = np.random.Generator(np.random.PCG64(4)).random((256, 128), dtype=np.float32)
    rows = []
    for backend in ("torch", "jax"):
        one = shard(backend, 3, 5)
        one.forward("rows", noise[:251], 0)
        rows.append(one.forward("rows", noise[251:], 251))
        one.drop("rows")

    assert rows[0].shape == rows[1].shape == (5, 128)
    np.testing.assert_allclose(rows[0], rows[1], atol=1e-4, rtol=0)


@given(count=st.integers(1, 300))
def test_padded_sizes_are_few(count: int) -> None:
    """Tokens of a session are padded to the next of the warmed sizes."""
    assert jax_shard.padded_size(count) == min(size for size in (1, 16, 32, 64, 128, 256, 512) if size >= count)


def test_a_new_cut_compiles_nothing() -> None:
    """Once a process has decoded with one cut, any other cut of the same model runs the same programs."""
    pipeline("j:0-8").generate(PROMPTS[2], 2)
    programs = jax_shard._layer._cache_size()

    ex.Pipeline([shard("jax", 0, 6), shard("jax", 6, 8)]).generate(PROMPTS[2], 2)

    assert jax_shard._layer._cache_size() == programs
