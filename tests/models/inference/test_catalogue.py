"""Tests of the tables of models and formats: published totals and file sizes, names as people write them."""

from __future__ import annotations

import pytest

from models.inference import CATALOGUE, FORMATS, Shape, find_format, find_model
from models.inference.chips import find_devices

# File sizes that publishers of GGUF files state, GB.
FILES = [
    ("llama-2-7b", "q4_0", 3.83), ("llama-2-7b", "q8_0", 7.16), ("llama-2-7b", "f16", 13.48),
    ("llama-3.1-8b", "q4_k_m", 4.92), ("llama-3.1-70b", "q4_k_m", 42.52), ("gpt-oss-20b", "mxfp4", 12.1),
    ("llama-3.2-3b", "q4_k_m", 2.02), ("llama-3.2-1b", "q4_k_m", 0.808),
    ("llama-3.1-8b", "iq2_xxs", 2.40), ("llama-3.1-8b", "iq3_m", 3.78), ("llama-3.1-8b", "iq4_xs", 4.45),
    ("llama-3.1-8b", "q3_k_s", 3.66), ("llama-3.1-8b", "q3_k_l", 4.32), ("llama-3.1-8b", "q5_k_s", 5.60),
]  # fmt: skip


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_model_has_the_weights_its_publisher_states(name: str) -> None:
    """Counted weights are the published total within 0.05 % (rounded, or learned positions left out: 0.4 %)."""
    entry = CATALOGUE[name]
    loose = "rounded" in entry.source or "opt-" in name

    assert entry.shape.total_params() == pytest.approx(entry.params_published, rel=4e-3 if loose else 5e-4)
    assert entry.source


@pytest.mark.parametrize(("model", "quant", "gb"), FILES)
def test_a_format_makes_files_of_the_published_size(model: str, quant: str, gb: float) -> None:
    """Weights times bytes a weight are the published file within 2 %."""
    shape = FORMATS[quant].of(CATALOGUE[model].shape)

    assert shape.total_bytes() / 1e9 == pytest.approx(gb, rel=0.02)


@pytest.mark.parametrize(
    ("name", "active"),
    [("mixtral-8x7b", 12.9e9), ("qwen3-30b-a3b", 3.3e9), ("qwen3-235b-a22b", 22e9), ("gpt-oss-120b", 5.1e9),
     ("gpt-oss-20b", 3.6e9)],
)  # fmt: skip
def test_a_mixture_uses_the_weights_its_publisher_calls_active(name: str, active: float) -> None:
    """Weights that one token uses, head and embedding counted, are the published active parameters within 8 %."""
    shape = CATALOGUE[name].shape
    counted = shape.layers * shape.active_params() + shape.head_params() * (1 if "gpt" in name else 2)

    assert counted == pytest.approx(active, rel=0.08)


def test_a_batch_touches_from_its_own_experts_to_all() -> None:
    """One token reads what it uses; two read E (1 - (1 - k / E)^2) experts by hand; many read everything."""
    shape = Shape("moe", 2, 8, 2, 1, 4, 16, 100, experts=4, top_k=1)
    attention, router, expert = 2 * 8 * 4 * 3, 4 * 8, 3 * 8 * 16

    assert shape.touched_params(1) == shape.active_params() == attention + router + expert
    assert shape.touched_params(2) == attention + router + expert * 4 * (1 - 0.75**2)
    assert shape.touched_params(1000) == pytest.approx(shape.layer_params())


def test_a_window_keeps_its_tokens() -> None:
    """With half of the layers limited to 100 tokens, a stream of 300 keeps 200 a layer on average, one of 50 all."""
    shape = Shape("windowed", 2, 8, 2, 1, 4, 16, 100, window=100, windowed_share=0.5)

    assert shape.kept_tokens(300) == 200
    assert shape.kept_tokens(50) == 50


@pytest.mark.parametrize(
    ("written", "name"),
    [("Llama 2 7B", "llama-2-7b"), ("LLaMA 3 70B", "llama-3.1-70b"), ("llama1_30b", "llama-30b"),
     ("meta-llama/Llama-2-7b-chat-hf", "llama-2-7b"), ("llama3.2:3b", "llama-3.2-3b"), ("bloom-176b", "bloom-176b"),
     ("deepseek-r1:14b", "qwen2.5-14b"), ("Mixtral 8x7B", "mixtral-8x7b"), ("Qwen2.5-Coder-32B", "qwen2.5-32b"),
     ("LLaMA-33B", "llama-30b"), ("llama3", "llama-3.1-8b"), ("mistral", "mistral-7b"), ("Yi-34B-Chat", "yi-34b"),
     ("EleutherAI/gpt-j-6B", "gpt-j-6b"), ("SmolLM2 1.7B", "smollm2-1.7b"), ("ChatGLM2-6B", "chatglm3-6b")],
)  # fmt: skip
def test_models_are_found_as_people_write_them(written: str, name: str) -> None:
    """Publisher, spelling and tuning do not matter."""
    assert find_model(written).shape.name == name


@pytest.mark.parametrize(
    ("written", "name"),
    [("Q4_K - Medium", "q4_k_m"), ("FP16", "f16"), ("bf16", "f16"), ("4-bit", "int4"), ("INT4 (AWQ)", "awq"),
     ("q4f16_1", "mlc-q4f16"), ("Q40 weights, Q80 buffers", "q4_0"), ("8da4w SpinQuant", "8da4w"),
     ("UD-Q4_K_XL", "q4_k_m"), ("Q4_0_4_8", "q4_0"), ("IQ4_XS", "iq4_xs"), ("Q3_K_L", "q3_k_l"), ("6-bit MLX", "int6")],
)  # fmt: skip
def test_formats_are_found_as_people_write_them(written: str, name: str) -> None:
    """Spelling does not matter."""
    assert find_format(written).name == name


@pytest.mark.parametrize(
    ("written", "name"),
    [("M2 Ultra 76-core", "M2 Ultra 76-core"), ("Apple M3 Max (30-core GPU)", "M3 Max 30-core"),
     ("M4 Max 36GB", "M4 Max 32-core"), ("RTX4090", "RTX 4090"), ("GTX 1080Ti", "GTX 1080 Ti"),
     ("RTX 4090 Laptop", "RTX 4090 Laptop"), ("NVIDIA A100-SXM4-80GB", "A100 SXM 80GB"),
     ("Jetson Orin Nano 8GB", "Jetson Orin Nano 8GB"), ("Jetson Orin Nano Super", "Jetson Orin Nano 8GB Super"),
     ("Pi 5 8GB", "Raspberry Pi 5"), ("Pi CM5", "Raspberry Pi 5"), ("Pixel 8 Pro", "Tensor G3"),
     ("Ryzen 9 7950X (Nvidia 4080)", "RTX 4080"), ("Pi 5 - 8GB (AMD Pro W7700)", "W7700"),
     ("Framework Mainboard (Ryzen AI Max+ 395, 128GB)", "Ryzen AI Max+ 395"), ("Jetson TX2", "Jetson TX2"),
     ("Titan V", "Titan V"), ("RTX 2070 Super", "RTX 2070 Super"), ("AMD EPYC 9654", "EPYC 9654"),
     ("Intel(R) Xeon(R) Platinum 8480+", "Xeon Platinum 8480+"), ("Threadripper 3990X", "Threadripper 3990X")],
)  # fmt: skip
def test_devices_are_found_as_people_write_them(written: str, name: str) -> None:
    """Spelling and memory do not matter, a card goes before its host, and what stands in brackets is one device."""
    assert [chip.name for chip in find_devices(written)] == [name]


@pytest.mark.parametrize("written", ["l4x2", "L4 x 2", "2x L4", "L4 * 2", "L4*2", "L4 (24GB)x2"])
def test_a_count_stands_before_or_after(written: str) -> None:
    """The times sign is a letter of a name only where it follows one."""
    assert [chip.name for chip in find_devices(written)] == ["L4", "L4"]


def test_a_format_may_say_its_bits() -> None:
    """ExLlama's formats are named by their bits a weight."""
    assert find_format("EXL2 4.25 bpw").bytes_per_weight == 4.25 / 8


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    """The message has the field, what was given and what was perhaps meant."""
    with pytest.raises(ValueError, match=r"model is 'lama 2 9b'; nearest: .*llama-2-7b"):
        find_model("lama 2 9b")
    for name in ("zz", "q4_9", "Q4_K_Q", "q9_0", "fp17"):
        with pytest.raises(ValueError, match=f"quant is '{name}'; .*allowed: 8da4w, awq"):
            find_format(name)
