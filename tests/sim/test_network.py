"""The simulated network: delay, jitter, loss, duplicates, partitions, and whose draws are whose."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models.links.backbone import CITIES, delay, draw_nodes
from models.links.loss import CHANNELS
from scenarios.schema import Network
from sim.network import Access, Disturbance, Links, MessageNetwork

QUIET = {"backbone_s": 0.01, "loss": 0.0, "jitter_sigma": 0.0, "duplicate": 0.0}


def a_network(count: int = 4, seed: int = 1, **config: Any) -> MessageNetwork:
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
    network.disturb(Disturbance(loss=0.1))
    lost, twice = 0, 0
    for _ in range(20_000):
        gone = network.delay_ns(0, 1, 10) < 0
        again = network.twice
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
            seen.append((network.delay_ns(0, 1 + k % 3, 50), network.twice))
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
    network.cut_off([0, 1], one_way=one_way)

    assert network.delay_ns(2, 0, 1) == -1
    assert (network.delay_ns(0, 2, 1) >= 0) is out
    assert network.delay_ns(0, 1, 1) >= 0
    assert network.delay_ns(2, 3, 1) >= 0


def test_a_partition_moves_no_later_draw() -> None:
    """Messages lost to a partition use up their draws, so that what comes after it is unchanged."""
    whole, cut = a_network(jitter_sigma=0.3), a_network(jitter_sigma=0.3)
    cuts = cut.cut_off([0])
    for _ in range(10):
        whole.delay_ns(0, 1, 1)
        cut.delay_ns(0, 1, 1)
    cut.heal(cuts)

    assert [whole.delay_ns(0, 1, 1) for _ in range(5)] == [cut.delay_ns(0, 1, 1) for _ in range(5)]


def test_severed_pairs_are_parted_from_each_other_only_and_overlapping_cuts_heal_apart() -> None:
    """A pair that is severed still reaches a third node; ending one cut leaves the others in force."""
    network = a_network()
    pair, island = network.sever(0, 1), network.cut_off([0])

    assert [network.stopped(0, 1), network.stopped(1, 0), network.stopped(1, 2), network.stopped(0, 2)] == [
        True, True, False, True,
    ]  # fmt: skip
    network.heal(island)
    assert [network.stopped(0, 1), network.stopped(0, 2)] == [True, False]
    network.heal(pair)
    assert not network.stopped(0, 1)
    one_way = network.sever(2, 3, one_way=True)
    assert [network.stopped(2, 3), network.stopped(3, 2)] == [True, False]
    network.heal(one_way)
    assert not network.cuts


@pytest.mark.parametrize(("source", "target", "touched"), [(0, 2, True), (2, 0, True), (1, 2, False)])
def test_a_disturbance_touches_the_links_of_its_nodes(source: int, target: int, touched: bool) -> None:
    """Delay, loss and duplicates of a disturbance befall messages from and to its nodes, and no others."""
    network = a_network()
    calm_ns = network.delay_ns(source, target, 0)
    slow, noisy = Disturbance(frozenset((0,)), delay_s=0.5), Disturbance(frozenset((0,)), loss=0.3, duplicate=0.4)
    network.disturb(slow)
    assert network.delay_ns(source, target, 0) - calm_ns == (500_000_000 if touched else 0)
    network.calm(slow)
    network.disturb(noisy)
    lost = twice = 0
    for _ in range(5000):
        gone = network.delay_ns(source, target, 0) < 0
        lost, twice = lost + gone, twice + network.twice

    assert lost / 5000 == pytest.approx(0.3 if touched else 0.0, abs=0.03)
    assert twice / 5000 == pytest.approx(0.4 * 0.7 if touched else 0.0, abs=0.03)


def test_a_slow_nodes_messages_are_held_until_it_is_fast_again() -> None:
    """Whatever is sent to or by it arrives one delay after the end, however early it was sent; others' are on time."""
    network, now_ns = a_network(), [0]
    network.clock = lambda: now_ns[0]
    calm_ns = network.delay_ns(0, 2, 0)
    network.disturb(Disturbance(frozenset((0,)), held_until_s=8.0))

    for now_ns[0] in (1_000_000_000, 5_000_000_000):
        assert [now_ns[0] + network.delay_ns(*pair, 0) for pair in ((0, 2), (2, 0))] == [8_000_000_000 + calm_ns] * 2
        assert network.delay_ns(1, 2, 0) == calm_ns
    now_ns[0] = 9_000_000_000
    assert network.delay_ns(0, 2, 0) == calm_ns


def test_reordering_lets_later_messages_overtake() -> None:
    """The held-back share is as asked, no message is held longer than the bound, and the rest keep their time."""
    network = a_network()
    plain_ns = network.delay_ns(0, 1, 0)
    network.disturb(Disturbance(reorder=0.25, reorder_s=0.2))
    more_s = np.array([network.delay_ns(0, 1, 0) - plain_ns for _ in range(8000)]) / 1e9

    assert (more_s > 1e-6).mean() == pytest.approx(0.25, abs=0.02)
    assert more_s.max() < 0.2
    assert more_s[more_s > 1e-6].mean() == pytest.approx(0.1, abs=0.01)


def test_a_fault_that_ended_leaves_every_later_message_as_it_would_have_been() -> None:
    """Disturbances use no draws of their own."""
    calm, rough = a_network(jitter_sigma=0.3, loss=0.1), a_network(jitter_sigma=0.3, loss=0.1)
    storm = Disturbance(loss=0.5, duplicate=0.5, reorder=0.5, reorder_s=1.0)
    rough.disturb(storm)
    for network in (calm, rough):
        for _ in range(100):
            network.delay_ns(0, 1, 9)
    rough.calm(storm)

    after = [[(n.delay_ns(0, 1, 9), n.twice) for _ in range(50)] for n in (calm, rough)]
    assert after[0] == after[1]


def test_another_link_changes_what_comes_after() -> None:
    """A node that switches networks has the new link's delay, in both directions, and its own back afterwards."""
    network = a_network()
    home, before_ns = network.access(0), network.delay_ns(0, 1, 1000)
    network.relink(0, Access(0.05, 2e6, 2e6, 0.0))

    assert network.delay_ns(0, 1, 0) - network.delay_ns(2, 1, 0) == pytest.approx(49e6, abs=2)
    assert network.delay_ns(1, 0, 0) - network.delay_ns(1, 2, 0) == pytest.approx(49e6, abs=2)
    network.relink(0, home)
    assert network.delay_ns(0, 1, 1000) == before_ns


def test_nodes_near_cities_are_as_far_apart_as_the_cities_are() -> None:
    """Delays between nodes are those of their cities' coordinates, the same both ways, and none within one city."""
    network = a_network(40, backbone="cities")
    cities = draw_nodes(1, np.arange(40), len(CITIES.heights))
    for a, b in ((0, 1), (3, 17), (39, 2)):
        expected_s = float(delay(CITIES.at(cities[a]), CITIES.at(cities[b]))) if cities[a] != cities[b] else 0.0
        assert network.delay_ns(a, b, 0) == pytest.approx((0.002 + expected_s) * 1e9, abs=2)
        assert network.delay_ns(b, a, 0) == network.delay_ns(a, b, 0)
    same = [(a, b) for a in range(40) for b in range(a) if cities[a] == cities[b]]
    assert same
    assert network.backbone_s(*same[0]) == 0.0


def test_a_bad_spell_takes_its_share_of_messages_and_lasts_as_measured() -> None:
    """Long runs of losses come as the channel's rates say, and messages of one moment share their link's luck."""
    channel = CHANNELS["lte.ucc"]
    network = a_network(2, seed=3, bursts="lte.ucc")
    lost = []
    for k in range(40_000):
        network.clock = lambda k=k: int(k * 0.25e9)
        lost.append(network.delay_ns(0, 1, 0) < 0)
    gone = np.array(lost, dtype=float)
    # Either end's bad spell loses half of the messages; spells are independent.
    extra = channel.loss_bad - channel.loss_good
    assert gone.mean() == pytest.approx(2 * channel.bad_share * extra, rel=0.08)
    near = np.mean((gone[1:] - gone.mean()) * (gone[:-1] - gone.mean())) / gone.var()
    far = np.mean((gone[200:] - gone.mean()) * (gone[:-200] - gone.mean())) / gone.var()
    assert near > 0.25
    assert abs(far) < 0.05


def test_another_nodes_messages_change_no_bad_spell() -> None:
    """A link's spells are its own: what others send over other links moves none of them."""

    def of_two(noise: int) -> list[int]:
        network = a_network(4, bursts="lte.ucc")
        seen = []
        for k in range(400):
            network.clock = lambda k=k: int(k * 0.5e9)
            for _ in range(noise):
                network.delay_ns(2, 3, 9)
            seen.append(network.delay_ns(0, 1, 9))
        return seen

    assert of_two(0) == of_two(2)


def test_another_config_counts_from_the_next_message_on() -> None:
    """Loss, duplicates and backbone of a network that was calmed are those of the calm, on links already used."""
    network = a_network(loss=0.9, duplicate=0.1)
    before_ns = max(network.delay_ns(0, 1, 10) for _ in range(100))
    network.config = Network(**{**QUIET, "backbone_s": network.config.backbone_s + 1.0})

    for _ in range(300):
        assert network.delay_ns(0, 1, 10) > before_ns
        assert not network.twice
