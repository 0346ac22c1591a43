"""Merged sensors: unknown is not eligible, what vanishes is counted, what is assumed is said."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.config import HarvestConfig
from policies.edge import begin, ladder
from policies.harvest import Devices, Harvest
from policies.readings import Readings, Row
from policies.wire import encode
from real_backends.sensors import open_sensors, report
from real_backends.sensors.composite import Composite
from real_backends.sensors.fields import SENSOR_OF, SENSORS, UNKNOWN, Partial
from real_backends.sensors.host import DESK, HostSensors, PsutilSource
from scenarios.sensors import BOOLS, plausible

NIGHT: dict[str, float | bool] = {
    "has_battery": True, "soc": 0.9, "plugged": True, "die_c": 35.0, "skin_c": 30.0, "battery_c": 29.0,
    "on_wifi": True, "metered": False, "bandwidth_bytes_per_s": 2.5e6, "screen_on": False, "idle_s": 3600.0,
    "local_minute": 60.0, "user_load": 0.0, "memory_free_bytes": 8e9,
}  # fmt: skip


class Script:
    """A source that says what a test lets it say."""

    def __init__(self, *readings: Partial) -> None:
        self.readings = list(readings)
        self.fields = frozenset(readings[0])

    def read(self, now_ns: int) -> Partial:
        """Return the next reading; the last one stays."""
        return self.readings.pop(0) if len(self.readings) > 1 else self.readings[0]


def lends(row: Row, config: HarvestConfig | None = None) -> bool:
    """Return whether the documented policy starts a session on this reading."""
    rule = Harvest(config or HarvestConfig())
    readings = Readings(**{field: getattr(row, field) for field in Readings._fields})
    decision, _ = rule.decide(rule.init(Devices(False, bool(row.has_battery))), readings, 0.0)
    return bool(decision.contribute)


def less(*fields: str) -> Partial:
    """Return a good night without some fields."""
    return {field: value for field, value in NIGHT.items() if field not in fields}


def test_sensors_and_fields_are_those_of_the_policys_row() -> None:
    """Every field of a Row has one sensor, and nothing else has one."""
    assert set(SENSOR_OF) == set(Row.__struct_fields__) == set(Readings._fields)
    assert sum(len(fields) for fields in SENSORS.values()) == len(SENSOR_OF)


def test_a_whole_reading_passes_as_it_is() -> None:
    """Nothing is missing, assumed or gone, and the policy lends on it."""
    sensors = Composite([Script(NIGHT)])

    assert msgspec.structs.asdict(sensors.read(0)) == NIGHT
    assert sensors.report() == {"missing": [], "assumed": {}, "gone": {}, "absent": []}
    assert lends(sensors.read(0))


NEEDED = [
    field for field in NIGHT if field not in ("has_battery", "skin_c", "battery_c", "user_load", "memory_free_bytes")
]


@pytest.mark.parametrize("field", NEEDED)
def test_whatever_the_documented_policy_needs_and_is_missing_forbids_lending(field: str) -> None:
    """Unknown is the answer with which nothing is lent, be it missing from the start or gone on the way."""
    missing = Composite([Script(less(field))])
    assert not lends(missing.read(0))
    assert SENSOR_OF[field] in missing.missing or field in ("soc", "plugged")

    gone = Composite([Script(NIGHT, NIGHT, less(field), less(field), NIGHT)])
    assert [lends(gone.read(k)) for k in range(5)] == [True, True, False, False, True]
    assert gone.gone == {SENSOR_OF[field]: 2}
    assert gone.missing == ()


def test_a_vanished_sensor_is_never_assumed() -> None:
    """An assumption is for what was never there; a screen that was read and is gone is unknown."""
    sensors = Composite([Script(NIGHT, less("screen_on"))], {"screen_on": False})
    assert sensors.assumed == {}

    assert [sensors.read(0).screen_on, sensors.read(1).screen_on] == [False, True]
    assert sensors.gone == {"screen": 1}


def test_an_assumption_is_listed_as_missing_and_as_assumed() -> None:
    """Nobody can take it for a reading."""
    sensors = Composite([Script(less("metered", "die_c"))], {"metered": False, "die_c": 35.0})

    assert (sensors.missing, sensors.assumed) == (("die_c", "metered"), {"metered": False, "die_c": 35.0})
    assert lends(sensors.read(0))
    assert sensors.gone == {}


def test_a_lost_battery_makes_no_mains_machine() -> None:
    """A driver that says "no battery" after there was one is not believed."""
    without = {**less("soc", "plugged"), "has_battery": False}
    sensors = Composite([Script(NIGHT, without)])
    sensors.read(0)
    row = sensors.read(1)

    assert (row.has_battery, row.plugged) == (True, False)
    assert math.isnan(row.soc)
    assert sensors.gone == {"battery": 1}
    mains = Composite([Script(without)]).read(0)
    assert (mains.has_battery, mains.soc, mains.plugged) == (False, 1.0, True)


def test_a_case_without_a_sensor_is_as_hot_as_its_chip() -> None:
    """A bound, not a guess; and where the sensor vanished it is unknown."""
    assert Composite([Script(less("skin_c"))]).read(0).skin_c == 35.0
    gone = Composite([Script(NIGHT, less("skin_c"))])
    gone.read(0)
    assert math.isnan(gone.read(1).skin_c)
    assert math.isnan(Composite([Script(less("skin_c", "die_c"))]).read(0).skin_c)


def test_sources_are_merged_by_trust_and_the_hottest_binds() -> None:
    """The first source's charge, the hottest chip of all."""
    gpu = Script({"die_c": 70.0, "soc": 0.1})
    assert Composite([Script(NIGHT), gpu]).read(0).die_c == 70.0
    assert Composite([Script(NIGHT), gpu]).read(0).soc == 0.9


@pytest.mark.parametrize(
    ("field", "value"),
    [("soc", 1.2), ("soc", math.nan), ("die_c", -273.0), ("die_c", math.inf), ("idle_s", -1.0),
     ("local_minute", 1440.0), ("metered", 0), ("soc", True), ("user_load", 3.0)],
)  # fmt: skip
def test_nonsense_is_unknown(field: str, value: Any) -> None:
    """A value that cannot be is treated as one that is gone."""
    sensors = Composite([Script(NIGHT, {**NIGHT, field: value})])
    sensors.read(0)
    row = sensors.read(1)

    assert sensors.gone == {SENSOR_OF[field]: 1}
    unknown = getattr(UNKNOWN, field)
    assert getattr(row, field) == unknown or math.isnan(getattr(row, field))


partials = st.fixed_dictionaries({}, optional={
    field: st.booleans() | st.none() if field in BOOLS else st.floats() | st.sampled_from([NIGHT[field]])
    for field in SENSOR_OF
})  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(st.lists(partials, min_size=1, max_size=6))
def test_any_sensors_give_rows_that_every_policy_can_read(readings: list[dict[str, Any]]) -> None:
    """Rows are whole, plausible or unknown, they travel, and the policies decide on them without an exception."""
    sensors = Composite([Script(*readings)])
    for k in range(len(readings)):
        row = sensors.read(k)
        for field in SENSOR_OF:
            value = getattr(row, field)
            assert plausible(field, value) or math.isnan(value)
        back = msgspec.msgpack.decode(encode(row), type=Row)
        assert repr(back) == repr(row)
        lends(row)
        ladder(begin(False, True), Readings(**msgspec.structs.asdict(row)), 1e9)


@pytest.mark.parametrize(
    ("assume", "message"),
    [({"soc": 1.5}, r"assume: soc is 1.5; allowed: 0 to 1"), ({"colour": 1}, "'colour' is no reading; allowed: has_b"),
     ({"metered": 0}, "assume: metered is 0; allowed: true or false"), ({"die_c": math.nan}, "die_c is nan")],
)  # fmt: skip
def test_a_bad_assumption_is_refused(assume: Any, message: str) -> None:
    """One line with the field, the value and what is allowed."""
    with pytest.raises(ValueError, match=message):
        Composite([Script(NIGHT)], assume)


@pytest.mark.parametrize(
    ("names", "message"),
    [("hots", "sensors='hots': did you mean 'host'. allowed: host, trace"),
     (["host", "nvml"], "host, nvml: host stands alone"),
     (["sysfs", "trace"], "trace stands alone"), ([], "allowed"), ("sysfs:x", "sensors='sysfs:x'")],
)  # fmt: skip
def test_unknown_sensors_are_refused(names: Any, message: str) -> None:
    """By name, with what is allowed."""
    with pytest.raises(ValueError, match=message):
        open_sensors(names)


def test_assumptions_are_laid_over_those_of_a_desk() -> None:
    """Opened by name, what is assumed beside the desk's own assumptions counts, and where both speak it wins."""
    assumed = report(open_sensors("host", assume={"idle_s": 7.0, "skin_c": 31.0}))["assumed"]

    assert (assumed["idle_s"], assumed["screen_on"]) == (7.0, DESK["screen_on"])
    assert assumed["skin_c"] == 31.0
    with pytest.raises(ValueError, match="assume: soc is 2; allowed: 0 to 1"):
        open_sensors("psutil", assume={"soc": 2})


def test_termux_and_nvml_say_that_they_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for by name, a source that is absent is one clear line."""
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(OSError, match="nvml: no module pynvml"):
        open_sensors(["sysfs", "nvml"])
    monkeypatch.setenv("PATH", "")
    with pytest.raises(OSError, match="termux: none of"):
        open_sensors("termux")


def test_this_machine_is_read() -> None:
    """Whatever this machine can tell is in range; what it cannot is listed, and temperatures are not assumed."""
    sensors = open_sensors("host")
    assert isinstance(sensors, HostSensors)
    row = sensors.read(0)

    for field in SENSOR_OF:
        value = getattr(row, field)
        assert plausible(field, value) or math.isnan(value), field
        assert not math.isnan(value) or SENSOR_OF[field] in sensors.missing
    assert set(sensors.assumed) <= set(DESK)
    assert "clock" not in sensors.missing
    assert ("die_c" in sensors.missing) == math.isnan(row.die_c)


def test_a_machine_that_cannot_say_how_hot_it_is_does_not_lend(tmp_path: Path) -> None:
    """Unless its temperature is assumed in so many words."""
    always = HarvestConfig(hour_start=0.0, hour_end=24.0)
    (tmp_path / "class" / "power_supply").mkdir(parents=True)
    assert not lends(HostSensors(tmp_path).read(0), always)
    assumed = HostSensors(tmp_path, {**DESK, "die_c": 40.0})

    assert lends(assumed.read(0), always)
    assert "die_c" in assumed.missing
    assert report(assumed)["assumed"]["die_c"] == 40.0


def test_psutil_alone_reads_battery_and_link_where_there_is_no_sysfs(monkeypatch: pytest.MonkeyPatch) -> None:
    """On other systems psutil stands in; where psutil has nothing, nothing is given."""
    import psutil

    class Battery:
        percent, power_plugged = 47, False

    monkeypatch.setattr(psutil, "sensors_battery", lambda: Battery, raising=False)
    given_ = PsutilSource(linux=False).read(0)
    assert (given_["has_battery"], given_["soc"], given_["plugged"]) == (True, 0.47, False)
    monkeypatch.setattr(psutil, "sensors_battery", lambda: None, raising=False)
    assert PsutilSource(linux=False).read(0)["has_battery"] is False
    monkeypatch.delattr(psutil, "sensors_battery")
    assert "has_battery" not in PsutilSource(linux=False).read(0)


def test_a_denied_load_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Android denies /proc/stat: the load is then unknown, not an exception."""
    import psutil

    def denied(interval: Any = None) -> float:
        raise PermissionError("/proc/stat")

    monkeypatch.setattr(psutil, "cpu_percent", denied)
    assert PsutilSource().fields == {"local_minute", "memory_free_bytes"}


def test_what_the_node_itself_holds_counts_as_free(monkeypatch: pytest.MonkeyPatch) -> None:
    """Available, and the node's own pages that no file backs; where the system does not tell, it is unknown."""
    import psutil

    class Available:
        available = 3_000

    class Own:
        rss, shared = 700, 200

    monkeypatch.setattr(psutil, "virtual_memory", Available)
    monkeypatch.setattr(psutil.Process, "memory_info", lambda process: Own)
    assert PsutilSource().read(0)["memory_free_bytes"] == 3_500.0

    def denied() -> Any:
        raise PermissionError("/proc/meminfo")

    monkeypatch.setattr(psutil, "virtual_memory", denied)
    assert "memory_free_bytes" not in PsutilSource().fields


def test_a_ladder_that_is_not_told_of_memory_lends_none() -> None:
    """Missing from the start or gone on the way it means no, and the manifest says which of the two."""
    missing, gone = (
        Composite([Script(less("memory_free_bytes"))]),
        Composite([Script(NIGHT, less("memory_free_bytes"))]),
    )
    gone.read(0)
    for sensors in (missing, gone):
        limits, _ = ladder(begin(False, True), Readings(**msgspec.structs.asdict(sensors.read(1))), 8e9)
        assert (float(limits.memory_bytes), bool(limits.blind)) == (0.0, True)
    assert (missing.missing, missing.gone, gone.missing, gone.gone) == (("memory",), {}, (), {"memory": 1})
