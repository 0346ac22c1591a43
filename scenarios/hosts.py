"""Machines of one host: what a local run's processes are, told the same to both worlds.

All workers are processes of this machine: they have the same capability, reach one another over loopback, and share its
cores. The numbers come from a profile (`twin calibrate executor`), or are assumptions without one.
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
NODE_MEMORY_BYTES = 36 << 20
"""What a process offers, of which harvest lends a share: an assumption, set so small that desk-tiny must be cut over
three processes, as a large model must be over real desks."""

AUTO = "auto"
"""A scenario's profile that the command line replaces by a measured one; where nobody does, as in Python, it means
the assumed numbers, so that no import or notebook cell starts a measurement."""

PROFILE_FIELDS = (
    "decode_s_step", "decode_s_layer", "decode_s_head", "prefill_s_step", "prefill_s_token_layer", "prefill_s_head",
)  # fmt: skip
"""The executor alone, called in a tight loop (`real_backends.executors.calibration`)."""
HOST_FIELDS = ("hop_s", "step_overhead_s", "session_s", "fsync_s", "client_s", "cores")
"""The machine around it (`real_backends.host_probe`): ``hop_s``, from the end of one stage's step to the begin of the
next one's; ``step_overhead_s``, what a step takes longer there than in a tight loop; ``session_s``, opening a session
beside the steps and hops of its first token; ``fsync_s``, one commit of the record log; ``client_s``, one way of a
message between two processes; ``cores`` that all processes share."""

UNMEASURED: Mapping[str, Any] = {
    **dict(zip(PROFILE_FIELDS, (2e-4, 2e-4, 1e-4, 2e-4, 2e-5, 1e-4), strict=True)),
    **dict(zip(HOST_FIELDS, (5e-4, 0.0, 2e-3, 2e-3, 1e-4, 4), strict=True)),
}
"""Assumption for runs without a profile. Executor: order of desk-tiny in torch on one laptop core. Hop: two thread
hand-offs, one TLS frame and two wake-ups of an event loop, about 0.1 ms each. Session: caches to allocate, order of a
few steps. Commit: consumer NVMe (etcd's guide asks for p99 below 10 ms). Message: one wake-up. Cores: a small
laptop's."""


def read_profile(path: str) -> Mapping[str, Any]:
    """Return a profile; the unmeasured one for an empty path or `AUTO`.

    Raises:
        ScenarioError: it cannot be read, or lacks a field.
    """
    if path in ("", AUTO):
        return UNMEASURED
    try:
        profile: dict[str, Any] = json.loads(Path(path).read_text())
        for name in (*PROFILE_FIELDS, *HOST_FIELDS):
            if not float(profile[name]) >= 0 or (name == "cores" and int(profile[name]) < 1):
                least = "1" if name == "cores" else "0"
                raise ScenarioError(f"profile={path!r}: {name}={profile[name]}: must be at least {least}")
    except ScenarioError:
        raise
    except (OSError, ValueError, TypeError) as error:
        raise ScenarioError(f"profile={path!r}: cannot be read: {error}") from None
    except KeyError as error:
        lacks = error.args[0]
        raise ScenarioError(f"profile={path!r}: lacks {lacks!r}; make one with: twin calibrate executor") from None
    return profile


def profile_hash(profile: Mapping[str, Any]) -> str:
    """Return the hash a manifest names a profile by; ``assumed`` for numbers that nobody measured."""
    return str(profile.get("hash") or "assumed")


def capability(profile: Mapping[str, Any]) -> Capability:
    """Return what one process offers. A planner adds both ends' delays, so each end states half a hop."""
    return Capability(
        memory_bytes=NODE_MEMORY_BYTES,
        layer_s=float(profile["decode_s_layer"]),
        step_s=float(profile["decode_s_step"]) + float(profile["step_overhead_s"]),
        prefill_s_token_layer=float(profile["prefill_s_token_layer"]),
        bytes_per_s=LOOPBACK_BYTES_PER_S,
        one_way_s=float(profile["hop_s"]) / 2,
    )
