"""One node of the village: which policies it mounts, by path. The only module that knows every family.

Every node mounts ``harvest`` and ``worker``; members of the committee also mount ``consensus``, ``coordination`` and
``gateway``. Where the committee is re-elected, whoever may be elected mounts them from the start, and coordination has
the council's duties. With ``edge`` set every node mounts ``edge`` as well, between harvest and the worker, and those
with a gateway ``edge_watch``. Where the configuration has a failure detector every node mounts it as ``membership``: it
knows the committee from the start and others as they speak up, and a member's tells coordination. With spot checks
every node mounts ``prover``, and those with a gateway ``examiner``. A `NodeSpec` is plain data: it stands in a
journal's header, so that a replay builds the same Cell.
"""

from __future__ import annotations

from typing import Any

import msgspec

from models import inference
from policies.cell import Cell
from policies.checking import Examiner, Prover
from policies.commands import Facts, is_leaders
from policies.committee.electoral import Electoral
from policies.config import FixedConfig, NoDetectorConfig, PolicyConfig, ShardingConfig
from policies.consensus import bears_liars, convicts, replicated_log
from policies.coordination import Coordination, CouncilCoordination
from policies.council import Charter
from policies.edge import EdgeAgent, EdgeWatch
from policies.gateway import Gateway
from policies.harvest.agent import HarvestAgent
from policies.membership import failure_detector
from policies.port import Keys, Policy
from policies.problem import Problem
from policies.serving import Worker
from policies.serving.batching import BLOCK_TOKENS
from policies.serving.lanes import reserved_blocks, sessions_max
from policies.work import Capability


class NodeSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that makes one node's policies what they are.

    Attributes:
        committee: its members, or where they change, the first ones.
        candidates: who may be elected; () where nobody is.
        flops: of its chip, dense FP16 peak; 0 where it is not known.
        facts: what the node says of itself when it stands.
    """

    me: str
    peers: tuple[str, ...]
    committee: tuple[str, ...]
    seed: int
    config: PolicyConfig
    capability: Capability
    card: Problem
    smaller: tuple[Problem, ...] = ()  # models that may serve where ``card`` cannot, the best first
    reading_ns: int
    dedicated: bool = False
    has_battery: bool = True
    flops: float = 0.0
    edge: bool = False
    candidates: tuple[str, ...] = ()
    facts: Facts | None = None

    @property
    def standing(self) -> tuple[str, ...]:
        """Who keeps the log: those who may be elected, or a committee that never changes."""
        return self.candidates or self.committee


def node(spec: NodeSpec) -> dict[str, Policy]:
    """Return the policies of one node, by path."""
    config = spec.config
    checks, liars = config.coordination.spot_checks, bears_liars(config.consensus)
    policies: dict[str, Policy] = {
        "harvest": HarvestAgent(
            config.harvest,
            spec.reading_ns,
            dedicated=spec.dedicated,
            has_battery=spec.has_battery,
            flops=spec.flops,
            to="edge" if spec.edge else "worker",
        ),
        "worker": Worker(spec.committee, spec.capability, config.coordination.lease_s, liars=liars),
    }
    if spec.me in spec.standing:
        watchers = ("coordination", "gateway", *(("examiner",) if checks is not None else ()))
        policies["consensus"] = replicated_log(config.consensus, spec.committee, "coordination", watchers, is_leaders)
        # A pipeline may take more sessions than it has reserved cache for: batches admit them block by block.
        sharding = msgspec.structs.replace(config.sharding, slots=sessions_max(config.serving, config.sharding))
        policies["coordination"] = _coordination(spec, sharding)
        policies["gateway"] = Gateway(config.gateway, liars=liars)
    if checks is not None:
        policies["prover"] = Prover(spec.standing, liars=liars)
        if spec.me in spec.standing:
            policies["examiner"] = Examiner(checks)
    if not isinstance(config.membership, NoDetectorConfig):
        policies["membership"] = failure_detector(config.membership, spec.standing, ("coordination",))
    if spec.edge:
        policies["edge"] = EdgeAgent(
            config.edge, spec.committee, spec.capability.memory_bytes, spec.reading_ns,
            dedicated=spec.dedicated, has_battery=spec.has_battery,
        )  # fmt: skip
        if spec.me in spec.standing:
            policies["edge_watch"] = EdgeWatch(config.edge)
    return policies


def _coordination(spec: NodeSpec, sharding: ShardingConfig) -> Coordination:
    council, recovery = spec.config.committee, spec.config.recovery
    seats = spec.committee if bears_liars(spec.config.consensus) else ()
    kv_bytes_token_layer = spec.card.kv_bytes_layer / _reserved_tokens(spec.config.sharding)
    if isinstance(council, FixedConfig):
        return Coordination(
            spec.config.coordination, sharding, spec.card, spec.smaller,
            recovery=recovery, kv_bytes_token_layer=kv_bytes_token_layer, seats=seats,
        )  # fmt: skip
    assert spec.facts is not None
    return CouncilCoordination(
        spec.config.coordination, sharding, spec.card, spec.smaller,
        recovery=recovery, kv_bytes_token_layer=kv_bytes_token_layer, seats=seats,
        charter=Charter(
            council, spec.committee, spec.facts, Electoral(council.seats, council.byzantine_share), convicts
        ),
    )  # fmt: skip


def cell(spec: NodeSpec, keys: Keys) -> Cell:
    """Return the Cell of one node."""
    return Cell(node(spec), spec.me, spec.peers, seed=spec.seed, keys=keys)


def to_plain(spec: NodeSpec) -> dict[str, Any]:
    """Return the spec as plain data, for a journal's header or a process's configuration."""
    plain: dict[str, Any] = msgspec.to_builtins(spec)
    return plain


def from_plain(data: dict[str, Any]) -> NodeSpec:
    """Return the spec that `to_plain` wrote."""
    return msgspec.convert(data, NodeSpec)


def card(shape: inference.Shape, config: PolicyConfig) -> Problem:
    """Return the served model as a planning problem without workers."""
    sharding = config.sharding
    return Problem(
        model=shape.name,
        layers=shape.layers,
        layer_bytes=shape.layer_bytes(),
        kv_bytes_layer=shape.kv_bytes_per_token_layer() * _reserved_tokens(sharding),
        head_bytes=shape.head_bytes(),
        activation_bytes=shape.activation_bytes(),
        candidates=sharding.candidates,
    )


def _reserved_tokens(sharding: ShardingConfig) -> int:
    """Return the tokens for which a stage reserves cache in each layer: executors allocate whole blocks."""
    return reserved_blocks(sharding) * BLOCK_TOKENS


def capability(
    shape: inference.Shape,
    device: inference.Device,
    memory_bytes: float,
    bytes_per_s: float,
    one_way_s: float,
) -> Capability:
    """Return what a whole device can do for a model; the worker scales it by the share it lends."""
    one = float(inference.decode_step_s(shape, 1, device, 1, 0))
    two = float(inference.decode_step_s(shape, 2, device, 1, 0))
    token = float(inference.prefill_s(shape, 2, device, 1024)) - float(inference.prefill_s(shape, 1, device, 1024))
    return Capability(memory_bytes, two - one, max(0.0, 2 * one - two), token / 1024, bytes_per_s, one_way_s)
