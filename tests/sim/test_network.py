"""The simulated network: delay, jitter, loss, duplicates, partitions, and whose draws are whose."""

from __future__ import annotations

import numpy as np
import pytest

from scenarios.schema import Network
from sim.network import Links, MessageNetwork

QUIET = {"backbone_s": 0.01, "loss": 0.0, "jitter_sigma": 0.0, "duplicate": 0.0}


def a_network(count: int = 4, seed: int = 1, **config: float) -> MessageNetwork:
    """Return a network of equal links of 1 ms and 1 MB/s."""
    return MessageNetwork(seed, Links.alike(count, 0.001, 1e6), Network(**{**QUIET, **config}))


def test_a_message_takes_both_accesses_the_backbone_and_the_slower_link() -> None:
    """Without jitter the delay is the sum of latencies and the bytes over the slower of up and down."""
    links = Links([0.001, 0.004], [2e6, 1e6], [8e6, 5e5], [0.0, 0.0])
    network = MessageNetwork(1, links, Network(**QUIET))

    assert network.delay_ns(0, 1, 1000) == pytest.approx((0.015 + 1000 / 5e5) * 1e9, abs=2)
    assert network.delay_ns(1, 0, 1000) == pytest.approx((0.015 + 1000 / 1e6) * 1e9, abs=2)


def test_jitter_keeps_the_mean_and_has_the_spread_it_was_given() -> None:
    """Over many messages the mean delay is that without jitter, and its logarithm spreads by sigma."""
    network = a_network(jitter_sigma=0.5)
    delays = np.array([network.delay_ns(0, 1, 0) for _ in range(20_000)])

    assert delays.mean() / 12e6 == pytest.approx(1.0, abs=0.015)  # three standard errors
    assert np.log(delays).std() == pytest.approx(0.5, rel=0.02)


def test_loss_and_duplicates_come_at_their_shares_and_never_together() -> None:
    """Losses of config, fault and both links add up; no lost message is duplicated."""
    links = Links([0.001] * 2, [1e6] * 2, [1e6] * 2, [0.02, 0.03])
    network = MessageNetwork(1, links, Network(**{**QUIET, "loss": 0.05, "duplicate": 0.1}))
    network.extra_loss = 0.1
    lost, twice = 0, 0
    for _ in range(20_000):
        gone = network.delay_ns(0, 1, 10) < 0
        again = network.duplicated(0)
        assert not (gone and again)
        lost, twice = lost + gone, twice + again

    assert lost / 20_000 == pytest.approx(0.2, abs=0.01)
    assert twice / 20_000 == pytest.approx(0.1, abs=0.01)
    assert (network.sent, network.lost, network.bytes) == (20_000, lost, 200_000)


def test_another_nodes_messages_change_no_delay() -> None:
    """A sender's delays, losses and duplicates are the same whatever the others send, across blocks of draws."""
    config = {"jitter_sigma": 0.5, "loss": 0.1, "duplicate": 0.1}

    def of_node_0(noise: int) -> list[tuple[int, bool]]:
        network = a_network(**config)
        seen = []
        for k in range(2500):
            for _ in range(noise):
                network.delay_ns(1 + k % 3, 0, 77)
            seen.append((network.delay_ns(0, 1 + k % 3, 50), network.duplicated(0)))
        return seen

    assert of_node_0(0) == of_node_0(3)


def test_a_seed_is_a_network() -> None:
    """Another seed draws other delays; the same seed the same."""
    draw = lambda seed: [a_network(seed=seed, jitter_sigma=0.3).delay_ns(0, 1, 1) for _ in range(5)]  # noqa: E731

    assert draw(1) == draw(1) != draw(2)


@pytest.mark.parametrize(("one_way", "out"), [(False, False), (True, True)])
def test_a_partition_cuts_island_from_mainland(one_way: bool, out: bool) -> None:
    """Nothing comes in; out goes only what a one-way partition lets; each side still talks among itself."""
    network = a_network()
    network.island, network.one_way = {0, 1}, one_way

    assert network.delay_ns(2, 0, 1) == -1
    assert (network.delay_ns(0, 2, 1) >= 0) is out
    assert network.delay_ns(0, 1, 1) >= 0
    assert network.delay_ns(2, 3, 1) >= 0


def test_a_partition_moves_no_later_draw() -> None:
    """Messages lost to a partition use up their draws, so that what comes after it is unchanged."""
    whole, cut = a_network(jitter_sigma=0.3), a_network(jitter_sigma=0.3)
    cut.island = {0}
    for _ in range(10):
        whole.delay_ns(0, 1, 1)
        cut.delay_ns(0, 1, 1)
    cut.island = set()

    assert [whole.delay_ns(0, 1, 1) for _ in range(5)] == [cut.delay_ns(0, 1, 1) for _ in range(5)]
