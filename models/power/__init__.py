"""What a device draws: the compact law of the fleet, and the parts that it stands for."""

from models.power.compact import Compact, compact
from models.power.cores import Cluster, core_current_ma
from models.power.draw import SPEED_EXPONENT, Draw, draw_w, leak_slope_w_per_k, leak_w, sustained_speed
from models.power.parts import PLATFORMS, accelerator_w, cpu_w, dynamic_w, memory_w, screen_w

__all__ = [
    "PLATFORMS",
    "SPEED_EXPONENT",
    "Cluster",
    "Compact",
    "Draw",
    "accelerator_w",
    "compact",
    "core_current_ma",
    "cpu_w",
    "draw_w",
    "dynamic_w",
    "leak_slope_w_per_k",
    "leak_w",
    "memory_w",
    "screen_w",
    "sustained_speed",
]
