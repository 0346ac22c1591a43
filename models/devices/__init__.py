"""Real devices as rows of numbers, what goes with each kind of device, and populations of them."""

from models.devices.kinds import KINDS, Kind
from models.devices.mixes import MIXES, Mix, draw_mix, mix_of, weights
from models.devices.rows import DEVICES, FAMILIES, LIBRARY, TIERS, DeviceRow, by_kind, find, find_index
from models.devices.table import ETA_KV, KIND_NAMES, PACK_NAMES, Columns, Table, columns, compute, table

__all__ = [
    "DEVICES",
    "ETA_KV",
    "FAMILIES",
    "KINDS",
    "KIND_NAMES",
    "LIBRARY",
    "MIXES",
    "PACK_NAMES",
    "TIERS",
    "Columns",
    "DeviceRow",
    "Kind",
    "Mix",
    "Table",
    "by_kind",
    "columns",
    "compute",
    "draw_mix",
    "find",
    "find_index",
    "mix_of",
    "table",
    "weights",
]
