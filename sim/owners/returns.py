"""How likely owners are to be back at the next step, for whoever knows their laws but not what they will draw.

Everything that no reading can tell a policy before it happens stays hidden, and nothing else does. Known are the story,
the owner's own rates and habit, every phase and bout so far to the second, even those behind a dark screen, and whether
an absence of the law was a short or a long one. Hidden are the moments drawn for what comes next, and whether a phone's
present on-run is a short or a long one: that shows in nothing but its end, so it is inferred from how the run began and
how long it has lasted (Bayes' rule). Hence no policy that reads devices, however well it learned owners, knows more.

An owner is back where the screen is on, the plug pulled or Wi-Fi lost: what `policies.harvest.owner_back` calls an
interruption if the device was lent. An on-run that ends and begins again between two steps is seen by nobody.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from models.availability.conjunction import LONG_ON, SHORT_OFF, SHORT_ON, SLOTS
from models.availability.decompositions import KINDS, Decomposition
from sim.owners import crowd
from sim.owners.tables import (
    CELLS,
    DAY_S,
    FREE,
    HABITS,
    LEVELS,
    MIN_PHASE_S,
    NAMES,
    PLUGGED,
    SCREEN,
    TYPES,
    WIFI,
    Tables,
)

MINUTES = 1440  # of a day, the grid of the rates
MINUTE_S = 60


def chances(
    decomposition: str | Decomposition, seed: int, entity: Any, kind_code: Any, zone_min: Any, start_minute: float,
    weekday: int, steps: int, step_s: int,
) -> np.ndarray:  # fmt: skip
    """Return the chance that an owner who is away at a step is back at the next one, by (step, device).

    Args:
        steps, step_s: number and length of the steps; the others are those of `sim.owners.crowd.start`.

    Returns:
        float32; of meaning only where the device is plugged, on Wi-Fi and dark, and 0 at the last step.
    """
    order = np.argsort(np.asarray(kind_code), kind="stable")
    entity, kind = np.asarray(entity)[order], np.asarray(kind_code)[order]
    zone_min = np.broadcast_to(zone_min, order.shape)[order]
    now = crowd.start(decomposition, seed, entity, kind, zone_min, start_minute, weekday)
    phones = int(np.count_nonzero(kind == 0))
    t, story = crowd.tables_for(decomposition), crowd.story_for(decomposition)
    parts = ((slice(0, phones), _Phones), (slice(phones, None), _Others))
    seers = [(rows, sort(t, story, _rows(now, rows), step_s)) for rows, sort in parts if kind[rows].size]
    found = np.zeros((steps, order.size), dtype=np.float32)
    for k in range(steps - 1):
        before = now
        if k:
            _, now = crowd.window(decomposition, seed, now, entity, kind, k, 1, step_s)
        for rows, seer in seers:
            mine = _rows(now, rows)
            if k:
                seer.see(_rows(before, rows), mine, k * step_s)
            found[k, rows] = seer.chance(mine, k * step_s)
    return found[:, np.argsort(order)]


def _rows(state: crowd.CrowdState, rows: slice) -> crowd.CrowdState:
    return crowd.CrowdState(*(column[rows] for column in state))


class _Rates:
    """The rates that follow the clock, as the tables draw them: even between the cells of an inverse clock."""

    def __init__(self, t: Tables, story: Decomposition, local_s: np.ndarray) -> None:
        grid_s = np.arange(0, DAY_S + 1, MINUTE_S)
        inverse = t.inverse_s.reshape(-1, CELLS + 1)
        share = np.array([np.interp(grid_s, row, np.linspace(0.0, 1.0, CELLS + 1)) for row in inverse])
        self._per_s = np.diff(share, axis=1) * t.total[:, None] / MINUTE_S
        self._story, self._local_s = story, local_s.astype(np.int64)
        self._offset_s = np.zeros(local_s.size, dtype=np.int64)  # from local time to the clock of the latest draw
        self.drawn(np.arange(local_s.size), np.zeros(local_s.size, dtype=np.int64))

    def drawn(self, who: np.ndarray, at_s: np.ndarray) -> np.ndarray:
        """Note that these drew what comes next: the weekend's shift of that moment holds until they draw again."""
        local_s = at_s + self._local_s[who]
        clock_s = crowd.clock_of(local_s, self._story).astype(np.int64)
        self._offset_s[who] = clock_s - local_s
        return clock_s

    def minute(self, at_s: int) -> np.ndarray:
        """Return the minute of each one's clock."""
        return np.asarray((at_s + self._local_s + self._offset_s) % DAY_S // MINUTE_S)

    def at(self, row: np.ndarray, minute: np.ndarray) -> np.ndarray:
        """Return rates a second."""
        return np.asarray(self._per_s[row, minute])


class _Phones:
    """Phones: available, and so left alone, while the law's on-runs last."""

    def __init__(self, t: Tables, story: Decomposition, now: crowd.CrowdState, step_s: int) -> None:
        self._t, self._q, self._step_s = t, story.law.q, step_s
        self._rates = _Rates(t, story, now.local_s)
        self._short_per_s = 1.0 / t.steady_s[SHORT_ON]
        self._gap_seen = _seen(np.array(step_s / t.steady_s[SHORT_OFF]))
        self._survive_short = np.exp(-step_s * self._short_per_s)
        slot = self._rates.minute(0) * SLOTS // MINUTES
        on = t.state[now.factor_row // SLOTS, now.habit, slot]  # cumulative: short, then long
        self._long = 1.0 - on[:, SHORT_ON] / on[:, LONG_ON]
        self._survive_long = np.ones(now.habit.size)

    def see(self, before: crowd.CrowdState, now: crowd.CrowdState, at_s: int) -> None:
        """Learn what the last step showed: that the run goes on, or that another has begun."""
        self._long = _after(self._long, self._survive_long, self._survive_short)
        draws_made = (now.phase_draws - before.phase_draws) // 2
        who = np.flatnonzero((draws_made > 0) & (now.state <= LONG_ON))
        if not who.size:
            return
        began_s = before.phase_until[who].astype(np.int64)
        clock_s, old = self._rates.drawn(who, began_s), before.state[who].astype(np.int64)
        prior = self._t.chance[old * crowd.CHANCES + now.factor_row[who] + clock_s // crowd.SLOT_S]
        lasted_s = at_s - began_s
        long_per_s = self._rates.at(HABITS + now.habit, self._rates.minute(at_s))[who]
        since = _after(prior, np.exp(-long_per_s * lasted_s), np.exp(-self._short_per_s * lasted_s))
        # Where more happened within one step its kind is told: to know more only raises what can be done.
        plain = (draws_made[who] == 1) & (old >= SHORT_OFF)
        self._long[who] = np.where(plain, since, now.state[who] == LONG_ON)

    def chance(self, now: crowd.CrowdState, at_s: int) -> np.ndarray:
        """Return the chance that an on-run ends, and shows, by the next step."""
        minute = self._rates.minute(at_s)
        self._survive_long = np.exp(-self._rates.at(HABITS + now.habit, minute) * self._step_s)
        ends = 1.0 - self._long * self._survive_long - (1.0 - self._long) * self._survive_short
        again = self._rates.at(now.habit, minute) * self._step_s / now.slowness
        return np.asarray(ends * (self._q * self._gap_seen + (1.0 - self._q) * _seen(again)))


class _Others:
    """All other devices: left alone in some phases, while no bout of use is on."""

    def __init__(self, t: Tables, story: Decomposition, now: crowd.CrowdState, step_s: int) -> None:
        self._t, self._step_s = t, step_s
        self._rates = _Rates(t, story, now.local_s)  # of bouts
        n = now.owner.size
        self._since_s, self._first = np.zeros(n, dtype=np.int64), np.ones(n, dtype=bool)
        self._bouts_from_s = np.zeros(n, dtype=np.int64)
        self._alive = np.ones(n)
        owners = [owner for kind in KINDS for owner in story.owners[kind]]
        shapes = np.array([[owner.shape.get(name, 1.0) for name in NAMES] for owner in owners]).ravel()
        middle = (np.arange(LEVELS) + 0.5) / LEVELS
        unit = {shape: float(((-np.log1p(-middle)) ** (1.0 / shape)).mean()) for shape in set(shapes)}
        self._shape, self._scale_s = shapes, t.mean_s / np.array([unit[shape] for shape in shapes])
        flags = t.flags[t.turn[2 * TYPES :]].reshape(-1, 24, TYPES)
        alone = flags & np.uint8(PLUGGED | WIFI | SCREEN) == PLUGGED | WIFI
        self._back = 1.0 - alone.mean(axis=-1)  # by owner's phase and hour: the share of what follows that is no rest

    def see(self, before: crowd.CrowdState, now: crowd.CrowdState, at_s: int) -> None:
        """Learn what the last step showed: phases that ended, and bouts."""
        turned = np.flatnonzero(now.phase_draws != before.phase_draws)
        if turned.size:
            self._since_s[turned], self._first[turned] = before.phase_until[turned], False
            self._alive[turned] = self._survive(now, at_s)[turned]
        over = np.flatnonzero(now.bout_draws != before.bout_draws)
        if over.size:
            begin_s = before.bout_off[over].astype(np.int64) + self._t.gap_s
            self._rates.drawn(over, begin_s)
            self._bouts_from_s[over] = begin_s

    def chance(self, now: crowd.CrowdState, at_s: int) -> np.ndarray:
        """Return the chance that a phase ends that was quiet, or a bout begins, by the next step."""
        minute = self._rates.minute(at_s)
        alive = self._survive(now, at_s + self._step_s)
        ends = 1.0 - alive / np.maximum(self._alive, 1e-300)
        self._alive = alive
        ends *= self._back[now.owner * len(NAMES) + now.phase, minute // MINUTE_S]
        exposed_s = np.clip(at_s + self._step_s - self._bouts_from_s, 0, self._step_s)
        free = self._t.flags[now.phase] & np.uint8(FREE) != 0
        bouts = self._rates.at(2 * HABITS + now.owner, minute) / now.bout_slowness * exposed_s * free
        return np.asarray(1.0 - (1.0 - ends) * np.exp(-bouts))

    def _survive(self, now: crowd.CrowdState, at_s: int) -> np.ndarray:
        """Return the chance, as each phase began, that it would last beyond a moment; lengths are whole seconds."""
        from scipy.special import gammaincc

        phase, age_s = now.owner * len(NAMES) + now.phase, at_s - self._since_s
        shape = self._shape[phase]
        hazard = ((age_s + 1.0) / self._scale_s[phase]) ** shape
        survive = np.where(age_s < MIN_PHASE_S, 1.0, np.exp(-hazard))
        survive[self._first] = gammaincc(1.0 / shape[self._first], hazard[self._first])
        return survive


def _after(long: np.ndarray, survives_long: np.ndarray, survives_short: Any) -> np.ndarray:
    """Return the chance of a long run after it has survived (Bayes' rule)."""
    still = long * survives_long
    return np.asarray(still / (still + (1.0 - long) * survives_short))


def _seen(again: np.ndarray) -> np.ndarray:
    """Return the chance that a run's end at an even moment of a step still shows at the next.

    Args:
        again: mean number of times within a step that an absence ends.
    """
    again = np.maximum(again, 1e-12)
    return np.asarray(-np.expm1(-again) / again)
