"""Heat in a chain of two or three nodes (die, board with battery, skin) against ambient air, exact over any interval.

C dT/dt = -G T + P + g_a T_a, powers and ambient held. C^-1/2 G C^-1/2 is symmetric, so the chain has real decay rates
and orthogonal modes; a mode forgets by exp(-rate t). Devices of a kind differ by one factor c on all their C and one
factor g on all their G: they share the modes, their time constants scale by c / g (`time_scale`) and their rises over
ambient by 1 / g. Leakage, die power that grows with die temperature, is linear about a stated temperature and thereby
part of G; it scales with g as well (assumption: a device that sheds more holds more silicon).

The sun shines on the skin node, a battery's own heat goes into the board node. Everything but `modes` runs elementwise
under NumPy and jax.numpy; a node's value is an array over devices, a chain's state a tuple of those.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from models.arrays import FloatArray, namespace

NODES = ("die", "board", "skin")

Values = Any  # NumPy or JAX array, or a number: the laws below are elementwise in either


@dataclass(frozen=True)
class Network:
    """A chain of nodes from the die outwards.

    Attributes:
        heat_j_per_k: heat capacities, die first, two or three of them, J/K.
        links_w_per_k: conductances between neighbours, the last one to ambient, as many, W/K.

    Raises:
        ValueError: not two or three nodes, or a value that is not a finite number above 0.
    """

    heat_j_per_k: tuple[float, ...]
    links_w_per_k: tuple[float, ...]

    def __post_init__(self) -> None:
        for name in ("heat_j_per_k", "links_w_per_k"):
            values = getattr(self, name)
            if len(values) not in (2, 3):
                raise ValueError(f"{name} has {len(values)} values; allowed: 2 or 3, one a node")
            for place, value in enumerate(values):
                if not (math.isfinite(value) and value > 0.0):
                    raise ValueError(f"{name}[{place}] is {value}; allowed: finite numbers above 0")
        if len(self.heat_j_per_k) != len(self.links_w_per_k):
            raise ValueError(
                f"links_w_per_k has {len(self.links_w_per_k)} values; allowed: {len(self.heat_j_per_k)}, one a node"
            )

    @property
    def die_to_ambient_k_per_w(self) -> float:
        """What the die warms by for each watt it turns into heat for ever, K/W."""
        return sum(1.0 / link for link in self.links_w_per_k)


class Modes(NamedTuple):
    """A chain's k decay rates (1/s, fastest first) and the maps to and from modal amplitudes, shapes (k,), (k, k)."""

    rates_per_s: FloatArray
    to_modal: FloatArray
    from_modal: FloatArray


class Propagator(NamedTuple):
    """What an interval leaves of a state's distance from the steady one, at its end and on average.

    ``T_end[i] = T_ss[i] + sum_j end[i][j] (T[j] - T_ss[j])``, and the same with `mean` for the interval's mean.
    """

    end: tuple[tuple[Values, ...], ...]
    mean: tuple[tuple[Values, ...], ...]


class Warmth(NamedTuple):
    """Node temperatures at the end of an interval and their means over it, C, die first."""

    end_c: tuple[Values, ...]
    mean_c: tuple[Values, ...]


def modes(network: Network, leakage_w_per_k: float = 0.0) -> Modes:
    """Return the chain's modes, with the die's power growing by `leakage_w_per_k` for each kelvin.

    Raises:
        ValueError: the leakage is negative or not finite, or so strong that the die runs away.
    """
    if not (math.isfinite(leakage_w_per_k) and leakage_w_per_k >= 0.0):
        raise ValueError(f"leakage_w_per_k is {leakage_w_per_k}; allowed: finite numbers from 0 up")
    most = 1.0 / network.die_to_ambient_k_per_w
    if leakage_w_per_k >= most:
        raise ValueError(f"leakage_w_per_k is {leakage_w_per_k}; allowed: below {most:.6g}, above it the die runs away")
    return Modes(*decompose(np, network.heat_j_per_k, network.links_w_per_k, leakage_w_per_k))


def decompose(
    xp: Any, heat_j_per_k: Sequence[Values], links_w_per_k: Sequence[Values], leakage_w_per_k: Values = 0.0
) -> tuple[Values, Values, Values]:
    """Return `Modes` as arrays of NumPy or jax.numpy: the form through which a fit can take gradients."""
    size = len(heat_j_per_k)
    zero = 0.0 * heat_j_per_k[0]
    rows = []
    for i in range(size):
        own = links_w_per_k[i] + (links_w_per_k[i - 1] if i else -leakage_w_per_k)
        beside = {i: own, i - 1: -links_w_per_k[i - 1], i + 1: -links_w_per_k[i]}
        rows.append(xp.stack([xp.asarray(beside.get(j, zero), dtype=xp.float64) for j in range(size)]))
    root = xp.sqrt(xp.stack([xp.asarray(heat, dtype=xp.float64) for heat in heat_j_per_k]))
    rates, vectors = xp.linalg.eigh(xp.stack(rows) / (root[:, None] * root[None, :]))
    rates, vectors = rates[::-1], vectors[:, ::-1]
    return rates, vectors.T * root, vectors / root[:, None]


def propagator(modes: Modes, dt_s: Values, time_scale: Values = 1.0) -> Propagator:
    """Return what `dt_s` seconds leave of each node's distance from steady, elementwise over devices.

    Args:
        modes: of the devices' kind.
        dt_s: length of the interval, from 0 up, s.
        time_scale: c / g of the device: its time constants over its kind's.
    """
    xp = namespace(dt_s, time_scale)
    reduced_s = dt_s / time_scale
    left, average = [], []
    for rate in modes.rates_per_s.tolist():
        x = rate * reduced_s
        left.append(xp.exp(-xp.asarray(x)))
        average.append(_mean_decay(xp, xp.asarray(x)))
    return Propagator(_combine(modes, left), _combine(modes, average))


def steady_c(
    network: Network,
    powers_w: tuple[Values, ...],
    ambient_c: Values,
    conductance_scale: Values = 1.0,
    leakage_w_per_k: float = 0.0,
    leakage_from_c: Values = 0.0,
) -> tuple[Values, ...]:
    """Return the node temperatures that these powers end in, C.

    Args:
        network: of the devices' kind.
        powers_w: heat into each node, die first, W; with leakage, the die's at `leakage_from_c`.
        ambient_c: air, C.
        conductance_scale: g of the device.
        leakage_w_per_k: slope of the die's power with its temperature, of the kind (the device's is g times it); the
            same as given to `modes`.
        leakage_from_c: die temperature at which `powers_w` holds, C.
    """
    resistances = [1.0 / (link * conductance_scale) for link in network.links_w_per_k]
    outwards = list(powers_w)  # heat through the link behind each node, the die's leakage left out
    for i in range(1, len(outwards)):
        outwards[i] = outwards[i - 1] + powers_w[i]
    die_w = powers_w[0]
    if leakage_w_per_k:
        cold_c = ambient_c + sum(r * flow for r, flow in zip(resistances, outwards, strict=True))
        slope = leakage_w_per_k * conductance_scale
        gain = leakage_w_per_k * network.die_to_ambient_k_per_w
        extra_w = slope * (cold_c - leakage_from_c) / (1.0 - gain)
        outwards = [flow + extra_w for flow in outwards]
        die_w = die_w + extra_w
    temps = [ambient_c + resistances[-1] * outwards[-1]]
    for resistance, flow in zip(reversed(resistances[:-1]), reversed(outwards[:-1]), strict=True):
        temps.append(temps[-1] + resistance * flow)
    return tuple(reversed(temps))


def advance(propagator: Propagator, temps_c: tuple[Values, ...], steady_c: tuple[Values, ...]) -> Warmth:
    """Return the temperatures after the propagator's interval and their means over it, with powers and air held."""
    away = [now - then for now, then in zip(temps_c, steady_c, strict=True)]
    end, mean = (
        tuple(
            goal + sum(share * k for share, k in zip(row, away, strict=True))
            for goal, row in zip(steady_c, matrix, strict=True)
        )
        for matrix in propagator
    )
    return Warmth(end, mean)


def _combine(modes: Modes, decays: list[Values]) -> tuple[tuple[Values, ...], ...]:
    """Return from_modal diag(decays) to_modal as rows of arrays."""
    size = len(decays)
    return tuple(
        tuple(
            sum(float(modes.from_modal[i, m] * modes.to_modal[m, j]) * decays[m] for m in range(size))
            for j in range(size)
        )
        for i in range(size)
    )


def _mean_decay(xp: Any, x: Values) -> Values:
    """Return the mean of exp(-x u) for u in [0, 1]."""
    return xp.where(x > 0.0, -xp.expm1(-x) / xp.where(x > 0.0, x, 1.0), 1.0)
