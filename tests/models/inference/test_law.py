"""Tests of models.inference: public sizes of real models, exact sums, and published token rates."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import inference
from models.inference import SHAPES, Device, Shape

DATA = Path(os.environ.get("VILLAGETWIN_DATA", Path(__file__).resolve().parents[4] / "shared" / "data"))

LLAMA_2_7B = Shape("llama-2-7b", 32, 4096, 32, 32, 128, 11_008, 32_000, tied=False)
SIMPLE = Device(1e11, 1e13, 0.5, 0.5, 0.5, 1e-4, 1e-3)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("llama-3.2-1b-f16", 1_235_814_400),
        ("llama-3.2-3b-f16", 3_212_749_824),
        ("llama-3.1-8b-f16", 8_030_261_248),
    ],
)
def test_weights_of_real_models(name: str, params: int) -> None:
    """The parameter counts stated by the publisher come out within 0.02 % (norms are left out)."""
    assert SHAPES[name].total_bytes() / 2 == pytest.approx(params, rel=2e-4)


def test_q4_k_m_file_size() -> None:
    """Llama 3.1 8B in Q4_K_M takes its published 4.92 GB within 1 %."""
    assert SHAPES["llama-3.1-8b"].total_bytes() == pytest.approx(4.92e9, rel=0.01)


def test_cache_of_a_real_model() -> None:
    """Llama 3.1 8B keeps 128 KiB a token in F16: 2 x 8 heads x 128 x 2 bytes x 32 layers."""
    shape = SHAPES["llama-3.1-8b"]

    assert shape.kv_bytes_per_token_layer() * shape.layers == 128 * 1024
    assert shape.activation_bytes() == 8192


def test_decode_is_the_sum_of_its_terms() -> None:
    """A step of the tiny desk model, added up by hand."""
    shape = SHAPES["desk-tiny"]
    weights = 2 * 128 * 16 * (8 + 2) + 3 * 128 * 384
    one_layer_s = (
        weights * 4 / 5e10  # read the weights
        + 2 * weights * 3 / 5e12  # three tokens through the matrices
        + 2 * 2 * 16 * 4 * 90 / 5e10  # read 90 cached tokens
        + 4 * 8 * 16 * 90 / 5e12  # attend to them
    )
    head_s = 512 * 128 * 4 / 5e10 + 2 * 512 * 128 * 3 / 5e12

    step_s = inference.decode_step_s(shape, 8, SIMPLE, 3, 90, head=True)

    assert float(step_s) == pytest.approx(8 * one_layer_s + head_s + 8e-4 + 1e-3, rel=1e-12)


@given(st.integers(1, 4000), st.integers(1, 4000))
def test_prefill_in_chunks_does_the_same_work(first: int, second: int) -> None:
    """Two chunks cost what one prompt does, plus reading weights and the first chunk's cache once more."""
    shape = SHAPES["llama-3.1-8b"]
    device = replace(SIMPLE, overhead_s_layer=0.0, overhead_s_step=0.0)

    whole_s = inference.prefill_s(shape, 32, device, first + second)
    parts_s = inference.prefill_s(shape, 32, device, first) + inference.prefill_s(shape, 32, device, second, first)

    again = shape.layer_bytes() + first * shape.kv_bytes_per_token_layer()
    assert float(parts_s - whole_s) == pytest.approx(32 * again / 5e10, rel=1e-6)


@given(layers=st.integers(1, 31), batch=st.integers(1, 64), context=st.integers(0, 100_000))
def test_layers_add_up_over_devices(layers: int, batch: int, context: int) -> None:
    """Cutting a model across two equal devices costs one more step overhead and nothing else."""
    shape = SHAPES["llama-3.1-8b"]

    whole_s = inference.decode_step_s(shape, 32, SIMPLE, batch, context, head=True)
    front_s = inference.decode_step_s(shape, layers, SIMPLE, batch, context)
    back_s = inference.decode_step_s(shape, 32 - layers, SIMPLE, batch, context, head=True)

    assert float(front_s + back_s) == pytest.approx(float(whole_s) + 1e-3, rel=1e-12)


def test_speed_slows_compute_and_memory_but_not_overhead() -> None:
    """At half the speed everything but the overheads takes twice as long."""
    shape = SHAPES["llama-3.2-1b"]
    overhead_s = 16e-4 + 1e-3

    full_s, half_s = inference.decode_step_s(shape, 16, SIMPLE, 1, 100, speed=np.array([1.0, 0.5]))

    assert half_s - overhead_s == pytest.approx(2 * (full_s - overhead_s))


def test_hop_is_serialise_travel_and_send() -> None:
    """A hop adds its three parts."""
    assert float(inference.hop_s(0.01, 1e6, 8192, 0.0005)) == pytest.approx(0.0105 + 0.008192)


# FP16 peak by the data sheets, TFLOP/s; the bandwidth is in the rows.
APPLE = {
    "Apple M1 (8-core GPU)": 4.58,
    "Apple M1 Pro (16-core GPU)": 10.6,
    "Apple M1 Max (32-core GPU)": 21.2,
    "Apple M2 (10-core GPU)": 7.1,
    "Apple M2 Pro (19-core GPU)": 13.6,
    "Apple M2 Max (38-core GPU)": 27.2,
}
BYTES = {"F16": 13.48e9, "Q8_0": 7.16e9, "Q4_0": 3.83e9}  # of the Llama 2 7B files
GEFORCE = {"3070 8GB": (448e9, 81e12), "3090 24GB": (936e9, 142e12), "4090 24GB": (1008e9, 330e12)}


def calibration(name: str) -> Any:
    """Return a calibration table, or skip the test."""
    path = DATA / "inference_calibration" / name
    if not path.exists():
        pytest.skip(f"published token rates (inference_calibration/{name}) are not on this machine")
    return pytest.importorskip("pandas").read_csv(path)


def report(errors: dict[str, list[float]]) -> dict[str, float]:
    """Print signed mean and worst error of each regime and return the mean absolute errors."""
    for regime, found in errors.items():
        print(f"{regime}: mean {np.mean(found):+.1%}, worst {max(found, key=abs):+.1%}, {len(found)} rows")
    return {regime: float(np.mean(np.abs(found))) for regime, found in errors.items()}


def test_apple_token_rates() -> None:
    """llama.cpp on six Apple chips, three formats: decode within 10 % on average, prefill within 5 %."""
    errors: dict[str, list[float]] = {"decode batch 1": [], "prefill 512": []}
    for row in calibration("llamacpp_apple_silicon.csv.gz").itertuples():
        if row.devices not in APPLE:
            continue
        shape = replace(LLAMA_2_7B, bytes_per_weight=BYTES[row.quant] / 6.74e9)
        bandwidth = float(row.bandwidth.split()[0]) * 1e9
        device = Device(bandwidth, APPLE[row.devices] * 1e12, 0.92, 0.35, 0.34, 186e-6, 0.0)
        if row.metric == "tg128":
            rate = 1 / float(inference.decode_step_s(shape, 32, device, 1, 64, head=True))
            errors["decode batch 1"].append(rate / row.value - 1)
        else:
            rate = 512 / float(inference.prefill_s(shape, 32, device, 512, head=True))
            errors["prefill 512"].append(rate / row.value - 1)

    means = report(errors)

    assert means["decode batch 1"] < 0.10
    assert means["prefill 512"] < 0.05


def test_geforce_token_rates() -> None:
    """llama.cpp on three GeForce cards, Llama 3 8B: decode within 8 % on average, prefill within 25 %."""
    errors: dict[str, list[float]] = {"decode batch 1": [], "prefill 512": []}
    for row in calibration("llamacpp_gpu_llama3.csv.gz").itertuples():
        if row.devices not in GEFORCE or "8B" not in row.model or row.n_devices != 1:
            continue
        shape = SHAPES["llama-3.1-8b-f16" if row.quant == "F16" else "llama-3.1-8b"]
        device = Device(*GEFORCE[row.devices], 0.93, 0.35, 0.40, 78e-6, 0.0)
        if row.metric == "tg512":
            rate = 1 / float(inference.decode_step_s(shape, 32, device, 1, 256, head=True))
            errors["decode batch 1"].append(rate / row.value - 1)
        else:
            rate = 512 / float(inference.prefill_s(shape, 32, device, 512, head=True))
            errors["prefill 512"].append(rate / row.value - 1)

    means = report(errors)

    assert means["decode batch 1"] < 0.08
    assert means["prefill 512"] < 0.25


def test_batched_decode_on_a_server_gpu() -> None:
    """vLLM on an A100, two models, 2 to 300 streams: within 15 % on average at a context of 870 (assumed)."""
    shapes = {
        "llama1_30b": Shape("llama-30b", 60, 6656, 52, 52, 128, 17_920, 32_000, tied=False),
        "llama2_70b": Shape("llama-2-70b", 80, 8192, 64, 8, 128, 28_672, 32_000, tied=False),
    }
    device = Device(1555e9, 312e12, 0.79, 1.0, 0.76, 0.0, 0.0)
    errors: dict[str, list[float]] = {f"batched decode {name}": [] for name in shapes}
    for row in calibration("helix_layer_profiles.csv.gz").itertuples():
        if row.machine != "a100" or row.phase != "decode" or not 2 <= row.tokens_in_batch <= 300:
            continue
        streams = row.tokens_in_batch
        step_s = inference.decode_step_s(shapes[row.model], 1, device, streams, 870 * streams)
        errors[f"batched decode {row.model}"].append(float(step_s) * 1e3 / row.ms_per_layer - 1)

    means = report(errors)

    assert all(mean < 0.15 for mean in means.values())
