"""Tests of what engines and builds add to the law: formats by part, scores, chunks in flight, launches, new kernels."""

from __future__ import annotations

import pytest

from models.inference import CATALOGUE, FORMATS
from models.inference.chips import CHIPS
from models.inference.conditions import Conditions
from models.inference.predict import predict
from models.inference.work import prefill_work


def test_a_step_reads_experts_and_the_rest_in_their_own_formats() -> None:
    """Of gpt-oss-20b a token reads 4 of 32 experts at 4.25 bits, attention, router and head at 8.5: by hand."""
    shape = FORMATS["mxfp4"].of(CATALOGUE["gpt-oss-20b"].shape)
    expert, attention, router = 3 * 2880 * 2880, 2 * 2880 * 64 * (64 + 8), 32 * 2880

    assert shape.touched_bytes(1) == pytest.approx((attention + router) * 1.0625 + 4 * expert * 0.53125)
    assert shape.head_bytes() == pytest.approx(201088 * 2880 * 1.0625)


def test_scores_are_computed_for_what_the_mask_hides_too() -> None:
    """A chunk of 10 tokens after 30: 10 x 40 scores of each head are stored, of which 10 x 35 count."""
    shape = CATALOGUE["llama-2-7b"].shape
    work = prefill_work(shape, 1, 10, before=30)

    assert work.score_bytes == 4 * 32 * 10 * 40
    assert work.attention_flops == 4 * 32 * 128 * 10 * 35


def test_no_more_chunks_come_round_than_are_in_flight() -> None:
    """Eight cards work on four chunks at a time: 16 chunks take the way round of one and 15 quarters of it."""
    whole = predict("llama.cpp", "llama-2-7b", "f16", "RTX 4090 * 8", None, Conditions(16 * 512))
    each_s = (sum(whole.prefill_terms_s.values())) / 16

    assert whole.prefill_s == pytest.approx(each_s * (1 + 15 / 4))


def test_flash_attention_stores_no_scores_and_still_multiplies() -> None:
    """Fused attention moves no scores, and its products grow with the context before a prompt."""
    near, far = (
        predict("llama.cpp", "llama-3.1-8b", "q4_0", "RTX 3090", None,
                Conditions(512, 1, depth_tokens=depth, fused_attention=True))
        for depth in (0, 32768)
    )  # fmt: skip

    assert near.prefill_terms_s["score"] == far.prefill_terms_s["score"] == 0.0
    assert far.prefill_terms_s["attention"] == pytest.approx(
        near.prefill_terms_s["attention"] * (32768 + 256) / 256, rel=1e-6
    )


def test_a_larger_chunk_enters_the_layers_less_often() -> None:
    """A prompt of 2,048 in one chunk unpacks the weights once instead of four times."""
    small, large = (
        predict("llama.cpp", "llama-2-7b", "q4_0", [CHIPS["M2 Ultra 76-core"]], None, Conditions(2048, chunk_tokens=n))
        for n in (512, 2048)
    )

    assert small.prefill_terms_s["unpacked"] == pytest.approx(4 * large.prefill_terms_s["unpacked"], rel=0.02)
