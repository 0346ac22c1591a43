"""Parameters of the village's policies, with units, ranges and the documented defaults.

Defaults named "documented" are those of the village's own analysis and rules (HarvestPolicy, priorities, limits).
They are plain data: part of a policy's digest, of the scenario and of the manifest.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Share = Annotated[float, Meta(ge=0, le=1)]
Positive = Annotated[float, Meta(gt=0)]
NonNegative = Annotated[float, Meta(ge=0)]
Celsius = Annotated[float, Meta(ge=-40, le=150)]
Hour = Annotated[float, Meta(ge=0, le=24)]


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of every group: frozen, and closed to unknown keys."""


class HarvestConfig(Strict, frozen=True):
    """Every field of the documented HarvestPolicy, plus the hysteresis bands it lacked."""

    min_battery: Share = 0.20
    optimal_battery: Share = 0.50  # a session starts only from here when it fell below the floor
    require_charging: bool = True
    max_cpu_temp_c: Celsius = 45.0  # a session starts only below this
    throttle_temp_c: Celsius = 55.0  # compute is halved from here
    critical_temp_c: Celsius = 65.0  # the session stops
    max_cpu: Share = 0.50
    max_memory: Share = 0.30
    max_bandwidth_mbps: Positive = 10.0
    wifi_only: bool = True
    allow_metered: bool = False
    min_bandwidth_mbps: NonNegative = 5.0
    require_screen_off: bool = True
    idle_min: NonNegative = 5.0
    hour_start: Hour = 22.0  # local; a window may cross midnight; 0-24 is always
    hour_end: Hour = 7.0
    max_session_h: Positive = 8.0
    cooldown_min: NonNegative = 30.0
    hysteresis_c: NonNegative = 3.0  # Android's thermal status uses the same band
    hysteresis_battery: Share = 0.05


class ShardingConfig(Strict, frozen=True):
    """How a model is cut across workers."""

    planner: Literal["latency_dp", "memory_ring"] = "latency_dp"
    candidates: Annotated[int, Meta(ge=2, le=10)] = 8  # devices the exact planner looks at for one pipeline
    slots: Annotated[int, Meta(ge=1, le=64)] = 4  # sessions a pipeline runs at once
    context_tokens: Annotated[int, Meta(ge=16)] = 4096  # KV cache is reserved for slots x context


class ConsensusConfig(Strict, frozen=True):
    """Raft's timing (Ongaro and Ousterhout 2014, section 5.6: broadcast time << election time-out)."""

    heartbeat_s: Positive = 1.0
    election_min_s: Positive = 5.0
    election_max_s: Positive = 10.0
    max_batch: Annotated[int, Meta(ge=1)] = 256  # entries in one AppendEntries


class CoordinationConfig(Strict, frozen=True):
    """The leader's rules for assigning requests."""

    lease_s: Positive = 60.0
    plan_every_s: Positive = 30.0
    ageing_s: Positive = 60.0  # waiting this long lifts a request by one priority class
    tries: Annotated[int, Meta(ge=1)] = 4  # documented: 3 retries
    queue_max: Annotated[int, Meta(ge=1)] = 1000  # documented queue limit
    report_every: Annotated[int, Meta(ge=1)] = 64  # tokens between progress reports
    audit_share: Share = 0.02  # of requests run on two pipelines and compared


class GatewayConfig(Strict, frozen=True):
    """Admission. Documented: standard 60 requests a minute, premium 200, enterprise 500."""

    requests_per_min: Positive = 200.0
    burst: Annotated[int, Meta(ge=1)] = 50


class PolicyConfig(Strict, frozen=True):
    """One group per policy family."""

    harvest: HarvestConfig = HarvestConfig()
    sharding: ShardingConfig = ShardingConfig()
    consensus: ConsensusConfig = ConsensusConfig()
    coordination: CoordinationConfig = CoordinationConfig()
    gateway: GatewayConfig = GatewayConfig()
