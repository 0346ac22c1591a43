"""What a radio draws: while it moves data, by throughput and signal, and after it, in its tail.

A cellular radio that has sent something stays connected until the network's inactivity timer runs out (the tail), and
waking it from idle costs a promotion. Both have closed forms, so that a burst's energy needs no polling. Power is above
the device's own base, screen off. Laws are elementwise under NumPy and jax.numpy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from models.arrays import ArrayLike
from models.power.arrays import as_arrays

Array = Any

# Signal that the laws were fitted on; beyond it they are held constant rather than extrapolated.
RSRP_DBM = (-120.0, -58.0)
SINR_DB = (-7.0, 26.0)
REFERENCE_RSRP_DBM, REFERENCE_SINR_DB = -90.0, 10.0


@dataclass(frozen=True)
class Radio:
    """One radio technology; powers are above the device's base.

    Attributes:
        base_w: connected and in use, at no throughput and the reference signal.
        down_w_per_mbps, up_w_per_mbps: for each Mbit/s down and up.
        carrier_w, carrier_mbps: what further carriers and beams add: carrier_w d / (d + carrier_mbps) for a download d.
        rsrp_w_per_db, sinr_w_per_db: for each dB above -90 dBm and above 10 dB.
        promotion_s, promotion_w: from idle to connected.
        tail_s, tail_w: connected with nothing to send, until idle again.
        source: where the numbers come from.

    Raises:
        ValueError: a number is not finite, or negative where power, time or throughput cannot be.
    """

    base_w: float
    down_w_per_mbps: float
    up_w_per_mbps: float
    carrier_w: float
    carrier_mbps: float
    rsrp_w_per_db: float
    sinr_w_per_db: float
    promotion_s: float
    promotion_w: float
    tail_s: float
    tail_w: float
    source: str

    def __post_init__(self) -> None:
        for field, value in vars(self).items():
            signed = field in ("rsrp_w_per_db", "sinr_w_per_db")
            if field != "source" and not (np.isfinite(value) and (signed or value >= 0.0)):
                raise ValueError(f"radio: {field} is {value}; allowed: numbers{'' if signed else ' from 0 up'}")


class Tail(NamedTuple):
    """An inactivity timer seen in probes: its length, s, and the median round trip before and after it, ms."""

    tail_s: float
    before_ms: float
    after_ms: float


_HUANG = "Huang et al., A Close Examination of Performance and Power Characteristics of 4G LTE Networks, MobiSys'12"
_WILD = "Narayanan et al., A Variegated Look at 5G in the Wild, SIGCOMM'21"
# Throughput and signal: fitted by `twin calibrate power --radio` to the Monsoon measurements of the SIGCOMM'21
# artifact; blocks of 50 s kept out of the fit are met within 10.8 % (mn) and 12.6 % (mi) on average, 34 and 36 % in
# the worst tenth of seconds. LTE and low-band: its controlled transfers less 2.339 W, the base of the same phone in
# the walks; 8.1 and 8.9 % of the phone's whole power, in the fit. Tails: `find_tail` on its probes. Tail powers and
# the promotions of 5G are that paper's table, from memory: check before quoting. First packets wait 0.3 to 1.6 s more
# after idle: 0.8 s taken.
# Wi-Fi: AOSP power profiles at 3.7 V, idle 75 mA (in base), receiving 130, sending 364, each for the share of air time
# at 400 Mbit/s of goodput (assumption: 802.11ac, two streams, 80 MHz).
RADIOS = {
    "wifi": Radio(
        0.28, 0.0005, 0.0027, 0.0, 1.0, 0.0, 0.0, 0.08, 0.12, 0.24, 0.12,
        f"AOSP power profiles (pixel3a, pixel4a5g); promotion and tail: {_HUANG}",
    ),
    "lte": Radio(
        0.439, 0.0118, 0.088, 0.0, 1.0, 0.0, 0.0, 0.26, 1.21, 9.85, 0.178,
        f"controlled transfers and probes, Verizon, and tail power: {_WILD}; promotion: {_HUANG}",
    ),
    "lte_2012": Radio(
        1.288, 0.05197, 0.43839, 0.0, 1.0, 0.0, 0.0, 0.26, 1.21, 11.576, 1.06, f"{_HUANG}: the first LTE phones",
    ),
    "5g_low": Radio(
        0.347, 0.0057, 0.042, 0.924, 13.6, 0.0, 0.0, 0.80, 0.799, 10.15, 0.249,
        f"controlled transfers and probes, Verizon NSA low-band, and promotion and tail power: {_WILD}",
    ),
    "5g_mmwave": Radio(
        2.762, 0.001253, 0.01439, 1.114, 43.9, -0.0593, 0.0579, 0.80, 1.494, 10.15, 1.092,
        f"walks mn (357 blocks of 50 s, Verizon NSA mmWave), and promotion and tail power: {_WILD}",
    ),
    "5g_mmwave_mi": Radio(
        1.738, 0.000367, 0.1, 4.789, 98.4, -0.0118, 0.0061, 0.80, 1.494, 10.15, 1.092,
        f"walks mi (74 blocks; uplink below 9 Mbit/s, so that its slope lies at the bound of the fit): {_WILD}",
    ),
}  # fmt: skip
"""Technologies by name. ``5g_mmwave`` is the better measured of the two phones."""


def active_w(
    radio: Radio,
    down_mbps: Array,
    up_mbps: Array,
    rsrp_dbm: Array = REFERENCE_RSRP_DBM,
    sinr_db: Array = REFERENCE_SINR_DB,
) -> Array:
    """Return what a radio draws while it moves data, W above the device's base; never below its tail.

    Args:
        radio: of `RADIOS`, or fitted by `twin calibrate power --radio`.
        down_mbps, up_mbps: throughput, Mbit/s.
        rsrp_dbm, sinr_db: signal (5G synchronisation signal, or LTE's reference signal).
    """
    xp, down, up, rsrp, sinr, least = as_arrays(down_mbps, up_mbps, rsrp_dbm, sinr_db, min(radio.tail_w, radio.base_w))
    strength_db = xp.clip(rsrp, *RSRP_DBM) - REFERENCE_RSRP_DBM
    quality_db = xp.clip(sinr, *SINR_DB) - REFERENCE_SINR_DB
    power_w = throughput_w(
        down, up, radio.base_w, radio.down_w_per_mbps, radio.up_w_per_mbps, radio.carrier_w, radio.carrier_mbps
    )
    power_w = power_w + radio.rsrp_w_per_db * strength_db + radio.sinr_w_per_db * quality_db
    return xp.maximum(power_w, least)


def throughput_w(
    down: Array, up: Array, base_w: Array, down_w: Array, up_w: Array, carrier_w: Array, carrier_mbps: Array
) -> Array:
    """Return the part of the law that depends on throughput; parameters as in `Radio`."""
    return base_w + down_w * down + up_w * up + carrier_w * down / (down + carrier_mbps)


def burst_energy_j(radio: Radio, burst_s: Array, power_w: Array, idle_before_s: Array, gap_after_s: Array) -> Array:
    """Return what one burst costs above idle, J: promotion if the radio had gone idle, the burst, then the tail.

    Args:
        radio: of `RADIOS`.
        burst_s: how long data move.
        power_w: while they do (`active_w`).
        idle_before_s: since the last burst ended; inf for the first.
        gap_after_s: until the next one begins; inf for the last.
    """
    xp, burst, power, before, after = as_arrays(burst_s, power_w, idle_before_s, gap_after_s)
    promotion_j = xp.where(before > radio.tail_s, radio.promotion_s * radio.promotion_w, 0.0)
    return promotion_j + burst * power + radio.tail_w * xp.clip(after, 0.0, radio.tail_s)


def mean_power_w(radio: Radio, burst_s: Array, power_w: Array, period_s: Array) -> Array:
    """Return the mean draw above idle of bursts that come every ``period_s``, W; back to back if longer than that."""
    xp, burst, power, period = as_arrays(burst_s, power_w, period_s)
    gap = xp.maximum(period - burst, xp.zeros_like(burst))
    return burst_energy_j(radio, burst, power, gap, gap) / xp.maximum(period, burst)


def find_tail(gap_s: ArrayLike, rtt_ms: ArrayLike) -> Tail:
    """Find an inactivity timer in probes: the idle gap past which the first packet waits for a promotion.

    The gap that splits the logarithms of the round trips best into two levels, by least squares.

    Args:
        gap_s: idle time before each probe, s.
        rtt_ms: its round trip, ms.

    Raises:
        ValueError: fewer than 10 probes that are finite and above 0, or all after the same gap.
    """
    gap, rtt = np.asarray(gap_s, float), np.asarray(rtt_ms, float)
    good = np.isfinite(gap) & np.isfinite(rtt) & (rtt > 0.0)
    order = np.argsort(gap[good], kind="stable")
    gap, log_rtt = gap[good][order], np.log(rtt[good][order])
    cuts = np.flatnonzero(np.diff(gap) > 0.0) + 1  # between probes of different gaps
    if gap.size < 10 or cuts.size == 0:
        raise ValueError(f"gap_s holds {gap.size} usable probes of {cuts.size + 1} gaps; allowed: at least 10 of 2")
    total, below = log_rtt.sum(), np.cumsum(log_rtt)[cuts - 1]
    explained = below**2 / cuts + (total - below) ** 2 / (gap.size - cuts)
    cut = int(cuts[np.argmax(explained)])
    before, after = np.exp(np.median(log_rtt[:cut])), np.exp(np.median(log_rtt[cut:]))
    return Tail(0.5 * float(gap[cut - 1] + gap[cut]), float(before), float(after))
