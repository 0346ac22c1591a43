"""Groups that fall together: drawn once for both worlds, and the twin's own fleet agrees."""

from __future__ import annotations

from scenarios.groups import fleet_names, groups_of
from scenarios.schema import build
from sim.fleet.village import inventory


def test_groups_are_those_of_the_twins_fleet() -> None:
    """Names, kinds and time zones of the groups are those that the twin's devices have; each device is in four."""
    scenario = build({"name": "x", "fleet": {"time_zones_h": [0.0, -5.0, 0.0]}, "seed": 7})
    groups, stock = groups_of(scenario), inventory(scenario)

    assert tuple(fleet_names(scenario)) == stock.name
    for name, kind, minutes in zip(stock.name, stock.kind, stock.zone_min, strict=True):
        assert name in groups[kind]
        assert name in groups["zone-0" if minutes == 0 else "zone-1"]
    assert sum(map(len, groups.values())) == 4 * len(stock.name)


def test_groups_follow_the_seed_and_not_the_rest_of_the_fleet() -> None:
    """Another seed draws other carriers; more phones move no desktop to another one."""
    small = {"name": "x", "fleet": {"phones": 10}}
    few, many = build(small), build({**small, "fleet": {"phones": 20}})
    other = build({**small, "seed": 2})

    def desktops(groups: dict[str, list[str]]) -> list[str]:
        return [name for name in groups["carrier-0"] if name.startswith("desktop")]

    assert desktops(groups_of(few)) == desktops(groups_of(many))
    assert groups_of(few)["carrier-0"] != groups_of(other)["carrier-0"]
