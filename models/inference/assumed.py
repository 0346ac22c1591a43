"""Prices that no calibration row constrains: assumptions, each with what it was read off.

They serve chips and engines that are predicted without having been measured (zero-shot); the errors there are larger,
and are reported apart.
"""

from __future__ import annotations

from models.inference.chips import Chip
from models.inference.prices import Prices

FUSED_KV = 1.25
"""The cache is read at 0.8 of the bandwidth by fused attention: fitted on vLLM's kernels (prices 1.1 to 1.26)."""

ATTENTION = 2.0
"""Products with the cache reach half of the peak: a head's size is short for a matrix product."""


def score_passes(chip: Chip) -> float:
    """Return how often attention that is not fused moves its scores, in units of 32 bits each.

    The product writes them, the softmax reads and writes them, the product with the values reads them; on CUDA they are
    turned into 16 bits before, which is one more reading and half a writing, and half a reading instead of a whole.
    """
    return 4.0 if chip.kind.startswith("apple") else 5.0


_BIG_CACHE = 20 * 2**20


def kv_head_price(chip: Chip) -> float:
    """Return the price of reading the cache once for each query head: llama.cpp without fused attention.

    Published shares of the bandwidth for a model with four query heads to a key: 0.19 (RTX 3090), 0.36 (RTX 4090), 0.2
    (A100), 0.11 (M2 Ultra). Read once a query head that is 0.76, 1.44, 0.8 and 0.44: near the bandwidth on the RTX 3090
    and A100, above it where the second-level cache holds what the next head reads again.
    """
    if chip.kind.startswith("apple"):
        return 1.0 / 0.44
    if chip.kind.startswith("gddr"):
        return 1.0 / (1.44 if chip.cache_bytes > _BIG_CACHE else 0.76)
    return 1.0 / 0.8


# Decode: share of the bandwidth, share of the peak that a product with one token reaches (infinite: within the first),
# microseconds a layer. Raspberry Pi 4 and 5: distributed-llama, Llama 2 7B, overall 0.25 and 0.57. Phones: ExecuTorch
# on the CPU, overall 0.62 to 0.74. Ryzen AI Max+: 212 of 256 GB/s measured. Others nominal.
_DECODE = {
    "phone": (0.68, 0.0, 50.0), "apple-phone": (0.75, 0.0, 100.0), "board": (0.75, 0.35, 20.0),
    "cpu": (0.72, 0.5, 20.0),
    "jetson": (0.75, 0.0, 150.0), "igpu": (0.8, 0.0, 120.0), "igpu-nvidia": (0.8, 0.0, 80.0), "amd": (0.75, 0.0, 100.0),
    "intel": (0.55, 0.0, 200.0), "hbm-amd": (0.5, 0.0, 120.0),
}  # fmt: skip
# Prefill: share of the peak. A phone's engine on the CPU reaches 0.12 of its GPU's; its NPU about thrice the GPU.
_PREFILL = {
    "phone": 0.12, "apple-phone": 0.25, "board": 0.35, "cpu": 0.4, "jetson": 0.3, "igpu": 0.25, "igpu-nvidia": 0.35,
    "amd": 0.3, "intel": 0.2, "hbm-amd": 0.25,
}  # fmt: skip
_NPU_SHARE = 1.5
_INTEGER_LANES = 4.0
"""Products of 8-bit integers a core does for each of 32 bits: Arm's SDOT and SMMLA, x86's VNNI (instruction sets)."""
_BARRIER_S = 5e-6
"""A layer's dozen of barriers costs a processor this much for each core that waits (assumption)."""
# Cores of the processors whose barriers outlast the launches of their class (data sheets).
_CORES = {
    "AmpereOne": 192, "Ampere Altra Max": 128, "EPYC 7R32": 48, "EPYC 7763": 64, "EPYC 9654": 96, "EPYC 9755": 128,
    "Xeon Platinum 8480+": 56, "Xeon Platinum 8380": 40, "Graviton3": 64, "Graviton4": 96, "Threadripper 7970X": 32,
    "Threadripper 3990X": 64, "Threadripper PRO 5995WX": 64, "Threadripper PRO 7995WX": 96,
}  # fmt: skip


def assumed(engine: str, chip: Chip, phase: str) -> Prices:
    """Return the prices of a chip's class, with the attention of an engine that fuses it.

    ExecuTorch on a phone computes weights of 16 bits in floating point, without the integers' lanes.
    """
    eta, decode_mu, layer_us = _DECODE.get(chip.kind, (0.7, 0.0, 100.0))
    mu = _PREFILL.get(chip.kind, 0.3)
    if engine == "npu":
        mu = _NPU_SHARE
    if engine in ("mlc", "litert", "mlx") and chip.kind in ("phone", "jetson"):
        mu = 0.3  # on the GPU
    of_decode = 1.0 / decode_mu if decode_mu else 0.0
    packed = of_decode if phase == "decode" else 1.0 / mu
    floating = _INTEGER_LANES if engine == "executorch" and chip.kind == "phone" and phase == "prefill" else 1.0
    layer_s = max(layer_us * 1e-6, _BARRIER_S * _CORES.get(chip.name, 0))
    return Prices(
        weight=1.0 / eta, linear=floating * packed, linear_packed=packed, kv=2.0, attention=ATTENTION, layer_s=layer_s
    )
