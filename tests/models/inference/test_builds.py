"""Tests of builds, hosts and kernels that no fitted price speaks of: each rule against a count by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from models.inference.assumed import assumed
from models.inference.builds import GRAPH_S_LAYER, METAL_S_LAYER, is_old, is_old_metal
from models.inference.catalogue import CATALOGUE
from models.inference.chips import BOARD_HOST, CHIPS, find_chip, find_devices
from models.inference.conditions import Conditions, read_cache
from models.inference.engines import EAGER_S_LAYER, MIXTURE_S_LAYER, find_engine, prices
from models.inference.predict import Metrics, predict
from models.inference.prices import quantities
from models.inference.rows import answer
from models.inference.work import prefill_work


@pytest.mark.parametrize(
    ("text", "old"),
    [
        ("tg128, May 2024 build", True),
        ("2023-12", True),
        ("Dec 2023 build", True),
        ("build 2100", True),
        ("b3149", True),
        ("build: 4567", False),
        ("June 2024", False),
        ("build of 2025", False),
        ("tg128", False),
        ("pp2048, ubatch 2048", False),
        ("out 2048, 2023 build", True),
        ("", False),
    ],
)
def test_words_date_a_build(text: str, old: bool) -> None:
    """Months, years and numbers of builds before June 2024 are old; words without a date are of today."""
    assert bool(is_old(text)) == old


def test_a_row_of_old_vllm_waits_for_its_host() -> None:
    """Before version 0.6.0 Splitwise's prices, undated and later rows the kernels'; other engines have no such date."""
    row = {"model": "Llama-2-70B", "quant": "fp16", "devices": "A100 80GB", "n_devices": "8"}
    row |= {"metric": "tpot", "unit": "ms"}

    def regime(system: str, said: str) -> str:
        return answer(row | {"system": system, "conditions": f"batch 32, out 2048{said}"}).metrics.regime_decode

    assert regime("vLLM", ", 2023 build") == regime("vLLM", ", Aug 2024") == "splitwise/A100 SXM 80GB/decode"
    assert regime("vLLM", "") == regime("vLLM", ", Sept 2024") == regime("LMDeploy", ", 2023 build")
    assert regime("vLLM", "") == "vllm/A100 SXM 80GB/decode"


def _alone(system: str, model: str, form: str, device: str, **said: object) -> Metrics:
    return predict(system, model, form, device, None, replace(Conditions(), **said))  # type: ignore[arg-type]


def test_graphs_save_the_same_a_layer_on_cuda_only() -> None:
    """Llama 2 7B has 32 layers; Metal and another engine on the same kernels have no graphs to replay."""
    for system, device, saved_s in (
        ("llama.cpp", "RTX 4090", 32 * GRAPH_S_LAYER), ("llama.cpp", "M2 Ultra 76-core", 0.0), ("exo", "RTX 4090", 0.0)
    ):  # fmt: skip
        before, after = (_alone(system, "llama-2-7b", "q4_0", device, old_build=old) for old in (True, False))
        assert before.decode_step_s - after.decode_step_s == pytest.approx(saved_s, abs=1e-12)


def test_packed_products_are_unpacked_by_old_builds_and_by_mixtures() -> None:
    """Only a dense model of integers gains from integer kernels, and not on cards with HBM."""
    engine = find_engine("llama.cpp")

    def unpacked(device: str, *, old: bool = False, packed: bool = True, mixture: bool = False) -> float:
        return prices(engine, CHIPS[device], "prefill", old=old, packed=packed, mixture=mixture)[1].unpacked

    assert unpacked("RTX 3090") == 0.0
    assert (
        unpacked("RTX 3090", old=True) == unpacked("RTX 3090", packed=False) == unpacked("RTX 3090", mixture=True) > 0
    )
    assert unpacked("A100 SXM 80GB") == unpacked("A100 SXM 80GB", old=True)


def test_experts_fill_whole_tiles() -> None:
    """Of 8 experts all are touched by 512 tokens; each computes 64 more of a tile of 128."""
    shape = replace(CATALOGUE["llama-2-7b"].shape, experts=8, top_k=2)
    without, tiled = (prefill_work(shape, 1, 512, tile_tokens=tile) for tile in (0, 128))
    touched = 8 * (1 - (1 - 2 / 8) ** 512)

    assert tiled.linear_flops - without.linear_flops == pytest.approx(
        2 * touched * 64 * shape.expert_params(), rel=1e-12
    )
    assert prefill_work(CATALOGUE["llama-2-7b"].shape, 1, 512, tile_tokens=128) == prefill_work(
        CATALOGUE["llama-2-7b"].shape, 1, 512
    )


def test_choosing_experts_takes_kernels_in_ggml_only() -> None:
    """The same price a layer on any chip; serving engines fuse it."""
    for system, more_s in (("llama.cpp", MIXTURE_S_LAYER), ("vLLM", 0.0)):
        engine, chip = find_engine(system), CHIPS["RTX 3090"]
        dense, mixed = (prices(engine, chip, "decode", mixture=mixture)[1].layer_s for mixture in (False, True))
        assert mixed - dense == pytest.approx(more_s)


def test_a_host_that_launches_kernel_by_kernel_bounds_small_models() -> None:
    """Eager transformers on an A100 take 25.5 tokens/s of Llama 2 7B, the host's pace; the card waits."""
    found = _alone("transformers", "llama-2-7b", "fp16", "A100 80GB", prompt_tokens=16, output_tokens=16)

    assert found.decode_step_s == pytest.approx(32 * EAGER_S_LAYER)
    assert found.decode_terms_s["launch_s"] > 0
    assert _alone("vLLM", "llama-2-7b", "fp16", "A100 80GB").decode_terms_s["launch_s"] == 0.0


def test_eight_bits_of_floating_point_double_the_peak_where_cores_have_them() -> None:
    """Products of FP8 take half the time of FP16 on an H100 and all of it on an A100."""
    for device, share in (("H100 80GB", 0.5), ("A100 80GB", 1.0)):
        half, whole = (
            _alone("vLLM", "llama-2-7b", form, device, prompt_tokens=4096).prefill_terms_s["linear"]
            for form in ("fp8", "fp16")
        )
        # Both overlap with the reading of weights: the root of the sum of squares keeps the ratio between terms only.
        assert half / whole == pytest.approx(share, rel=0.05)


def test_a_card_in_a_board_waits_for_its_host() -> None:
    """Told as one name or with a plus, the Pi launches the card's kernels; a card alone has a desktop's host."""
    assert find_chip("Pi 5 - 8GB (AMD Pro W7700)").host == BOARD_HOST
    assert [chip.host for chip in find_devices("Raspberry Pi 5 + RX 6700 XT")] == [BOARD_HOST]
    assert find_chip("RX 6700 XT").host == 1.0
    alone, boarded = (
        _alone("llama.cpp", "llama-2-7b", "q4_0", device) for device in ("RX 6700 XT", "Raspberry Pi 5 + RX 6700 XT")
    )
    assert boarded.decode_step_s > alone.decode_step_s
    assert boarded.prefill_s > alone.prefill_s


def test_amd_decodes_with_the_translated_kernels_and_stays_zero_shot() -> None:
    """ROCm's are CUDA's source, so that a GeForce's prices stand in; nothing measured them."""
    engine = find_engine("llama.cpp")
    name, found = prices(engine, CHIPS["RX 7900 XTX"], "decode")

    assert name.startswith("zero-shot/amd")
    card = prices(engine, CHIPS["RTX 4090"], "decode", old=True)[1]
    assert (found.weight, found.linear_packed, found.layer_s) == (card.weight, card.linear_packed, card.layer_s)
    assert _alone("llama.cpp", "llama-2-7b", "q4_0", "RX 7900 XTX").zero_shot


def test_barriers_of_many_cores_outlast_launches() -> None:
    """192 cores wait 5 us each a layer; a processor with few keeps its class's 20 us."""
    assert assumed("llama.cpp", CHIPS["AmpereOne"], "decode").layer_s == pytest.approx(192 * 5e-6)
    assert assumed("llama.cpp", find_chip("Ryzen 9 7950X"), "decode").layer_s == pytest.approx(20e-6)


def test_a_phones_floating_point_has_no_integer_lanes() -> None:
    """ExecuTorch takes four times as long for a prompt in BF16 as with weights of integers, in products."""
    phone = find_chip("OnePlus 12")
    prefill, decode = (assumed("executorch", phone, phase) for phase in ("prefill", "decode"))

    assert prefill.linear == pytest.approx(4 * prefill.linear_packed)
    assert decode.linear == decode.linear_packed


def _row(conditions: str) -> dict[str, str]:
    return {
        "system": "distributed-llama", "model": "Llama 2 7B", "quant": "Q40", "devices": "Raspberry Pi 5 8GB",
        "n_devices": "8", "metric": "token_time", "unit": "ms", "conditions": conditions,
    }  # fmt: skip


def test_replies_collide_less_on_a_faster_switch() -> None:
    """Ten times the rate drains a switch's buffer in a tenth of the time."""
    slow, fast = (answer(_row(words)).value for words in ("1 GbE", "10 GbE"))

    assert fast < 0.7 * slow


@pytest.mark.parametrize(
    ("text", "model", "old"),
    [
        ("batch 1", "Llama 2 7B", True),
        ("batch 1", "LLaMA 3 8B", True),
        ("batch 1", "llama3.1 8b", False),
        ("batch 1", "Llama-3.2-3B-Instruct", False),
        ("batch 1", "gemma 2b", True),
        ("batch 1", "gemma-2-2b", False),
        ("batch 1", "Qwen2.5-Coder-14B", False),
        ("May 2024 build", "Qwen2.5-7B", True),
        ("Dec 2025", "Llama 2 7B", False),
        ("build 5000", "Qwen3 8B", True),
    ],
)
def test_an_undated_row_of_metal_is_as_old_as_its_model(text: str, model: str, old: bool) -> None:
    """The common table of Macs holds a build of 2023; what runs a later model is later."""
    assert is_old_metal(text, model) == old


def test_late_metal_overlaps_and_launches_less_but_for_the_first_macs_and_mixtures() -> None:
    """A layer takes 28 us less and unpacking hides behind reading, from the M2 on and for dense models."""
    engine = find_engine("llama.cpp")
    for device, mixture, gains in (
        ("M2 Pro 19-core", False, True), ("M1 Max 32-core", False, False), ("M2 Pro 19-core", True, False)
    ):  # fmt: skip
        before, after = (
            prices(engine, find_chip(device), "decode", old=old, mixture=mixture)[1] for old in (True, False)
        )
        assert before.layer_s - after.layer_s == pytest.approx(METAL_S_LAYER if gains else 0.0)
        assert (after.joint, before.joint) == (2.0 if gains else 1.0, 1.0)


def test_pascal_multiplies_integers_twice_as_fast_as_its_peak_says() -> None:
    """Products of packed weights take half the time of those in FP16; a GTX 1660 has its FP16 in its peak."""
    work = prefill_work(CATALOGUE["llama-2-7b"].shape, 1, 512)
    for device, share in (("Tesla P40", 0.5), ("GTX 1080 Ti", 0.5), ("GTX 1660", 1.0), ("RTX 3090", 1.0)):
        packed = quantities(work, CHIPS[device], packing="0")["linear_packed"]
        assert packed == pytest.approx(share * quantities(work, CHIPS[device])["linear"])


def test_mlx_takes_in_a_longer_step_and_fast_links_pass_the_kernels_by() -> None:
    """A prompt of 2,048 enters the layers once; all-reduces at 200 Gbit/s start in a tenth of Ethernet's time."""
    assert find_engine("MLX").chunk_tokens() == 4 * find_engine("llama.cpp").chunk_tokens()
    row = {
        "system": "vLLM", "model": "Qwen3 32B", "quant": "fp8", "devices": "DGX Spark", "n_devices": "4",
        "metric": "tpot", "unit": "ms", "conditions": "tensor parallel, 25 GbE",
    }  # fmt: skip
    slow, fast = (answer({**row, "conditions": f"tensor parallel, {words}"}).value for words in ("25 GbE", "200 GbE"))

    assert slow - fast > 64 * 2 * 3 * 0.18  # ms: layers, all-reduces, starts


@pytest.mark.parametrize(
    ("words", "size"),
    [("fp8 KV cache", 1.0), ("kv cache q8_0", 1.0625), ("-ctk q4_0", 0.5625), ("8-bit KV", 1.0), ("batch 8", 0.0)],
)
def test_words_name_the_cache(words: str, size: float) -> None:
    """A cache's format is named before or after it, or as llama.cpp's option."""
    assert read_cache(f"batch 1, {words}, prompt 512") == size


def test_a_smaller_cache_is_read_faster_and_takes_less_memory() -> None:
    """An 8-bit cache is half of one in 16 bits, in bytes and in seconds."""
    whole, half = (
        _alone("vLLM", "llama-2-7b", "fp16", "A100 80GB", prompt_tokens=2048, batch=16.0, bytes_per_kv=size)
        for size in (0.0, 1.0)
    )

    assert half.kv_bytes == pytest.approx(whole.kv_bytes / 2)
    assert half.decode_terms_s["kv"] == pytest.approx(whole.decode_terms_s["kv"] / 2)


def test_the_benchmark_of_llama_cpp_generates_after_its_prompt() -> None:
    """Its pp512+tg128 is the prompt and 128 steps: no token comes out of the prompt (llama-bench's test_gen)."""
    row = {
        "system": "llama.cpp", "model": "Llama 2 7B", "quant": "Q4_0", "devices": "RTX 4090", "n_devices": "1",
        "metric": "pp512+tg128", "unit": "tokens/s", "conditions": "batch 1",
    }  # fmt: skip
    found = answer(row)
    took_s = found.metrics.prefill_s + 128 * found.metrics.decode_step_s

    assert found.value == pytest.approx((512 + 128) / took_s)


def test_throughput_of_requests_counts_their_prompts() -> None:
    """With prompts and answers told, a batch's throughput is the answers' tokens over the whole time."""
    row = {
        "system": "vLLM", "model": "Llama 2 7B", "quant": "fp16", "devices": "A100 80GB", "n_devices": "1",
        "metric": "throughput", "unit": "tokens/s", "conditions": "batch 16, prompt 1024, out 128",
    }  # fmt: skip
    found = answer(row)

    assert found.value == pytest.approx(16 * 128 / found.metrics.end_to_end_s)
    decode = answer({**row, "metric": "decode throughput"})
    assert decode.value == pytest.approx(decode.metrics.decode_tokens_per_s)
    assert decode.value > found.value
