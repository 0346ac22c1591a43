"""Machines of one host: what a local run's processes are, told the same to both worlds.

All workers are processes of this machine: they have the same capability, reach one another over loopback, and share its
cores. The numbers come from an executor profile (`twin calibrate executor`), or are assumptions without one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from policies.work import Capability
from scenarios.schema import ScenarioError

LOOPBACK_BYTES_PER_S = 1.0e9
"""Order of a TLS stream over loopback on one core (OpenSSL's AES-GCM runs at a few GB/s): an assumption."""
LOOPBACK_ONE_WAY_S = 50e-6
"""Order of one wake-up of an event loop: an assumption."""
NODE_MEMORY_BYTES = 36 << 20
"""What a process offers, of which harvest lends a share: an assumption, set so small that desk-tiny must be cut over
three processes, as a large model must be over real desks."""

PROFILE_FIELDS = (
    "decode_s_step", "decode_s_layer", "decode_s_head", "prefill_s_step", "prefill_s_token_layer", "prefill_s_head",
)  # fmt: skip
UNMEASURED: Mapping[str, Any] = dict(zip(PROFILE_FIELDS, (2e-4, 2e-4, 1e-4, 2e-4, 2e-5, 1e-4), strict=True))
"""Assumption for runs without a profile: order of desk-tiny in torch on one laptop core."""


def read_profile(path: str) -> Mapping[str, Any]:
    """Return an executor profile; the unmeasured one for an empty path.

    Raises:
        ScenarioError: it cannot be read, or lacks a field.
    """
    if not path:
        return UNMEASURED
    try:
        profile: dict[str, Any] = json.loads(Path(path).read_text())
        for name in PROFILE_FIELDS:
            float(profile[name])
    except (OSError, ValueError, TypeError) as error:
        raise ScenarioError(f"profile={path!r}: cannot be read: {error}") from None
    except KeyError as error:
        lacks = error.args[0]
        raise ScenarioError(f"profile={path!r}: lacks {lacks!r}; make one with: twin calibrate executor") from None
    return profile


def capability(profile: Mapping[str, Any]) -> Capability:
    """Return what one process offers."""
    return Capability(
        memory_bytes=NODE_MEMORY_BYTES,
        layer_s=float(profile["decode_s_layer"]),
        step_s=float(profile["decode_s_step"]),
        prefill_s_token_layer=float(profile["prefill_s_token_layer"]),
        bytes_per_s=LOOPBACK_BYTES_PER_S,
        one_way_s=LOOPBACK_ONE_WAY_S,
    )
