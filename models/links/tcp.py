"""How long bytes take: a plain transfer, what loss leaves of a TCP flow, and slow start for short ones."""

from __future__ import annotations

import numpy as np

from models.arrays import ArrayLike, FloatArray, require_not_negative, spread

INITIAL_WINDOW = 10
"""Segments sent before the first acknowledgement: RFC 6928."""


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


def pftk_bytes_per_s(
    mss_bytes: ArrayLike, rtt_s: ArrayLike, loss: ArrayLike, timeout_s: ArrayLike, *, segments_per_ack: int = 1
) -> FloatArray:
    """Return the rate that loss and time-outs let one TCP flow keep, bytes/s; inf without loss.

    Padhye, Firoiu, Towsley and Kurose, "Modeling TCP throughput: a simple model and its empirical validation", SIGCOMM
    1998, the approximate model without a window limit: 1 / (RTT sqrt(2bp/3) + T0 min(1, 3 sqrt(3bp/8)) p (1 + 32p^2)).

    Args:
        loss: share of loss events, 0 to 1.
        timeout_s: retransmission time-out; RFC 5348 takes 4 RTT.
        segments_per_ack: 2 with delayed acknowledgements.

    Raises:
        ValueError: loss is not between 0 and 1.
    """
    mss, rtt, p, timeout = spread(mss_bytes, rtt_s, loss, timeout_s)
    if not np.all((p >= 0.0) & (p <= 1.0)):
        raise ValueError(f"loss is {p[~((p >= 0.0) & (p <= 1.0))].flat[0]}; allowed: 0 to 1")
    b = segments_per_ack
    waits = np.minimum(1.0, 3.0 * np.sqrt(3.0 * b * p / 8.0))
    slowness = rtt * np.sqrt(2.0 * b * p / 3.0) + timeout * waits * p * (1.0 + 32.0 * p**2)
    return np.asarray(np.divide(mss, slowness, out=np.full_like(slowness, np.inf), where=slowness > 0.0))


def tcp_transfer_s(
    size_bytes: ArrayLike, bytes_per_s: ArrayLike, rtt_s: ArrayLike, *, mss_bytes: int = 1448, handshakes: int = 1
) -> FloatArray:
    """Return when the last byte of a new TCP connection arrives, s: slow start, then the steady rate.

    Each round trip sends twice the last one's window, from `INITIAL_WINDOW` segments, until a window fills the round
    trip at the steady rate; from there on bytes flow at that rate. Closed form of the slow-start part of Cardwell,
    Savage and Anderson, "Modeling TCP latency", INFOCOM 2000, without loss in it and one segment an acknowledgement.

    Args:
        bytes_per_s: the bottleneck's rate or the bound by loss, whichever is less; inf is none.
        rtt_s: round trip; data arrive half of it after they were sent.
        handshakes: round trips before the first byte: 1 for TCP, 2 with TLS 1.3.

    Returns:
        inf over a rate of 0, unless there is nothing to send.
    """
    require_not_negative("size_bytes", size_bytes)
    require_not_negative("bytes_per_s", bytes_per_s)
    require_not_negative("rtt_s", rtt_s)
    size, rate, rtt = spread(size_bytes, bytes_per_s, rtt_s)
    first = float(INITIAL_WINDOW * mss_bytes)
    # Windows that leave the sender waiting: as many doublings as it takes to fill the round trip.
    fills = np.where(rtt > 0.0, rate * np.where(rtt > 0.0, rtt, 1.0), 0.0)
    with np.errstate(divide="ignore"):
        waiting = np.maximum(np.ceil(np.log2(fills / first)), 0.0)
        round_of_last = np.maximum(np.ceil(np.log2(size / first + 1.0)) - 1.0, 0.0)
    rounds = np.minimum(waiting, round_of_last)
    rest = size - first * (2.0**rounds - 1.0)
    endless = np.where(rest > 0.0, np.inf, 0.0)
    sending = np.divide(rest, rate, out=endless, where=rate > 0.0)
    return np.asarray((handshakes + 0.5 + rounds) * rtt + sending)
