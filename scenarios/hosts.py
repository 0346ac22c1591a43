"""Machines of one host: what a local run's processes are, told the same to both worlds.

All workers are processes of this machine: they have the same capability, reach one another over loopback, and share its
cores, unless the scenario shapes them (`scenarios.schema.Shaped`): a pacing factor, a memory cap, a slower link. The
numbers come from a profile (`twin calibrate executor`), or are assumptions without one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from models.inference import SHAPES, Shape
from policies.work import Capability
from scenarios.schema import ScenarioError, Shaped

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
HOST_FIELDS = (
    "hop_s", "step_overhead_s", "session_s", "fsync_s", "client_s", "blob_s", "input_s", "plan_s", "cores",
)  # fmt: skip
"""The machine around it (`real_backends.host_probe`): ``hop_s``, from the end of one stage's step to the begin of the
next one's; ``step_overhead_s``, what a step takes longer there than in a tight loop; ``session_s``, opening a session
beside the steps and hops of its first token; ``fsync_s``, one commit of the record log; ``client_s``, one way of a
message between two processes; ``blob_s``, what fetching a prompt or an answer from another process takes beside its two
messages; ``input_s``, a node's step on one input, its policies and their effects; ``plan_s``, planning for a village of
desks; ``cores`` that all processes share."""

SIGNATURE_FIELDS = ("sign_s", "verify_s")
"""What a node works for an Ed25519 signature, and to verify one. Profiles of before they were measured lack them; there
the twin charges `sim.world.SIGNATURE_NS` for either."""

START_FIELDS = ("start_s", "weights_s", "load_bytes_per_s", "warm_s", "warm_again_s")
"""A process that begins (`real_backends.readiness`): ``start_s``, from its launch until its framework is there;
``weights_s``, drawing desk-tiny's weights; ``load_bytes_per_s``, from files to a shard in memory; ``warm_s``, each size
that is warmed, beside its step; ``warm_again_s``, the same where programs were compiled before."""

UNMEASURED: Mapping[str, Any] = {
    **dict(zip(PROFILE_FIELDS, (2e-4, 2e-4, 1e-4, 2e-4, 2e-5, 1e-4), strict=True)),
    **dict(zip(HOST_FIELDS, (5e-4, 0.0, 2e-3, 2e-3, 1e-4, 0.0, 2e-5, 0.5, 4), strict=True)),
    **dict(zip(START_FIELDS, (0.0, 0.0, 1e9, 0.0, 0.0), strict=True)),
}
"""Assumption for runs without a profile. Executor: order of desk-tiny in torch on one laptop core. Hop: two thread
hand-offs, one TLS frame and two wake-ups of an event loop, about 0.1 ms each. Session: caches to allocate, order of a
few steps. Commit: consumer NVMe (etcd's guide asks for p99 below 10 ms). Message: one wake-up. Blob: two small
files. Input: what it takes in a tight loop (`sim.world.StepCost`). Plan: far above any that
was seen. Cores: a small laptop's. Start: none, a process is there at once; it reads as NVMe does."""


PACED: Mapping[str, float] = dict(zip(PROFILE_FIELDS, (1e-3, 2e-3, 1e-3, 2e-3, 1e-4, 1e-3), strict=True))
"""Assumption for workers that only hold their time (executor=paced). A layer: one of a 7B model in 4 bits (3.56 GiB in
32 layers, llama.cpp's table of Llama 2 7B Q4_0) read at a laptop's 60 GB/s. Far above a hop, so that queues show."""


class StepLaw(NamedTuple):
    """What the steps of a serial executor take, by the fields of a profile, seconds.

    ``step_overhead_s`` is added to each step whatever its size: it is what a step among hops takes longer than in the
    tight loop that gave the other fields.
    """

    decode_s_step: float
    decode_s_layer: float
    decode_s_head: float
    prefill_s_step: float
    prefill_s_token_layer: float
    prefill_s_head: float
    step_overhead_s: float = 0.0

    def step_s(self, layers: int, last: bool, tokens: int) -> float:
        """Return the seconds of one step of ``tokens`` new tokens over ``layers``; ``last`` holds the head."""
        if tokens == 1:
            return self.decode_s_step + layers * self.decode_s_layer + self.decode_s_head * last
        return self.prefill_s_step + layers * tokens * self.prefill_s_token_layer + self.prefill_s_head * last

    def batch_s(self, layers: int, last: bool, tokens: Sequence[int]) -> float:
        """Return the seconds of one step of several sessions, each with so many new tokens.

        Assumption: an executor joins the rows of all into one matrix (torch does), so that a row beside the first costs
        in each layer what one of a prompt does. Attention to longer contexts, and a head for each, are left out.
        """
        rows = sum(tokens)
        if len(tokens) == 1 or max(tokens) > 1:
            return self.step_s(layers, last, rows)
        return self.step_s(layers, last, 1) + (rows - 1) * layers * self.prefill_s_token_layer


def of_model(law: StepLaw, measured: Shape, shape: Shape) -> StepLaw:
    """Return the law of another model than the one that was measured.

    ASSUMPTION: a layer takes time as its bytes do, and so does the head; what a step takes beside them stays.
    """
    layer, head = shape.layer_bytes() / measured.layer_bytes(), shape.head_bytes() / measured.head_bytes()
    return law._replace(
        decode_s_layer=law.decode_s_layer * layer, decode_s_head=law.decode_s_head * head,
        prefill_s_token_layer=law.prefill_s_token_layer * layer, prefill_s_head=law.prefill_s_head * head,
    )  # fmt: skip


def step_law(profile: Mapping[str, Any]) -> StepLaw:
    """Return the law of a profile, or of an executor alone, which has no overhead of a host."""
    return StepLaw(**{name: float(profile.get(name, 0.0)) for name in (*PROFILE_FIELDS, "step_overhead_s")})


class Ways:
    """When a frame arrives over shaped links: a delay at either end, and a rate that the sender's frames queue for.

    A frame goes at the slower end's rate. The same object serves the real transport and the twin's sessions.

    Args:
        shaped: shapes by node; who is not there has a link of no delay and no limit.
    """

    def __init__(self, shaped: Mapping[str, Shaped]) -> None:
        self._shaped = {name: shape for name, shape in shaped.items() if shape.one_way_s or shape.bytes_per_s}
        self._free_s: dict[str, float] = {}

    def delay_s(self, now_s: float, source: str, target: str, size_bytes: float) -> float:
        """Return after how long a frame that is sent now arrives later than over loopback alone."""
        ends = [shape for name in (source, target) if (shape := self._shaped.get(name)) is not None]
        if not ends or source == target:
            return 0.0
        rates = [shape.bytes_per_s for shape in ends if shape.bytes_per_s]
        gone_s = now_s
        if rates:
            gone_s = max(now_s, self._free_s.get(source, 0.0)) + size_bytes / min(rates)
            self._free_s[source] = gone_s
        return gone_s - now_s + sum(shape.one_way_s for shape in ends)


def read_profile(path: str) -> Mapping[str, Any]:
    """Return a profile; the unmeasured one for an empty path or `AUTO`.

    Raises:
        ScenarioError: it cannot be read, or lacks a field.
    """
    if path in ("", AUTO):
        return UNMEASURED
    try:
        profile: dict[str, Any] = json.loads(Path(path).read_text())
        if not isinstance(profile, dict):
            raise ScenarioError(f"profile={path!r}: is no profile; make one with: twin calibrate executor")
        signatures = SIGNATURE_FIELDS if any(name in profile for name in SIGNATURE_FIELDS) else ()
        for name in (*PROFILE_FIELDS, *HOST_FIELDS, *START_FIELDS, *signatures):
            least = "1" if name in ("cores", "load_bytes_per_s") else "0"
            if not float(least) <= float(profile[name]) < math.inf:
                raise ScenarioError(f"profile={path!r}: {name}={profile[name]}: must be at least {least}, and finite")
    except ScenarioError:
        raise
    except (OSError, ValueError, TypeError) as error:
        raise ScenarioError(f"profile={path!r}: cannot be read: {error}") from None
    except KeyError as error:
        lacks = error.args[0]
        raise ScenarioError(f"profile={path!r}: lacks {lacks!r}; make one with: twin calibrate executor") from None
    return profile


def signatures(profile: Mapping[str, Any]) -> str:
    """Return where the cost of signatures is from, as a manifest says it: ``measured``, or ``assumed``."""
    return "measured" if all(name in profile for name in SIGNATURE_FIELDS) else "assumed"


def profile_hash(profile: Mapping[str, Any]) -> str:
    """Return the hash a manifest names a profile by; ``assumed`` for numbers that nobody measured."""
    return str(profile.get("hash") or "assumed")


def flops(profile: Mapping[str, Any], shape: Shaped = Shaped()) -> float:  # noqa: B008  (it is frozen)
    """Return what one process's chip computes, FLOP/s; 0 where nobody measured it, as of paced workers.

    It is what the executor reached in prompts, two operations a weight and token, and so a lower bound of the peak that
    a data sheet has.
    """
    measured, layer_s = SHAPES.get(str(profile.get("spec"))), shape.pacing * float(profile["prefill_s_token_layer"])
    if measured is None or "prefill_fit_error" not in profile or not layer_s:  # an assumed law was not fitted
        return 0.0
    return 2.0 * measured.active_params() / layer_s


def capability(profile: Mapping[str, Any], shape: Shaped = Shaped()) -> Capability:  # noqa: B008  (it is frozen)
    """Return what one process offers. A planner adds both ends' delays, so each end states half a hop."""
    return Capability(
        memory_bytes=shape.memory_bytes or NODE_MEMORY_BYTES,
        layer_s=shape.pacing * float(profile["decode_s_layer"]),
        step_s=shape.pacing * (float(profile["decode_s_step"]) + float(profile["step_overhead_s"])),
        prefill_s_token_layer=shape.pacing * float(profile["prefill_s_token_layer"]),
        bytes_per_s=min(LOOPBACK_BYTES_PER_S, shape.bytes_per_s or LOOPBACK_BYTES_PER_S),
        one_way_s=float(profile["hop_s"]) / 2 + shape.one_way_s,
    )
