"""Link laws: access technologies, transfer times, the TCP bound and jitter.

A path is access, backbone, access. Delays are one way; rates are payload bytes per second.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.arrays import ArrayLike, FloatArray, require_not_negative, spread

_MBIT = 1e6 / 8.0  # bytes per second in one Mbit/s


@dataclass(frozen=True)
class Link:
    """One access technology; rates are log-normal over devices.

    Attributes:
        down_bytes_per_s: median download rate.
        up_bytes_per_s: median upload rate.
        sigma: standard deviation of the log of the rate over devices.
        one_way_s: access delay, median.
        jitter_sigma: standard deviation of the log of the delay over packets.
        loss: packet loss while the link is up.
        metered: traffic costs the owner money.
        source: where the numbers come from.
    """

    down_bytes_per_s: float
    up_bytes_per_s: float
    sigma: float
    one_way_s: float
    jitter_sigma: float
    loss: float
    metered: bool
    source: str


# Jitter of 0.8 over personal devices: 95th percentile over median is 3.7-3.8 a pair in the Seattle RTT set,
# 99 hosts. Jitter of wired links is an assumption. Loss: the good state of a Gilbert-Elliott channel, 0.01 to
# 0.1 %; its upper end for radio is an assumption. Access delays are half of the round-trip shares found for
# each technology.
LINKS = {
    "fibre": Link(
        138 * _MBIT,
        115 * _MBIT,
        0.4,
        0.00175,
        0.2,
        1e-4,
        False,
        "Speedtest 2020 country means, 95th percentile of fixed lines; access RTT 2-5 ms; sigma assumed",
    ),
    "cable": Link(
        36 * _MBIT,
        20 * _MBIT,
        0.82,
        0.00625,
        0.3,
        1e-4,
        False,
        "Speedtest 2020 country means, median of fixed lines; sigma from p95/median; access RTT 10-15 ms",
    ),
    "wifi": Link(
        22 * _MBIT,
        20 * _MBIT,
        0.82,
        0.00925,
        0.8,
        1e-3,
        False,
        "campus Wi-Fi walk, mean 22 Mbit/s; rest: a cable line behind it, RTT 2-10 ms more (assumed)",
    ),
    "lte": Link(
        117 * _MBIT,
        31 * _MBIT,
        0.82,
        0.020,
        0.8,
        1e-3,
        True,
        "US 5G speed test 2021, LTE medians of one phone near good cells; RTT 55-90 ms to distant "
        "servers, 40 ms of it access (assumption); sigma as fixed lines (assumption)",
    ),
    "5g": Link(
        116 * _MBIT,
        72 * _MBIT,
        0.82,
        0.015,
        0.8,
        1e-3,
        True,
        "US 5G speed test 2021, low-band NSA medians; RTT 57-69 ms to distant servers, 30 ms of it "
        "access (assumption); sigma as fixed lines (assumption)",
    ),
}


def transfer_s(size_bytes: ArrayLike, bytes_per_s: ArrayLike, one_way_s: ArrayLike) -> FloatArray:
    """Return when the last byte arrives, s; inf over a link of rate 0, unless there is nothing to send."""
    require_not_negative("size_bytes", size_bytes)
    require_not_negative("bytes_per_s", bytes_per_s)
    size, rate, delay_s = spread(size_bytes, bytes_per_s, one_way_s)
    endless = np.where(size > 0.0, np.inf, 0.0)
    return np.asarray(delay_s + np.divide(size, rate, out=endless, where=rate > 0.0))


def mathis_bytes_per_s(mss_bytes: ArrayLike, rtt_s: ArrayLike, loss: ArrayLike) -> FloatArray:
    """Return the rate that loss lets one TCP flow keep, bytes/s; inf without loss or delay.

    MSS / RTT * sqrt(3/2) / sqrt(p): Mathis, Semke, Mahdavi and Ott, "The macroscopic behavior of the TCP
    congestion avoidance algorithm", CCR 27(3), 1997, equation 3. Time-outs are left out, so it is too high
    above about 2 % loss.
    """
    mss, rtt, p = spread(mss_bytes, rtt_s, loss)
    slowness = rtt * np.sqrt(p)
    endless = np.full_like(slowness, np.inf)
    return np.asarray(np.divide(mss * np.sqrt(1.5), slowness, out=endless, where=slowness > 0.0))


def one_way_s(a_one_way: ArrayLike, b_one_way: ArrayLike, backbone_s: ArrayLike) -> FloatArray:
    """Return the delay of a path, s: both access delays and the backbone between them."""
    a, b, between = spread(a_one_way, b_one_way, backbone_s)
    return np.asarray(a + b + between)


def jitter_factor(sigma: ArrayLike, normal: ArrayLike) -> FloatArray:
    """Return the factor on a packet's delay: log-normal with median 1, from a standard normal draw."""
    spread_of_log, draw = spread(sigma, normal)
    return np.asarray(np.exp(spread_of_log * draw), dtype=np.float64)
