"""Where a device's power goes, part by part: processor clusters, screen, memory traffic, accelerator.

What the compact law of the fleet (`models.power.draw`) stands for, and from which `models.power.compact` derives it.
Elementwise under NumPy and jax.numpy. The radio has a module of its own, `models.radio`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from models.power.arrays import as_arrays
from models.power.cores import BIG_BEND, SMALL_BEND, Cluster, core_current_ma

Array = Any

NOMINAL_V = 3.85
"""Battery voltage at which vendors' currents are meant (3.7 to 3.85 V)."""

SUSPEND_MA, AWAKE_MA = 5.0, 5.3
"""Suspended, and awake with all cores idle: AOSP power profiles of pixel3a, pixel4a(5g), mi9lite (4.5 to 5.6 mA)."""

SCREEN_ON_MA, SCREEN_FULL_MA = 66.0, 268.0
"""A phone's screen at no brightness, and what full brightness adds: medians of the AOSP power profiles (44 to 114 mA,
240 to 434 mA)."""

DYNAMIC_UW_MHZ_V2 = {
    "Cortex-A7": 128.0, "Cortex-A15": 310.0, "Cortex-A53": 100.0, "Cortex-A55": 70.0, "Cortex-A72": 436.0,
    "Cortex-A73": 211.0, "Kryo 260 LITTLE": 100.0, "Monaco big": 472.0,
}  # fmt: skip
"""Dynamic power coefficient of one core, uW/MHz/V^2: `dynamic-power-coefficient` of Linux device trees (exynos5422,
rk3399, gs101, mt8183, sm6115, qcs9100; the A53 of mt8183 has 84)."""

MEMORY_PJ_BIT = {"lpddr3": 12.0, "lpddr4x": 5.0, "lpddr5": 4.5, "ddr4": 15.0, "ddr5": 12.0, "gddr6": 8.0, "hbm2": 4.0}
"""Energy of moving one bit between chip and memory, interface included, pJ. HBM2 3.9 and GDDR5 14: O'Connor et al.,
"Fine-Grained DRAM", MICRO'17 (from memory); the others lie between by generation and are assumptions of +-50 %."""

ACCELERATOR_EXPONENT = 0.85
"""Power over load of GPUs and NPUs: 0.7 to 1 for memory-bound decoding (assumption)."""

_PERFETTO = "fitted to google/perfetto power_profile_data (Apache-2.0): twin calibrate power --cpu"
PLATFORMS: dict[str, tuple[Cluster, ...]] = {
    "Snapdragon 765G": (
        Cluster("0", 6, (300000, 864000, 1804800), (7.0, 13.2, 29.4), _PERFETTO),
        Cluster("1", 1, (652800, 1152000, 2208000), (31.7, 41.3, 109.8), _PERFETTO),
        Cluster("2", 1, (806400, 1401600, 2400000), (55.6, 80.0, 133.1), _PERFETTO),
    ),
    "Snapdragon 670": (
        Cluster("0", 6, (300000, 748800, 1708800), (15.4, 20.0, 35.5), _PERFETTO),
        Cluster("1", 2, (300000, 979200, 2016000), (24.7, 31.1, 71.3), _PERFETTO),
    ),
    "Snapdragon 855": (
        Cluster("0", 4, (300000, 940800, 1785600), (9.9, 13.5, 20.8), _PERFETTO),
        Cluster("1", 3, (710400, 1401600, 2419200), (17.0, 31.7, 99.5), _PERFETTO),
        Cluster("2", 1, (825600, 1612800, 2841600), (53.1, 82.5, 211.6), _PERFETTO),
    ),
    "Snapdragon 845": (
        Cluster("0", 4, (300000, 902400, 1766400), (2.8, 8.4, 25.7), _PERFETTO),
        Cluster("1", 4, (825600, 1536000, 2649600), (29.3, 70.1, 248.3), _PERFETTO),
    ),
    "Tensor G3": (
        Cluster("0", 4, (324000, 1098000, 2147000), (1.9, 17.9, 90.3), _PERFETTO),
        Cluster("1", 4, (402000, 1221000, 2450000), (3.7, 22.3, 116.7), _PERFETTO),
        Cluster("2", 1, (500000, 1557000, 3015000), (8.3, 41.6, 265.9), _PERFETTO),
    ),
    "Snapdragon 821": (
        Cluster("0", 2, (307200, 844800, 1593600), (11.4, 44.1, 154.6), _PERFETTO),
        Cluster("1", 2, (307200, 1056000, 2150400), (8.1, 63.7, 285.4), _PERFETTO),
    ),
    "Snapdragon 730G": (
        Cluster("0", 6, (300000, 1017600, 1804800), (5.8, 11.3, 21.3), _PERFETTO),
        Cluster("1", 2, (300000, 1094400, 2208000), (21.6, 40.2, 129.7), _PERFETTO),
    ),
    "Snapdragon 835": (
        Cluster("0", 4, (300000, 960000, 1900800), (3.2, 8.5, 30.9), _PERFETTO),
        Cluster("1", 4, (300000, 1190400, 2457600), (12.5, 39.8, 224.8), _PERFETTO),
    ),
}
"""Processors of Pixel phones, slowest cluster first: fitted anchors, within 0.7 to 10.5 % of their tables on average.
The small cores of the 765G have two tables that differ by six, their number: the one per core is taken."""


def cpu_w(clusters: Sequence[Cluster], speed: Array, busy_cores: Sequence[Array]) -> Array:
    """Return what the cores draw above idle, W of the battery.

    Args:
        clusters: of `PLATFORMS`, or the caller's own, slowest first.
        speed: of every cluster over its top frequency, 0 to 1; none runs below its lowest known frequency.
        busy_cores: for each cluster, how many of its cores are busy, 0 to `Cluster.cores`, each an array or a number.

    Raises:
        ValueError: `busy_cores` is not one entry a cluster.
    """
    if len(busy_cores) != len(clusters):
        raise ValueError(f"busy_cores has {len(busy_cores)} entries; allowed: {len(clusters)}, one a cluster")
    xp, pace, *busy = as_arrays(speed, *busy_cores)
    total_ma = xp.zeros_like(pace)
    for place, (cluster, count) in enumerate(zip(clusters, busy, strict=True)):
        lowest, top = cluster.anchors_khz[0], cluster.anchors_khz[-1]
        freq_khz = xp.clip(pace * top, lowest, top)
        bend = SMALL_BEND if place == 0 and len(clusters) > 1 else BIG_BEND
        current_ma = core_current_ma(freq_khz, cluster.anchors_khz, cluster.anchors_ma, bend)
        total_ma = total_ma + count * current_ma
    return total_ma * 1e-3 * NOMINAL_V


def dynamic_w(coefficient_uw_mhz_v2: Array, freq_mhz: Array, volt_v: Array) -> Array:
    """Return the dynamic power of one busy core, W: C f V^2, as in Linux's energy model (voltages from the OPPs)."""
    _, coefficient, freq, volt = as_arrays(coefficient_uw_mhz_v2, freq_mhz, volt_v)
    return 1e-6 * coefficient * freq * volt * volt


def screen_w(brightness: Array, on_ma: Array = SCREEN_ON_MA, full_ma: Array = SCREEN_FULL_MA) -> Array:
    """Return what a lit screen draws, W, linear in brightness (0 to 1) as Android accounts for it."""
    _, bright, on, full = as_arrays(brightness, on_ma, full_ma)
    return (on + full * bright) * 1e-3 * NOMINAL_V


def memory_w(bytes_per_s: Array, pj_bit: Array) -> Array:
    """Return what memory traffic draws, W; `pj_bit` as in `MEMORY_PJ_BIT`."""
    _, rate, energy = as_arrays(bytes_per_s, pj_bit)
    return 8e-12 * rate * energy


def accelerator_w(idle_w: Array, limit_w: Array, load: Array, exponent: Array = ACCELERATOR_EXPONENT) -> Array:
    """Return what a GPU or NPU draws, W: from idle to its power limit with load (0 to 1) to an exponent."""
    xp, idle, limit, busy = as_arrays(idle_w, limit_w, load)
    return idle + (limit - idle) * xp.clip(busy, 0.0, 1.0) ** exponent
