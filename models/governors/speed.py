"""What a governor's limit does to speed and power: levels of cooling, the power law and its inverse.

power = fixed + dynamic * speed^exponent. Between 1.3 and 2.1 by cluster in the power profiles of Pixel 1 to 8 (AOSP
power_profile.xml, current against frequency); 2 is taken unless said. Levels are even steps of speed (assumption: real
tables of operating points are close to even in frequency).
"""

from __future__ import annotations

from models.arrays import namespace
from models.thermal.network import Values


def speed_of_level(level: Values, levels: Values) -> Values:
    """Return the speed left at a cooling level: 1 at level 0, falling evenly to 1 / levels at the last."""
    return 1.0 - level / levels


def power_of_speed(speed: Values, fixed_w: Values, dynamic_w: Values, exponent: float = 2.0) -> Values:
    """Return the power drawn at a share of full speed, W.

    Args:
        speed: 0 to 1.
        fixed_w: power that no governor takes away, W.
        dynamic_w: power on top of it at full speed, W.
        exponent: of speed.
    """
    return fixed_w + dynamic_w * (speed * speed if exponent == 2.0 else speed**exponent)


def speed_of_power(power_w: Values, fixed_w: Values, dynamic_w: Values, exponent: float = 2.0) -> Values:
    """Return the speed that a power limit leaves, 0 to 1; 1 where nothing dynamic is drawn."""
    xp = namespace(power_w, fixed_w, dynamic_w)
    room = xp.where(dynamic_w > 0.0, (power_w - fixed_w) / xp.where(dynamic_w > 0.0, dynamic_w, 1.0), 1.0)
    room = xp.clip(room, 0.0, 1.0)
    return xp.sqrt(room) if exponent == 2.0 else room ** (1.0 / exponent)
