"""Real devices as rows of numbers, and what goes with each kind of device: screen, charger, battery, trips.

Bandwidth, FLOPS, memory, watts and watt-hours are from data sheets, teardowns or measurements named in
`source`; where it says "nominal" no measurement stands behind the value. The engine's factors (eta, mu,
overhead) are ours, fitted on published token rates:

* Apple, llama.cpp Metal (ggml-org/llama.cpp discussion 4167): eta 0.92, Ultra chips 0.83; mu 0.34; 186 us a
  layer
* GDDR GeForce, llama.cpp CUDA (XiongjieDai/GPU-Benchmarks-on-LLM-Inference): eta 0.93; mu 0.35 to 0.48; 78 us
  a layer
* data centre GPUs, vLLM (Helix, ASPLOS'25 per-layer profiles): eta 0.75 to 0.83, overhead within eta; mu 0.40
  or 0.76
* phones, ExecuTorch on the CPU: eta 0.62 to 0.74, 0.68 taken; mu 0.12 of the GPU's peak and 100 us a layer
  (assumptions)
* other laptops and boards: eta 0.70 and mu 0.30 (assumptions); Raspberry Pi 5 eta 0.57 (distributed-llama,
  7B)
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.arrays import BoolArray, FloatArray, IntArray
from models.inference import Device

# Share of the bandwidth reached when reading the cache: 0.1 to 0.6 fitted on llama.cpp without flash
# attention; one value for all devices is an assumption.
ETA_KV = 0.35

_GB, _TF, _GIB, _US = 1e9, 1e12, 2**30, 1e-6


@dataclass(frozen=True)
class DeviceRow:
    """One device.

    Attributes:
        name: chip or product.
        kind: phone, tablet, laptop, desktop or gpu_box.
        mem_bytes_per_s: bandwidth of the memory that holds the model.
        flops: dense FP16 peak, operations/s.
        ram_bytes: memory a model can live in: the GPU's own where it has some.
        battery_wh: energy when full; 0 on mains.
        peak_w, sustained_w: draw at full load, short and lasting, idle included.
        idle_w: awake, screen off.
        eta, mu, overhead_s_layer: factors of `models.inference`.
        cores: processor cores; of the host for a GPU (16, an assumption).
        has_gpu: the engine of the calibrated factors runs on a GPU.
        source: where the numbers come from.
    """

    name: str
    kind: str
    mem_bytes_per_s: float
    flops: float
    ram_bytes: int
    battery_wh: float
    peak_w: float
    sustained_w: float
    idle_w: float
    eta: float
    mu: float
    overhead_s_layer: float
    cores: int
    has_gpu: bool
    source: str


@dataclass(frozen=True)
class Kind:
    """What the devices of a kind share.

    Attributes:
        chemistry: of the battery, a name in `models.cells`.
        screen_w: screen at its usual brightness.
        charger_w: what the plug gives; for a device on mains, enough for any of the kind.
        trip_c, hysteresis_k, levels: of the step-wise governor in `models.thermal`.
        cells_in_series: of the battery.
    """

    chemistry: str
    screen_w: float
    charger_w: float
    trip_c: float
    hysteresis_k: float
    levels: int
    cells_in_series: int


@dataclass(frozen=True)
class Table:
    """The same rows as a struct of arrays; row i of every array is device i."""

    name: tuple[str, ...]
    kind: tuple[str, ...]
    mem_bytes_per_s: FloatArray
    flops: FloatArray
    ram_bytes: IntArray
    battery_wh: FloatArray
    peak_w: FloatArray
    sustained_w: FloatArray
    idle_w: FloatArray
    eta: FloatArray
    mu: FloatArray
    overhead_s_layer: FloatArray
    cores: IntArray
    has_gpu: BoolArray


# Screens: AOSP power profiles give 0.4-1.9 W for phones; tablets by area, laptops 2-5 W, a desktop's monitor
# is not its own draw. Chargers: phones take 5-25 W; the rest are the usual power bricks (assumption). Trips:
# kernel device trees control phones at 58-95 C, 60 is taken so that a phone at its sustained power stays
# below it up to about 30 C of ambient; 95 C lies 5 K under the 100 C limit of Intel and AMD laptop chips;
# NVIDIA boards aim at 83 C. Eight levels and 3 K are assumptions (the 3 K are Android's ladder of thermal
# states).
KINDS = {
    "phone": Kind("nmc", 1.0, 18.0, 60.0, 3.0, 8, 1),
    "tablet": Kind("nmc", 2.5, 30.0, 65.0, 3.0, 8, 1),
    "laptop": Kind("nmc", 3.5, 65.0, 95.0, 3.0, 8, 3),
    "desktop": Kind("lfp", 0.0, 500.0, 95.0, 3.0, 8, 1),
    "gpu_box": Kind("lfp", 0.0, 1500.0, 83.0, 3.0, 8, 1),
}

# Idle of a phone, screen off: 0.8 % of the battery an hour (assumption; AOSP's suspend alone is 0.02 W). The
# same share for tablets. Laptops and mains devices: idle at the wall or nominal.
_PHONE_IDLE_W, _TABLET_IDLE_W = 0.15, 0.3


def _phone(
    name: str,
    bw: float,
    tf: float,
    gib: int,
    wh: float,
    peak: float,
    lasting: float,
    src: str,
    cores: int = 8,
) -> DeviceRow:
    watts = (peak, lasting, _PHONE_IDLE_W)
    return DeviceRow(
        name, "phone", bw * _GB, tf * _TF, gib * _GIB, wh, *watts, 0.68, 0.12, 100 * _US, cores, False, src
    )


def _apple(
    name: str,
    kind: str,
    bw: float,
    tf: float,
    gib: int,
    wh: float,
    watts: tuple[float, float, float],
    cores: int,
    eta: float = 0.92,
) -> DeviceRow:
    source = "llama.cpp discussion 4167 (bandwidth), exo CHIP_FLOPS (FP16), watts nominal"
    return DeviceRow(
        name, kind, bw * _GB, tf * _TF, gib * _GIB, wh, *watts, eta, 0.34, 186 * _US, cores, True, source
    )


def _pc(
    name: str,
    kind: str,
    bw: float,
    tf: float,
    gib: int,
    wh: float,
    watts: tuple[float, float, float],
    cores: int,
    src: str,
    eta: float = 0.70,
    gpu: bool = True,
) -> DeviceRow:
    return DeviceRow(
        name, kind, bw * _GB, tf * _TF, gib * _GIB, wh, *watts, eta, 0.30, 100 * _US, cores, gpu, src
    )


def _gpu(
    name: str,
    bw: float,
    tf: float,
    gib: int,
    watts: tuple[float, float, float],
    eta: float,
    mu: float,
    overhead_us: float,
    src: str,
) -> DeviceRow:
    return DeviceRow(
        name,
        "gpu_box",
        bw * _GB,
        tf * _TF,
        gib * _GIB,
        0.0,
        *watts,
        eta,
        mu,
        overhead_us * _US,
        16,
        True,
        src,
    )


# One device a row; kept by hand, because a table with one number a line cannot be read.
# fmt: off
DEVICES: tuple[DeviceRow, ...] = (
    _phone("Snapdragon 8 Gen 1 (Galaxy S22)", 51.2, 4.4, 8, 14.2, 9, 3.5, "LPDDR5-6400 x 64 bit; nominal"),
    _phone("Snapdragon 8 Gen 2 (Galaxy S23 Ultra)", 67.2, 6.9, 12, 19.3, 10, 4.5,
        "LPDDR5X 4200 MHz (launch article); one core 4.9 W in SPEC; rest nominal"),
    _phone("Snapdragon 8 Gen 3 (OnePlus 12)", 76.8, 5.6, 16, 20.8, 12, 4.5,
        "LPDDR5X 4800 MHz (launch article); one core 6.27 W in SPEC; rest nominal"),
    _phone("Snapdragon 8 Elite", 84.8, 6.8, 16, 21.0, 14, 5.0,
        "LPDDR5X-5300 two channels (launch article); nominal"),
    _phone("Dimensity 9300 (vivo X100 Pro)", 76.8, 8.0, 16, 20.8, 13, 4.5, "LPDDR5T-9600 x 64 bit; nominal"),
    _phone("Tensor G3 (Pixel 8 Pro)", 68.3, 4.0, 12, 19.4, 9, 3.5, "nominal", cores=9),
    _phone("Exynos 2400 (Galaxy S24)", 68.3, 6.8, 12, 15.4, 11, 4.0, "nominal", cores=10),
    _phone("Kirin 9000 (Mate 40 Pro)", 44.0, 4.6, 8, 17.0, 9, 3.5, "prima.cpp test bed; rest nominal"),
    _phone("Apple A16 (iPhone 14 Pro)", 51.2, 3.58, 6, 12.4, 8, 3.0,
        "exo CHIP_FLOPS (FP16); rest nominal", cores=6),
    _phone("Apple A17 Pro (iPhone 15 Pro)", 51.2, 4.3, 8, 12.7, 9, 3.5,
        "exo CHIP_FLOPS (FP16); rest nominal", cores=6),
    _phone("Apple A18 Pro (iPhone 16 Pro)", 60.0, 4.6, 8, 13.9, 9, 4.0,
        "LPDDR5X-7500 x 64 bit; nominal", cores=6),
    _apple("iPad Pro M2 12.9", "tablet", 100, 7.1, 16, 40.9, (18, 10, _TABLET_IDLE_W), 8),
    _apple("iPad Pro M4 13", "tablet", 120, 8.52, 16, 39.0, (22, 12, _TABLET_IDLE_W), 10),
    DeviceRow("Galaxy Tab S9 Ultra (8 Gen 2)", "tablet", 67.2 * _GB, 6.9 * _TF, 12 * _GIB, 43.1, 11, 6,
        _TABLET_IDLE_W, 0.68, 0.12, 100 * _US, 8, False, "chip as the Galaxy S23 Ultra; watts nominal"),
    _apple("MacBook Air M1 8-core GPU", "laptop", 68, 4.58, 16, 49.9, (20, 10, 2.5), 8),
    _apple("MacBook Air M2 10-core GPU", "laptop", 100, 7.1, 24, 52.6, (24, 12, 2.5), 8),
    _apple("MacBook Pro M3 Max 40-core GPU", "laptop", 400, 28.4, 64, 100.0, (90, 75, 4), 16),
    _apple("MacBook Pro M4 Max 40-core GPU", "laptop", 546, 36.07, 128, 100.0, (110, 85, 4), 16),
    _pc("Core Ultra 7 155H", "laptop", 119.5, 9.2, 32, 65, (64, 28, 5), 16,
        "LPDDR5X-7467 x 128 bit; nominal"),
    _pc("Core Ultra 7 258V", "laptop", 136.5, 33, 32, 65, (37, 17, 3), 8, "LPDDR5X-8533 x 128 bit; nominal"),
    _pc("Ryzen AI 9 HX 370", "laptop", 120, 11.9, 32, 70, (54, 28, 5), 12, "LPDDR5X-7500 x 128 bit; nominal"),
    _pc("Snapdragon X Elite", "laptop", 135, 9.2, 16, 54, (50, 23, 3), 12, "nominal"),
    _apple("Mac mini M4 10-core GPU", "desktop", 120, 8.52, 32, 0.0, (30, 30, 4), 10),
    _apple("Mac Studio M2 Ultra 76-core GPU", "desktop", 800, 53.96, 192, 0.0, (215, 200, 10), 24, eta=0.83),
    _pc("Ryzen AI Max+ 395 (Framework Desktop)", "desktop", 256, 59, 128, 0.0, (140, 120, 12),
     16, "212 GB/s measured, 133-140 W at the wall (geerlingguy/ai-benchmarks); FP16 nominal", eta=0.83),
    _pc("Intel N150 mini PC", "desktop", 38.4, 0.8, 16, 0.0, (30, 20, 6),
     4, "26-30 W at the wall (geerlingguy/ai-benchmarks); rest nominal", gpu=False),
    _pc("Raspberry Pi 5", "desktop", 17.1, 0.3, 8, 0.0, (13.9, 12, 3),
     4, "11.9-13.9 W at the wall (geerlingguy/ai-benchmarks); rest nominal", eta=0.57, gpu=False),
    _gpu("RTX 3060", 360, 51, 12, (170, 170, 13),
     0.93, 0.40, 78, "board data sheet; system 214-229 W at the wall"),
    _gpu("RTX 3090", 936, 142, 24, (350, 350, 25),
     0.93, 0.46, 78, "board data sheet; token rates by XiongjieDai"),
    _gpu("RTX 4090", 1008, 330, 24, (450, 450, 20),
     0.93, 0.35, 78, "board data sheet; token rates by XiongjieDai"),
    _gpu("T4", 320, 65, 16, (70, 70, 10), 0.75, 0.40, 0, "board data sheet; Helix profile"),
    _gpu("L4", 300, 121, 24, (72, 72, 16), 0.83, 0.40, 0, "aiconfigurator system file; Helix profile"),
    _gpu("V100", 900, 125, 16, (300, 300, 25), 0.83, 0.76, 0, "board data sheet; Helix profile"),
    _gpu("A100 40GB", 1555, 312, 40, (400, 400, 50), 0.79, 0.76, 0,
        "aiconfigurator system file; Helix profile"),
    _gpu("H100 SXM", 3350, 989, 80, (700, 690, 70),
     0.80, 0.50, 0, "aiconfigurator system file; 486-690 W serving an 8B model (ML.ENERGY); mu assumed"),
)
# fmt: on


def by_kind(kind: str) -> tuple[DeviceRow, ...]:
    """Return the devices of a kind."""
    if kind not in KINDS:
        raise ValueError(f"kind is {kind!r}; allowed: {', '.join(KINDS)}")
    return tuple(row for row in DEVICES if row.kind == kind)


def table(rows: tuple[DeviceRow, ...] = DEVICES) -> Table:
    """Return rows as a struct of arrays; index its arrays with drawn row numbers to make a fleet."""

    def floats(field: str) -> npt.NDArray[np.float64]:
        return np.array([getattr(row, field) for row in rows], dtype=np.float64)

    return Table(
        name=tuple(row.name for row in rows),
        kind=tuple(row.kind for row in rows),
        mem_bytes_per_s=floats("mem_bytes_per_s"),
        flops=floats("flops"),
        ram_bytes=np.array([row.ram_bytes for row in rows], dtype=np.int64),
        battery_wh=floats("battery_wh"),
        peak_w=floats("peak_w"),
        sustained_w=floats("sustained_w"),
        idle_w=floats("idle_w"),
        eta=floats("eta"),
        mu=floats("mu"),
        overhead_s_layer=floats("overhead_s_layer"),
        cores=np.array([row.cores for row in rows], dtype=np.int64),
        has_gpu=np.array([row.has_gpu for row in rows], dtype=np.bool_),
    )


def compute(devices: Table) -> Device:
    """Return what the inference law needs of these devices, as arrays."""
    return Device(
        mem_bytes_per_s=devices.mem_bytes_per_s,
        flops=devices.flops,
        eta=devices.eta,
        eta_kv=ETA_KV,
        mu=devices.mu,
        overhead_s_layer=devices.overhead_s_layer,
        overhead_s_step=0.0,
    )
