"""The predictive rule: the owner's hard limits hold, the clock's do not, and forecasts do what they promise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.arrays import namespace
from models.availability import LAW
from models.availability.conjunction import profile
from policies.config import HarvestConfig, PredictiveConfig
from policies.harvest import Devices, make, owner
from policies.readings import HARVEST_STATES, Decision
from tests.policies.harvest.histories import GOOD, MBPS, NAN, columns, histories

XP = namespace()
PHONE = Devices(False, True)
FEARLESS: dict[str, Any] = {"start_hazard_per_h": 99.0, "stop_hazard_per_h": 99.0}  # no owner is feared


class Device:
    """One row read again and again."""

    def __init__(self, devices: Devices = PHONE, **changes: Any) -> None:
        self.config = PredictiveConfig(**changes)
        self.rule = make(self.config)
        self.state = self.rule.init(devices)

    def read(self, dt_s: float = 60.0, **changes: Any) -> Decision:
        """Decide on good readings with ``changes``."""
        decision, self.state = self.rule.decide(self.state, GOOD._replace(**changes), dt_s)
        return decision

    def lends(self, dt_s: float = 60.0, **changes: Any) -> bool:
        """Decide, and return whether a session runs."""
        return bool(self.read(dt_s, **changes).contribute)

    def asleep(self, **changes: float) -> None:
        """Make it a phone that was surely put on its charger for the night."""
        known = {"alone": True, "long": 0.9999, "began": 0.9999, "first": 0.997, **changes}
        self.state = self.state._replace(**{name: np.asarray(value) for name, value in known.items()})

    def minutes(self, start: int, end: int, **changes: Any) -> list[bool]:
        """Read every ten minutes of a span of days, and return when it lent."""
        return [self.lends(600.0, local_minute=float(m % 1440), **changes) for m in range(start, end, 10)]


HARD: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"soc": 0.19}, {"min_battery": 0.1}, "charging_low"),
    ({"plugged": False}, {"require_charging": False}, "charging_low"),
    ({"on_wifi": False}, {"wifi_only": False}, "network_metered"),
    ({"metered": True}, {"allow_metered": True}, "network_metered"),
    ({"bandwidth_bytes_per_s": 4 * MBPS}, {"min_bandwidth_mbps": 4.0}, "network_metered"),
    ({"screen_on": True}, {"require_screen_off": False}, "user_active"),
    ({"die_c": 65.0}, {"critical_temp_c": 66.0}, "thermal_throttle"),
]


@pytest.mark.parametrize(("changes", "lifted_by", "state"), HARD)
def test_each_hard_rule_ends_a_session_at_once_and_its_field_lifts_it(
    changes: dict[str, Any], lifted_by: dict[str, Any], state: str
) -> None:
    """However little the owner is feared, metering, screen, charger, heat and floor end a session, without a drain."""
    default, looser = Device(**FEARLESS, charge_risk=1.0), Device(**FEARLESS, **lifted_by, charge_risk=1.0)
    # A hotter die leaves no room below the throttle: it is lifted far enough for the forecast to see some.
    if "die_c" in changes:
        looser = Device(**FEARLESS, throttle_temp_c=90.0, critical_temp_c=90.0, max_cpu_temp_c=90.0)
    for device in (default, looser):
        assert [device.lends(0.0), device.lends()] == [True, True]

    ended = default.read(**changes)

    assert (bool(ended.contribute), HARVEST_STATES[int(ended.state)]) == (False, state)
    assert float(ended.memory_share) == 0.0
    assert looser.lends(**changes)


def test_the_start_temperature_binds_with_its_band() -> None:
    """From 45 °C no session starts until the die is below 42 °C."""
    device = Device(**FEARLESS)

    assert [device.lends(die_c=c) for c in (45.0, 42.0, 41.9)] == [False, False, True]


def test_the_caps_bind() -> None:
    """Half the processor, 30 % of memory and 10 Mbit/s, in sixteenths of the cap; nothing at a cap of nothing."""
    lent, less = Device(**FEARLESS).read(), Device(**FEARLESS, max_cpu=0.3).read()

    assert [float(x) for x in lent[1:4]] == [0.5, 0.3, 1.25e6]
    assert float(less.compute_share) == 0.3
    disabled = Device(**FEARLESS, max_cpu=0.0).read()
    assert (bool(disabled.contribute), HARVEST_STATES[int(disabled.state)]) == (False, "disabled")


def test_hours_optimum_length_and_cooldown_do_not_bind() -> None:
    """At noon, at 30 % after the floor, for ten hours, and again five minutes after an end: it lends."""
    device = Device(**FEARLESS, charge_risk=1.0)
    device.read(soc=0.1)

    assert device.lends(local_minute=720.0, soc=0.3, idle_s=60.0)
    assert all(device.minutes(720, 1320))
    assert not device.lends(on_wifi=False)
    assert [device.lends(240.0), device.lends(60.0)] == [False, True]


@pytest.mark.parametrize("field", ["soc", "die_c", "skin_c", "bandwidth_bytes_per_s", "local_minute"])
def test_a_failed_sensor_ends_the_session(field: str) -> None:
    """What cannot be read cannot be forecast: no number, no session."""
    device = Device(**FEARLESS)

    assert device.lends()
    assert not device.lends(**{field: NAN})
    assert device.lends(300.0)


@pytest.mark.parametrize("field", ["soc", "die_c", "skin_c", "bandwidth_bytes_per_s", "local_minute"])
def test_a_failed_sensor_cuts_a_drain_short(field: str) -> None:
    """A blind device holds no memory for the village either."""
    device = Device(drain_s=600.0)
    device.asleep(returns=3.0)
    assert device.lends(local_minute=240.0)
    assert HARVEST_STATES[int(device.read(local_minute=356.0).state)] == "draining"

    cut = device.read(**{"local_minute": 357.0, field: NAN})

    assert (HARVEST_STATES[int(cut.state)] != "draining", float(cut.memory_share)) == (True, 0.0)


def test_the_longer_a_device_is_left_alone_the_safer_it_is() -> None:
    """A phone put down at one at night waits, and lends without a break once it was left alone for a while."""
    device = Device()
    device.read(screen_on=True, idle_s=0.0)

    seen = device.minutes(60, 240)

    assert (seen[0], seen[-1]) == (False, True)
    assert seen == sorted(seen)


def test_after_a_short_interruption_a_long_stretch_is_unlikely() -> None:
    """Whoever has just taken the phone for ten minutes is waited for longer than whoever was away all day."""
    waits = []
    for away in (1, 60):
        device = Device()
        device.read()
        for _ in range(away):
            device.read(600.0, screen_on=True, idle_s=0.0)
        waits.append(device.minutes(60, 600).index(True))

    assert waits[0] > waits[1] + 3  # of ten minutes each


def test_a_share_is_lent_at_a_share_of_the_risk() -> None:
    """At a risk that the whole cap is worth, a device that heat holds to half of it does not start."""
    shares, lends = [], []
    for skin_c in (28.0, 41.2):
        for fear, seen in ((FEARLESS, shares), ({}, lends)):
            device = Device(**fear, skin_tau_min=1e-3)  # skin is where it is heading
            device.state = device.state._replace(rise_k=np.asarray(1.6))
            device.asleep(returns=3.0)  # 0.2 returns an hour at four
            seen.append(float(device.read(local_minute=240.0, skin_c=skin_c).compute_share) / 0.5)

    assert shares == [1.0, 0.4375]
    assert lends == [1.0, 0.0]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_what_is_learned_stays_finite_whatever_is_read(data: st.DataObject) -> None:
    """No failed sensor and no odd interval leaves anything in the memory but numbers in range."""
    config, devices, history = data.draw(histories("predictive"))
    rule = make(config)
    state = rule.init(devices)
    for dt_s, fleet in history:
        _, state = rule.decide(state, columns(fleet), dt_s)

    for name, column in state._asdict().items():
        assert np.isfinite(np.asarray(column, dtype=float)).all(), name
    for name in ("long", "began", "first"):
        assert ((np.asarray(state._asdict()[name]) >= 0.0) & (np.asarray(state._asdict()[name]) <= 1.0)).all()
    assert (np.asarray(state.expected) >= 0.0).all()


@pytest.mark.parametrize("has_battery", [True, False])
def test_neither_haste_nor_silence_is_beyond_single_precision(has_battery: bool) -> None:
    """An owner who comes every other second, then silence of an hour and of a month: nothing overflows."""
    device = Device(Devices(False, has_battery))
    device.state = type(device.state)(
        *(x.astype(np.float32) if x.dtype == np.float64 else x for x in map(np.asarray, device.state))
    )
    shape = {
        name: np.zeros(1, dtype=np.float32) + value
        for name, value in GOOD._replace(local_minute=600.0)._asdict().items()
    }
    shape |= {name: shape[name] > 0.5 for name in ("plugged", "on_wifi", "metered", "screen_on")}
    shape["has_battery"] = np.array([has_battery])
    good = type(GOOD)(**shape)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        for reading in range(800):
            now = good._replace(screen_on=np.array([reading % 2 == 1]))
            _, device.state = device.rule.decide(device.state, now, np.float32(1.0))
        for dt_s in (1.0, 3600.0, 2.6e6, 2.6e6):
            decision, device.state = device.rule.decide(device.state, good, np.float32(dt_s))

    assert decision.compute_share.dtype == np.float32
    assert all(np.isfinite(np.asarray(column, dtype=float)).all() for column in device.state)


def test_an_owner_of_whom_nothing_is_known_is_that_of_the_data() -> None:
    """Put down at two at night it lends within the hour; put down at eleven in the morning not for two."""
    night, noon = Device().minutes(120, 600), Device().minutes(660, 1320)

    assert (night[0], all(night[5:])) == (False, True)
    assert not any(noon[:12])
    assert noon[-1]


def test_the_story_of_phones_is_the_law_fitted_to_them() -> None:
    """By hour, ends of long stretches and their share are those of the law; so are short stretches and gaps."""
    mean = {name: profile(getattr(LAW, name)).reshape(24, 2) for name in ("end", "long")}

    np.testing.assert_allclose(owner.PHONE_PER_H, np.exp(mean["end"]).mean(axis=1), atol=6e-4)
    np.testing.assert_allclose(owner.PHONE_LONG, mean["long"].mean(axis=1), atol=6e-3)
    ours = (owner.SHORT_PER_H, owner.GAP_SHARE, owner.GAP_PER_H, owner.GAP_LONG)
    assert ours == (LAW.mu_per_h, LAW.q, LAW.nu_per_h, LAW.rho)


def test_the_chance_of_a_long_stretch_is_the_laws() -> None:
    """Phones that follow the law, all alike, are expected to come back as often as they do, by age of the stretch."""
    g, n, hour = np.random.default_rng(3), 50_000, 23.0
    long_share = 1.0 / (1.0 + np.exp(-owner.PHONE_LONG[23]))
    end_h = np.where(
        g.random(n) < long_share, g.exponential(1.0 / owner.PHONE_PER_H[23], n), g.exponential(1.0 / 1.57, n)
    )
    fleet, config = owner.no_owner(np.zeros(n), np.ones(n, dtype=bool), XP), PredictiveConfig(look_ahead_min=0.0)
    fleet, mains = fleet._replace(first=np.full(n, 0.9975)), np.zeros(n, dtype=bool)
    expected, came = np.zeros(5), np.zeros(5)
    for minute in range(0, 300, 2):
        alone = end_h > minute / 60.0
        hazard, fleet = owner.watch(fleet, config, np.full(n, hour * 60.0), alone, mains, 120.0, XP)
        expected[minute // 60] += (hazard * alone).sum() / 30.0
        came[minute // 60] += (alone & (end_h <= (minute + 2) / 60.0)).sum()

    np.testing.assert_allclose(came, expected, rtol=0.1)
    assert came[0] > 5 * came[4]


MAINS = Devices(False, False)


def day_of(device: Device, first: int, last: int) -> tuple[list[bool], list[bool]]:
    """Read a machine without a battery for a day, touched every hour from ``first`` to ``last``; in and out of them."""
    used: list[bool] = []
    rest = device.minutes(0, first * 60, has_battery=False)
    for hour in range(first, last):
        used += device.minutes(hour * 60, hour * 60 + 50, has_battery=False)
        device.minutes(hour * 60 + 50, hour * 60 + 60, has_battery=False, screen_on=True, idle_s=0.0)
    return used, rest + device.minutes(last * 60, 1440, has_battery=False)


@pytest.mark.parametrize(("first", "last", "office"), [(8, 18, True), (17, 23, False)])
def test_a_machine_on_the_mains_learns_whether_it_is_an_offices_or_an_evenings(
    first: int, last: int, office: bool
) -> None:
    """After one day it knows which, and then lends in all other hours and hardly ever in those."""
    device = Device(MAINS)
    day_of(device, first, last)
    used, rest = day_of(device, first, last)

    assert (float(device.state.first) > 0.9, float(device.state.first) < 0.1) == (office, not office)
    assert sum(rest) > 0.9 * len(rest)
    assert sum(used) < 0.2 * len(used)


def test_hours_that_no_story_tells_are_learned() -> None:
    """A machine that is used from one to six at night is left alone then within a week, and lends by day."""
    device = Device(MAINS)
    for _ in range(7):
        used, rest = day_of(device, 1, 6)

    assert sum(used) < 0.2 * len(used)
    assert sum(rest) > 0.7 * len(rest)


def test_a_network_that_is_lost_is_a_return_too() -> None:
    """Whoever leaves the Wi-Fi every hour ends as many sessions as whoever looks at the screen."""
    by = {}
    for name, changes in {"screen": {"screen_on": True, "idle_s": 0.0}, "wifi": {"on_wifi": False}}.items():
        device = Device()
        for hour in range(48):
            device.minutes(hour * 60, hour * 60 + 50)
            device.minutes(hour * 60 + 50, hour * 60 + 60, **changes)
        by[name] = float(device.state.returns)

    assert by["wifi"] == by["screen"] > 0.0


def test_a_quiet_device_learns_to_lend_by_day() -> None:
    """After a week without one return, noon is as good as the night."""
    device = Device()
    device.minutes(0, 7 * 1440)

    assert all(device.minutes(8 * 1440, 9 * 1440))


def test_it_learns_at_what_hours_the_owner_comes() -> None:
    """Whoever looks at it through the evening, and never else, is soon expected then, and left to lend by day."""
    device = Device()
    for _ in range(14):
        by_day = device.minutes(0, 1080)
        evening = []
        for hour in range(18, 24):
            evening += device.minutes(hour * 60, hour * 60 + 50)
            device.minutes(hour * 60 + 50, hour * 60 + 60, screen_on=True, idle_s=0.0)

    assert sum(evening[5:]) <= 1  # until the first look the long quiet of the day speaks for it
    assert sum(by_day) > 0.7 * len(by_day)


def test_a_restless_owner_is_learned_within_a_week() -> None:
    """Whoever looks at the device every hour of the night is soon left alone in nights."""
    device, lent = Device(), []
    for _ in range(7):
        for hour in range(24):
            lent.append(sum(device.minutes(hour * 60, hour * 60 + 50)))
            device.minutes(hour * 60 + 50, hour * 60 + 60, screen_on=True, idle_s=0.0)

    assert sum(lent[:6]) > 0  # cautious at first, as the owner is unknown, but it tries
    assert sum(lent[-24:]) == 0


def test_an_orderly_end_drains() -> None:
    """A session that the forecast ends, a look-ahead before the bad hour, holds its memory for the drain."""
    device = Device(MAINS)
    device.state = device.state._replace(first=np.asarray(0.997))  # surely an office's
    seen = [device.read(local_minute=float(m), has_battery=False) for m in range(465, 485)]
    states = [HARVEST_STATES[int(d.state)] for d in seen]

    assert states[:10] == ["harvesting"] * 10
    assert states[10:12] == ["draining", "idle"]  # 07:55, five minutes before eight
    assert [float(x) for x in seen[10][1:3]] == [0.0, 0.3]


def test_the_owners_charge_comes_first() -> None:
    """Where the owner may soon unplug, it waits until the battery is charged; on the mains for nothing."""
    changes = {"local_minute": 720.0}
    low, full = Device(**FEARLESS), Device(**FEARLESS)
    mains = Device(Devices(False, False), **FEARLESS)

    assert not low.lends(soc=0.3, **changes)
    assert low.lends(soc=0.8, **changes)
    assert full.lends(**changes)
    assert mains.lends(has_battery=False, soc=NAN, plugged=False, **changes)


class Body:
    """Devices of two nodes, first order each: skin with its own time constant, die at once above it."""

    def __init__(self, rise_k: Any, excess_k: Any, tau_s: Any, ambient_c: Any) -> None:
        self.rise_k, self.excess_k, self.tau_s, self.rest_c = rise_k, excess_k, tau_s, ambient_c + 3.0
        self.skin_c = self.die_c = self.rest_c + 0.0 * rise_k

    def warm(self, share: Any, dt_s: float) -> None:
        """Advance under a share of the processor."""
        target = self.rest_c + self.rise_k * share
        self.skin_c = target + (self.skin_c - target) * np.exp(-dt_s / self.tau_s)
        self.die_c = self.skin_c + self.excess_k * share


def test_skin_stays_below_its_limit_and_the_die_is_rarely_throttled() -> None:
    """On 500 bodies, most of which full lending overheats, with other time constants than assumed, skin keeps below 43.

    What is lent comes near what a steady share could lend there.
    """
    g, n = np.random.default_rng(4), 500
    body = Body(g.uniform(4, 60, n), g.uniform(4, 60, n), g.uniform(400, 2000, n), g.uniform(15, 32, n))
    rule = make(PredictiveConfig(**FEARLESS))
    state = rule.init(Devices(np.zeros(n, dtype=bool), np.ones(n, dtype=bool)))
    good = columns([GOOD] * n)
    lent_s, throttled_s = np.zeros(n), np.zeros(n)
    for minute in range(600):
        decision, state = rule.decide(state, good._replace(skin_c=body.skin_c, die_c=body.die_c), 60.0)
        body.warm(decision.compute_share, 60.0)
        assert (body.skin_c < 43.0).all()
        lent_s += decision.compute_share * 60.0
        throttled_s += (body.die_c >= 55.0) * 60.0 * (minute >= 120)
    by_skin, by_die = (42.0 - body.rest_c) / body.rise_k, (54.0 - body.rest_c) / (body.rise_k + body.excess_k)
    steady = np.minimum(0.5, np.minimum(by_skin, by_die))
    worth = steady > 0.5 * 0.3  # below a quarter of the cap no session starts

    assert throttled_s.mean() < 0.01 * 480 * 60
    assert (lent_s / 36_000 / steady)[worth].mean() > 0.85
    assert ((body.rest_c + body.rise_k * 0.5) > 43.0).mean() > 0.4


def test_the_documented_rule_overheats_where_the_predictive_one_does_not() -> None:
    """On the same hot phone one rule lends in bursts above 43 °C of skin, the other steadily below it, and no less."""
    hot, lent = {}, {}
    for name, config in (("documented", HarvestConfig(cooldown_min=5.0)), ("predictive", PredictiveConfig(**FEARLESS))):
        rule = make(config)
        state, body = rule.init(PHONE), Body(30.0, 10.0, 985.0, 26.0)
        hot[name], lent[name] = 0, 0.0
        for _ in range(420):
            row = GOOD._replace(skin_c=body.skin_c, die_c=body.die_c, local_minute=120.0)
            decision, state = rule.decide(state, row, 60.0)
            body.warm(float(decision.compute_share), 60.0)
            hot[name] += body.skin_c >= 43.0
            lent[name] += float(decision.compute_share)

    assert hot["documented"] > 100
    assert hot["predictive"] == 0


def test_the_learned_heat_is_that_of_the_body() -> None:
    """From readings alone it finds what the cap adds to the skin, on a body that heat does not limit."""
    device, body = Device(**FEARLESS), Body(14.0, 12.0, 960.0, 22.0)
    share = 0.0
    for minute in range(480):
        resting = (minute // 60) % 2 == 1
        decision = device.read(skin_c=body.skin_c, die_c=body.die_c, on_wifi=not resting)
        share = float(decision.compute_share)
        body.warm(share, 60.0)

    assert float(device.state.rise_k) == pytest.approx(7.0, rel=0.1)  # 14 K a whole processor, half of it lent
    assert float(device.state.excess_rise_k) == pytest.approx(6.0, rel=0.1)
    assert float(device.state.rest_c) == pytest.approx(25.0, abs=0.5)


def rise_learned_k(every_s: float) -> list[float]:
    """Return what a device read so often has learned that the cap adds to its skin, at the end of each of 8 hours.

    Its sensors know whole degrees only; it lends every other hour.
    """
    device, body, learned = Device(**FEARLESS), Body(14.0, 12.0, 960.0, 22.0), []
    for hour in range(8):
        for _ in range(round(3600.0 / every_s)):
            skin_c, die_c = np.floor(body.skin_c), np.floor(body.die_c)
            decision = device.read(every_s, skin_c=skin_c, die_c=die_c, on_wifi=hour % 2 == 0)
            body.warm(float(decision.compute_share), every_s)
        learned.append(float(device.state.rise_k))
    return learned


@pytest.mark.parametrize("every_s", [5.0, 300.0])
def test_heat_is_learned_as_fast_however_often_it_is_read(every_s: float) -> None:
    """Read each 5 s or each 5 min, coarse sensors teach what they teach each minute, hour by hour."""
    assert rise_learned_k(every_s) == pytest.approx(rise_learned_k(60.0), abs=0.2)


def test_risk_is_taken_where_most_is_computed() -> None:
    """At one and the same risk a strong machine lends and a weak one waits; by default all do as the mean."""
    flops = np.array([0.0, 1e11, 4.5e12, 1e14])
    devices = Devices(np.zeros(4, dtype=bool), np.zeros(4, dtype=bool), flops)
    noon = columns([GOOD._replace(has_battery=False, local_minute=720.0)] * 4)
    lent = {}
    for weight in (0.0, 0.5, 1.0):
        for limit in (0.4, 2.0):  # per hour; at noon a machine of which nothing is known expects 0.73 returns
            rule = make(PredictiveConfig(start_hazard_per_h=limit, stop_hazard_per_h=limit, compute_weight=weight))
            decision, _ = rule.decide(rule.init(devices), noon, 0.0)
            lent[weight, limit] = decision.contribute.tolist()

    assert lent[0.0, 0.4] == [False] * 4
    assert lent[0.0, 2.0] == [True] * 4
    assert lent[0.5, 0.4] == lent[1.0, 0.4] == [False, False, False, True]
    assert lent[0.5, 2.0] == [True] * 4  # half of the worth is the chip
    assert lent[1.0, 2.0] == [True, False, True, True]  # an unknown chip is taken for the mean one
