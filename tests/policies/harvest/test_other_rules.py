"""Predecessor, BOINC and federated, condition by condition, against what their sources say."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from policies.config import BoincConfig, FederatedConfig, PredecessorConfig, PredictiveConfig
from policies.harvest import Devices, make, violations
from policies.readings import HARVEST_STATES, Decision
from tests.policies.harvest.histories import GOOD, MBPS, NAN

PHONE, BOX = Devices(False, True), Devices(True, False)


class Device:
    """One row read again and again by one rule."""

    def __init__(self, config: Any, devices: Devices = PHONE) -> None:
        self.config, self.devices, self.rule = config, devices, make(config)
        self.state = self.rule.init(devices)

    def read(self, dt_s: float = 600.0, **changes: Any) -> Decision:
        """Decide on good readings with ``changes``."""
        decision, self.state = self.rule.decide(self.state, GOOD._replace(**changes), dt_s)
        return decision

    def lends(self, dt_s: float = 600.0, **changes: Any) -> bool:
        """Decide, and return whether a session runs."""
        return bool(self.read(dt_s, **changes).contribute)


# What BOINC's defaults forbid, the preference that lifts it, and the state reported.
BOINC: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"plugged": False}, {"run_on_batteries": True}, "charging_low"),
    ({"soc": 0.89}, {"battery_charge_min_pct": 80.0}, "charging_low"),
    ({"battery_c": 40.0}, {"battery_max_temperature": 41.0}, "thermal_throttle"),
    ({"on_wifi": False}, {"network_wifi_only": False}, "network_metered"),
    ({"screen_on": True}, {"suspend_when_screen_on": False}, "user_active"),
    ({"user_load": 0.51}, {"niu_suspend_cpu_usage": 60.0}, "user_active"),
    ({"user_load": 0.51, "idle_s": 60.0}, {"suspend_cpu_usage": 0.0}, "user_active"),
]


@pytest.mark.parametrize(("changes", "lifted_by", "state"), BOINC)
def test_each_boinc_preference_suspends_and_its_field_lifts_it(
    changes: dict[str, Any], lifted_by: dict[str, Any], state: str
) -> None:
    """A running session is suspended for the stated reason, and goes on under the looser preference."""
    default, looser = Device(BoincConfig()), Device(BoincConfig(**lifted_by))
    assert default.lends()
    assert looser.lends()

    suspended = default.read(**changes)

    assert (bool(suspended.contribute), HARVEST_STATES[int(suspended.state)]) == (False, state)
    assert looser.lends(**changes)


def test_boinc_waits_for_an_idle_user_only_if_told_to() -> None:
    """By default it runs while the user is active; else it waits until three minutes without input."""
    patient = Device(BoincConfig(run_if_user_active=False))

    assert Device(BoincConfig()).lends(idle_s=0.0)
    assert [patient.lends(idle_s=s) for s in (179.0, 180.0)] == [False, True]


def test_boinc_hours_are_open_when_equal_and_may_cross_midnight() -> None:
    """Equal hours are no restriction, as in the client."""
    night = BoincConfig(start_hour=22.0, end_hour=7.0)

    assert Device(BoincConfig()).lends(local_minute=720.0)
    assert [Device(night).lends(local_minute=m) for m in (720.0, 1320.0, 419.0, 420.0)] == [False, True, True, False]


def test_boinc_shares_are_processors_times_time_in_use_and_not() -> None:
    """Half the processors on Android; other limits multiply, and differ while the device is not in use."""
    config = BoincConfig(
        max_ncpus_pct=50.0, cpu_usage_limit=60.0, niu_max_ncpus_pct=100.0, niu_cpu_usage_limit=80.0,
        ram_max_used_busy_pct=25.0, ram_max_used_idle_pct=90.0, max_bytes_sec=1000.0,
    )  # fmt: skip
    used, unused = Device(config).read(idle_s=0.0), Device(config).read()

    assert float(Device(BoincConfig()).read().compute_share) == 0.5
    assert [float(x) for x in used[1:4]] == pytest.approx([0.3, 0.25, 1000.0])
    assert [float(x) for x in unused[1:4]] == pytest.approx([0.8, 0.9, 1000.0])


def test_boinc_backs_off_for_five_minutes() -> None:
    """What suspended computing keeps it suspended for the client's 300 s."""
    device = Device(BoincConfig())

    assert [device.lends(), device.lends(battery_c=41.0)] == [True, False]
    assert [device.lends(299.0), device.lends(1.0)] == [False, True]


@pytest.mark.parametrize(
    ("changes", "lifted_by", "state"),
    [
        ({"plugged": False}, None, "charging_low"),
        ({"soc": 0.14}, {"low_battery": 0.1}, "charging_low"),
        ({"metered": True}, None, "network_metered"),
        ({"bandwidth_bytes_per_s": 0.0}, None, "network_metered"),
        ({"screen_on": True}, None, "user_active"),
        ({"idle_s": 31 * 60 - 1.0}, {"idle_min": 30.0}, "user_active"),
        ({"skin_c": 45.0}, {"severe_skin_c": 46.0}, "thermal_throttle"),
    ],
)
def test_each_federated_condition_aborts_and_its_field_lifts_it(
    changes: dict[str, Any], lifted_by: dict[str, Any] | None, state: str
) -> None:
    """Idle, charging, unmetered, not low and not hot: the end of any ends the session at once, without a drain."""
    default = Device(FederatedConfig())
    assert default.lends()

    aborted = default.read(**changes)

    assert (bool(aborted.contribute), HARVEST_STATES[int(aborted.state)]) == (False, state)
    assert float(aborted.memory_share) == 0.0
    if lifted_by is not None:
        assert Device(FederatedConfig(**lifted_by)).lends(**changes)


def test_a_low_battery_is_low_until_it_has_risen_by_the_bump() -> None:
    """Below 15 % it is low, until 20 %: the broadcast's own hysteresis."""
    device = Device(FederatedConfig())
    device.read(soc=0.1)

    assert [device.lends(soc=s) for s in (0.19, 0.20)] == [False, True]


def test_federated_runs_on_any_unmetered_network_by_day() -> None:
    """It asks neither for Wi-Fi nor for the night, nor for the village's bandwidth."""
    assert Device(FederatedConfig()).lends(on_wifi=False, local_minute=720.0, bandwidth_bytes_per_s=MBPS)


STARTS: list[tuple[dict[str, Any], dict[str, Any] | None]] = [
    ({"soc": 0.19}, {"min_battery": 0.1}),
    ({"plugged": False}, {"require_charging": False}),
    ({"die_c": 45.0}, {"max_cpu_temp_c": 46.0}),
    ({"on_wifi": False}, {"wifi_only": False}),
    ({"screen_on": True}, {"require_screen_off": False}),
    ({"local_minute": 720.0}, {"hour_end": 13.0}),
    ({"has_battery": False}, None),
]


@pytest.mark.parametrize(("changes", "lifted_by"), STARTS)
def test_the_predecessor_looks_once_at_six_limits(changes: dict[str, Any], lifted_by: dict[str, Any] | None) -> None:
    """Each forbids a start, and nothing of it, nor 70 °C nor ten hours, ends a session that runs."""
    device = Device(PredecessorConfig())
    assert not device.lends(**changes)
    if lifted_by is not None:
        assert Device(PredecessorConfig(**lifted_by)).lends(**changes)

    assert device.lends()
    assert device.lends(**changes)
    assert device.lends(36_000.0, die_c=70.0)


def test_the_predecessor_ignores_what_it_never_read() -> None:
    """Metering, bandwidth, idle time, optimum and cool-down forbid nothing; only an empty battery ends a session."""
    device = Device(PredecessorConfig())

    assert device.lends(metered=True, bandwidth_bytes_per_s=NAN, idle_s=0.0, soc=0.21)
    for empty in (0.0, NAN):  # a device that has run out says nothing
        assert not device.lends(soc=empty, plugged=False)
        assert device.lends(0.0)


def test_the_predecessor_is_shown_outside_the_documented_envelope() -> None:
    """Unplugged, hot and in use by day it lends on, and the envelope says so line by line."""
    device = Device(PredecessorConfig())
    device.read()
    changes = {"plugged": False, "die_c": 66.0, "screen_on": True, "idle_s": 0.0, "local_minute": 720.0}

    found = violations(device.config, PHONE, GOOD._replace(**changes), device.read(**changes))

    assert [line.split(" is ")[0] for line in found] == [
        "row 0: die_c", "row 0: plugged", "row 0: screen_on", "row 0: idle_s", "row 0: local_minute",
        "row 0: compute_share",
    ]  # fmt: skip


def test_each_envelope_knows_its_own_rule() -> None:
    """Lending by day just after use, half full and warm, breaks each rule's own limits but not the hard ones."""
    day = GOOD._replace(local_minute=720.0, idle_s=10.0, soc=0.5, battery_c=41.0)
    lent = Device(PredecessorConfig()).read()
    names = {
        kind.__name__: [line.split()[2] for line in violations(kind(), PHONE, day, lent)]
        for kind in (PredecessorConfig, BoincConfig, FederatedConfig, PredictiveConfig)
    }

    assert names == {
        "PredecessorConfig": ["idle_s", "local_minute"],
        "BoincConfig": ["battery_c", "soc"],
        "FederatedConfig": ["idle_s"],
        "PredictiveConfig": [],
    }


@pytest.mark.parametrize("config", [BoincConfig(), FederatedConfig(), PredecessorConfig(), PredictiveConfig()])
def test_memory_and_compute_are_held_by_nobody_at_rest(config: Any) -> None:
    """A row that neither lends nor drains may hold no share; one that drains may hold memory and compute nothing."""
    rest = Device(config).read(screen_on=True, plugged=False)
    for state, memory, compute, lines in (
        ("idle", 0.3, 0.0, ["memory_share"]), ("idle", 0.0, 0.1, ["compute_share"]),
        ("draining", 0.3, 0.0, []), ("draining", 0.3, 0.1, ["compute_share"]),
    ):  # fmt: skip
        said = rest._replace(state=HARVEST_STATES.index(state), memory_share=memory, compute_share=compute)
        assert [line.split()[2] for line in violations(config, PHONE, GOOD, said)] == lines


def test_dedicated_machines_have_no_owner_to_wait_for() -> None:
    """Screen, idle time and load bind neither BOINC nor federated on a machine that is set aside."""
    busy = {"has_battery": False, "soc": NAN, "plugged": False, "idle_s": 0.0, "screen_on": True, "battery_c": NAN}

    assert Device(BoincConfig(), BOX).lends(**busy)
    assert Device(FederatedConfig(), BOX).lends(**busy)


def test_every_preference_of_boinc_is_read_by_a_test_here() -> None:
    """A new preference needs its own test before it passes this one."""
    lifted = {name for _, lifted_by, _ in BOINC for name in lifted_by}
    elsewhere = {
        "run_if_user_active", "idle_time_to_run", "start_hour", "end_hour", "max_ncpus_pct", "niu_max_ncpus_pct",
        "cpu_usage_limit", "niu_cpu_usage_limit", "ram_max_used_busy_pct", "ram_max_used_idle_pct", "max_bytes_sec",
        "dwell_min",
    }  # fmt: skip

    assert lifted | elsewhere == {field.name for field in msgspec.structs.fields(BoincConfig)}
