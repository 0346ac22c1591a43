"""The power allocator ("intelligent power allocation") as in Linux, one sample at a time.

The rule, as in drivers/thermal/gov_power_allocator.c (6.x):

* Below the switch-on temperature: no limit, and the integral is forgotten.
* Else, with the error e = control temperature less temperature: budget = sustainable + (k_po if e < 0 else k_pu) e
  + i + k_d (e - last e) / period, clipped to 0 .. the sum of the actors' maxima. The integral i grows by k_i e a sample
  if e is below the cut-off and the grown |i| stays below the largest power.
* The budget is split in proportion to requested power; what an actor cannot take goes to the others in proportion to
  the room they have left. The kernel weighs requests and rounds to milliwatts; here weights are equal and nothing is
  rounded.

Defaults as `estimate_pid_constants`: k_po = sustainable / (control - switch-on), k_pu = 2 k_po, k_i = k_pu / 10 a
sample, k_d = 0, cut-off 0. Switch-on 68 to 70 C, control 85 C, sustainable 0.7 to 5 W, period 20 to 250 ms while
passive (device trees of rk3399, mt8173, mt8183, r8a774c0).

The derivative term is left out: k_d is 0 on every board we know. `models.governors.allocated` has the closed form.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from models.arrays import namespace
from models.thermal.network import Values

SWITCH_ON_C, CONTROL_C, PERIOD_S = 70.0, 85.0, 0.1


@dataclass(frozen=True)
class Gains:
    """Settings of one zone.

    Attributes:
        sustainable_w: power shed for ever at the control temperature, W.
        control_c, switch_on_c: last and first passive trip, C.
        k_po_w_per_k, k_pu_w_per_k: proportional gain above and below the control temperature, W/K.
        k_i_w_per_k: integral gain a sample, W/K.
        cutoff_k: error below which the integral grows, K.
        period_s: between samples, s.

    Raises:
        ValueError: a value is not finite, or out of its range.
    """

    sustainable_w: float
    control_c: float
    switch_on_c: float
    k_po_w_per_k: float
    k_pu_w_per_k: float
    k_i_w_per_k: float
    cutoff_k: float = 0.0
    period_s: float = PERIOD_S

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            if not math.isfinite(getattr(self, name)):
                raise ValueError(f"{name} is {getattr(self, name)}; allowed: finite numbers")
        for name in ("sustainable_w", "period_s"):
            if getattr(self, name) <= 0.0:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed: above 0")
        for name in ("k_po_w_per_k", "k_pu_w_per_k", "k_i_w_per_k", "cutoff_k"):
            if getattr(self, name) < 0.0:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed: from 0 up")
        if self.switch_on_c >= self.control_c:
            raise ValueError(f"switch_on_c is {self.switch_on_c}; allowed: below control_c, {self.control_c}")


def kernel_gains(
    sustainable_w: float, switch_on_c: float = SWITCH_ON_C, control_c: float = CONTROL_C, period_s: float = PERIOD_S
) -> Gains:
    """Return the gains that the kernel estimates from the sustainable power and the two trips.

    Raises:
        ValueError: as `Gains`.
    """
    if not switch_on_c < control_c:
        raise ValueError(f"switch_on_c is {switch_on_c}; allowed: below control_c, {control_c}")
    k_po = sustainable_w / (control_c - switch_on_c)
    return Gains(sustainable_w, control_c, switch_on_c, k_po, 2.0 * k_po, 0.2 * k_po, 0.0, period_s)


class Poll(NamedTuple):
    """Budget granted until the next sample, W, and the integral, W."""

    budget_w: Values
    integral_w: Values


def poll(gains: Gains, temp_c: Values, integral_w: Values, most_w: Values) -> Poll:
    """Return the budget after one sample, elementwise.

    Args:
        gains: of the zone.
        temp_c: of the zone now.
        integral_w: as returned for the sample before, 0 at first.
        most_w: sum of the actors' largest powers.
    """
    xp = namespace(temp_c, integral_w, most_w)
    error_k = gains.control_c - temp_c
    grown_w = integral_w + gains.k_i_w_per_k * error_k
    grows = (error_k < gains.cutoff_k) & (xp.abs(grown_w) < most_w)
    integral_w = xp.where(grows, grown_w, integral_w)
    gain = xp.where(error_k < 0.0, gains.k_po_w_per_k, gains.k_pu_w_per_k)
    budget_w = gains.sustainable_w + gain * error_k + integral_w
    budget_w = xp.minimum(xp.maximum(budget_w, 0.0 * most_w), most_w)
    on = temp_c >= gains.switch_on_c
    return Poll(xp.where(on, budget_w, most_w), xp.where(on, integral_w, 0.0))


def split(budget_w: Values, requested_w: Values, most_w: Values) -> Values:
    """Return what each actor is granted of a budget, W.

    Args:
        budget_w: shape (...).
        requested_w, most_w: of each actor, shape (..., actors).
    """
    xp = namespace(budget_w, requested_w, most_w)
    total_w = xp.sum(requested_w, axis=-1)[..., None]
    share = requested_w / xp.where(total_w > 0.0, total_w, 1.0)
    wished_w = share * xp.asarray(budget_w)[..., None]
    granted_w = xp.minimum(wished_w, most_w)
    spare_w = xp.sum(wished_w - granted_w, axis=-1)[..., None]
    room_w = most_w - granted_w
    all_room_w = xp.sum(room_w, axis=-1)[..., None]
    again_w = xp.minimum(spare_w, all_room_w)
    return granted_w + again_w * room_w / xp.where(all_room_w > 0.0, all_room_w, 1.0)
