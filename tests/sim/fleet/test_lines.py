"""Lines of a village's devices against the distributions that were fitted to measured lines."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from experiments.results import load
from models import links
from scenarios.schema import Network, Scenario, ScenarioError, build, to_plain
from sim.around import VillageAround
from sim.fleet.lines import Lines, home_lines, mobile_lines
from sim.fleet.village import inventory
from sim.machines import access_links
from sim.network import MessageNetwork

DEVICES = np.arange(20_000)
ALIKE = 1.63 / np.sqrt(DEVICES.size)
"""Kolmogorov-Smirnov distance that 1 % of samples of this size exceed (Smirnov 1948, asymptotic)."""
MBIT = 1e6 / 8


def fitted(seed: int = 3, **network: Any) -> Scenario:
    return Scenario(name="lines", seed=seed, network=Network(access="fitted", **network))


def lines_of(technology: str, seed: int = 3) -> Lines:
    if technology == "fixed":
        return home_lines(fitted(seed), DEVICES)
    return mobile_lines(fitted(seed, mobile=technology), DEVICES)


@pytest.mark.parametrize("technology", ["fixed", "lte", "5g"])
def test_rates_follow_the_fitted_law(technology: str) -> None:
    """Rates up and down have the fitted distributions, with their rank correlation, and none is 0."""
    up, down = lines_of(technology)

    row = links.DRAWN[technology]
    for name, rates in ((row.up, up), (row.down, down)):
        law = links.FITS[name].law
        assert stats.kstest(rates / MBIT, law.cdf).statistic < ALIKE + law.zero
        assert rates.min() > 0.0
    assert stats.spearmanr(up, down).statistic == pytest.approx(row.rank_correlation, abs=0.03)


@pytest.mark.parametrize("technology", ["fixed", "lte", "5g"])
def test_equal_seeds_draw_equal_lines(technology: str) -> None:
    """A device's line is a function of the seed and of the device: not of how many others there are."""
    first, again, other = lines_of(technology), lines_of(technology), lines_of(technology, seed=4)
    few = home_lines if technology == "fixed" else mobile_lines
    scenario = fitted() if technology == "fixed" else fitted(mobile=technology)

    for k in (0, 1):
        assert np.array_equal(first[k], again[k])
        assert not np.array_equal(first[k], other[k])
        assert np.array_equal(few(scenario, DEVICES[500:600])[k], first[k][500:600])


def test_home_and_mobile_are_drawn_apart() -> None:
    """Who has a fast line at home need not have a fast one away."""
    assert abs(stats.spearmanr(lines_of("fixed").up_bytes_per_s, lines_of("lte").up_bytes_per_s).statistic) < 0.03


def test_typical_lines_lie_around_their_technologys() -> None:
    """Without the option lines at home are log-normal around the typical one, and mobile lines are alike."""
    scenario = Scenario(name="lines", seed=3, network=Network(home="fibre", mobile="5g"))
    home, mobile = home_lines(scenario, DEVICES), mobile_lines(scenario, DEVICES)

    fibre, away = links.LINKS["fibre"], links.LINKS["5g"]
    for rates, median in zip(home, (fibre.up_bytes_per_s, fibre.down_bytes_per_s), strict=True):
        assert stats.kstest(rates, stats.lognorm(fibre.sigma, scale=median).cdf).statistic < ALIKE
    assert (set(mobile.up_bytes_per_s), set(mobile.down_bytes_per_s)) == (
        {away.up_bytes_per_s}, {away.down_bytes_per_s}
    )  # fmt: skip


def test_the_measured_network_gives_devices_their_lines() -> None:
    """In a village each device has its own line at home, and its own mobile one while it is away."""
    scenario = load("first_village", network="measured")
    stock = inventory(scenario)
    access = access_links(scenario, stock)
    assert access.up_bytes_per_s == home_lines(scenario, stock.entity).up_bytes_per_s.tolist()
    assert access.down_bytes_per_s == home_lines(scenario, stock.entity).down_bytes_per_s.tolist()

    network = MessageNetwork(1, access, scenario.network)
    moved = SimpleNamespace(mobile=np.zeros(500), offline=np.zeros(500))
    left: list[str] = []
    around = VillageAround(
        scenario,
        SimpleNamespace(network=network),  # type: ignore[arg-type]
        SimpleNamespace(around=moved, stock=stock),  # type: ignore[arg-type]
        SimpleNamespace(leave=lambda name, offline: left.append(name)),  # type: ignore[arg-type]
    )
    home = network.access(7)
    node: Any = SimpleNamespace(number=7, name="phone-7")
    around.switch(node, "mobile", True)
    away, mobile = network.access(7), mobile_lines(scenario, stock.entity)
    assert (away.up_bytes_per_s, away.down_bytes_per_s) == (mobile.up_bytes_per_s[7], mobile.down_bytes_per_s[7])
    around.switch(node, "mobile", False)
    assert network.access(7) == home
    assert left == ["phone-7"] * 2

    # Spells that overlap: a device is on none as long as one of them says so, and home after the last.
    def told() -> tuple[bool, bool, int]:
        return network.stopped(7, 8), network.access(7) == home, len(left) - 2

    seen = []
    for on in (True, True, False, False):
        for to in ("none", "mobile"):
            around.switch(node, to, on)
            seen.append(told())
    assert seen == [
        (True, True, 1), (True, False, 2), (True, False, 2), (True, False, 2), (True, False, 2), (True, False, 2),
        (False, False, 3), (False, True, 4),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"access": "fitted", "home": "fibre"}, r"network.home='fibre': expected 'cable' with network.access='fitted'"),
        ({"access": "fitted", "home": "loopback"}, r"network.home='loopback': expected 'cable'"),
        ({"sharing": "lv08", "slow_start": True}, r"network.slow_start=True: expected false with network.sharing='lv"),
        ({"access": "measured"}, r"network.access.*measured"),
        ({"sharing": "fair"}, r"network.sharing.*fair"),
    ],
)
def test_networks_that_cannot_be_are_refused(network: dict[str, Any], message: str) -> None:
    """One line names the field, its value and what is expected."""
    plain = to_plain(Scenario(name="lines"))
    plain["network"].update(network)
    with pytest.raises(ScenarioError, match=message) as refused:
        build(plain)
    assert "\n" not in str(refused.value)
