"""Batteries: cells and packs as parameters, the laws that advance them, and their ageing.

`cell` and `packs` are numbers; `circuit` and what builds on it (`constant_current`, `constant_voltage`,
`constant_power`, `charging`, `protocol`) is the reference law of one pack or many; `reading` is its form for fleets;
`kibam` is the light alternative; `ageing` is what years do.
"""

from models.battery.cell import Cell, Pair

__all__ = ["Cell", "Pair"]
