"""A calibrated cell as a file: the cell itself, how well it fits, and what it was made from.

JSON, so that people can read it; `load_cell` gives the cell back or says in one line what is wrong with the file.
"""

from __future__ import annotations

import hashlib
import json
import platform
from pathlib import Path
from typing import Any

import msgspec

from experiments.compose import UsageError
from experiments.whole import write_whole
from models.battery.cell import PAIRS_LEAST, PAIRS_MOST, Cell

FORMAT = 1
KIND = "battery cell"


class StoredCell(msgspec.Struct, forbid_unknown_fields=True):
    """The file.

    Attributes:
        format, kind: what the file is; another format is refused.
        cell: the parameters.
        fit: errors of the fit, the choice of the number of pairs, standard errors.
        provenance: input files with their SHA-256, versions, options.
    """

    format: int
    kind: str
    cell: Cell
    fit: dict[str, Any]
    provenance: dict[str, Any]


def save_cell(path: Path, cell: Cell, fit: dict[str, Any], provenance: dict[str, Any]) -> None:
    """Write a calibrated cell; whoever reads the path sees the old file or the new one.

    Raises:
        UsageError: the file cannot be written.
    """
    stored = msgspec.to_builtins(StoredCell(FORMAT, KIND, cell, fit, provenance))
    write_whole(path, json.dumps(stored, indent=1, allow_nan=False) + "\n")


def load_cell(path: Path | str) -> Cell:
    """Return the cell of a file that `twin calibrate battery` wrote.

    Raises:
        UsageError: unreadable, another format, a field missing, or a number that cannot be (NaN, a falling table, a
            negative resistance, a charge outside 0..1, other than two or three pairs, fastest first); one line.
    """
    return load_stored(path).cell


def load_stored(path: Path | str) -> StoredCell:
    """Return the whole file; errors as `load_cell`."""
    try:
        plain = json.loads(Path(path).read_text())
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"{path}: is not JSON: {error}") from None
    if not isinstance(plain, dict) or plain.get("kind") != KIND:
        raise UsageError(f"{path}: is not a calibrated cell; `twin calibrate battery` writes one")
    if plain.get("format") != FORMAT:
        raise UsageError(f"{path}: format is {plain.get('format')}; allowed: {FORMAT}, calibrate again")
    try:
        stored = msgspec.convert(plain, StoredCell)
    except msgspec.ValidationError as error:
        raise UsageError(f"{path}: {' '.join(str(error).split())}") from None
    found = len(stored.cell.pairs)
    if found < PAIRS_LEAST:
        allowed = f"{PAIRS_LEAST} or {PAIRS_MOST}, fastest first"
        raise UsageError(f"{path}: cell {stored.cell.name!r}: pairs has {found}; allowed: {allowed}")
    return stored


def file_digests(paths: dict[str, Path]) -> dict[str, dict[str, str]]:
    """Return ``{role: {file name, SHA-256}}``; names only, as paths differ between machines."""
    return {
        role: {"file": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        for role, path in paths.items()
    }


def software() -> dict[str, str]:
    """Return the versions that a fit depends on."""
    import importlib.metadata

    names = ("villagetwin", "jax", "numpy", "scipy")
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return {"python": platform.python_version(), **found}
