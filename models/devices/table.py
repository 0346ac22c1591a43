"""Rows of the library as structs of arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from models.arrays import BoolArray, FloatArray, IntArray
from models.devices.kinds import KINDS
from models.devices.rows import DEVICES, LIBRARY, NO_PACK, DeviceRow
from models.inference import Device

# Share of the bandwidth reached when reading the cache: 0.1 to 0.6 fitted on llama.cpp without flash
# attention; one value for all devices is an assumption.
ETA_KV = 0.35

KIND_NAMES = tuple(KINDS)
PACK_NAMES = ("phone", "tablet", "laptop", NO_PACK)


@dataclass(frozen=True)
class Table:
    """The same rows as a struct of arrays; row i of every array is device i."""

    name: tuple[str, ...]
    kind: tuple[str, ...]
    mem_bytes_per_s: FloatArray
    flops: FloatArray
    ram_bytes: IntArray
    battery_wh: FloatArray
    peak_w: FloatArray
    sustained_w: FloatArray
    idle_w: FloatArray
    eta: FloatArray
    mu: FloatArray
    overhead_s_layer: FloatArray
    cores: IntArray
    has_gpu: BoolArray


class Columns(NamedTuple):
    """What a large fleet needs of its devices, arrays of one element a device.

    Attributes:
        row: number of the device in `LIBRARY`.
        kind: number in `KIND_NAMES`.
        pack: number in `PACK_NAMES`.
        idle_w, sustained_w, peak_w, screen_w, charger_w, exponent, leak_w_per_k, battery_wh: as in `DeviceRow`.
        trip_c, hysteresis_k, levels, cells_in_series: of its kind.
        mem_bytes_per_s, flops, ram_bytes, eta, mu, overhead_s_layer, cores, has_gpu, year: as in `DeviceRow`.
    """

    row: IntArray
    kind: IntArray
    pack: IntArray
    idle_w: FloatArray
    sustained_w: FloatArray
    peak_w: FloatArray
    screen_w: FloatArray
    charger_w: FloatArray
    exponent: FloatArray
    leak_w_per_k: FloatArray
    battery_wh: FloatArray
    trip_c: FloatArray
    hysteresis_k: FloatArray
    levels: IntArray
    cells_in_series: IntArray
    mem_bytes_per_s: FloatArray
    flops: FloatArray
    ram_bytes: IntArray
    eta: FloatArray
    mu: FloatArray
    overhead_s_layer: FloatArray
    cores: IntArray
    has_gpu: BoolArray
    year: IntArray


def table(rows: tuple[DeviceRow, ...] = DEVICES) -> Table:
    """Return rows as a struct of arrays; index its arrays with drawn row numbers to make a fleet."""

    def floats(field: str) -> npt.NDArray[np.float64]:
        return np.array([getattr(row, field) for row in rows], dtype=np.float64)

    return Table(
        name=tuple(row.name for row in rows),
        kind=tuple(row.kind for row in rows),
        mem_bytes_per_s=floats("mem_bytes_per_s"),
        flops=floats("flops"),
        ram_bytes=np.array([row.ram_bytes for row in rows], dtype=np.int64),
        battery_wh=floats("battery_wh"),
        peak_w=floats("peak_w"),
        sustained_w=floats("sustained_w"),
        idle_w=floats("idle_w"),
        eta=floats("eta"),
        mu=floats("mu"),
        overhead_s_layer=floats("overhead_s_layer"),
        cores=np.array([row.cores for row in rows], dtype=np.int64),
        has_gpu=np.array([row.has_gpu for row in rows], dtype=np.bool_),
    )


def columns(rows: npt.ArrayLike) -> Columns:
    """Gather the columns of these devices.

    Args:
        rows: numbers in `LIBRARY`, shape (n,), e.g. from `models.devices.draw_mix`.

    Raises:
        ValueError: a number is not in the library.
    """
    which = np.asarray(rows, dtype=np.int64)
    if which.size and not (which.min() >= 0 and which.max() < len(LIBRARY)):
        raise ValueError(f"row {which.min()}..{which.max()} is not in the library; allowed: 0 to {len(LIBRARY) - 1}")
    special = {
        "row": which,
        "kind": np.array([KIND_NAMES.index(row.kind) for row in LIBRARY])[which],
        "pack": np.array([PACK_NAMES.index(row.pack) for row in LIBRARY])[which],
    }
    of_kind = {"trip_c", "hysteresis_k", "levels", "cells_in_series"}
    gathered = {
        field: np.array([getattr(KINDS[row.kind] if field in of_kind else row, field) for row in LIBRARY])[which]
        for field in Columns._fields
        if field not in special
    }
    return Columns(**special, **gathered)


def compute(devices: Table | Columns) -> Device:
    """Return what the inference law needs of these devices, as arrays."""
    return Device(
        mem_bytes_per_s=devices.mem_bytes_per_s,
        flops=devices.flops,
        eta=devices.eta,
        eta_kv=ETA_KV,
        mu=devices.mu,
        overhead_s_layer=devices.overhead_s_layer,
        overhead_s_step=0.0,
    )
