"""Harvest, field by field: every documented limit binds, its field moves it, nothing flaps inside a band."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.config import HarvestConfig
from policies.harvest import Devices, Harvest
from policies.readings import HARVEST_STATES, Decision, Readings

MBPS = 125_000.0
GOOD = Readings(True, 0.9, True, 30.0, 28.0, 28.0, True, False, 20 * MBPS, False, 3600.0, 120.0, 0.0)
PHONE, BOX = Devices(False, True), Devices(True, False)


class Device:
    """One row read again and again."""

    def __init__(self, config: HarvestConfig | None = None, devices: Devices = PHONE) -> None:
        self.rule = Harvest(config or HarvestConfig())
        self.state = self.rule.init(devices)

    def read(self, dt_s: float = 60.0, **changes: Any) -> Decision:
        """Decide on good readings with ``changes``."""
        decision, self.state = self.rule.decide(self.state, GOOD._replace(**changes), dt_s)
        return decision

    def lends(self, dt_s: float = 60.0, **changes: Any) -> bool:
        """Decide, and return whether a session runs."""
        return bool(self.read(dt_s, **changes).contribute)


def names(decision: Decision) -> str:
    """Return the harvest state's documented name."""
    return HARVEST_STATES[int(decision.state)]


# Field, a reading that the default limit forbids, the field's looser value, the state that is reported.
GATES: list[tuple[str, dict[str, Any], Any, str]] = [
    ("min_battery", {"soc": 0.19}, 0.1, "charging_low"),
    ("require_charging", {"plugged": False}, False, "charging_low"),
    ("max_cpu_temp_c", {"die_c": 45.0}, 50.0, "thermal_throttle"),
    ("wifi_only", {"on_wifi": False}, False, "network_metered"),
    ("allow_metered", {"metered": True}, True, "network_metered"),
    ("min_bandwidth_mbps", {"bandwidth_bytes_per_s": 4.9 * MBPS}, 4.0, "network_metered"),
    ("require_screen_off", {"screen_on": True}, False, "user_active"),
    ("idle_min", {"idle_s": 299.0}, 4.0, "user_active"),
    ("hour_start", {"local_minute": 21 * 60 + 59.0}, 21.0, "idle"),
    ("hour_end", {"local_minute": 7 * 60.0}, 8.0, "idle"),
]


@pytest.mark.parametrize(("field", "changes", "looser", "state"), GATES)
def test_each_limit_forbids_a_start_and_its_field_lifts_it(
    field: str, changes: dict[str, Any], looser: Any, state: str
) -> None:
    """A session that would start does not, for the documented reason; changing one field lets it start."""
    forbidden = Device().read(**changes)

    assert (bool(forbidden.contribute), names(forbidden)) == (False, state)
    assert Device(HarvestConfig(**{field: looser})).lends(**changes)


@pytest.mark.parametrize(
    ("field", "changes", "looser", "state"), [gate for gate in GATES if gate[0] != "max_cpu_temp_c"]
)
def test_each_limit_ends_a_running_session(field: str, changes: dict[str, Any], looser: Any, state: str) -> None:
    """What forbids a start also ends a session at the next reading; only the start temperature does not.

    Closed hours end it in order: it drains. Everything else drops it at once, and gives the memory back.
    """
    device, undrained = Device(), Device(HarvestConfig(drain_s=0.0))
    assert device.lends()
    assert undrained.lends()

    ended, dropped = device.read(**changes), undrained.read(**changes)

    in_order = field.startswith("hour")
    assert (bool(ended.contribute), names(ended)) == (False, "draining" if in_order else state)
    assert (float(ended.compute_share), float(ended.memory_share)) == (0.0, 0.3 if in_order else 0.0)
    assert (bool(dropped.contribute), names(dropped), float(dropped.memory_share)) == (False, state, 0.0)
    assert Device().lends(die_c=44.9)


def test_a_session_that_time_ends_drains_and_then_gives_back() -> None:
    """For 60 s, or as long as configured, memory is held and nothing computed; then it is idle."""
    day = {"local_minute": 12 * 60.0}
    device, longer = Device(), Device(HarvestConfig(drain_s=90.0))
    for each in (device, longer):
        each.read()

    seen = [[each.read(30.0, **day) for _ in range(5)] for each in (device, longer)]

    assert [names(d) for d in seen[0]] == ["draining"] * 2 + ["idle"] * 3
    assert [names(d) for d in seen[1]] == ["draining"] * 3 + ["idle"] * 2
    assert {float(d.compute_share) for d in seen[0]} == {0.0}
    assert [float(d.memory_share) for d in seen[0]] == [0.3, 0.3, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(
    "changes",
    [
        {"screen_on": True}, {"plugged": False}, {"soc": 0.1}, {"die_c": 65.0}, {"on_wifi": False}, {"idle_s": 9.0},
        {"soc": float("nan")}, {"die_c": float("nan")}, {"local_minute": float("nan")},
    ],
)  # fmt: skip
def test_a_drain_is_cut_short_by_what_would_drop_a_session(changes: dict[str, Any]) -> None:
    """Owner, charger, battery, heat and network have the last word over the hand-back, and it is not resumed."""
    device = Device(HarvestConfig(drain_s=600.0))
    device.read()
    assert names(device.read(local_minute=720.0)) == "draining"

    cut = device.read(**{"local_minute": 720.0, **changes})

    assert (names(cut) != "draining", float(cut.memory_share)) == (True, 0.0)
    assert names(device.read(local_minute=720.0)) != "draining"


def test_a_dwell_keeps_a_session_from_starting_again() -> None:
    """Without a cool-down the dwell of five minutes holds, for dedicated machines too; it delays no end."""
    config = HarvestConfig(cooldown_min=0.0)
    for device in (Device(config), Device(config, BOX)):
        assert device.lends()
        assert not device.lends(on_wifi=False)
        assert [device.lends(dt) for dt in (0.0, 299.0, 1.0)] == [False, False, True]
        assert not device.lends(0.0, on_wifi=False)
    other = Device(HarvestConfig(cooldown_min=0.0, dwell_min=10.0))
    assert [other.lends(), other.lends(on_wifi=False)] == [True, False]
    assert [other.lends(599.0), other.lends(1.0)] == [False, True]


def test_heat_halves_and_then_stops() -> None:
    """A running session ignores 54.9 °C, is halved from 55 °C, and ends at 65 °C."""
    device = Device()
    device.read()

    seen = [device.read(die_c=c) for c in (54.9, 55.0, 64.9, 65.0)]

    assert [float(d.compute_share) for d in seen] == [0.5, 0.25, 0.25, 0.0]
    assert [names(d) for d in seen] == ["harvesting", *["thermal_throttle"] * 3]


@pytest.mark.parametrize(
    ("field", "value", "c", "share"),
    [("throttle_temp_c", 60.0, 56.0, 0.5), ("critical_temp_c", 70.0, 66.0, 0.25)],
)
def test_throttle_and_critical_temperatures_are_the_configured_ones(
    field: str, value: float, c: float, share: float
) -> None:
    """Raising either limit lifts what it did at that temperature."""
    default, raised = Device(), Device(HarvestConfig(**{field: value}))
    for device in (default, raised):
        device.read()

    assert float(default.read(die_c=c).compute_share) < float(raised.read(die_c=c).compute_share) == share


@pytest.mark.parametrize(("field", "answer"), [("max_cpu", "compute_share"), ("max_memory", "memory_share")])
def test_shares_are_the_configured_caps(field: str, answer: str) -> None:
    """What is lent is the cap; a cap of zero disables harvesting."""
    lent = Device(HarvestConfig(**{field: 0.4})).read()
    disabled = Device(HarvestConfig(**{field: 0.0})).read()

    assert float(getattr(lent, answer)) == 0.4
    assert (bool(disabled.contribute), names(disabled)) == (False, "disabled")


def test_the_bandwidth_cap_holds_at_rest_too() -> None:
    """10 Mbit/s is 1.25 MB/s, lending or not."""
    device = Device()

    assert float(device.read().bandwidth_bytes_per_s) == 1.25e6
    assert float(device.read(screen_on=True).bandwidth_bytes_per_s) == 1.25e6
    assert float(Device(HarvestConfig(max_bandwidth_mbps=8.0)).read().bandwidth_bytes_per_s) == 1e6


def test_a_session_ends_at_its_limit_and_the_cooldown_follows() -> None:
    """Eight hours, then thirty minutes of rest, then the next session; other limits move both."""
    device, shorter = Device(), Device(HarvestConfig(max_session_h=1.0, cooldown_min=1.0, dwell_min=0.0))

    lent = [device.lends(0.0), device.lends(8 * 3600 - 1.0), device.lends(1.0)]
    rest = [device.lends(29 * 60.0), device.lends(59.0), device.lends(1.0)]

    assert (lent, rest) == ([True, True, False], [False, False, True])
    assert [shorter.lends(0.0), shorter.lends(3600.0), shorter.lends(60.0)] == [True, False, True]


@given(st.lists(st.integers(0, 2000), min_size=1, max_size=6), st.integers(0, 2000))
def test_splitting_an_interval_does_not_change_the_cooldown(parts: list[int], whole_s: int) -> None:
    """Cool-down over a sum of intervals is the cool-down over their sum."""
    split, joined = Device(), Device()
    for device in (split, joined):
        device.read()
        device.read(screen_on=True)
    for part in parts:
        split.read(float(part), screen_on=True)

    joined.read(float(sum(parts)), screen_on=True)

    assert split.state == joined.state
    assert split.lends(float(whole_s)) == joined.lends(float(whole_s))


@pytest.mark.parametrize(("hour", "open_"), [(0, True), (6.98, True), (7, False), (12, False), (22, True)])
def test_a_window_may_cross_midnight(hour: float, open_: bool) -> None:
    """22-7 is open at night; 7-22 is its complement; 0-24 is always open."""
    minute = hour * 60.0

    assert Device().lends(local_minute=minute) is open_
    assert Device(HarvestConfig(hour_start=7.0, hour_end=22.0)).lends(local_minute=minute) is not open_
    assert Device(HarvestConfig(hour_start=0.0, hour_end=24.0)).lends(local_minute=minute)


@given(st.lists(st.floats(42.0, 44.99), min_size=1, max_size=20))
def test_a_start_limit_once_hit_clears_only_beyond_its_band(inside_c: list[float]) -> None:
    """After 45 °C nothing from 42 °C up starts a session; below 42 °C one starts. Without a band it flaps."""
    device, bandless = Device(), Device(HarvestConfig(hysteresis_c=0.0))
    assert not device.lends(die_c=45.0)
    assert not bandless.lends(die_c=45.0)

    assert not any(device.lends(die_c=c) for c in inside_c)
    assert device.lends(die_c=41.99)
    assert bandless.lends(die_c=inside_c[0])


@given(st.lists(st.floats(52.0, 64.9), min_size=1, max_size=20))
def test_throttling_does_not_flap_inside_its_band(inside_c: list[float]) -> None:
    """Once halved, compute stays halved until the die is below 52 °C."""
    device = Device()
    device.read()
    device.read(die_c=55.0)

    assert {float(device.read(die_c=c).compute_share) for c in inside_c} == {0.25}
    assert float(device.read(die_c=51.9).compute_share) == 0.5


def test_the_battery_floor_clears_at_the_optimal_level() -> None:
    """0.49 starts a session before the floor was reached, not after it; 0.50 does again."""
    device, other = Device(), Device(HarvestConfig(optimal_battery=0.4))
    assert Device().lends(soc=0.49)
    for each in (device, other):
        each.read(soc=0.19)

    assert [device.lends(soc=0.49), device.lends(soc=0.50)] == [False, True]
    assert other.lends(soc=0.49)


def test_the_battery_band_holds_where_the_optimal_level_is_at_the_floor() -> None:
    """With both at 0.20 the floor clears 0.05 above it, or at once without a band; a full battery does."""
    device = Device(HarvestConfig(optimal_battery=0.2))
    bandless = Device(HarvestConfig(optimal_battery=0.2, hysteresis_battery=0.0))
    extreme = Device(HarvestConfig(min_battery=0.98))
    for each in (device, bandless, extreme):
        each.read(soc=0.1)

    assert [device.lends(soc=0.24), device.lends(soc=0.25)] == [False, True]
    assert bandless.lends(soc=0.2)
    assert extreme.lends(soc=1.0)


def test_a_dedicated_machine_obeys_heat_and_network_only() -> None:
    """Hours, idleness, screen, charging, session length and cool-down do not bind it; heat and network do."""
    own = {"local_minute": 720.0, "idle_s": 0.0, "screen_on": True, "has_battery": False, "soc": float("nan")}
    box, laptop = Device(devices=BOX), Device(devices=Devices(True, True))

    assert all(box.lends(6 * 3600.0, **own) for _ in range(5))
    assert laptop.lends(plugged=False)
    assert not box.lends(die_c=65.0, **own)
    assert [box.lends(300.0, die_c=c, **own) for c in (44.0, 41.9)] == [False, True]  # after the dwell
    assert not box.lends(on_wifi=False, **own)
    assert not laptop.lends(soc=0.1)


def test_without_a_battery_its_fields_do_not_bind() -> None:
    """A mains device may report any charge; a battery known to inventory or sensor alone is obeyed."""
    no_charge = {"soc": float("nan"), "plugged": False}

    assert Device(devices=Devices(False, False)).lends(has_battery=False, **no_charge)
    assert not Device(devices=Devices(False, False)).lends(has_battery=True, **no_charge)
    assert not Device(devices=Devices(False, True)).lends(has_battery=False, **no_charge)


@pytest.mark.parametrize("field", ["soc", "die_c", "bandwidth_bytes_per_s", "idle_s", "local_minute"])
def test_a_failed_sensor_ends_the_session(field: str) -> None:
    """A reading that is not a number satisfies no limit, and leaves nothing to drain: memory is given back at once."""
    device = Device()
    assert device.lends()

    ended = device.read(**{field: float("nan")})

    assert (bool(ended.contribute), float(ended.memory_share)) == (False, 0.0)
    assert names(ended) != "draining"


@pytest.mark.parametrize(
    "fields",
    [{"max_cpu_temp_c": 56.0}, {"throttle_temp_c": 66.0}, {"hour_start": 7.0, "hour_end": 7.0}],
)
def test_contradicting_limits_are_refused(fields: dict[str, float]) -> None:
    """Temperatures that fall and a window of no length are the user's errors."""
    with pytest.raises(ValueError, match="allowed: "):
        Harvest(HarvestConfig(**fields))


def test_every_field_of_the_configuration_is_tested_here() -> None:
    """A new field of HarvestConfig needs its own test before it passes this one."""
    gated = {gate[0] for gate in GATES}
    elsewhere = {
        "optimal_battery", "hysteresis_battery", "throttle_temp_c", "critical_temp_c", "hysteresis_c",
        "max_cpu", "max_memory", "max_bandwidth_mbps", "max_session_h", "cooldown_min", "dwell_min", "drain_s",
    }  # fmt: skip

    assert gated | elsewhere == {field.name for field in msgspec.structs.fields(HarvestConfig)}
