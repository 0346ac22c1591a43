"""A crowd of owners: plug, screen and network of up to a million devices, a window of steps at a time.

Two clocks run in every device: its phase (see `models.availability.decompositions`) and its bouts of use. Each stores
when it next changes; nothing is drawn, and nothing but a comparison is done, until then. A draw is one Threefry call
keyed by (seed, device, how many draws this clock has made), so neither the length of a window nor who else is in
the chunk changes anything. Within a window the devices that change are taken out, advanced together round by
round, and their changes are written as flips that a running exclusive-or spreads over the later steps.

Times are whole seconds since the run's start. The flags of step k are those that hold at its first moment.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from models import draws, threefry
from models.availability.conjunction import (
    FACTORS,
    LONG_OFF,
    LONG_ON,
    NO_HABIT,
    SHORT_OFF,
    SHORT_ON,
    SLOTS,
    nearest_factor,
)  # fmt: skip
from models.availability.decompositions import DECOMPOSITIONS, KINDS, Decomposition
from sim.owners.tables import (
    AVAILABLE,
    BOUT,
    CELLS,
    DAY_S,
    HABITS,
    LEVELS,
    MIN_BOUT_S,
    MIN_PHASE_S,
    NAMES,
    NETWORK,
    PLUGGED,
    SCREEN,
    TYPES,
    WIFI,
    Tables,
    check,
    tables,
    tables_of,
)  # fmt: skip

__all__ = ["NETWORK", "PLUGGED", "SCREEN", "WIFI", "CrowdState", "start", "window"]

NEVER_S = np.int32(2**31 - 1)
FARTHEST_DAYS = 20000.0  # of a next event: 32-bit seconds end at 24,855 days
_LOG_WORDS = 32.0 * np.log(2.0)
_TWO, _LEVEL_BITS, _CHOICE_BITS, _TYPE_BITS = (np.uint32(v) for v in (2, LEVELS - 1, 12, 24))
SLOT_S = np.int32(DAY_S // SLOTS)
CHANCES = len(FACTORS) * SLOTS
_PURPOSE = "crowd"  # one key; each clock's draws have their own index: phases even, bouts odd


class CrowdState(NamedTuple):
    """One element a device; seconds since the run's start, (n,) each."""

    phase_until: np.ndarray  # int32: when the phase ends
    off_until: np.ndarray  # int32: when the long off-run of the law ends; never for what is no phone of the law
    bout_on: np.ndarray  # int32: the present or next bout of use
    bout_off: np.ndarray  # int32
    phase: np.ndarray  # uint8: index into PHASES
    state: np.ndarray  # uint8: the law's state, SHORT_ON ... LONG_OFF
    phase_draws: np.ndarray  # uint32: index of the next draw
    bout_draws: np.ndarray  # uint32
    owner: np.ndarray  # int32: row of the owner in the tables
    habit: np.ndarray  # int32: personal hour, or none
    factor_row: np.ndarray  # int32: of the law's table of chances, times its slots
    slowness: np.ndarray  # float64: 1 / the device's factor
    bout_slowness: np.ndarray  # float64: 1 / the owner's own rate of bouts
    local_s: np.ndarray  # int32: add to the run's seconds for seconds since local Monday's midnight


def start(
    decomposition: str | Decomposition, seed: int, entity: Any, kind_code: Any, zone_min: Any, start_minute: float,
    weekday: int,
) -> CrowdState:  # fmt: skip
    """Return the crowd at step 0, in its stationary law.

    Args:
        decomposition: name in `DECOMPOSITIONS`, or one of your own.
        seed: seed of the run.
        entity: number that names each device's draws, below 2**32; (n,).
        kind_code: 0 phone, 1 tablet, 2 laptop, 3 desktop, 4 GPU box; (n,).
        zone_min: minutes to add to the run's clock for local time, -840 to 840; scalar or (n,).
        start_minute: minute of the day at step 0, on the run's clock.
        weekday: 0 Monday ... 6 Sunday, on the run's clock at step 0.

    Raises:
        ValueError: an unknown decomposition, or a value out of its range, with its row.
    """
    t = tables_for(decomposition)
    entity = np.asarray(entity)
    kind = check("kind_code", kind_code, 0, len(KINDS) - 1).astype(np.int64)
    check("start_minute", start_minute, 0, 1440)
    if weekday not in range(7):
        raise ValueError(f"weekday is {weekday}; allowed: 0 (Monday) to 6 (Sunday)")
    zone = np.broadcast_to(check("zone_min", zone_min, -840, 840), entity.shape)
    law, story = story_for(decomposition).law, story_for(decomposition)
    local = np.rint((weekday * 1440.0 + start_minute + zone) * 60.0).astype(np.int64) % (7 * DAY_S)

    def uniform(purpose: str, index: int) -> np.ndarray:
        return np.asarray(draws.uniform(seed, f"crowd {purpose}", entity, index))

    owner = np.zeros(len(entity), dtype=np.int64)
    sort = uniform("owner", 0)
    for code, (first, edges) in enumerate(zip(t.owner_first, t.owner_edges, strict=True)):
        owner = np.where(kind == code, first + np.searchsorted(edges, sort, side="right"), owner)
    takes_part = (kind == 0) & (uniform("factor", 0) >= law.never)
    factor = np.interp(uniform("factor", 1), np.linspace(0.0, 1.0, len(t.factor_levels)), t.factor_levels)
    hour = np.floor(uniform("habit", 0) * NO_HABIT).astype(np.int64)
    habit = np.where(uniform("habit", 1) < law.regular, hour, NO_HABIT)
    factor_row = nearest_factor(factor)
    clock_s = clock_of(local, story)
    slot = clock_s * SLOTS // DAY_S
    state = (uniform("begin", 0)[:, None] > t.state[factor_row, habit, slot]).sum(axis=1).clip(max=LONG_OFF)
    state = np.where(takes_part, state, LONG_OFF)
    amount = -np.log1p(-uniform("begin", 1))
    row = np.where(state == LONG_ON, HABITS + habit, habit)
    slowness = 1.0 / factor
    timed_s = _after(t, row, clock_s, amount * np.where(state == LONG_OFF, slowness, 1.0))
    steady_s = amount * t.steady_s[state]
    run_s = np.where((state == SHORT_ON) | (state == SHORT_OFF), steady_s, timed_s).astype(np.int64) + 1

    pick = (uniform("begin", 2) * TYPES).astype(np.int64)
    phase = t.begin[(owner * 24 + clock_s // 3600) * TYPES + pick].astype(np.int64)
    phase = np.where(state <= LONG_ON, AVAILABLE, np.where(state == SHORT_OFF, t.turn[TYPES + pick], phase))
    kept = owner * len(NAMES) + phase
    level = (uniform("begin", 3) * LEVELS).astype(np.int64)
    rest_s = (t.residual[t.shape[kept] + level] * t.mean_s[kept]).clip(1.0, FARTHEST_DAYS * DAY_S).astype(np.int64)
    off_until = np.where((state == LONG_OFF) & takes_part, run_s, NEVER_S)
    phase_until = np.where(state == LONG_OFF, np.minimum(rest_s, off_until), run_s)

    spread = 1.0 + story.screen_spread * (2.0 * uniform("bouts", 0) - 1.0)
    waits = _after(t, 2 * HABITS + owner, clock_s, -np.log1p(-uniform("bouts", 1)) / spread).astype(np.int64)
    length = MIN_BOUT_S + t.lengths[(uniform("bouts", 2) * LEVELS).astype(np.int64)] * t.bout_s[owner]
    n = len(entity)
    return CrowdState(
        phase_until.astype(np.int32), off_until.astype(np.int32),
        waits.astype(np.int32), (waits + length.astype(np.int64)).astype(np.int32),
        phase.astype(np.uint8), state.astype(np.uint8), np.zeros(n, np.uint32), np.ones(n, np.uint32),
        owner.astype(np.int32), habit.astype(np.int32), (factor_row * SLOTS).astype(np.int32),
        slowness, 1.0 / spread, local.astype(np.int32),
    )  # fmt: skip


def window(
    decomposition: str | Decomposition, seed: int, state: CrowdState, entity: Any, kind_code: Any, first_step: int,
    steps: int, step_s: float,
) -> tuple[np.ndarray, CrowdState]:  # fmt: skip
    """Return the flags of the steps from ``first_step`` on, and the crowd after them.

    Args:
        decomposition, seed, entity, kind_code: as given to `start`, or the same rows of them.
        state: the crowd after the window before (rows of it, for a chunk).
        first_step: number of the first step; each window begins where the one before ended.
        steps: length of the window.
        step_s: length of a step, whole seconds.

    Returns:
        (steps, n) uint8 of PLUGGED, SCREEN, WIFI and NETWORK; and the next state.
    """
    if steps < 1 or step_s < 1 or int(step_s) != step_s:
        raise ValueError(f"steps is {steps}, step_s {step_s}; allowed: from 1 up, step_s in whole seconds")
    names = np.asarray(entity).astype(np.uint32)
    return _Window(decomposition, seed, state, names, first_step, steps, int(step_s)).run()


class _Window:
    """One call of `window`: arrays copied once, then changed in place."""

    def __init__(
        self, decomposition: str | Decomposition, seed: int, state: CrowdState, entity: np.ndarray, first_step: int,
        steps: int, step_s: int,
    ) -> None:  # fmt: skip
        self.tables, self.story = tables_for(decomposition), story_for(decomposition)
        self.key = draws.key_of(seed, _PURPOSE)
        self.entity = entity
        self.first_s, self.last_s, self.step_s = first_step * step_s, (first_step + steps - 1) * step_s, step_s
        if self.last_s > NEVER_S - 8 * DAY_S:
            raise ValueError(f"step {first_step + steps}: is {self.last_s} s; allowed: below {NEVER_S} s")
        self.now = CrowdState(*(field.copy() for field in state[:8]), *state[8:])
        self.out = np.zeros((steps, len(entity)), dtype=np.uint8)

    def run(self) -> tuple[np.ndarray, CrowdState]:
        now, out = self.now, self.out
        bout = (now.bout_on <= self.first_s) & (now.bout_off > self.first_s)
        out[0] = self.tables.flags[now.phase] + bout.view(np.uint8) * np.uint8(BOUT)
        turning = np.flatnonzero(now.phase_until <= self.last_s)
        bouts = np.flatnonzero(now.bout_on <= self.last_s)
        while len(turning) or len(bouts):
            over = self._mark(bouts)
            self._advance(turning, over)
            turning = turning[now.phase_until[turning] <= self.last_s]
            bouts = over[now.bout_on[over] <= self.last_s]
        for k in range(1, len(out)):
            np.bitwise_xor(out[k], out[k - 1], out=out[k])
        # A bout shows where the phase leaves the screen free: FREE, shifted onto BOUT, shifted onto SCREEN.
        shown = out << np.uint8(1)
        shown &= out
        shown &= np.uint8(BOUT)
        shown >>= np.uint8(4)
        out &= np.uint8(PLUGGED | SCREEN | WIFI | NETWORK)
        out |= shown
        return out, now

    def _flip(self, who: np.ndarray, time_s: np.ndarray, bits: np.ndarray | np.uint8) -> None:
        """Flip flags from the first step at or after each time; a device is at most once in ``who``."""
        step = np.maximum(time_s - self.first_s + (self.step_s - 1), 0) // self.step_s
        self.out[step, who] ^= bits

    def _mark(self, bouts: np.ndarray) -> np.ndarray:
        """Write the bouts that begin or end in the window; return the devices whose bout is over."""
        on, off = self.now.bout_on[bouts], self.now.bout_off[bouts]
        begins = (on > self.first_s) & (off > self.first_s)
        self._flip(bouts[begins], on[begins], np.uint8(BOUT))
        over = off <= self.last_s
        ends = over & (off > self.first_s)
        self._flip(bouts[ends], off[ends], np.uint8(BOUT))
        return bouts[over]

    def _advance(self, turning: np.ndarray, over: np.ndarray) -> None:
        """Draw the next phase of ``turning`` and the next bout of ``over``, with one call of the generator."""
        now, t, split = self.now, self.tables, len(turning)
        both = np.concatenate([turning, over])
        count = np.concatenate([now.phase_draws[turning], now.bout_draws[over]])
        now.phase_draws[turning] += _TWO
        now.bout_draws[over] += _TWO
        pick, w1 = threefry.arrays(self.key, self.entity[both], count)
        amount = np.log(w1 + 0.5)
        np.subtract(_LOG_WORDS, amount, out=amount)  # exponential, mean 1
        at_s = np.concatenate([now.phase_until[turning], now.bout_off[over] + np.int32(t.gap_s)])
        clock_s = clock_of(at_s + now.local_s[both], self.story)
        owner, level = now.owner[both], pick & _LEVEL_BITS

        old, factor_row = now.state[turning], now.factor_row[turning]
        chance = t.chance[old.astype(np.int64) * CHANCES + factor_row + clock_s[:split] // SLOT_S]
        lucky = ((pick[:split] >> _CHOICE_BITS) & _LEVEL_BITS) < chance * LEVELS
        stays = (old == LONG_OFF) & (at_s[:split] < now.off_until[turning])  # only a phase within it has ended
        state = np.where(stays, old, t.follows[old * np.uint8(2) + lucky])

        # The clock of rates that each reads: coming on, the end of a long run, or the next bout.
        row = np.concatenate([now.habit[turning] + t.clock_row[state], 2 * HABITS + owner[split:]])
        scale = np.concatenate([now.slowness[turning], now.bout_slowness[over]])
        scale[:split][state == LONG_ON] = 1.0
        wait_s = _after(t, row, clock_s, amount * scale).astype(np.int32)
        wait_s += np.int32(1)

        self._turn(turning, old, state, at_s[:split], clock_s[:split], wait_s[:split], amount[:split], pick[:split])
        begin_s = at_s[split:] + wait_s[split:]
        length = t.lengths[level[split:]] * t.bout_s[owner[split:]]
        now.bout_on[over] = begin_s
        now.bout_off[over] = begin_s + length.astype(np.int32) + np.int32(MIN_BOUT_S)

    def _turn(
        self, who: np.ndarray, old: np.ndarray, state: np.ndarray, at_s: np.ndarray, clock_s: np.ndarray,
        wait_s: np.ndarray, amount: np.ndarray, pick: np.ndarray,
    ) -> None:  # fmt: skip
        """Enter the state's next phase: its length is the run's own, or within a long off-run the phase's."""
        now, t = self.now, self.tables
        owner, phase, is_off = now.owner[who] * len(NAMES), now.phase[who], state == LONG_OFF
        own = ((owner + phase) * 24 + clock_s // 3600) * TYPES
        following = t.turn[t.turn_state[state] + is_off * own + (pick >> _TYPE_BITS)]
        kept = owner + following
        length_s = np.maximum(t.lengths[t.shape[kept] + (pick & _LEVEL_BITS)] * t.mean_s[kept], MIN_PHASE_S)
        off_until = now.off_until[who]
        off_until = np.where(is_off & (old <= LONG_ON), at_s + wait_s, off_until)
        run_s = np.where(state == LONG_ON, wait_s, (amount * t.steady_s[state]).astype(np.int32) + np.int32(1))
        until = np.where(is_off, np.minimum(at_s + length_s.astype(np.int32), off_until), at_s + run_s)
        self._flip(who, at_s, t.flags[phase] ^ t.flags[following])
        now.phase_until[who], now.off_until[who], now.phase[who], now.state[who] = until, off_until, following, state


def _after(t: Tables, row: np.ndarray, clock_s: np.ndarray, amount: np.ndarray) -> np.ndarray:
    """Return seconds until the row's rate, from ``clock_s`` of the day on, has integrated to ``amount``."""
    slot, into = np.divmod(clock_s, DAY_S // SLOTS)
    at = row * (SLOTS + 1) + slot
    begin = t.clock[at]
    share = begin + (t.clock[at + 1] - begin) * (into * (SLOTS / DAY_S)) + amount / t.total[row]
    days = np.minimum(np.floor(share), FARTHEST_DAYS)
    place = (share - days).clip(0.0, 1.0 - 2.0**-40) * CELLS
    cell = place.astype(np.int64)
    at = row * (CELLS + 1) + cell
    begin = t.inverse_s[at]
    inside = begin + (t.inverse_s[at + 1] - begin) * (place - cell)
    return np.asarray(np.maximum(days * DAY_S + inside - clock_s, 0.0))


def clock_of(local_s: np.ndarray, story: Decomposition) -> np.ndarray:
    """Return the second of the owner's day: later by the weekend's shift on Saturdays and Sundays."""
    weekend = local_s // DAY_S % 7 >= 5
    return np.asarray((local_s - weekend * np.int32(round(story.weekend_shift_min * 60.0))) % DAY_S)


def story_for(decomposition: str | Decomposition) -> Decomposition:
    """Return a decomposition by name, or the object itself."""
    if isinstance(decomposition, Decomposition):
        return decomposition
    if decomposition not in DECOMPOSITIONS:
        raise ValueError(f"decomposition is {decomposition!r}; allowed: {', '.join(DECOMPOSITIONS)}")
    return DECOMPOSITIONS[decomposition]


_OWN: dict[int, tuple[Decomposition, Tables]] = {}


def tables_for(decomposition: str | Decomposition) -> Tables:
    """Return a decomposition's tables, made once (by name, or by the object itself)."""
    if not isinstance(decomposition, Decomposition):
        story_for(decomposition)
        return tables_of(decomposition)
    found = _OWN.get(id(decomposition))
    if found is None or found[0] is not decomposition:
        _OWN[id(decomposition)] = found = (decomposition, tables(decomposition))
    return found[1]
