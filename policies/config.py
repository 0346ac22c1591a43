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
Beat = Annotated[float, Meta(ge=0.001)]
"""Seconds between what a node does or says again, or until it gives another one up. Below a millisecond, which is about
what a timer of an event loop keeps, nodes would do nothing else (our bound)."""
Term = Annotated[float, Meta(ge=0.5)]
"""Seconds for which something is granted, planned, remembered or waited for across a village: some round trips between
homes on LTE, and as long as a plan takes (our bound). Below, it is over before anybody has heard of it."""
Minutes = Annotated[float, Meta(ge=0.1)]  # over which a sensor's readings change at all (our bound)
Celsius = Annotated[float, Meta(ge=-40, le=150)]
Hour = Annotated[float, Meta(ge=0, le=24)]


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of every group: frozen, and closed to unknown keys."""


class OwnerLimits(Strict, frozen=True, tag_field="rule"):
    """The owner's hard limits, which every policy of the village's own obeys; documented unless said otherwise."""

    min_battery: Share = 0.20
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
    hysteresis_c: NonNegative = 3.0  # Android's thermal status uses the same band
    hysteresis_battery: Share = 0.05
    dwell_min: NonNegative = 5.0  # after a session ended none starts before this (assumption: a pipeline's warm-up)
    drain_s: NonNegative = 60.0  # memory is held this long after an orderly end, to hand work back (assumption)


class HarvestConfig(OwnerLimits, frozen=True, tag="documented"):
    """Every field of the documented HarvestPolicy, plus the hysteresis bands, dwell and drain it lacked."""

    optimal_battery: Share = 0.50  # a session starts only from here when it fell below the floor
    idle_min: NonNegative = 5.0
    hour_start: Hour = 22.0  # local; a window may cross midnight; 0-24 is always
    hour_end: Hour = 7.0
    max_session_h: Annotated[float, Meta(ge=0.02)] = 8.0  # a minute at least
    cooldown_min: NonNegative = 30.0


class PredecessorConfig(HarvestConfig, frozen=True, tag="predecessor"):
    """The documented limits as the village's predecessor applied them: a bad example, kept to be measured."""


class BoincConfig(Strict, frozen=True, tag_field="rule", tag="boinc"):
    """BOINC's global preferences by their own names, with the client's defaults on Android.

    Source: BOINC/boinc, lib/prefs.cpp, ``GLOBAL_PREFS::defaults``. Where a desktop differs, it is said so.
    """

    run_on_batteries: bool = False
    run_if_user_active: bool = True
    suspend_when_screen_on: bool = True  # the Android manager's own switch; desktops have none
    idle_time_to_run: NonNegative = 3.0  # minutes without input until "not in use"
    suspend_cpu_usage: Annotated[float, Meta(ge=0, le=100)] = 50.0  # % used by others; 0 never; desktops 25
    niu_suspend_cpu_usage: Annotated[float, Meta(ge=0, le=100)] = 50.0  # the same while not in use
    start_hour: Hour = 0.0  # equal hours: no restriction, as in the client
    end_hour: Hour = 0.0
    battery_charge_min_pct: Annotated[float, Meta(ge=0, le=100)] = 90.0
    battery_max_temperature: Celsius = 40.0  # of the battery
    max_ncpus_pct: Annotated[float, Meta(gt=0, le=100)] = 50.0  # desktops: all
    niu_max_ncpus_pct: Annotated[float, Meta(gt=0, le=100)] = 50.0  # unset, the client takes the value in use
    cpu_usage_limit: Annotated[float, Meta(gt=0, le=100)] = 100.0
    niu_cpu_usage_limit: Annotated[float, Meta(gt=0, le=100)] = 100.0
    ram_max_used_busy_pct: Annotated[float, Meta(gt=0, le=100)] = 50.0
    ram_max_used_idle_pct: Annotated[float, Meta(gt=0, le=100)] = 50.0  # desktops: 90
    network_wifi_only: bool = True  # desktops: false
    max_bytes_sec: NonNegative = 0.0  # 0: no cap; the smaller of BOINC's two, up and down
    dwell_min: NonNegative = 5.0  # ANDROID_BATTERY_BACKOFF, 300 s, here after any suspension


class FederatedConfig(Strict, frozen=True, tag_field="rule", tag="federated"):
    """Idle, charging and unmetered, as mobile federated learning asks of Android's JobScheduler.

    Sources: Bonawitz et al. 2019, "Towards federated learning at scale", section 3 (the three conditions; work is
    aborted when one ends); Android's framework resources (idle time, low battery). Caps: the village's.
    """

    idle_min: NonNegative = 31.0  # config_jobSchedulerInactivityIdleThreshold, 1,860,000 ms; 71 min before Android 9
    low_battery: Share = 0.15  # config_lowBatteryWarningLevel: below it power is not "stable"
    low_battery_bump: Share = 0.05  # config_lowBatteryCloseWarningBump
    severe_skin_c: Celsius = 45.0  # THERMAL_STATUS_SEVERE, from which jobs stop; set by makers (assumption)
    hysteresis_c: NonNegative = 3.0  # of the thermal status
    max_cpu: Share = 0.50
    max_memory: Share = 0.30
    max_bandwidth_mbps: Positive = 10.0
    dwell_min: NonNegative = 5.0


class PredictiveConfig(OwnerLimits, frozen=True, tag="predictive"):
    """The owner's hard limits, and forecasts in place of hours, optimum, idle time, session length and cool-down.

    The chances at which it starts and stops trade harvest for interruptions: at the defaults it interrupts somewhat
    fewer sessions than the documented policy; far higher ones harvest nearly all there is, and interrupt far more.
    """

    max_skin_c: Celsius = 43.0  # touched for long: IEC 62368-1 and EN 563 classes
    margin_c: NonNegative = 1.0  # kept below the limits that are forecast (assumption)
    heat_horizon_min: Minutes = 15.0  # skin is forecast this far (assumption: about its time constant)
    skin_tau_min: Minutes = 16.0  # first-order time constant of a phone's skin, 985 s (notes on physics, section 3)
    heat_rate: Annotated[float, Meta(gt=0, le=1)] = 0.3  # weight of a minute in the learned heat model
    look_ahead_min: NonNegative = 5.0  # the owner is forecast this far: time to hand back (assumption)
    # A session that lends its whole cap starts below this chance an hour that its owner ends it, and hands back in
    # order above the next; one that lends a share of it, below that share of them (both chosen on seeds 901 to 906).
    start_hazard_per_h: Positive = 0.31
    stop_hazard_per_h: Positive = 0.35
    # The chances are those of the mean chip. Another's are multiplied by this share of its FLOP/s over the mean chip's,
    # plus the rest; so 0 values all chips alike, 1 by what they compute.
    compute_weight: Share = 0.0
    chip_tflops: Positive = 4.5  # dense FP16 peak of the mean chip: of `global_2024` (seed 901)
    # A device's own level of returns fades over this time (assumption); a quarter of an hour at least.
    memory_days: Annotated[float, Meta(ge=0.01)] = 7.0
    prior_returns: Positive = 3.0  # the data weigh as much as this many of an owner's own (seeds 901 to 906)
    charge_per_h: Positive = 0.6  # share of a battery that an hour's charging restores (assumption)
    charge_to: Share = 0.80  # the owner's charge that lending shall not endanger
    charge_risk: Share = 0.15  # chance to be unplugged below it that is accepted


HarvestRules = HarvestConfig | PredecessorConfig | BoincConfig | FederatedConfig | PredictiveConfig


class ShardingConfig(Strict, frozen=True):
    """How a model is cut across workers."""

    planner: Literal[
        "documented",
        "edgeshard",
        "edgeshard_throughput",
        "exact",
        "exo_flops_ring",
        "exo_nodes",
        "exo_ring",
        "helix",
        "latency_dp",
        "local_search",
        "memory_ring",
        "petals",
        "placement",
        "swarm",
    ] = "latency_dp"
    candidates: Annotated[int, Meta(ge=2, le=10)] = 8  # devices the exact planner looks at for one pipeline
    slots: Annotated[int, Meta(ge=1, le=64)] = 4  # sessions a pipeline runs at once
    context_tokens: Annotated[int, Meta(ge=16)] = 4096  # KV cache is reserved for slots x context


class OneByOneConfig(Strict, frozen=True, tag_field="rule", tag="one_by_one"):
    """A worker runs the step of one session at a time, in the order in which steps come.

    For machines of one host; the engines of devices that are described by a data sheet batch.
    """

    share_prefixes: bool = False  # sessions that begin alike share blocks of 16 tokens, and do not compute them again


class BatchedConfig(Strict, frozen=True, tag_field="rule", tag="batched"):
    """Continuous batching (`policies.serving`): the sessions of a pipeline step together."""

    # Sessions a pipeline takes at once; none: ``sharding.slots``. More than those share their cache, block by block.
    sessions: Annotated[int, Meta(ge=1, le=64)] | None = None
    # Of one batch, prompts' and decoded ones together. Assumption: a CPU core computes a few hundred in the time that
    # vLLM's default of 2,048 takes on a GPU, and streams wait for each batch.
    tokens_max: Annotated[int, Meta(ge=1, le=65_536)] = 256
    share_prefixes: bool = False  # as of `OneByOneConfig`


ServingRules = OneByOneConfig | BatchedConfig


class RaftConfig(Strict, frozen=True, tag_field="protocol", tag="raft"):
    """Raft's timing (Ongaro and Ousterhout 2014, section 5.6: broadcast time << election time-out) and its bounds."""

    heartbeat_s: Beat = 1.0
    election_min_s: Beat = 5.0
    election_max_s: Beat = 10.0
    pre_vote: bool = True  # ask whether one would be elected before one begins a term (dissertation 2014, 9.6)
    check_quorum: bool = True  # a leader that hears no quorum steps down; who hears a leader elects none (6.2, 4.2.3)
    max_batch: Annotated[int, Meta(ge=1, le=65_536)] = 256  # entries in one AppendEntries
    window: Annotated[int, Meta(ge=1, le=65_536)] = 256  # AppendEntries under way to one peer; TiKV's default
    # Of one message: entries or a chunk of a snapshot, and the longest command; 1 MiB as in etcd and TiKV.
    chunk_bytes: Annotated[int, Meta(ge=1, le=64 << 20)] = 1 << 20


class HotstuffConfig(Strict, frozen=True, tag_field="protocol", tag="hotstuff"):
    """HotStuff's rules and timing (`policies.consensus.hotstuff`). Numbers without a source are our choices.

    Time-outs suit machines on one network and find their own length elsewhere: they grow by ``timeout_factor`` with
    each leader that is given up and shrink with each block that is certified quickly enough for the shorter one.
    """

    chain: Literal[2, 3] = 2  # certificates in a row that commit a block: Jolteon's rule, or classic HotStuff's
    tenure: Annotated[int, Meta(ge=1, le=65_536)] = 256  # views in a row that one member leads; 1 is classic rotation
    timeout_s: Beat = 1.0  # without a commit although something waits for one, until the leader is given up
    timeout_factor: Annotated[float, Meta(ge=1, le=10)] = 2.0
    timeout_max_s: Beat = 60.0
    heartbeat_s: Beat = 1.0  # an idle leader says so often that it is there
    batch_max: Annotated[int, Meta(ge=1)] = 400  # commands in a block; libhotstuff's default block size
    batch_max_bytes: Annotated[int, Meta(ge=1)] = 262_144  # also the largest command
    batch_wait_s: NonNegative = 0.001  # an idle leader waits so long for more commands
    pool_max: Annotated[int, Meta(ge=1)] = 4096  # commands kept from any one member until they are committed
    checkpoint_every: Annotated[int, Meta(ge=1)] = 128  # commands; PBFT's period of checkpoints (1999, section 4.3)
    chunk_bytes: Annotated[int, Meta(ge=1, le=32 << 20)] = 1 << 20  # of a state that is sent; as Raft's


class PbftConfig(Strict, frozen=True, tag_field="protocol", tag="pbft"):
    """PBFT's parameters (Castro and Liskov, OSDI 1999 and TOCS 2002), with defaults for homes on LTE."""

    # Assumption: half of Raft's shortest election time-out, as a request is first sent to all, then its primary left.
    timeout_s: Beat = 2.5
    resend_s: Beat = 1.0  # Raft's heartbeat: what is lost is said again this often
    checkpoint_every: Annotated[int, Meta(ge=1, le=512)] = 32  # batches; the paper's 128 makes view changes large
    in_flight: Annotated[int, Meta(ge=1, le=1024)] = 8  # batches proposed and not executed (our choice)
    max_batch: Annotated[int, Meta(ge=1)] = 256  # commands in one batch; as Raft's
    pool_max: Annotated[int, Meta(ge=1)] = 1000  # requests of one member that wait; documented queue limit
    chunk_bytes: Annotated[int, Meta(ge=1, le=32 << 20)] = 1 << 20  # of a state that is sent; as Raft's


ConsensusRules = RaftConfig | HotstuffConfig | PbftConfig


class NoDetectorConfig(Strict, frozen=True, tag_field="detector", tag="none"):
    """No failure detector: who has gone is known by leases alone."""


class SwimConfig(Strict, frozen=True, tag_field="detector", tag="swim"):
    """SWIM with Lifeguard; the defaults are memberlist's for a local network (config.go, DefaultLANConfig)."""

    probe_s: Beat = 1.0  # protocol period
    ack_s: Beat = 0.5  # of it, until others are asked to probe
    indirect: Annotated[int, Meta(ge=0, le=64)] = 3  # others that are asked
    gossip_s: Beat = 0.2
    gossip_to: Annotated[int, Meta(ge=1, le=64)] = 3
    retransmit_mult: Annotated[int, Meta(ge=1, le=64)] = 4  # times log10(n + 1): how often an update is passed on
    packet_bytes: Annotated[int, Meta(ge=256, le=65_507)] = 1400  # UDPBufferSize: bound of what is piggybacked
    suspicion_mult: Annotated[int, Meta(ge=1, le=64)] = 4  # times log10(n) probe periods: the shortest suspicion
    suspicion_max_mult: Annotated[int, Meta(ge=1, le=64)] = 6  # times the shortest: the longest (Lifeguard)
    awareness_max: Annotated[int, Meta(ge=1, le=64)] = 8  # local health reaches one less than this (Lifeguard)
    push_pull_s: Beat = 30.0  # whole tables are exchanged; Serf tries dead members as often (ReconnectInterval)
    lifeguard: bool = True  # arXiv 1707.00788: all three of its components, or none
    members_max: Annotated[int, Meta(ge=1)] = 1024  # names that are remembered (our own bound)


class PhiConfig(Strict, frozen=True, tag_field="detector", tag="phi"):
    """Phi accrual (Hayashibara et al., SRDS 2004); defaults as in Akka's remote failure detector, or said otherwise."""

    heartbeat_s: Beat = 1.0
    window: Annotated[int, Meta(ge=2, le=10_000)] = 1000  # intervals remembered of each peer; also the paper's
    std_min_s: Beat = 0.1
    pause_s: NonNegative = 3.0  # acceptable pause, added to the mean; the paper has none
    suspect_phi: Annotated[float, Meta(ge=0.01, le=100)] = 3.0  # one wrong suspicion in 10^3 heartbeats (assumption)
    dead_phi: Annotated[float, Meta(ge=0.01, le=100)] = 8.0  # Akka's and Cassandra's threshold
    members_max: Annotated[int, Meta(ge=1)] = 1024  # names that are remembered (our own bound)


MembershipRules = SwimConfig | PhiConfig


class LeaseConfig(Strict, frozen=True):
    """Leader election by leases, for groups without a log (Gray and Cheriton, SOSP 1989)."""

    lease_s: Term = 10.0  # a vote binds its voter this long (assumption: Chubby's is 12 s)
    renew_s: Beat = 3.0  # so that two renewals may be lost (assumption)
    drift: Share = 0.01  # clocks of two members differ by less than this share in rate (assumption; real ones: 1e-4)


class ReplanConfig(Strict, frozen=True):
    """When a pipeline that serves is given up for a better plan; numbers without a source are our choices."""

    # A worker must have been lent so long without a break before it takes part in a move: who comes and goes more
    # often than that moves nothing.
    dwell_s: NonNegative = 300.0
    horizon_s: Term = 3600.0  # tokens expected in it are those of the last one; their gain must pay for the move
    drain_s: NonNegative = 60.0  # what is to go takes no new work; if it still works after this, nothing moves
    load_bytes_per_s: Positive = 1.0e9  # flash to memory: UFS 3.1 and consumer NVMe read 1-2 GB/s (JESD220E)
    service: Literal["best_effort", "standard", "critical"] = "best_effort"  # class whose copies idle workers hold
    away: Annotated[float, Meta(ge=0, lt=1)] = 0.05  # chance that a worker is away when it is needed (assumption)


Service = Literal["best_effort", "standard", "critical"]


class DegradeConfig(Strict, frozen=True):
    """How a village of several models chooses (`policies.coordination.offers`); numbers are our choices."""

    services: tuple[Service, ...] = ("critical", "standard", "best_effort")  # classes whose order counts
    away: Annotated[float, Meta(ge=0, lt=1)] = 0.05  # chance that a worker is away when it is needed (assumption)
    dwell_s: NonNegative = 300.0  # as ReplanConfig's: who was lent so long takes part in a better model
    drain_s: NonNegative = 60.0  # as ReplanConfig's
    patience: Share = 0.5  # of its time that a request waits for a busy model before a smaller one serves it


class SpotChecksConfig(Strict, frozen=True):
    """Checks of stages by commitment, challenge and recomputation (`policies.checking`); numbers are our choices."""

    share: Share = 0.02  # of a worker's sessions that are checked while nothing is known against it
    # Without an answer for so long: who is asked has let it pass, another worker is asked to compute again.
    wait_s: Term = 30.0
    strikes: Annotated[int, Meta(ge=1)] = 3  # false places until a worker is evicted; as many as of audits


class CoordinationConfig(Strict, frozen=True):
    """The leader's rules for assigning requests."""

    lease_s: Term = 60.0
    plan_every_s: Term = 30.0
    ageing_s: Term = 60.0  # waiting this long lifts a request by one priority class
    tries: Annotated[int, Meta(ge=1)] = 4  # documented: 3 retries
    queue_max: Annotated[int, Meta(ge=1)] = 1000  # documented queue limit
    report_every: Annotated[int, Meta(ge=1)] = 64  # tokens between progress reports
    audit_share: Share = 0.02  # of requests run on two pipelines and compared
    stream: bool = False  # clients hear the tokens of progress reports before the outcome
    degrade: DegradeConfig = DegradeConfig()  # where there are several models
    spot_checks: SpotChecksConfig | None = None  # none: workers commit to nothing; audits alone find out who lies
    replan: ReplanConfig | None = None  # none: a pipeline serves until it loses a worker; free workers are planned


class ReplayConfig(Strict, frozen=True, tag_field="rule", tag="replay"):
    """Nothing is done before a worker dies; afterwards another pipeline takes in all tokens again."""


class PreparedConfig(Strict, frozen=True, tag_field="rule", tag="prepared"):
    """Idle workers stand by for stages, and what a stage would lose is copied to them (`policies.recovery`)."""

    # Of one worker; none: as the leader has counted them, beside one in a day (assumption, until it has seen some).
    deaths_per_h: Annotated[float, Meta(ge=0, le=3600)] | None = None
    bytes_ratio: Annotated[float, Meta(ge=1, le=100)] = 1.5  # all bytes, as a multiple of what replay would send
    ways: tuple[Literal["checkpoint", "buddy"], ...] = ("checkpoint", "buddy")  # those that may be chosen


RecoveryRules = ReplayConfig | PreparedConfig


class GatewayConfig(Strict, frozen=True):
    """Admission. Documented: standard 60 requests a minute, premium 200, enterprise 500."""

    requests_per_min: Positive = 200.0
    burst: Annotated[int, Meta(ge=1)] = 50


class EdgeConfig(Strict, frozen=True):
    """The device's ladder and lifecycle: documented for the village's edge and mobile managers, or said otherwise."""

    battery_critical: Share = 0.10
    battery_low: Share = 0.20
    battery_conservative: Share = 0.40
    warm_c: Celsius = 45.0
    hot_c: Celsius = 55.0
    critical_c: Celsius = 65.0
    memory_low_gb: NonNegative = 2.0  # free memory; GB and MB are powers of two
    memory_medium_gb: NonNegative = 4.0
    memory_high_gb: NonNegative = 8.0
    hysteresis_c: NonNegative = 3.0  # as harvest's
    hysteresis_battery: Share = 0.05  # as harvest's
    hysteresis_memory_mb: NonNegative = 512.0  # documented: adapt again when this much has changed
    cpu_share: Share = 0.50
    cpu_low_battery: Share = 0.35
    cpu_critical_battery: Share = 0.20
    cpu_hot: Share = 0.30
    cpu_critical_heat: Share = 0.15
    memory_mb: NonNegative = 1024.0
    memory_low_battery: Share = 0.7  # factor
    memory_hot: Share = 0.6  # factor
    memory_critical_mb: NonNegative = 256.0  # battery or heat
    memory_short_mb: NonNegative = 512.0  # little memory free
    tasks: Annotated[int, Meta(ge=0, le=64)] = 2
    tasks_dedicated: Annotated[int, Meta(ge=0, le=64)] = 10  # a fog node's
    chunk_bytes: Annotated[int, Meta(ge=1)] = 512
    chunk_min_bytes: Annotated[int, Meta(ge=1)] = 64
    chunk_max_bytes: Annotated[int, Meta(ge=1)] = 2048
    heartbeat_s: Term = 60.0  # twice in a lease, so that one may be lost (our choice)
    offline_after_s: Term = 120.0  # of silence, the documented fault detector's; the lease that a heartbeat earns
    drain_s: NonNegative = 30.0  # work may end, and hand-backs be heard, this long (assumption: half a heartbeat)
    faults_max: Annotated[int, Meta(ge=1)] = 5  # jobs lost in a row; the documented circuit breaker's
    retry_s: Term = 60.0  # the same breaker's pause


class DeliveryConfig(Strict, frozen=True):
    """The long-range transport. Documented for the village's message delivery, or said otherwise."""

    tries: Annotated[int, Meta(ge=1, le=64)] = 5
    backoff_first_s: Beat = 1.0  # after the first try; doubled after each
    backoff_max_s: Beat = 300.0
    jitter: Share = 0.10  # a wait is longer by up to this share, so that senders do not fall into step
    ttl_s: Term = 86_400.0
    queue_max: Annotated[int, Meta(ge=1)] = 10_000
    body_max_bytes: Annotated[int, Meta(ge=1)] = 16_384  # the documented transport manager's chunk


class MeshConfig(Strict, frozen=True):
    """The short-range transport. Documented for the village's BitChat and its mesh, or said otherwise."""

    hops_max: Annotated[int, Meta(ge=1, le=255)] = 7
    fanout: Annotated[int, Meta(ge=1)] = 3
    gossip_s: Beat = 1.0
    quiet_s: Beat = 30.0  # the longest pause between two rounds; documented as the pause of discovery
    ttl_s: Term = 86_400.0  # a message is carried this long
    pending_max: Annotated[int, Meta(ge=1)] = 1000  # own messages open, and others' messages carried
    cache_max: Annotated[int, Meta(ge=1)] = 10_000  # acknowledgements remembered
    body_max_bytes: Annotated[int, Meta(ge=1)] = 16_384


class BusConfig(Strict, frozen=True):
    """The choice of a transport. Documented for the village's message bus and its breaker, or said otherwise."""

    failures: Annotated[int, Meta(ge=1)] = 5  # in a row, until a breaker opens
    successes: Annotated[int, Meta(ge=1)] = 3  # in a row, until it closes again
    open_s: Beat = 60.0
    probes: Annotated[int, Meta(ge=1)] = 5  # calls under way at once while it is half-open
    patience_s: Term = 300.0  # for a transport's answer; documented as BitChat's message time-out
    ttl_s: Term = 86_400.0
    queue_max: Annotated[int, Meta(ge=1)] = 10_000
    body_max_bytes: Annotated[int, Meta(ge=1)] = 16_320  # a transport's less 64 bytes of envelope (our bound)


class TasksConfig(Strict, frozen=True):
    """Tasks and their agents. Documented for the village's agent coordinator, or said otherwise."""

    heartbeat_s: Beat = 30.0  # documented for fog nodes; ten in a lease
    offline_after_s: Term = 300.0  # of silence
    poll_s: Beat = 5.0  # leases and time-outs are looked at so often
    report_s: Beat = 60.0  # counts and utilization are announced so often
    slots: Annotated[int, Meta(ge=1, le=64)] = 3  # tasks an agent holds at once
    overdue_factor: Positive = 2.0  # an attempt may take this many times its estimate
    tries: Annotated[int, Meta(ge=1)] = 4  # documented for inference: 3 retries
    queue_max: Annotated[int, Meta(ge=1)] = 1000  # open tasks; documented for inference
    ended_max: Annotated[int, Meta(ge=1)] = 10_000  # ends that are remembered (our bound)
    agents_max: Annotated[int, Meta(ge=1)] = 1000  # documented for the fog: nodes
    ageing_s: Term = 60.0  # waiting this long lifts a task by one class (our choice, as for requests)
    patience_s: Term = 300.0  # for a dependency nobody submits, or an agent nobody is; documented largest time-out


class CommitteeConfig(Strict, frozen=True):
    """Who may sit on the committee. Documented for the village's GOLD quorums, or said otherwise."""

    size: Annotated[int, Meta(ge=1, le=100)] = 4
    min_trust: Share = 0.7  # documented threshold of use
    min_stability: Share = 0.5  # assumption: up at least half of the time
    min_networks: Annotated[int, Meta(ge=1)] = 3
    min_vendors: Annotated[int, Meta(ge=1)] = 2
    min_regions: Annotated[int, Meta(ge=1)] = 2
    min_countries: Annotated[int, Meta(ge=1)] = 2
    site_max: Annotated[int, Meta(ge=1)] = 1  # "max 1 per region and ASN": members that share both (our reading)
    # Of one value of these no more members may come than may fail, so that its outage leaves a quorum (our rule).
    within_faults: tuple[Literal["network", "vendor", "region", "country"], ...] = ("network",)
    rotate: Annotated[int, Meta(ge=0)] = 1  # members that leave each epoch, by lot (our choice)


class FixedConfig(Strict, frozen=True, tag_field="rule", tag="fixed"):
    """The committee never changes."""


class CouncilConfig(Strict, frozen=True, tag_field="rule", tag="council"):
    """How a fleet changes its committee (`policies.council`). Numbers are our choices."""

    seats: CommitteeConfig = CommitteeConfig()
    epoch_s: Term = 600.0  # a member's clock, until it holds that the epoch has lasted long enough
    alive_s: Beat = 5.0  # a device says so often that it is there
    retry_s: Beat = 10.0  # what is not seen committed is asked for again
    byzantine_share: Share = 0.1  # of the devices, as the bound assumes


class PolicyConfig(Strict, frozen=True):
    """One group per policy family."""

    harvest: HarvestRules = HarvestConfig()
    sharding: ShardingConfig = ShardingConfig()
    serving: ServingRules = BatchedConfig()
    consensus: ConsensusRules = RaftConfig()
    membership: NoDetectorConfig | MembershipRules = NoDetectorConfig()
    committee: FixedConfig | CouncilConfig = FixedConfig()
    coordination: CoordinationConfig = CoordinationConfig()
    gateway: GatewayConfig = GatewayConfig()
    edge: EdgeConfig = EdgeConfig()
    recovery: RecoveryRules = ReplayConfig()
