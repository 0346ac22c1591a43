"""What the conjunction does not say: plug, screen, network, weekends, and the machines that are no phones. Assumptions.

The data show when a phone is idle AND charging AND on Wi-Fi (`models.availability.conjunction`), not which of the
three failed when it was not. A `Decomposition` is one story about that: while the fitted law says "available" the phone
is plugged, on Wi-Fi and dark; while it does not, the phone goes through phases each of which breaks at least one of the
three, and the story says which and for how long. So the conjunction of the three processes has the fitted law by
construction, and stories differ in nothing but what the data leave open. A study runs under several of them;
`models.availability.robust` says which conclusions survive.

A phase is drawn when the one before it ends: by weights of the hour, with a length of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from math import gamma, isfinite

from models.availability.conjunction import LAW, Law

KINDS = ("phone", "tablet", "laptop", "desktop", "gpu_box")
"""In the order of the fleet's kind codes."""


@dataclass(frozen=True)
class Phase:
    """One stretch of a device's day.

    Attributes:
        plugged, wifi, network: whether it is; Wi-Fi or wire implies a network.
        screen: ``free`` (bouts of use come and go), ``dark`` or ``lit``, throughout.
    """

    plugged: bool
    wifi: bool
    network: bool
    screen: str

    @property
    def may_be_available(self) -> bool:
        """Whether idle, charging and Wi-Fi can hold at once in it."""
        return self.plugged and self.wifi and self.screen != "lit"


PHASES: Mapping[str, Phase] = {
    "available": Phase(True, True, True, "dark"),
    "carried on wifi": Phase(False, True, True, "free"),
    "carried on mobile": Phase(False, False, True, "free"),
    "carried offline": Phase(False, False, False, "free"),
    "plugged on mobile": Phase(True, False, True, "free"),
    "plugged offline": Phase(True, False, False, "free"),
    "in use on the charger": Phase(True, True, True, "lit"),
    "on the desk": Phase(True, True, True, "free"),
    "asleep": Phase(False, False, False, "dark"),
    "asleep on the charger": Phase(True, False, False, "dark"),
    "left alone": Phase(True, True, True, "dark"),
}

Hours = tuple[float, ...]
ANY_HOUR: Hours = (1.0,) * 24


def between(first: int, last: int, inside: float, outside: float) -> Hours:
    """Return weights by hour of day: ``inside`` from hour ``first`` up to ``last`` (over midnight if first > last)."""
    wraps = first > last
    return tuple(inside if (h >= first or h < last if wraps else first <= h < last) else outside for h in range(24))


_WAKING = between(7, 24, 1.0, 0.03)


@dataclass(frozen=True)
class Owner:
    """Habits of one sort of owner, for one kind of device.

    Attributes:
        share: of the owners of this kind.
        phases: weight by hour with which each phase is entered; hours of the owner's clock.
        mean_h: mean length of each phase, hours.
        shape: Weibull shape of the lengths where it is not 1 (exponential).
        bouts_per_day: bouts of use a day, before the phases in which none can come are taken away.
        bout_min: mean lit length of a bout, minutes (at least 1; one minute plus an exponential).
        bout_hours: relative rate of bouts by hour.
    """

    share: float
    phases: Mapping[str, Hours]
    mean_h: Mapping[str, float]
    shape: Mapping[str, float] = field(default_factory=dict)
    bouts_per_day: float = 0.0
    bout_min: float = 7.0
    bout_hours: Hours = _WAKING

    def __post_init__(self) -> None:
        if not 0.0 < self.share <= 1.0:
            raise ValueError(f"share is {self.share}; allowed: above 0, to 1")
        for name, weights in self.phases.items():
            if name not in PHASES or name == "available":
                raise ValueError(f"phase {name!r} is not known; allowed: {', '.join(list(PHASES)[1:])}")
            if len(weights) != 24 or not all(isfinite(w) and w >= 0.0 for w in weights):
                raise ValueError(f"phase {name!r}: weights are {weights}; allowed: 24 numbers from 0 up")
            if not self.mean_h.get(name, 0.0) >= 0.05 or not isfinite(self.mean_h[name]):
                raise ValueError(f"phase {name!r}: mean_h is {self.mean_h.get(name)}; allowed: from 0.05 up")
        if not self.phases or not all(sum(w[h] for w in self.phases.values()) > 0.0 for h in range(24)):
            raise ValueError("phases: at every hour some phase needs a weight above 0")
        if not (self.bouts_per_day >= 0.0 and self.bout_min >= 1.0 and sum(self.bout_hours) > 0.0):
            raise ValueError("bouts: allowed: bouts_per_day from 0 up, bout_min from 1 up, some hour above 0")


@dataclass(frozen=True)
class Decomposition:
    """One story about plug, screen and network.

    Attributes:
        law: when phones are idle, charging and on Wi-Fi at once.
        idle_threshold_s: how long the screen must have been dark to count as idle in that law; 0: dark is idle.
        gaps: weights of the phases that a phone goes through in the short gaps between on-runs.
        owners: sorts of owners, by kind of device; shares of a kind add up to 1.
        bout_gap_min: least time between two bouts of use: looks closer than that are one bout.
        screen_spread: an owner's own rate of bouts is even between 1 - spread and 1 + spread times the mean.
        weekend_shift_min: how much later everything happens on Saturdays and Sundays.
        source: where each field's numbers come from.
    """

    law: Law
    idle_threshold_s: float
    gaps: Mapping[str, float]
    owners: Mapping[str, tuple[Owner, ...]]
    bout_gap_min: float
    screen_spread: float
    weekend_shift_min: float
    source: Mapping[str, str]

    def __post_init__(self) -> None:
        for f in fields(self):
            if f.name != "source" and not self.source.get(f.name):
                raise ValueError(f"source: {f.name} has none")
        for kind in KINDS:
            share = sum(owner.share for owner in self.owners.get(kind, ()))
            if abs(share - 1.0) > 1e-9:
                raise ValueError(f"owners of {kind}: shares add up to {share}; allowed: 1")
        for where in (self.gaps, *(owner.phases for owner in self.owners["phone"])):
            wrong = [name for name in where if name not in PHASES or PHASES[name].may_be_available]
            if wrong:
                raise ValueError(f"phone phase {wrong[0]!r} would be available outside the law")
        for name in ("idle_threshold_s", "weekend_shift_min", "bout_gap_min"):
            if not (isfinite(getattr(self, name)) and getattr(self, name) >= 0.0):
                raise ValueError(f"{name} is {getattr(self, name)}; allowed: from 0 up")
        if not 0.0 <= self.screen_spread < 1.0:
            raise ValueError(f"screen_spread is {self.screen_spread}; allowed: 0 to below 1")


# Night and day of the owners, hours: bedtime plug-ins and the working day (assumptions, in keeping with the fitted
# profile, whose rise begins at 22:00 and whose fall ends at 10:00).
_BED = between(21, 2, 1.0, 0.0)
_DAY = between(8, 18, 1.0, 0.3)
_EVENING = between(17, 23, 1.0, 0.3)


def _mix(*parts: tuple[float, Hours]) -> Hours:
    """Return a weighted sum of hourly weights."""
    return tuple(sum(weight * hours[h] for weight, hours in parts) for h in range(24))


_PHONES_CHARGER = (
    Owner(
        share=1.0,
        phases={
            "carried on wifi": _mix((0.62, ANY_HOUR), (-0.17, between(8, 18, 1.0, 0.0))),
            "carried on mobile": _mix((0.16, ANY_HOUR), (0.20, between(8, 18, 1.0, 0.0))),
            "carried offline": between(0, 24, 0.03, 0.03),
            "plugged on mobile": _mix((0.05, ANY_HOUR)),
            "in use on the charger": _mix((0.06, ANY_HOUR)),
        },
        mean_h={
            "carried on wifi": 3.0, "carried on mobile": 1.5, "carried offline": 0.7, "plugged on mobile": 0.8,
            "in use on the charger": 0.5,
        },
        bouts_per_day=24.0,
    ),
)  # fmt: skip

_PHONES_WIFI = (
    Owner(  # charges in bed every night, on a plan of mobile data
        share=0.7,
        phases={
            "plugged on mobile": _mix((1.5, _BED), (0.03, ANY_HOUR)),
            "plugged offline": _mix((0.3, _BED)),
            "carried on mobile": _mix((0.6, between(7, 24, 1.0, 0.02))),
            "carried on wifi": _mix((0.25, between(7, 24, 1.0, 0.02))),
            "in use on the charger": _mix((0.01, ANY_HOUR)),
        },
        mean_h={
            "plugged on mobile": 6.0, "plugged offline": 7.0, "carried on mobile": 2.0, "carried on wifi": 2.0,
            "in use on the charger": 0.3,
        },
        bouts_per_day=24.0,
    ),
    Owner(  # charges when it is empty, at any hour
        share=0.3,
        phases={
            "plugged on mobile": _mix((0.25, ANY_HOUR)), "carried on mobile": _mix((0.55, ANY_HOUR)),
            "carried on wifi": _mix((0.2, ANY_HOUR)),
        },
        mean_h={"plugged on mobile": 1.5, "carried on mobile": 2.5, "carried on wifi": 2.0},
        bouts_per_day=24.0,
    ),
)  # fmt: skip

_PHONES_SCREEN = (
    Owner(
        share=1.0,
        phases={
            "in use on the charger": _mix((0.2, between(7, 9, 1.0, 0.0)), (0.42, between(9, 24, 1.0, 0.05))),
            "carried on wifi": _mix((0.45, ANY_HOUR)),
            "carried on mobile": _mix((0.10, ANY_HOUR), (0.15, between(8, 18, 1.0, 0.0))),
            "plugged on mobile": _mix((0.03, ANY_HOUR)),
        },
        mean_h={
            "in use on the charger": 0.75, "carried on wifi": 2.5, "carried on mobile": 1.5, "plugged on mobile": 0.8,
        },
        bouts_per_day=24.0,
    ),
)  # fmt: skip

_TABLETS = (
    Owner(  # stays at home, on the charger or on the sofa
        share=1.0,
        phases={
            "left alone": _mix((0.45, _BED), (0.10, ANY_HOUR)),
            "carried on wifi": _mix((0.6, ANY_HOUR)),
            "asleep": _mix((0.25, ANY_HOUR)),
        },
        mean_h={"left alone": 5.0, "carried on wifi": 4.0, "asleep": 8.0},
        bouts_per_day=8.0, bout_min=14.0, bout_hours=_mix((1.0, _EVENING), (0.01, ANY_HOUR)),
    ),
)  # fmt: skip

_LAPTOPS = (
    Owner(  # office: docked by day, closed in a bag or on the charger by night
        share=0.5,
        phases={
            "on the desk": _mix((1.0, between(8, 17, 1.0, 0.02))),
            "carried on wifi": _mix((0.25, between(8, 22, 1.0, 0.02))),
            "asleep": _mix((0.5, between(17, 8, 1.0, 0.10))),
            "asleep on the charger": _mix((0.4, between(17, 8, 1.0, 0.02))),
        },
        mean_h={"on the desk": 4.0, "carried on wifi": 1.0, "asleep": 7.0, "asleep on the charger": 9.0},
        bouts_per_day=16.0, bout_min=25.0, bout_hours=between(8, 18, 1.0, 0.05),
    ),
    Owner(  # home: evenings and weekends, often left on the charger
        share=0.5,
        phases={
            "on the desk": _mix((0.6, _EVENING)),
            "carried on wifi": _mix((0.4, _EVENING)),
            "asleep": _mix((0.3, ANY_HOUR), (0.3, between(22, 8, 1.0, 0.0))),
            "asleep on the charger": _mix((0.2, ANY_HOUR), (0.3, between(22, 8, 1.0, 0.0))),
        },
        mean_h={"on the desk": 3.0, "carried on wifi": 1.5, "asleep": 8.0, "asleep on the charger": 8.0},
        bouts_per_day=8.0, bout_min=25.0, bout_hours=_EVENING,
    ),
)  # fmt: skip

# Microsoft99: 51,663 office desktops; Weibull fits of up and down times (Javadi, Kondo, Vincent and Anderson, 2011).
_UP_SHAPE, _UP_SCALE_H, _DOWN_SHAPE, _DOWN_SCALE_H = 0.55, 35.3, 0.60, 9.34
_UP_H = _UP_SCALE_H * gamma(1.0 + 1.0 / _UP_SHAPE)
_DOWN_H = _DOWN_SCALE_H * gamma(1.0 + 1.0 / _DOWN_SHAPE)


def _desktop(share: float, hours: Hours, bouts_per_day: float) -> Owner:
    return Owner(
        share=share, phases={"on the desk": ANY_HOUR, "asleep": ANY_HOUR},
        mean_h={"on the desk": _UP_H, "asleep": _DOWN_H}, shape={"on the desk": _UP_SHAPE, "asleep": _DOWN_SHAPE},
        bouts_per_day=bouts_per_day, bout_min=30.0, bout_hours=hours,
    )  # fmt: skip


_DESKTOPS = (_desktop(0.6, between(8, 18, 1.0, 0.02), 12.0), _desktop(0.4, _EVENING, 6.0))
_GPU_BOXES = (Owner(share=1.0, phases={"left alone": ANY_HOUR}, mean_h={"left alone": 24.0}),)

_LAW_SOURCE = "fit to phone_availability: 594 phones of FLASH (Yang et al., WWW'21), a holiday week in China"
_COMMON_SOURCE = {
    "law": _LAW_SOURCE,
    "idle_threshold_s": "FLASH logs idle as screen off, hence 0 s; policies that wait longer see less",
    "bout_gap_min": "assumption: fewer, longer bouts stand for the 10 to 200 looks a day of Falaki et al., MobiSys'10",
    "screen_spread": "assumption; Falaki et al., MobiSys'10, find users an order of magnitude apart",
    "weekend_shift_min": "Wittmann et al., Chronobiology Int. 23, 2006 (social jetlag of one to two hours); the fitted "
    "week was all holiday, so its size is an assumption",
}
_OTHERS_SOURCE = (
    "; desktops: Microsoft99 up and down times (Javadi et al., IEEE TPDS 22, 2011) with an assumed office or home day; "
    "laptops and tablets: assumptions, no trace found; GPU boxes: always on, assumption"
)


def _decomposition(
    gaps: Mapping[str, float], phones: tuple[Owner, ...], phones_source: str, gaps_source: str
) -> Decomposition:
    return Decomposition(
        law=LAW,
        idle_threshold_s=0.0,
        gaps=gaps,
        owners={"phone": phones, "tablet": _TABLETS, "laptop": _LAPTOPS, "desktop": _DESKTOPS, "gpu_box": _GPU_BOXES},
        bout_gap_min=10.0,
        screen_spread=0.6,
        weekend_shift_min=60.0,
        source={**_COMMON_SOURCE, "owners": phones_source + _OTHERS_SOURCE, "gaps": gaps_source},
    )


DECOMPOSITIONS: Mapping[str, Decomposition] = {
    "charger_limited": _decomposition(
        {"carried on wifi": 0.6, "in use on the charger": 0.4}, _PHONES_CHARGER,
        "assumption: Wi-Fi about 70 % of the time (Lee et al., CoNEXT'10), charging is what is scarce",
        "assumption: picked up, on or off its cable",
    ),
    "wifi_limited": _decomposition(
        {"plugged on mobile": 0.7, "in use on the charger": 0.3}, _PHONES_WIFI,
        "assumption: most charge in bed (the pattern of Ferreira et al., Pervasive'11) but live on mobile data",
        "assumption: Wi-Fi lost or let sleep, sometimes picked up",
    ),
    "screen_limited": _decomposition(
        {"in use on the charger": 1.0}, _PHONES_SCREEN,
        "assumption: on charger and Wi-Fi, but lit: video, games, chat; Wi-Fi about 70 % (Lee et al., CoNEXT'10)",
        "assumption: picked up on its cable",
    ),
}  # fmt: skip
"""Stories under which a study is run; none is known to be true."""
