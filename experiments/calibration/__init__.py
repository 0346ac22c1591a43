"""Calibrations of the physical laws, a module each: ``add_arguments(parser)`` and ``run(options) -> Outcome``."""

from __future__ import annotations

from typing import Any, NamedTuple


class Outcome(NamedTuple):
    """What a calibration or a validation found, as plain data and as text for people.

    ``failed`` says that a part of it did not come through; the command's exit code does, too.
    """

    plain: dict[str, Any]
    text: str
    failed: bool = False
