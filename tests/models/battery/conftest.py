"""Cells to test with, and the circuit's equations as SciPy's solver integrates them."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

from models.battery.cell import Cell, Pair

# Shaped like an NMC cell; numbers of no cell in particular.
OCV = (
    (0.0, 2.5), (0.02, 2.9), (0.05, 3.12), (0.1, 3.3), (0.15, 3.43), (0.2, 3.48), (0.3, 3.58), (0.4, 3.66),
    (0.5, 3.745), (0.6, 3.835), (0.7, 3.938), (0.8, 4.033), (0.9, 4.09), (0.95, 4.115), (1.0, 4.2),
)  # fmt: skip
TWO = Cell(
    name="two pairs",
    chemistry="nmc",
    source="test",
    capacity_ah=5.0,
    v_min=3.0,
    v_max=4.2,
    ocv_soc=tuple(s for s, _ in OCV),
    ocv_v=tuple(v for _, v in OCV),
    r_soc=(0.0, 0.1, 0.33, 0.5, 0.8, 1.0),
    r0_ohm=(0.09, 0.03, 0.025, 0.022, 0.022, 0.024),
    r0_activation_j_mol=20e3,
    pairs=(
        Pair(15.0, (0.06, 0.02, 0.015, 0.012, 0.012, 0.014), 30e3),
        Pair(300.0, (0.09, 0.03, 0.02, 0.016, 0.017, 0.02), 30e3),
    ),
)
THREE = replace(TWO, name="three pairs", pairs=(*TWO.pairs, Pair(1500.0, (0.06, 0.02, 0.01, 0.008, 0.008, 0.01), 25e3)))
FLAT = replace(
    TWO,
    name="same resistance at any charge",
    r_soc=(0.5,),
    r0_ohm=(0.025,),
    pairs=(Pair(15.0, (0.012,), 30e3), Pair(300.0, (0.017,), 30e3)),
)
# Shares of heat and an entropic table of no cell in particular; its sign changes, as those of cells with graphite do.
HOT = replace(
    TWO,
    name="shares of heat and entropy",
    heat_share=0.95,
    pairs=(replace(TWO.pairs[0], heat_share=0.7), replace(TWO.pairs[1], heat_share=0.1)),
    entropic_soc=(0.05, 0.3, 0.6, 0.9),
    entropic_v_per_k=(-4e-4, -1e-4, 2e-4, 1e-4),
)
BENT = replace(HOT, name="R0 bends, too", r0_knee_v=0.08)


@dataclass
class Reference:
    """A cell's differential equations: (soc, v_k, temperature), integrated at 1e-12 and restarted at every knot."""

    cell: Cell
    temp_c: float
    soc: float
    pair_v: list[float]
    t_s: float = 0.0
    terminal_j: float = 0.0

    def __post_init__(self) -> None:
        self.soc_knots = sorted({*self.cell.ocv_soc, *self.cell.r_soc, *self.cell.entropic_soc})

    def ohm(self, soc: float, temp_c: float) -> list[float]:
        cell = self.cell
        hot = 1.0 / (temp_c + 273.15) - 1.0 / 298.15
        tables = [(cell.r0_ohm, cell.r0_activation_j_mol)] + [(p.r_ohm, p.activation_j_mol) for p in cell.pairs]
        return [_line(soc, cell.r_soc, t) * math.exp(ea / 8.314462618 * hot) for t, ea in tables]

    def volts(self, mode: str, value: float, y: np.ndarray, temp_c: float) -> tuple[float, float]:
        """Return current and terminal voltage; ``charge`` takes (limit A, power W, v_max) and the least current."""
        r0, knee = self.ohm(y[0], temp_c)[0], self.cell.r0_knee_v
        source = _line(y[0], self.cell.ocv_soc, self.cell.ocv_v) - sum(y[1 : 1 + len(self.cell.pairs)])
        if knee is not None:
            return self.volts_with_knee(mode, value, source, r0, knee)
        if mode == "cc":
            amps = value
        elif mode == "cv":
            amps = (source - value) / r0
        elif mode == "cp":
            amps = 2.0 * value / (source + math.sqrt(max(source**2 - 4.0 * r0 * value, 0.0)))
        else:
            limit, power, v_max = value
            by_power = 2.0 * power / (source + math.sqrt(source**2 + 4.0 * r0 * power))
            amps = -min(limit, by_power, (v_max - source) / r0)
        return amps, source - r0 * amps

    def volts_with_knee(self, mode: str, value: float, source: float, r0: float, knee: float) -> tuple[float, float]:
        """Return current and terminal voltage where R0 takes knee asinh(R0 I / knee)."""

        def terminal(amps: float) -> float:
            return source - knee * math.asinh(r0 * amps / knee)

        if mode == "cv":
            return knee / r0 * math.sinh((source - value) / knee), value
        amps = (
            value if mode == "cc" else brentq(lambda i: i * terminal(i) - value, 0.0, 3.0 * value / source, xtol=1e-13)
        )
        return amps, terminal(amps)

    def move(
        self,
        mode: str,
        value: float,
        dt_s: float,
        until_v: float | None = None,
        until_a: float | None = None,
        ambient_c: float | None = None,
    ) -> bool:
        """Move by `dt_s` or to a voltage or current; return whether it was met. With an ambient, heat is coupled."""
        cell, pairs = self.cell, len(self.cell.pairs)
        kept = cell.coulomb_efficiency

        def rates(_: float, y: np.ndarray) -> list[float]:
            temp = y[-2]
            amps, volts = self.volts(mode, value, y, temp)
            ohm = self.ohm(y[0], temp)
            charge = cell.capacity_ah * 3600.0
            at_once = _line(y[0], cell.ocv_soc, cell.ocv_v) - sum(y[1 : 1 + pairs]) - volts
            lost = at_once + sum(pair.heat_share * y[1 + k] for k, pair in enumerate(cell.pairs))
            entropic = _line(y[0], cell.entropic_soc, cell.entropic_v_per_k) if cell.entropic_soc else 0.0
            heat = (cell.heat_share * lost - (temp + 273.15) * entropic) * amps
            lost = 0.0 if ambient_c is None else cell.cooling_w_per_k * (temp - ambient_c)
            warming = 0.0 if ambient_c is None else (heat - lost) / cell.heat_j_per_k
            moved = [(ohm[k + 1] * amps - y[1 + k]) / cell.pairs[k].tau_s for k in range(pairs)]
            return [-amps * (kept if amps < 0.0 else 1.0) / charge, *moved, warming, amps * volts]

        y = np.array([self.soc, *self.pair_v, self.temp_c, self.terminal_j])
        end = self.t_s + dt_s
        met = False
        while self.t_s < end and not met:
            events: list[Callable[..., float]] = []
            amps, _ = self.volts(mode, value, y, y[-2])
            below, above = bisect_left(self.soc_knots, y[0] - 1e-13), bisect_right(self.soc_knots, y[0] + 1e-13)
            near = below - 1 if amps > 0.0 else above
            if amps != 0.0 and 0 <= near < len(self.soc_knots):
                knot = self.soc_knots[near]
                events.append(lambda _, y, knot=knot: y[0] - knot)
            if until_v is not None:
                events.append(lambda _, y: self.volts(mode, value, y, y[-2])[1] - until_v)
            if until_a is not None:
                events.append(lambda _, y: abs(self.volts(mode, value, y, y[-2])[0]) - until_a)
            for event in events:
                event.terminal = True
            answer = solve_ivp(rates, (self.t_s, end), y, method="DOP853", rtol=1e-12, atol=1e-14, events=events)
            self.t_s, y = float(answer.t[-1]), answer.y[:, -1].copy()
            if answer.status == 1:
                at_knot = events[0].__defaults__ is not None and answer.t_events[0].size > 0
                if at_knot:
                    y[0] = knot
                met = any(times.size for times in answer.t_events[1 if events[0].__defaults__ else 0 :])
        self.soc, self.temp_c, self.terminal_j = float(y[0]), float(y[-2]), float(y[-1])
        self.pair_v = [float(v) for v in y[1 : 1 + pairs]]
        return met


def _line(at: float, knots: tuple[float, ...], values: tuple[float, ...]) -> float:
    if at <= knots[0] or len(knots) == 1:
        if len(knots) == 1 or knots[0] > 0.0:
            return values[0]
        low = 0
    elif at >= knots[-1]:
        if knots[-1] < 1.0:
            return values[-1]
        low = len(knots) - 2
    else:
        low = bisect_right(knots, at) - 1
    share = (at - knots[low]) / (knots[low + 1] - knots[low])
    return values[low] + share * (values[low + 1] - values[low])


@pytest.fixture(params=["two", "three"])
def cell(request: pytest.FixtureRequest) -> Cell:
    """A cell of two pairs, then one of three."""
    return {"two": TWO, "three": THREE}[request.param]


@pytest.fixture
def two() -> Cell:
    """A cell of two pairs whose resistances follow charge."""
    return TWO


@pytest.fixture
def hot() -> Cell:
    """A cell whose pairs make less heat than they lose, with heat of entropy."""
    return HOT


@pytest.fixture
def bent() -> Cell:
    """The same with a knee in what R0 takes."""
    return BENT


@pytest.fixture
def flat() -> Cell:
    """A cell of two pairs whose resistances do not follow charge."""
    return FLAT


@pytest.fixture
def reference() -> Callable[..., Reference]:
    """Start a reference at rest: reference(cell, temp_c, soc)."""

    def start(cell: Cell, temp_c: float, soc: float) -> Reference:
        return Reference(cell, temp_c, soc, [0.0] * len(cell.pairs))

    return start
