"""Calibrations of the physical laws, a module each: ``add_arguments(parser)`` and ``run(options) -> Outcome``."""

from __future__ import annotations

from typing import Any, NamedTuple


class Outcome(NamedTuple):
    """What a calibration found, as plain data and as text for people."""

    plain: dict[str, Any]
    text: str
