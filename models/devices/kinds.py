"""What the devices of a kind share: screen, charger, battery, trips."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kind:
    """What the devices of a kind share.

    Attributes:
        screen_w: screen at its usual brightness.
        charger_w: what the plug gives; for a device on mains, enough for any of the kind.
        trip_c, hysteresis_k, levels: of the step-wise governor in `models.thermal`.
        cells_in_series: of the battery.
    """

    screen_w: float
    charger_w: float
    trip_c: float
    hysteresis_k: float
    levels: int
    cells_in_series: int


# Screens: AOSP power profiles give 0.4-1.9 W for phones; tablets by area, laptops 2-5 W, a desktop's monitor
# is not its own draw. Chargers: phones take 5-25 W; the rest are the usual power bricks (assumption). Trips:
# kernel device trees control phones at 58-95 C, 60 is taken so that a phone at its sustained power stays
# below it up to about 30 C of ambient; 95 C lies 5 K under the 100 C limit of Intel and AMD laptop chips;
# NVIDIA boards aim at 83 C. Eight levels and 3 K are assumptions (the 3 K are Android's ladder of thermal
# states).
KINDS = {
    "phone": Kind(1.0, 18.0, 60.0, 3.0, 8, 1),
    "tablet": Kind(2.5, 30.0, 65.0, 3.0, 8, 1),
    "laptop": Kind(3.5, 65.0, 95.0, 3.0, 8, 3),
    "desktop": Kind(0.0, 500.0, 95.0, 3.0, 8, 1),
    "gpu_box": Kind(0.0, 1500.0, 83.0, 3.0, 8, 1),
}
