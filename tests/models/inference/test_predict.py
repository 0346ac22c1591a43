"""Tests of the prediction: sums by hand, laws of splitting, names as people write them, energy and memory."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.inference import CATALOGUE, Shape
from models.inference.chips import CHIPS, Chip, find_chip, find_devices
from models.inference.collectives import Link, all_reduce_s, layer_all_reduce_s, pipeline_rate
from models.inference.conditions import Conditions
from models.inference.engines import ENGINES, default_link, find_engine
from models.inference.predict import RUNTIME_BYTES, predict
from models.inference.prices import REGIMES, Prices, terms_s
from models.inference.work import decode_work, prefill_work

TINY = Shape("tiny", 4, 8, 4, 2, 2, 16, 100, tied=False)
CHIP = Chip("test", "gddr", 1e9, 1e12, 0.5e12, 0.0, 1e9, 100.0, 10.0)
NAMES = st.sampled_from(sorted(CATALOGUE))


def test_the_work_of_a_decode_step_is_that_counted_by_hand() -> None:
    """Three streams of 10 tokens through 4 layers and the head: bytes and operations, one kind at a time."""
    work = decode_work(TINY, 4, 3, 10, head=True)
    layer = 2 * 8 * 2 * (4 + 2) + 3 * 8 * 16

    assert work.weight_bytes == (4 * layer + 100 * 8) * 2
    assert work.linear_flops == 2 * 3 * (4 * layer + 100 * 8)
    assert work.kv_bytes == 4 * (2 * 2 * 2 * 2) * 3 * 10
    assert work.kv_head_bytes == work.kv_bytes * 4 / 2
    assert work.attention_flops == 4 * 4 * 4 * 2 * 3 * 10
    assert (work.layers, work.passes) == (4, 1)


def test_a_pass_costs_its_prices_times_its_work() -> None:
    """Bytes over bandwidth, operations over peak, layers by their overhead, with prices of 2 and 3."""
    work = decode_work(TINY, 4, 1, 0, head=True)
    prices = Prices(weight=2.0, linear=3.0, layer_s=1e-3, pass_s=5e-3)
    found = terms_s(work, CHIP, prices, packing="none")

    assert found["weight"] == pytest.approx(2.0 * work.weight_bytes / 1e9)
    assert found["linear"] == pytest.approx(3.0 * work.linear_flops / 1e12)
    assert (found["layer_s"], found["pass_s"]) == (4e-3, 5e-3)


def test_overlapping_kernels_take_the_root_of_the_squares() -> None:
    """With weights of 3 s and products of 4 s a joint of 2 makes 5 s."""
    work = decode_work(TINY, 4, 1, 0)
    prices = Prices(weight=3.0 * 1e9 / work.weight_bytes, linear=4.0 * 1e12 / work.linear_flops, joint=2.0)

    assert sum(terms_s(work, CHIP, prices, packing="none").values()) == pytest.approx(5.0)


@given(NAMES, st.integers(1, 40), st.integers(1, 40), st.integers(1, 64), st.integers(0, 9000))
def test_layers_add_up(name: str, first: int, second: int, batch: int, context: int) -> None:
    """The work of some layers and of some more is that of all of them."""
    shape = CATALOGUE[name].shape
    apart = decode_work(shape, first, batch, context) + decode_work(shape, second, batch, context, head=True)
    whole = decode_work(shape, first + second, batch, context, head=True)

    assert apart.weight_bytes == pytest.approx(whole.weight_bytes)
    assert apart.kv_bytes == pytest.approx(whole.kv_bytes)
    assert apart.linear_flops == pytest.approx(whole.linear_flops)


@given(NAMES, st.integers(1, 4000), st.integers(1, 4000))
def test_chunks_of_a_prompt_add_up(name: str, first: int, second: int) -> None:
    """Two chunks do the products and the attention of one prompt; a window makes the second cheaper, never dearer."""
    shape = replace(CATALOGUE[name].shape, window=0)
    apart = prefill_work(shape, 1, first) + prefill_work(shape, 1, second, before=first)
    whole = prefill_work(shape, 1, first + second)

    assert apart.linear_flops == pytest.approx(whole.linear_flops)
    assert apart.attention_flops == pytest.approx(whole.attention_flops)


@given(st.sampled_from(["llama-2-7b", "mixtral-8x7b", "qwen3-32b"]), st.integers(1, 7))
def test_stages_on_equal_devices_take_the_time_of_one(model: str, stages: int) -> None:
    """A layer split over equal devices adds its hops and what each pass costs, and nothing else."""
    one = predict("llama.cpp", model, "q4_0", [CHIPS["RTX 4090"]])
    many = predict("llama.cpp", model, "q4_0", [CHIPS["RTX 4090"]] * stages)

    assert many.decode_step_s - many.decode_terms_s["hops"] == pytest.approx(one.decode_step_s)
    assert many.pipeline_tokens_per_s >= 0.999 * many.decode_tokens_per_s


def test_tensor_parallel_divides_the_work_and_adds_all_reduces() -> None:
    """On two devices weights take half of the time, and two all-reduces a layer come on top."""
    link = Link(1e9, 1e-5)
    one = predict("vllm", "llama-2-7b", "f16", "RTX 4090")
    two = predict("vllm", "llama-2-7b", "f16", "RTX 4090 * 2", link)

    assert two.decode_terms_s["kv"] == pytest.approx(one.decode_terms_s["kv"] / 2)
    assert two.decode_terms_s["all_reduce"] == pytest.approx(32 * 2 * (1e-5 + 4096 * 2 / 1e9))


def test_llama_cpp_takes_a_prompt_in_chunks_of_512() -> None:
    """1,100 tokens enter every layer three times; on two cards stages overlap, and the slower way is one card's."""
    one = predict("llama.cpp", "llama-2-7b", "q4_0", "RTX 4090", None, Conditions(512))
    three = predict("llama.cpp", "llama-2-7b", "q4_0", "RTX 4090", None, Conditions(1100))
    cards = predict("llama.cpp", "llama-2-7b", "q4_0", "RTX 4090 * 2", None, Conditions(1100))

    assert three.prefill_terms_s["layer_s"] == pytest.approx(3 * one.prefill_terms_s["layer_s"])
    assert three.prefill_terms_s["unpacked"] == pytest.approx(3 * one.prefill_terms_s["unpacked"], rel=0.02)
    assert 0.5 * three.prefill_s < cards.prefill_s < three.prefill_s


def test_all_reduces_by_hand() -> None:
    """A ring of 4 starts thrice and moves 1.5 of the data; a root of 3 takes and sends it twice and waits its turn."""
    assert all_reduce_s(Link(100.0, 1.0), 4, 1000.0) == 3 * 1.0 + 1.5 * 1000 / 100
    assert all_reduce_s(Link(100.0, 1.0, star=True, crowd_s=0.1), 3, 8704.0) == pytest.approx(1.0 + 4 * 2.7 + 348.16)
    assert all_reduce_s(Link(100.0, 1.0), 1, 1000.0) == 0.0
    assert all_reduce_s(Link(100.0, 0.0, launch_s=2.0), 4, 1000.0) == 2.0 + 1.5 * 1000 / 100
    assert layer_all_reduce_s(Link(100.0, 1.0), 2, 5, 100.0) == 5 * 2 * 2.0


def test_boards_of_one_machine_launch_an_all_reduce_once() -> None:
    """Two and eight boards start alike, an A800's NVLink has two thirds of an A100's rate, Splitwise keeps a ring."""
    vllm, splitwise = find_engine("vLLM"), find_engine("Splitwise")
    fast, slow, ring = (
        default_link(engine, CHIPS[name])
        for engine, name in ((vllm, "A100 SXM 80GB"), (vllm, "A800"), (splitwise, "A100 SXM 80GB"))
    )

    assert all_reduce_s(fast, 2, 0.0) == all_reduce_s(fast, 8, 0.0) == fast.launch_s > 0.0
    assert slow.bytes_per_s == pytest.approx(fast.bytes_per_s * 2 / 3)
    assert all_reduce_s(ring, 8, 0.0) == pytest.approx(7 * all_reduce_s(ring, 2, 0.0))


def test_a_pipeline_runs_at_its_slowest_stage_when_enough_is_in_flight() -> None:
    """One pass in flight takes the way round; four are held by the stage of 2 s."""
    assert pipeline_rate([1.0, 2.0], [0.5], 1) == pytest.approx(1 / 3.5)
    assert pipeline_rate([1.0, 2.0], [0.5], 4) == pytest.approx(1 / 2.0)


@given(NAMES, st.sampled_from(["RTX 4090", "M2 Max 38-core", "Raspberry Pi 5", "Snapdragon 8 Gen 3", "H100 SXM"]))
def test_more_of_anything_takes_longer(name: str, chip: str) -> None:
    """A longer context, a larger batch and a longer prompt never take less time."""
    base = predict("llama.cpp", name, "q8_0", chip, None, Conditions(500, 100, 2))
    longer = predict("llama.cpp", name, "q8_0", chip, None, Conditions(1000, 100, 2))
    larger = predict("llama.cpp", name, "q8_0", chip, None, Conditions(500, 100, 4))

    assert longer.decode_step_s >= base.decode_step_s
    assert longer.prefill_s > base.prefill_s
    assert larger.decode_step_s >= base.decode_step_s
    assert larger.decode_tokens_per_s >= 0.999 * base.decode_tokens_per_s


@pytest.mark.parametrize("tokens", [1, 2, 128])
def test_the_first_token_comes_out_of_the_prompt(tokens: int) -> None:
    """End to end is the time to the first token and a step for each further one; one token needs no step."""
    found = predict("vllm", "llama-3.1-8b", "f16", "RTX 4090", None, Conditions(512, tokens))

    assert found.time_to_first_token_s == found.prefill_s
    assert found.end_to_end_s == pytest.approx(found.time_to_first_token_s + (tokens - 1) * found.decode_step_s)


def test_energy_lies_between_idle_and_full_power() -> None:
    """Joules a token are watts times seconds a token, with watts between idle and peak; what is drawn becomes heat."""
    chip = CHIPS["RTX 4090"]
    found = predict("llama.cpp", "llama-3.1-8b", "q4_k_m", [chip], None, Conditions(512, 128))

    assert chip.idle_w < found.mean_power_w <= chip.peak_w
    assert found.joules_per_token == pytest.approx(found.mean_power_w * found.end_to_end_s / 128)
    assert found.heat_j_per_token == found.joules_per_token


def test_memory_counts_weights_cache_and_runtime() -> None:
    """Llama 2 7B in F16 with 640 tokens: 13.5 GB of weights and 0.5 MB of cache a token on one card, which is too much
    for 12 GB and fits in 24 GB."""
    found = predict("llama.cpp", "llama-2-7b", "f16", "RTX 3090", None, Conditions(512, 128))

    assert found.kv_bytes == 640 * 32 * 2 * 4096 * 2
    assert found.device_bytes[0] == pytest.approx(found.weight_bytes + found.kv_bytes + RUNTIME_BYTES)
    assert found.fits
    assert not predict("llama.cpp", "llama-2-7b", "f16", "RTX 3060").fits


@pytest.mark.parametrize(
    ("written", "name"),
    [("Apple M2 Ultra (76-core GPU)", "M2 Ultra 76-core"), ("M1 7‑Core GPU 8GB", "M1 7-core"),
     ("4090 24GB", "RTX 4090"),
     ("A100-80gb", "A100 SXM 80GB"), ("NVIDIA A100-SXM4-80GB", "A100 SXM 80GB"), ("H100 PCIe 80GB", "H100 PCIe"),
     ("MacBook Pro M4 Max", "M4 Max 40-core"), ("3080 Ti 12GB", "RTX 3080 Ti"), ("RTX4090", "RTX 4090"),
     ("Raspberry Pi 5 8GB", "Raspberry Pi 5"), ("Samsung Galaxy S24+", "Snapdragon 8 Gen 3"),
     ("Jetson Orin Nano Super", "Jetson Orin Nano 8GB Super"), ("iPhone 15 Pro", "Apple A17 Pro")],
)  # fmt: skip
def test_chips_are_found_as_people_write_them(written: str, name: str) -> None:
    """Maker, memory and spelling do not matter; the more words agree, the better."""
    assert find_devices(written)[0].name == name


def test_cells_with_several_devices() -> None:
    """A factor before or behind, a sum, and the count of another column."""
    assert [chip.name for chip in find_devices("4090 24GB * 2", 2)] == ["RTX 4090"] * 2
    assert [chip.name for chip in find_devices("3x Jetson AGX Orin 64GB + RTX 3090")] == [
        *["Jetson AGX Orin 64GB"] * 3, "RTX 3090",
    ]  # fmt: skip
    assert len(find_devices("l4x2")) == 2
    assert len(find_devices("RTX 3090", 4)) == 4


def test_a_stranger_needs_a_bandwidth() -> None:
    """A chip of no table is refused with the nearest, and taken zero-shot once its bandwidth is told."""
    with pytest.raises(ValueError, match=r"devices is 'RTX 4095'; nearest: .*RTX 4090"):
        find_chip("RTX 4095")
    stranger = find_chip("RTX 4095", 9e11)

    assert (stranger.kind, stranger.mem_bytes_per_s, stranger.known) == ("gddr", 9e11, False)
    assert predict("llama.cpp", "llama-2-7b", "q4_0", [stranger]).zero_shot


@pytest.mark.parametrize("name", CHIPS)
def test_every_chip_runs_in_every_engine(name: str) -> None:
    """A rate above none comes out, whatever the pair; prices are those of a regime or are called zero-shot."""
    for engine in ENGINES:
        found = predict(engine.words[0], "llama-3.2-1b", "int4", [CHIPS[name]])

        assert found.decode_tokens_per_s > 0.0
        assert found.prefill_tokens_per_s > 0.0
        assert found.zero_shot or found.regime_decode in REGIMES


def test_engines_are_found_in_what_people_call_systems() -> None:
    """The most telling word decides; a stranger is refused with the names that are known."""
    assert find_engine("vLLM-class engine (Splitwise characterisation)").name == "splitwise"
    assert find_engine("llama.cpp (layer split when >1 GPU)").name == "llama.cpp"
    assert find_engine("ExecuTorch XNNPACK").name == "executorch"
    with pytest.raises(ValueError, match=r"system is 'abacus'; .*allowed: .*vllm"):
        find_engine("abacus")


def test_more_stages_than_layers_are_refused() -> None:
    """A model of 16 layers is not cut for 17 devices."""
    with pytest.raises(ValueError, match="devices are 17; allowed: at most one for each of the 16 layers"):
        predict("llama.cpp", "llama-3.2-1b", "q4_0", [CHIPS["RTX 4090"]] * 17)


@pytest.mark.parametrize("small_bytes", [40e9, 10e9, 1e9])
def test_stages_hold_every_layer_once(small_bytes: float) -> None:
    """Devices whose memory is less than a layer's share hold one, and the largest hold so many fewer: 16 in all."""
    large = replace(CHIP, memory_bytes=80e9)
    chips = [replace(CHIP, memory_bytes=small_bytes)] * 3 + [large] * 5
    found = predict("llama.cpp", "llama-3.2-1b", "f16", chips)
    shape = CATALOGUE["llama-3.2-1b"].shape

    layers = sum(found.device_bytes) - 8 * RUNTIME_BYTES - 2 * shape.head_bytes() - found.kv_bytes
    assert layers == pytest.approx(16 * shape.layer_bytes())
