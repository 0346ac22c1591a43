"""Access links by technology: one typical row each, and the fitted distributions that a fleet's links are drawn from.

A path is access, backbone, access. Delays are one way; rates are payload bytes per second, up and down apart.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from models import draws
from models.distributions.law import Fit, Law, read_fits

FILE = Path(__file__).parent / "fitted.json"
FITS: Mapping[str, Fit] = read_fits(FILE)
"""Fitted rates (Mbit/s), round trips (ms) and jitter by technology and data set; `twin calibrate links` made them."""

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
        shared: stations in reach share the rate, both ways together.
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
    shared: bool = False


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
        shared=True,
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
    "ethernet": Link(
        941 * _MBIT,
        941 * _MBIT,
        0.0,
        0.0001,
        0.2,
        1e-6,
        False,
        "gigabit Ethernet: 1448 of every 1538 bytes on the wire are payload of TCP with time stamps (IEEE 802.3, RFC "
        "7323); delay, jitter and loss assumed",
    ),
    "ble_mesh": Link(
        0.1 * _MBIT,
        0.1 * _MBIT,
        0.5,
        0.030,
        0.8,
        1e-2,
        False,
        "one hop; assumptions: a tenth of the 1 Mbit/s PHY of Bluetooth Core 4.0 is left for payload, a connection "
        "interval of some 30 ms is waited for",
        shared=True,
    ),
}


@dataclass(frozen=True)
class Drawn:
    """Which fits a technology's links are drawn from.

    Attributes:
        down, up: names in `FITS`.
        rank_correlation: Spearman's, of one link's rates down and up.
    """

    down: str
    up: str
    rank_correlation: float


def _drawn() -> Mapping[str, Drawn]:
    rows = json.loads(FILE.read_text()).get("rank_correlation", {})
    return MappingProxyType({name: Drawn(row["down"], row["up"], row["value"]) for name, row in rows.items()})


DRAWN = _drawn()
"""Technologies with a measured rate each way."""


def draw_rates(seed: int, technology: str, entity: Any, xp: Any = np) -> tuple[Any, Any]:
    """Draw each device's rates down and up, bytes/s; NumPy and jax.numpy.

    A share of devices, as large as the measured rank correlation, has the same rank up as down (the opposite one where
    that is negative); the others' ranks are independent. This mixture has just that correlation (Nelsen, "An
    introduction to copulas", 2006: convex sums of the Fréchet bounds and the product copula).

    Args:
        technology: one of `DRAWN`.
        entity: devices, integers below 2**32.

    Raises:
        ValueError: no such technology.
    """
    row = _row(technology)
    down = draws.open_uniform(seed, f"link rate down {technology}", entity, 0, xp)
    own = draws.open_uniform(seed, f"link rate up {technology}", entity, 0, xp)
    tied = draws.uniform(seed, f"link rates alike {technology}", entity, 0, xp) < abs(row.rank_correlation)
    up = xp.where(tied, down if row.rank_correlation > 0.0 else 1.0 - down, own)
    return FITS[row.down].law.quantile(down, xp) * _MBIT, FITS[row.up].law.quantile(up, xp) * _MBIT


def least_rates(technology: str) -> tuple[float, float]:
    """Return the least rates above 0, down and up, that `draw_rates` draws, bytes/s.

    Raises:
        ValueError: no such technology.
    """
    row = _row(technology)
    down, up = (FITS[name].law for name in (row.down, row.up))
    return _least_mbps(down) * _MBIT, _least_mbps(up) * _MBIT


def _least_mbps(law: Law) -> float:
    return float(law.quantile(np.nextafter(law.zero, 1.0)))


def _row(technology: str) -> Drawn:
    if technology not in DRAWN:
        raise ValueError(f"technology is {technology!r}; allowed: {', '.join(DRAWN)}")
    return DRAWN[technology]
