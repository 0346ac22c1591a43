"""Tests of models.links.tcp: the PFTK bound against RFC 3448's published table, slow start by hand and as a law."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import links

# 1e6 f(p) with f(p) = sqrt(2p/3) + 12 sqrt(3p/8) (p + 32 p^3): the throughput equation of RFC 3448, section 3.1, with a
# time-out of 4 RTT, as tabulated in Linux (net/dccp/ccids/lib/tfrc_equation.c).
TFRC = {1e-4: 8172, 2e-4: 11567, 1e-3: 26052, 2e-3: 37172, 4e-3: 53499, 0.01: 89021, 0.02: 136520}


@pytest.mark.parametrize("loss", TFRC)
def test_pftk_is_the_published_table(loss: float) -> None:
    """With a time-out of four round trips the rate is MSS / (RTT f(p)), f from the kernel's table."""
    rate = float(links.pftk_bytes_per_s(1000.0, 0.1, loss, 0.4))

    assert rate == pytest.approx(1000.0 / 0.1 / (TFRC[loss] * 1e-6), rel=1e-4)


def test_pftk_meets_mathis_where_loss_is_small() -> None:
    """Without time-outs to speak of both are sqrt(3/2) MSS / (RTT sqrt p); with more loss PFTK is below."""
    p = np.array([1e-8, 0.1])
    ratio = links.pftk_bytes_per_s(1448, 0.05, p, 0.2) / links.mathis_bytes_per_s(1448, 0.05, p)

    assert ratio[0] == pytest.approx(1.0, rel=1e-3)
    assert ratio[1] < 0.5


def test_pftk_refuses_a_share_above_one() -> None:
    """Loss is a share."""
    with pytest.raises(ValueError, match=r"loss is 1\.5"):
        links.pftk_bytes_per_s(1448, 0.1, 1.5, 0.4)


def test_slow_start_by_hand() -> None:
    """Windows of 10, 20 and 40 segments fill 1 MB/s at 40 ms: 50 kB take two waits and what is left of it.

    1000-byte segments: 10 kB at once, 20 kB a round trip later, then the window of 40 kB fills the round trip, so the
    last 20 kB go out from the second round trip on, 20 ms; handshake and half a round trip of flight add 60 ms.
    """
    took = links.tcp_transfer_s([5e3, 10e3, 30e3, 50e3], 1e6, 0.04, mss_bytes=1000)

    assert took == pytest.approx([0.06 + 0.005, 0.06 + 0.01, 0.06 + 0.04 + 0.02, 0.06 + 0.08 + 0.02])
    # A round trip of 30 kB is filled by the third window, too: the second one's 20 kB leave the sender waiting.
    assert float(links.tcp_transfer_s(50e3, 0.75e6, 0.04, mss_bytes=1000)) == pytest.approx(0.06 + 0.08 + 0.02 / 0.75)


def test_without_delay_slow_start_is_a_plain_transfer() -> None:
    """A round trip of 0 leaves size over rate; no rate and something to send never ends."""
    assert links.tcp_transfer_s([1e6, 0.0, 1.0, 0.0], [1e6, 1e6, 0.0, 0.0], 0.0).tolist() == [1.0, 0.0, np.inf, 0.0]


def test_an_endless_rate_leaves_doublings() -> None:
    """Over a rate without bound a transfer is its number of windows: 150 segments need 10, 20, 40 and 80."""
    assert float(links.tcp_transfer_s(150e3, np.inf, 0.1, mss_bytes=1000)) == pytest.approx(0.15 + 0.3)


@given(st.floats(1e3, 1e9), st.floats(1e4, 1e9), st.floats(0.0, 0.6), st.floats(1.0, 3.0))
def test_slow_start_is_a_law(size: float, rate: float, rtt: float, more: float) -> None:
    """More bytes never take less, and the time lies between size / rate and that plus all windows' waits."""
    took, longer = links.tcp_transfer_s([size, size * more], rate, rtt)
    doublings = max(0.0, np.ceil(np.log2(max(rate * rtt, 1.0) / 14480.0)))

    assert longer >= took * (1.0 - 1e-12)
    assert took >= max(size / rate, 0.0) * (1.0 - 1e-9)
    assert took <= size / rate + (1.5 + doublings) * rtt + 1e-9


def test_long_transfers_forget_slow_start() -> None:
    """A gigabyte takes size over rate to within a per cent."""
    assert float(links.tcp_transfer_s(1e9, 1e7, 0.05)) == pytest.approx(100.0, rel=0.01)
