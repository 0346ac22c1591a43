"""Owners by habit: when devices are plugged in, looked at, and away from home.

Each habit is an assumption with its parameter in the scenario (`scenarios.schema.Owners`): the public data hold only
the conjunction "idle, charging and on Wi-Fi". Every draw is keyed by (seed, habit, device, day or session), so
that a longer run, or another fleet order, changes nothing that came before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from models import draws
from scenarios.schema import Owners

DAY_MIN = 1440.0
WAKING_MIN = (420.0, 1410.0)  # owners look at their devices between 7:00 and 23:30 (assumption)
SCREEN_SESSIONS = 40  # a day; with the median below, published counts of phone pick-ups are 50-80 (assumption)
SCREEN_SIGMA = 1.0  # log-normal spread of a session's length (assumption)
TOP_UP_MEDIAN_MIN, TOP_UP_SIGMA = 40.0, 0.6  # length of a charge by day (assumption)
TOP_UPS_MAX = 7  # a day; beyond it the Poisson tail at the default mean is below 1e-4
AWAY_MIN = (510.0, 1050.0)  # leaves at 8:30, is back at 17:30, +- spread (assumption)

MOBILE_KINDS = ("phone", "tablet", "laptop")


@dataclass(frozen=True)
class Habits:
    """One row a tick, one column a device; all bool but ``idle_s``."""

    plugged: np.ndarray
    screen_on: np.ndarray
    away: np.ndarray
    idle_s: np.ndarray  # seconds since the screen was last on


def habits(
    owners: Owners, seed: int, kinds: list[str], dedicated: np.ndarray, *, entity: np.ndarray,
    start_minute: float, zone_min: np.ndarray, ticks: int, tick_s: float,
) -> Habits:  # fmt: skip
    """Draw every device's habits for the run.

    Args:
        kinds: kind of each device.
        dedicated: devices without an owner at them.
        entity: number that names each device's draws.
        zone_min: minutes to add to the run's clock for the owner's local time.
        ticks, tick_s: number and length of the rows.
    """
    n = len(kinds)
    grid = _Grid(ticks, tick_s / 60.0, start_minute + zone_min)
    plugged, screen, away = (np.zeros((ticks, n), dtype=bool) for _ in range(3))
    days = np.arange(-1, int((ticks * tick_s / 60.0 + DAY_MIN) // DAY_MIN) + 2)
    mobile = np.array([kind in MOBILE_KINDS for kind in kinds])
    owned = ~dedicated
    plugged[:, ~mobile] = True
    phase = draws.normal(seed, "personal phase", entity, 0) * owners.spread_min / 2
    base = days * DAY_MIN + phase[:, None]  # each device's midnights, local minutes

    def draw(law: Callable[..., np.ndarray], purpose: str, count: int, *args: float) -> np.ndarray:
        """Return draws (device, day, number); days start at -1 and have fewer than 64 draws a habit."""
        index = (days[:, None] + 1) * 64 + np.arange(count)
        return law(seed, purpose, entity[:, None, None], index[None], *args)

    nightly = draws.uniform(seed, "charges nightly", entity, 0) < owners.nightly_share
    z = draw(draws.normal, "plug times", 2) * owners.spread_min
    next_day = DAY_MIN if owners.unplug_minute <= owners.plug_minute else 0.0
    grid.mark(
        plugged, mobile & owned & nightly,
        base + owners.plug_minute + z[..., 0], base + owners.unplug_minute + next_day + z[..., 1],
    )  # fmt: skip
    count = np.searchsorted(_poisson_cdf(owners.top_ups_per_day), draw(draws.uniform, "top-ups", 1)[..., 0])
    waking_min = WAKING_MIN[1] - WAKING_MIN[0]
    at = base[..., None] + WAKING_MIN[0] + draw(draws.uniform, "top-up times", TOP_UPS_MAX) * waking_min
    length = draw(draws.lognormal, "top-up length", TOP_UPS_MAX, TOP_UP_MEDIAN_MIN, TOP_UP_SIGMA)
    for k in range(TOP_UPS_MAX):
        grid.mark(plugged, mobile & owned, at[..., k], np.where(count > k, at[..., k] + length[..., k], at[..., k]))

    phones = np.array([kind == "phone" for kind in kinds])
    leaves = draws.uniform(seed, "leaves home", entity, 0) < owners.away_share
    shift = draw(draws.normal, "away", 2) * owners.spread_min / 2
    grid.mark(away, phones & owned & leaves, base + AWAY_MIN[0] + shift[..., 0], base + AWAY_MIN[1] + shift[..., 1])

    at = base[..., None] + WAKING_MIN[0] + draw(draws.uniform, "screen", SCREEN_SESSIONS) * waking_min
    median_min = owners.screen_minutes_per_day / SCREEN_SESSIONS * np.exp(-(SCREEN_SIGMA**2) / 2)
    length = draw(draws.lognormal, "screen length", SCREEN_SESSIONS, median_min, SCREEN_SIGMA)
    for k in range(SCREEN_SESSIONS):
        grid.mark(screen, owned, at[..., k], at[..., k] + length[..., k])
    return Habits(plugged, screen, away, _idle(screen, tick_s))


def _poisson_cdf(mean: float) -> np.ndarray:
    k = np.arange(1, 30)
    terms = np.concatenate([[1.0], np.cumprod(mean / k)]) * np.exp(-mean)
    return np.cumsum(terms)


def _idle(screen: np.ndarray, tick_s: float) -> np.ndarray:
    """Seconds since the screen was last on, counting from one hour before the run."""
    ticks = np.arange(len(screen))[:, None]
    last_on = np.maximum.accumulate(np.where(screen, ticks, -np.ceil(3600.0 / tick_s)), axis=0)
    return (ticks - last_on) * tick_s


class _Grid:
    """Local minutes of each device on the run's ticks."""

    def __init__(self, ticks: int, tick_min: float, start_min: np.ndarray) -> None:
        self.ticks, self.tick_min, self.start_min = ticks, tick_min, start_min

    def mark(self, rows: np.ndarray, who: np.ndarray, start_min: np.ndarray, end_min: np.ndarray) -> None:
        """Set, for the devices in ``who``, the ticks that begin in [start, end); local minutes, (device, day)."""
        first = np.ceil((start_min - self.start_min[:, None]) / self.tick_min).clip(0, self.ticks).astype(int)
        last = np.ceil((end_min - self.start_min[:, None]) / self.tick_min).clip(0, self.ticks).astype(int)
        for device, day in np.argwhere((last > first) & who[:, None]).tolist():
            rows[first[device, day] : last[device, day], device] = True
