"""The choice of a committee: lawful, the same everywhere, steady from epoch to epoch, and refused with a reason."""

from __future__ import annotations

import re
from itertools import combinations

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from policies.committee import Candidate, CommitteeError, check_members, check_size, select
from policies.committee.candidates import GROUNDS
from policies.config import CommitteeConfig

BEACON = bytes(range(32))
kinds = st.builds(
    Candidate,
    node=st.just(""),
    trust=st.sampled_from([0.7, 0.9, 0.9, 0.9, 0.3]),
    stability=st.sampled_from([0.9, 0.9, 0.9, 0.4]),
    network=st.sampled_from("pqrst"),
    vendor=st.sampled_from("uv"),
    region=st.sampled_from("xyz"),
    country=st.sampled_from("mn"),
)
fleets = st.lists(kinds, min_size=6, max_size=10).map(
    lambda found: [msgspec.structs.replace(c, node=f"d{k}") for k, c in enumerate(found)]
)
rules = st.builds(
    CommitteeConfig, size=st.sampled_from([4, 5]), min_networks=st.integers(1, 4), min_vendors=st.integers(1, 3),
    min_regions=st.integers(1, 3), min_countries=st.integers(1, 2), site_max=st.integers(1, 2),
    within_faults=st.sampled_from([(), ("network",)]), rotate=st.integers(0, 2),
)  # fmt: skip


def lawful(members: list[Candidate], config: CommitteeConfig) -> bool:
    """The rules once more, as one would read them aloud."""
    least = [config.min_networks, config.min_vendors, config.min_regions, config.min_countries]
    values = [[c.at(ground) for c in members] for ground in GROUNDS]
    sites = [(c.region, c.network) for c in members]
    bearable = max(1, (len(members) - 1) // 3)
    return (
        len(members) == config.size
        and all(c.trust >= config.min_trust and c.stability >= config.min_stability for c in members)
        and all(len(set(found)) >= needed for found, needed in zip(values, least, strict=True))
        and all(sites.count(site) <= config.site_max for site in sites)
        and all(values[GROUNDS.index(g)].count(v) <= bearable for g in config.within_faults for v in
                values[GROUNDS.index(g)])
    )  # fmt: skip


@given(fleets, rules, st.integers(0, 3), st.randoms(use_true_random=False))
@settings(max_examples=100)
def test_what_is_chosen_is_lawful_and_what_is_refused_is_impossible(
    fleet: list[Candidate], config: CommitteeConfig, epoch: int, random: object
) -> None:
    """Against all combinations: a committee is found exactly when there is one, whatever order devices come in."""
    possible = any(lawful(list(some), config) for some in combinations(fleet, config.size))
    shuffled = list(fleet)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    try:
        chosen = select(fleet, config, epoch, BEACON)
    except CommitteeError:
        assert not possible
        return
    by_name = {c.node: c for c in fleet}
    assert lawful([by_name[name] for name in chosen.members], config)
    assert chosen == select(shuffled, config, epoch, BEACON)


@pytest.mark.parametrize("ground", GROUNDS)
def test_the_one_device_that_makes_the_rules_possible_always_sits(ground: str) -> None:
    """Eight devices alike and one that differs on one ground, of which two values are needed: lots cannot skip it."""
    least = {"min_networks": 1, "min_vendors": 1, "min_regions": 1, "min_countries": 1}
    needs = {"network": "min_networks", "vendor": "min_vendors", "region": "min_regions", "country": "min_countries"}
    config = CommitteeConfig(size=4, site_max=9, within_faults=(), **(least | {needs[ground]: 2}))
    fleet = [Candidate(f"d{k}", 0.9, 0.9, "n", "v", "r", "c") for k in range(9)]
    fleet[8] = msgspec.structs.replace(fleet[8], **{ground: "other"})

    assert all("d8" in select(fleet, config, epoch, BEACON).members for epoch in range(20))


@pytest.mark.parametrize("neighbours", [1, 6])
def test_nobody_sits_in_the_way_of_the_one_device_that_must(neighbours: int) -> None:
    """One vendor has one device, and its site one seat: were a neighbour seated first, all ways of filling the seats
    before the last would be tried, and the bound on that reached before a lawful committee."""
    fleet = [Candidate(f"d{k}", 0.9, 0.9, f"as{k % 20}", "v0", f"r{k % 20}", f"c{k % 4}") for k in range(60)]
    fleet += [Candidate(f"near{k}", 0.9, 0.9, "as", "v0", "r", "c0") for k in range(neighbours)]
    fleet.append(Candidate("alone", 0.9, 0.9, "as", "v1", "r", "c0"))

    assert all("alone" in select(fleet, CommitteeConfig(size=13), epoch, BEACON).members for epoch in range(20))


def test_too_few_networks_for_the_seats_are_seen_at_once() -> None:
    """Each of three may have two of seven seats: no search of 256 devices is needed to see that one stays empty."""
    fleet = [Candidate(f"d{k}", 0.9, 0.9, f"as{k % 3}", f"v{k % 3}", f"r{k % 50}", f"c{k % 4}") for k in range(256)]
    with pytest.raises(CommitteeError, match="no choice of 256 devices has 3 network values"):
        select(fleet, CommitteeConfig(size=7), 0, BEACON)


def village(count: int = 40) -> list[Candidate]:
    """Devices in 20 networks, 3 vendors, 5 regions and 4 countries, all trusted alike."""
    return [
        Candidate(f"d{k}", 0.9, 0.95, f"as{k % 20}", f"v{k % 3}", f"r{k % 5}", f"c{k % 4}") for k in range(count)
    ]  # fmt: skip


def test_most_members_stay_and_in_time_everybody_serves() -> None:
    """One of seven leaves an epoch by lot, so a quorum of the last committee sits in the next; 600 epochs reach all."""
    config, fleet = CommitteeConfig(size=7), village()
    members: tuple[str, ...] = ()
    served: set[str] = set()
    for epoch in range(600):
        chosen = select(fleet, config, epoch, BEACON, members)
        if members:
            assert len(set(members) - set(chosen.members)) == 1
        members = chosen.members
        served |= set(members)

    assert chosen.faults == 2
    assert served == {c.node for c in fleet}


def test_who_no_longer_qualifies_loses_the_seat_at_once() -> None:
    """A member whose trust fell is out, whatever hysteresis says; the others but one stay."""
    config, fleet = CommitteeConfig(size=7, rotate=0), village()
    first = select(fleet, config, 0, BEACON)
    fallen = first.members[0]
    fleet = [msgspec.structs.replace(c, trust=0.5) if c.node == fallen else c for c in fleet]

    second = select(fleet, config, 1, BEACON, first.members)

    assert set(first.members) - set(second.members) == {fallen}


def test_epoch_and_beacon_decide_and_nothing_else() -> None:
    """Another epoch, or another beacon, draws other lots; the same draw the same."""
    config, fleet = CommitteeConfig(size=7), village()
    first = select(fleet, config, 5, BEACON)

    assert first == select(fleet, config, 5, BEACON)
    assert first.members != select(fleet, config, 6, BEACON).members
    assert first.members != select(fleet, config, 5, BEACON[::-1]).members


def test_a_device_is_first_with_its_share_of_the_tickets() -> None:
    """Weights 0.81 and 0.36 of ten devices: 8 tickets against 4; within a 99.9 % interval over 4000 epochs."""
    config = CommitteeConfig(size=1, min_networks=1, min_vendors=1, min_regions=1, min_countries=1, min_trust=0.5)
    fleet = [Candidate(f"d{k}", t, t, "n", "v", "r", "c") for k, t in enumerate([0.9] * 5 + [0.6] * 5)]
    heavy = sum(int(select(fleet, config, epoch, BEACON).members[0][1:]) < 5 for epoch in range(4000))

    interval = binomtest(heavy, 4000).proportion_ci(0.999)
    assert interval.low <= 8 / 12 <= interval.high


@pytest.mark.parametrize(
    ("fleet", "config", "says"),
    [
        (village(3), CommitteeConfig(), "committee=4: the fleet has 3 devices that may sit on it"),
        (village(), CommitteeConfig(min_trust=0.95), "committee=4: 0 of 40 devices qualify (trust of 0.95 and"),
        (village(), CommitteeConfig(min_vendors=4), "devices that qualify have 3 vendor values, 4 needed"),
        (village() + village(1), CommitteeConfig(), "candidates: 'd0' is named twice"),
        (
            [Candidate(f"d{k}", 0.9, 0.9, f"as{k % 3}", f"v{k % 2}", f"r{k}", f"c{k}") for k in range(9)],
            CommitteeConfig(size=4),
            "no choice of 9 devices has 3 network values, 2 vendor values, 2 region values, 2 country values, at most "
            "1 at one site (region and network) and at most 1 of one network",
        ),
    ],
)  # fmt: skip
def test_a_choice_that_cannot_be_is_refused_in_one_line(
    fleet: list[Candidate], config: CommitteeConfig, says: str
) -> None:
    """The line names what is missing, with numbers."""
    with pytest.raises(CommitteeError) as error:
        select(fleet, config, 0, BEACON)
    assert says in str(error.value)


def test_a_short_beacon_and_a_negative_epoch_are_refused() -> None:
    """Lots that anybody can compute ahead are none."""
    for epoch, beacon in ((0, b"short"), (-1, BEACON)):
        with pytest.raises(CommitteeError, match=f"epoch={epoch}, beacon of {len(beacon)} bytes"):
            select(village(), CommitteeConfig(), epoch, beacon)


def test_a_named_committee_is_checked() -> None:
    """n >= 3f + 1, nobody twice, nobody from elsewhere, no more than the fleet has."""
    fleet = ["a", "b", "c", "d"]
    check_members(fleet, fleet, 1)
    check_size(4, 4, 1)
    for members, f, says in (
        (["a", "b", "c"], 1, "committee=3: to bear f=1 liars it needs n >= 3f + 1 = 4 members"),
        (["a", "b", "a", "c"], 1, "committee: 'a' is named twice"),
        (["a", "b", "c", "e"], 1, "committee: 'e' is not of the fleet of 4 devices"),
        ([], 0, "committee=0"),
    ):
        with pytest.raises(CommitteeError, match=re.escape(says)):
            check_members(members, fleet, f)
    with pytest.raises(CommitteeError, match="committee=5: the fleet has 4"):
        check_size(5, 4)


def test_a_hopeless_search_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search is bounded by steps; what it did not try it does not call impossible."""
    monkeypatch.setattr("policies.committee.choice.STEPS_MAX", 3)
    with pytest.raises(CommitteeError, match="none of the first 3 choices"):
        select(village(), CommitteeConfig(size=7), 0, BEACON)
