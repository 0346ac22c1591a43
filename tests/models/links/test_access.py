"""Tests of models.links."""

from __future__ import annotations

import numpy as np
import pytest

from models import draws, links


def test_every_technology_is_plausible_and_sourced() -> None:
    """Rates, delays and losses lie in the range of real access lines, and each row names its source."""
    assert set(links.LINKS) == {"fibre", "cable", "wifi", "lte", "5g", "ethernet", "ble_mesh"}
    for link in links.LINKS.values():
        assert 1e4 < link.up_bytes_per_s <= link.down_bytes_per_s < 1e9
        assert 0.0 < link.one_way_s < 0.1
        assert 0.0 <= link.loss <= 0.01
        assert link.source
    assert [name for name, link in links.LINKS.items() if link.metered] == ["lte", "5g"]
    assert [name for name, link in links.LINKS.items() if link.shared] == ["wifi", "ble_mesh"]


def test_transfer_is_delay_plus_size_over_rate() -> None:
    """A transfer takes its delay and its bytes; over no rate it never ends unless it is empty."""
    times_s = links.transfer_s([1e6, 0.0, 1.0, 0.0], [1e6, 1e6, 0.0, 0.0], 0.02)

    assert times_s.tolist() == [1.02, 0.02, float("inf"), 0.02]


def test_mathis_bound_of_the_textbook_case() -> None:
    """1460 bytes, 100 ms and 1 % loss give 12.2 segments a round trip, 0.18 MB/s; no loss is no bound."""
    bound = links.mathis_bytes_per_s(1460, 0.1, [0.01, 0.0])

    assert float(bound[0]) == pytest.approx(1.2247 * 1460 / 0.1 / 0.1, rel=1e-3)
    assert float(bound[1]) == float("inf")


def test_one_way_delays_add() -> None:
    """A path is two access delays and a backbone."""
    assert float(links.one_way_s(0.002, 0.015, 0.03)) == pytest.approx(0.047)


def test_jitter_has_the_measured_tail() -> None:
    """With sigma 0.8 the median factor is 1 and the 95th percentile 3.7, as between personal devices."""
    factor = links.jitter_factor(0.8, draws.normal(4, "jitter", np.arange(40_000), 0))

    assert float(np.median(factor)) == pytest.approx(1.0, rel=0.03)
    assert float(np.quantile(factor, 0.95)) == pytest.approx(3.73, rel=0.05)


@pytest.mark.parametrize(("size", "rate", "text"), [(-1.0, 1.0, "size_bytes is -1.0"), (1.0, -2.0, "bytes_per_s is")])
def test_what_is_not_allowed_is_named(size: float, rate: float, text: str) -> None:
    """Negative sizes and rates raise an error that names the field and the value."""
    with pytest.raises(ValueError, match=text):
        links.transfer_s(size, rate, 0.0)
