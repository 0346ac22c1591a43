"""One cell through a list of steps, as on a test bench: what the validation runs. Self-heating is coupled.

Inside a step the cell's temperature is frozen for substeps of at most 60 s and at most about 0.1 K, at the temperature
of the substep's start; so is the bend of R0 (`Cell.r0_knee_v`), at the current there. The electric law moves over the
substep, then its mean heat moves the temperature, both in closed form (constant power: to the error of its own
substeps). Samples between are computed from the substep's start, all at once; they change nothing in the course.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from models.arrays import ArrayLike, FloatArray
from models.battery.cell import Cell
from models.battery.circuit import (
    Circuit,
    Moved,
    State,
    Stop,
    circuit,
    current_for_power,
    resistances_ohm,
    rested,
    source_v,
    terminal_v,
    with_knee,
)
from models.battery.constant_current import constant_current
from models.battery.constant_power import constant_power
from models.battery.constant_voltage import constant_voltage
from models.battery.heat import heat_now_w, mean_heat_w, temperature_c

MODES = ("cc", "cp", "cv", "rest")
_SUBSTEP_MAX_S, _SUBSTEP_MIN_S, _SUBSTEP_K = 60.0, 2.0, 0.1
_DEFAULT_GRID_S = 10.0
_KNEE_ROUNDS = 20  # of a fixed point that gains a digit or more each: R0 takes little of the voltage
_STEEP = 50.0  # exponents beyond stand for a current that no cell has
_STEP_MAX_S = 1e7  # 116 days: a step that has not met its condition by then never will


@dataclass(frozen=True)
class Step:
    """One step. It ends at the first of its conditions that is met; NaN or inf is no condition.

    Attributes:
        mode: ``cc`` constant current, ``cp`` constant power, ``cv`` constant voltage, ``rest``.
        value: A or W (discharge > 0, charge < 0) or V held; not used at rest.
        until_t_s: length of this step, s, counted from its own start.
        until_v_v: terminal voltage, V: a discharge falls to it, a charge rises to it, a rest drifts to it. Not used
            by ``cv``.
        until_i_a: current without sign, A: ``cv`` falls to it (left out together with `until_t_s`: the cell's own
            cut-off); under ``cp`` a discharge rises to it and a charge falls to it. Not used by ``cc`` and ``rest``.
        ambient_c: C.
    """

    mode: str
    value: float = 0.0
    until_t_s: float = math.inf
    until_v_v: float = math.nan
    until_i_a: float = math.nan
    ambient_c: float = 25.0

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"mode is {self.mode!r}; allowed: {', '.join(MODES)}")
        if not (math.isfinite(self.value) and (self.mode != "cv" or self.value > 0.0)):
            raise ValueError(f"value is {self.value} in a {self.mode} step; allowed: finite numbers, above 0 for cv")
        if self.until_t_s < 0.0:
            raise ValueError(f"until_t_s is {self.until_t_s}; allowed: numbers from 0 up")
        if self.until_v_v <= 0.0:
            raise ValueError(f"until_v_v is {self.until_v_v}; allowed: numbers above 0")
        if self.until_i_a < 0.0:
            raise ValueError(f"until_i_a is {self.until_i_a}; allowed: numbers from 0 up")
        if not -100.0 <= self.ambient_c <= 150.0:
            raise ValueError(f"ambient_c is {self.ambient_c}; allowed: numbers from -100 to 150")
        still = self.mode == "rest" or (self.mode != "cv" and self.value == 0.0)
        if still and not (math.isfinite(self.until_t_s) or math.isfinite(self.until_v_v)):
            raise ValueError(f"a {self.mode} step without current has no until_t_s; allowed: numbers from 0 up")


class StepEnd(NamedTuple):
    """How one step ended.

    Attributes:
        start_s, end_s: of the step, s from the start of the run.
        reason: ``time``, ``voltage``, ``current``, ``v_min``, ``v_max`` (the cell's own limits), ``soc`` (empty or
            full) or ``brown-out``.
        energy_wh: out of the terminals in this step, W.h; charging is below 0.
        charge_ah: likewise, A.h.
    """

    start_s: float
    end_s: float
    reason: str
    energy_wh: float
    charge_ah: float


class Run(NamedTuple):
    """A course: samples, one array a quantity, and its sums.

    Attributes:
        t_s, v_v, i_a, soc, temp_c: samples; NaN at times after the end. At an instant where the load changes the
            default grid holds both sides; requested times give the side before (at 0 the side after).
        steps: how each step ended that was begun.
        energy_wh, charge_ah: out of the terminals, net.
        t_end_s, end_temp_c, state: the end.
    """

    t_s: FloatArray
    v_v: FloatArray
    i_a: FloatArray
    soc: FloatArray
    temp_c: FloatArray
    steps: tuple[StepEnd, ...]
    energy_wh: float
    charge_ah: float
    t_end_s: float
    end_temp_c: float
    state: State


def run(
    cell: Cell,
    steps: Sequence[Step],
    soc0: float,
    temp0_c: float | None = None,
    sample_s: ArrayLike | None = None,
    *,
    isothermal: bool = False,
) -> Run:
    """Run a rested cell through steps.

    The cell's own limits hold throughout: a discharge that meets `v_min`, empty or a brown-out ends the run; a charge
    that meets `v_max` or full ends its step.

    Args:
        cell: the cell.
        steps: in order; at least one.
        soc0: state of charge at the start, 0 to 1.
        temp0_c: cell temperature at the start, C; None is the first step's ambient.
        sample_s: times of the samples from the start, s, not falling; None is every 10 s and every event.
        isothermal: keep the cell at ambient.

    Raises:
        ValueError: no steps, a charge outside 0..1, times that fall.
    """
    if not steps:
        raise ValueError("steps is empty; allowed: one step or more")
    wanted = None if sample_s is None else np.atleast_1d(np.asarray(sample_s, dtype=np.float64))
    if wanted is not None and not (np.isfinite(wanted).all() and (np.diff(wanted) >= 0.0).all()):
        raise ValueError("sample_s falls or is not finite; allowed: times that do not fall")
    bench = _Bench(cell, rested(cell, soc0), steps[0].ambient_c if temp0_c is None else temp0_c, wanted, isothermal)
    for index, step in enumerate(steps):
        if not bench.do(step, first=index == 0):
            break
    return bench.result()


class _Bench:
    """The cell on the bench and the samples so far."""

    def __init__(self, cell: Cell, state: State, temp_c: float, wanted: FloatArray | None, isothermal: bool) -> None:
        self.cell, self.state, self.temp_c, self.isothermal = cell, state, temp_c, isothermal
        self.wanted, self.taken = wanted, 0
        self.now_s = 0.0
        self.samples: list[tuple[FloatArray, FloatArray, FloatArray, FloatArray, FloatArray]] = []
        self.ends: list[StepEnd] = []

    def do(self, step: Step, first: bool) -> bool:
        """Do one step; return whether the run goes on."""
        start_s, start_soc = self.now_s, self.state.soc
        energy_j = charge_c = 0.0
        if self.isothermal:
            self.temp_c = step.ambient_c
        if self.wanted is None:
            self._sample(step, self._loaded(step), np.zeros(1), self.temp_c)
        elif first:
            at_start = int(np.searchsorted(self.wanted, 0.0, side="right"))
            self._sample(step, self._loaded(step), np.zeros(at_start), self.temp_c)
            self.taken = at_start
        length_s = min(step.until_t_s if math.isfinite(step.until_t_s) else _STEP_MAX_S, _STEP_MAX_S)
        end_s = start_s + length_s
        stop = Stop.TIME
        while stop == Stop.TIME and self.now_s < end_s:
            part = self._loaded(step)
            span = min(end_s - self.now_s, self._substep_s(step, part))
            moved = _move(step, part, self.state, span)
            done_s = float(moved.elapsed_s[0])
            stop = Stop(int(moved.stop[0]))
            mean_w = float(mean_heat_w(part, self.state, moved)[0])
            self._sample_within(step, part, done_s, mean_w, last=stop != Stop.TIME or self.now_s + span >= end_s)
            if not self.isothermal:
                self.temp_c = float(temperature_c(self.cell, self.temp_c, mean_w, step.ambient_c, done_s))
            charge_c += _charge_c(self.cell, part, self.state, moved)
            energy_j += float(moved.terminal_j[0])
            self.state = moved.state
            # Sums of substeps would drift from the step's own end.
            self.now_s = end_s if stop == Stop.TIME and span == end_s - self.now_s else self.now_s + done_s
        rising = bool(self.state.soc[0] > start_soc[0]) or step.value < 0.0
        reason, goes_on = _reason(step, self.cell, stop, rising)
        self.ends.append(StepEnd(start_s, self.now_s, reason, energy_j / 3600.0, charge_c / 3600.0))
        return goes_on

    def _loaded(self, step: Step) -> Circuit:
        """Return the circuit at the temperature now, with R0 where its curve is for the step's load now."""
        part = circuit(self.cell, self.temp_c)
        knee_v = self.cell.r0_knee_v
        if knee_v is None:
            return part
        small_ohm, source = resistances_ohm(part, self.state.soc)[0], source_v(part, self.state)
        if step.mode == "cv":
            return with_knee(part, knee_v * np.sinh(np.clip((source - step.value) / knee_v, -_STEEP, _STEEP)))
        loaded = part
        for _ in range(_KNEE_ROUNDS if step.mode == "cp" else 1):
            loaded = with_knee(part, small_ohm * _current(step, loaded, self.state))
        return loaded

    def result(self) -> Run:
        """Return the course."""
        t_s, v_v, i_a, soc, temp_c = (np.concatenate(columns) for columns in zip(*self.samples, strict=True))
        if self.wanted is not None:
            late = np.full(self.wanted.size - t_s.size, np.nan)
            t_s = self.wanted.copy()
            v_v, i_a, soc, temp_c = (np.concatenate([column, late]) for column in (v_v, i_a, soc, temp_c))
        energy, charge = (sum(getattr(end, name) for end in self.ends) for name in ("energy_wh", "charge_ah"))
        ends = tuple(self.ends)
        return Run(t_s, v_v, i_a, soc, temp_c, ends, energy, charge, self.now_s, self.temp_c, self.state)

    def _substep_s(self, step: Step, part: Circuit) -> float:
        """Return a substep over which the temperature moves by about 0.1 K."""
        if self.isothermal:
            return _STEP_MAX_S
        made_w = float(heat_now_w(part, self.state, _current(step, part, self.state))[0])
        flow_w = made_w - self.cell.cooling_w_per_k * (self.temp_c - step.ambient_c)
        still_s = _SUBSTEP_K * self.cell.heat_j_per_k / max(abs(flow_w), 1e-12)
        return min(max(still_s, _SUBSTEP_MIN_S), _SUBSTEP_MAX_S)

    def _sample_within(self, step: Step, part: Circuit, done_s: float, mean_w: float, last: bool) -> None:
        if self.wanted is None:
            first = math.floor(self.now_s / _DEFAULT_GRID_S) + 1
            grid = np.arange(first, math.floor((self.now_s + done_s) / _DEFAULT_GRID_S) + 1) * _DEFAULT_GRID_S
            offsets = np.clip(grid - self.now_s, 0.0, done_s)
            if last and (not offsets.size or offsets[-1] < done_s):
                offsets = np.append(offsets, done_s)
        else:
            until = int(np.searchsorted(self.wanted, self.now_s + done_s, side="right"))
            offsets = np.clip(self.wanted[self.taken : until] - self.now_s, 0.0, done_s)
            self.taken = max(self.taken, until)
        if offsets.size:
            if self.isothermal:
                temps = np.full(offsets.size, self.temp_c)
            else:
                temps = temperature_c(self.cell, self.temp_c, mean_w, step.ambient_c, offsets)
            self._sample(step, part, offsets, temps)

    def _sample(self, step: Step, part: Circuit, offsets: FloatArray, temps: ArrayLike) -> None:
        """Note the state at times from now, each computed from the present state; no condition ends it."""
        count = offsets.size
        if not count:
            return
        many = part.take(np.zeros(count, dtype=np.int64))
        state = self.state.take(np.zeros(count, dtype=np.int64))
        if offsets.any():
            state = _move(step, many, state, offsets, watched=False).state
        current = np.broadcast_to(_current(step, many, state), (count,))
        volts = terminal_v(many, state, current)
        temp = np.broadcast_to(np.asarray(temps, dtype=np.float64), (count,))
        self.samples.append((self.now_s + offsets, volts, current, state.soc, temp))


def _move(step: Step, part: Circuit, state: State, dt_s: ArrayLike, watched: bool = True) -> Moved:
    """Move rows by the step's law; `watched` lets its conditions end it."""
    cell, value = part.cell, step.value
    if step.mode == "cv":
        end_a = step.until_i_a
        if not math.isfinite(end_a):
            end_a = 0.0 if math.isfinite(step.until_t_s) else cell.cutoff_c_rate * cell.capacity_ah
        return constant_voltage(part, state, value, dt_s, end_a if watched else 0.0)
    low, high = _levels(step, cell, source_v(part, state)) if watched else (-math.inf, math.inf)
    if step.mode == "cp" and value != 0.0:
        return constant_power(part, state, value, dt_s, max(low, 0.0), high)
    return constant_current(part, state, value if step.mode == "cc" else 0.0, dt_s, low, high)


def _levels(step: Step, cell: Cell, source: FloatArray) -> tuple[float, float]:
    """Return the voltages below and above which the step ends: its own condition and the cell's limits."""
    until = step.until_v_v
    if step.mode == "rest" or step.value == 0.0:
        falling = float(source[0]) >= until
        return (until, math.inf) if falling else (-math.inf, until if math.isfinite(until) else math.inf)
    levels = [until] if math.isfinite(until) else []
    if step.mode == "cp" and step.until_i_a > 0.0:
        levels.append(abs(step.value) / step.until_i_a)
    if step.value > 0.0:
        return max([cell.v_min, *levels]), math.inf
    return -math.inf, min([cell.v_max, *levels])


def _current(step: Step, part: Circuit, state: State) -> FloatArray:
    """Return the current at the terminals now, A."""
    if step.mode == "cc":
        return np.full(state.soc.shape, step.value)
    if step.mode == "rest" or (step.mode == "cp" and step.value == 0.0):
        return np.zeros(state.soc.shape)
    source, r0_ohm = source_v(part, state), resistances_ohm(part, state.soc)[0]
    if step.mode == "cv":
        return np.asarray((source - step.value) / r0_ohm)
    return current_for_power(source, r0_ohm, np.full(state.soc.shape, step.value))


def _charge_c(cell: Cell, part: Circuit, before: State, moved: Moved) -> float:
    """Return the charge out of the terminals, coulomb: more goes in than the cell keeps."""
    gone = float((part.charge_c * (before.soc - moved.state.soc))[0])
    return gone if gone > 0.0 else gone / cell.coulomb_efficiency


def _reason(step: Step, cell: Cell, stop: Stop, rising: bool) -> tuple[str, bool]:
    """Return why a step ended, in words, and whether the run goes on after it."""
    if stop == Stop.POWER:
        return "brown-out", False
    if stop == Stop.SOC:
        return "soc", rising
    if stop == Stop.V_LOW and step.mode in ("cc", "cp") and step.value > 0.0:
        own = max(step.until_v_v if math.isfinite(step.until_v_v) else 0.0, _by_current(step))
        return ("voltage", True) if own >= cell.v_min else ("v_min", False)
    if stop == Stop.V_HIGH and step.mode in ("cc", "cp"):
        own = min(step.until_v_v if math.isfinite(step.until_v_v) else math.inf, _by_current(step) or math.inf)
        return ("voltage" if own <= cell.v_max else "v_max"), True
    return {Stop.TIME: "time", Stop.CURRENT: "current"}.get(stop, "voltage"), True


def _by_current(step: Step) -> float:
    return abs(step.value) / step.until_i_a if step.mode == "cp" and step.until_i_a > 0.0 else 0.0
