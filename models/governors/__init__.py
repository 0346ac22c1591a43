"""Thermal governors, below any policy: what the kernel makes of a hot die, in samples and in closed form."""

from __future__ import annotations

from models.governors.speed import power_of_speed, speed_of_level, speed_of_power

__all__ = ["power_of_speed", "speed_of_level", "speed_of_power"]
