"""The scenario: what happens, as typed data. One place defines each field, its unit, its range and its default.

YAML, the command line and notebooks all end here: `build` turns plain data into a frozen `Scenario` or refuses with
one line that names the field, the value and what is allowed. Nothing is written before it has passed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union

import msgspec
from msgspec import Meta

from models.inference import SHAPES, Shape
from models.links.loss import CHANNELS
from policies.committee import CommitteeError, check_size
from policies.config import (
    BatchedConfig,
    PolicyConfig,
    PreparedConfig,
)
from policies.consensus import bears_liars
from policies.gateway.gateway import DEADLINE_MAX_S
from policies.jobs import TOKENS_MAX
from scenarios import council, faults, sensors
from scenarios.adversaries.behaviours import Behaviour, Silent, WrongResults
from scenarios.adversaries.check import check as check_adversaries
from scenarios.contradictions import check_detector, check_policy
from scenarios.explain import explain
from scenarios.faults import Fault
from scenarios.served import Smaller
from scenarios.served import check as check_smaller

KINDS = ("phone", "tablet", "laptop", "desktop", "gpu_box")
"""Kinds of device in a fleet's order: rows of a kind stand together."""

Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0)]
Period = Annotated[float, Meta(ge=0.1)]
"""Seconds of a run, between rows of a record, or of a client's patience: shorter ones say nothing about a day of
devices, and make a run without end (our bound; the shortest in use is half a second)."""
NonNegative = Annotated[float, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
Minute = Annotated[int, Meta(ge=0, le=1439)]
Weight = Annotated[float, Meta(ge=0, le=1e9)]
"""Relative to its neighbours (our bound): of doubles near their end the sum is no number."""


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of every part: frozen, and closed to unknown keys."""


class Shaped(Strict, frozen=True):
    """What a process of one host (network=loopback) is made into, so that equal machines differ, in either world."""

    pacing: Annotated[float, Meta(ge=1, le=6)] = 1.0  # its steps take so many times as long
    memory_bytes: Positive | None = None  # what it offers; none: as all others
    one_way_s: NonNegative = 0.0  # of its link, beside what loopback takes
    bytes_per_s: Positive | None = None  # of its link


Devices = Annotated[int, Meta(ge=0, le=100_000)]
"""Of one kind. Each is a node with policies of its own; a larger fleet has none (`scenarios.fleet`)."""


class Fleet(Strict, frozen=True):
    """How many devices of each kind, and who runs the control plane."""

    phones: Devices = 400
    tablets: Devices = 30
    laptops: Devices = 50
    desktops: Devices = 16
    gpu_boxes: Devices = 4
    dedicated: Devices = 2  # mains machines lent all day: harvest hours, idle time and screen do not apply to them
    committee: Annotated[int, Meta(ge=1, le=9)] = 5  # Raft members, taken from the machines on the mains
    time_zones_h: tuple[Annotated[float, Meta(ge=-12, le=14)], ...] = (0.0,)
    shaped: dict[str, Shaped] = msgspec.field(default_factory=dict)  # by device (network=loopback)

    @property
    def counts(self) -> tuple[int, ...]:
        """Devices of each of `KINDS`."""
        return (self.phones, self.tablets, self.laptops, self.desktops, self.gpu_boxes)

    @property
    def size(self) -> int:
        """Number of devices."""
        return sum(self.counts)

    @property
    def names(self) -> dict[str, int]:
        """How many devices bear each name; ``phone-0`` is the first phone. A fleet of desktops alone has desks."""
        desks = "desk" if self.size == self.desktops else "desktop"
        return {
            "phone": self.phones, "tablet": self.tablets, "laptop": self.laptops, desks: self.desktops,
            "gpu-box": self.gpu_boxes,
        }  # fmt: skip


class Owners(Strict, frozen=True):
    """Habits of the owners. Assumptions, stated in `models.availability`."""

    plug_minute: Minute = 1350  # median minute of the evening plug-in
    unplug_minute: Minute = 425  # median minute of the morning unplug
    spread_min: Annotated[float, Meta(gt=0, le=1440)] = 75.0  # standard deviation of both
    nightly_share: Share = 0.8  # owners who charge every night
    top_ups_per_day: Annotated[float, Meta(ge=0, le=3)] = 1.2  # the twin draws at most 7 charges a day
    screen_minutes_per_day: Annotated[float, Meta(ge=0, le=1440)] = 240.0
    away_share: Share = 0.7  # phones that leave home (and Wi-Fi) by day
    ambient_c: Annotated[float, Meta(ge=-30, le=50)] = 22.0
    memory_share: Share = 0.0  # of a device's memory that its owner uses while the screen is on; no source tells it


class Network(Strict, frozen=True):
    """Access links and the backbone between them."""

    home: Literal["cable", "fibre", "loopback"] = "cable"
    mobile: Literal["lte", "5g"] = "lte"
    access: Literal["typical", "fitted"] = "typical"  # fitted: each device's rates drawn from those measured (cable)
    backbone: Literal["even", "cities"] = "even"  # cities: each node near a data centre, delays as measured
    backbone_s: NonNegative = 0.012  # one-way, between any two nodes (backbone=even)
    bursts: str = ""  # a measured channel whose bad spells every access link has; "": losses are independent
    loss: Share = 0.001  # of messages, end to end, after the access links' own loss
    jitter_sigma: Annotated[float, Meta(ge=0, le=5)] = 0.3  # of the log of a message's delay
    duplicate: Share = 0.0005
    sharing: Literal["max_min", "rtt_weighted", "lv08"] = "max_min"  # how bulk transfers share access links
    slow_start: bool = False  # bulk transfers begin as TCP does (not with lv08, which has that in its latency)
    loss_bound: bool = False  # a path's loss bounds a bulk transfer's rate (Mathis)
    shards: Literal["on_flash", "fetched"] = "on_flash"  # whether devices begin with the model, or fetch layers (sim)
    replay: str = ""  # a CSV of measured rates (trace,t_s,mbps) that links of phones, tablets and laptops follow (sim)


Priority = Literal["critical", "high", "normal", "low", "background"]
PRIORITIES: tuple[str, ...] = ("critical", "high", "normal", "low", "background")

DEFAULT_MIX: dict[Priority, float] = {"critical": 2.0, "high": 10.0, "normal": 60.0, "low": 20.0, "background": 8.0}
DEFAULT_DEADLINE_S: dict[Priority, float] = {
    "critical": 30.0, "high": 60.0, "normal": 120.0, "low": 300.0, "background": 900.0,
}  # fmt: skip
"""Relative weights and deadlines by class: assumptions; 300 s is the village's documented inference time-out."""


class WorkloadBase(Strict, frozen=True):
    """What every workload has: priorities, deadlines, and how patient clients are."""

    mix: dict[Priority, Weight] = msgspec.field(default_factory=lambda: dict(DEFAULT_MIX))
    deadline_s: dict[Priority, Period] = msgspec.field(default_factory=lambda: dict(DEFAULT_DEADLINE_S))
    clients: Annotated[int, Meta(ge=1, le=100_000)] = 40
    retry_s: Period = 10.0  # a client that heard nothing asks the next gateway, with the same op_id
    shared_tokens: Annotated[int, Meta(ge=0, le=1_000_000)] = 0  # with which all prompts begin, as with a system prompt


class Synthetic(WorkloadBase, frozen=True, tag_field="kind", tag="synthetic"):
    """A synthetic day: arrivals by a daily curve, lengths log-normal, both fitted (`scenarios.workload`)."""

    requests: Annotated[int, Meta(ge=0, le=10_000_000)] = 22_000
    prompt_tokens: Annotated[int, Meta(ge=1, le=TOKENS_MAX)] | None = None  # fixed lengths instead of the fitted ones
    new_tokens: Annotated[int, Meta(ge=1, le=TOKENS_MAX)] | None = None
    flat: bool = False  # constant rate instead of the daily curve
    burst: Annotated[int, Meta(ge=1, le=100_000)] = 1  # so many requests come at each moment of arrival


class Azure(WorkloadBase, frozen=True, tag_field="kind", tag="azure_conv"):
    """The Azure LLM inference trace of 2023, as published: CSV, plain or gzip."""

    path: str = ""
    start: str = "01:00"  # when in the day its first request arrives
    thin: Annotated[float, Meta(gt=0, le=1)] = 1.0  # keep this share of the requests, by a keyed draw
    speed: Positive = 1.0  # 2 halves the gaps between arrivals
    repeat: Annotated[int, Meta(ge=1, le=1000)] = 1  # play it again, shuffled within minutes by the seed


class Recorded(WorkloadBase, frozen=True, tag_field="kind", tag="recorded"):
    """The requests of a finished Run, again: the same names, arrivals and lengths."""

    path: str = ""  # its requests.parquet


Workload = Union[Synthetic, Azure, Recorded]  # noqa: UP007


class Adversary(Strict, frozen=True):
    """Honest nodes with wrappers around them: who, and what they do (`scenarios.adversaries.behaviours`).

    Who: devices by name, committee members by index, or a count drawn from the workers of a kind. What: one word, or
    behaviours in their order, the first next to the node; none begins before ``from_s``. Those of one ``coalition``
    share keys and a plan, whatever entry they stand in.
    """

    behaviour: Literal["silent", "wrong_results"] | None = None
    behaviours: tuple[Behaviour, ...] = ()
    names: tuple[str, ...] = ()
    committee: tuple[Count, ...] = ()
    kind: Literal["any", "phone", "tablet", "laptop", "desktop", "gpu_box"] = "any"
    count: Count = 1
    from_s: NonNegative = 0.0
    coalition: str = ""

    @property
    def does(self) -> tuple[Behaviour, ...]:
        """All its behaviours, each with the time from which it acts."""
        words: dict[str | None, tuple[Behaviour, ...]] = {"silent": (Silent(),), "wrong_results": (WrongResults(),)}
        return tuple(b.starting(self.from_s) for b in (*words.get(self.behaviour, ()), *self.behaviours))

    @property
    def size(self) -> int:
        """How many nodes it is."""
        return len(self.names) + len(self.committee) or self.count


class Record(Strict, frozen=True):
    """What the run keeps."""

    journals: Literal["none", "committee", "all"] = "none"
    devices_every_s: Period = 600.0


class Scenario(Strict, frozen=True):
    """Everything a world needs to run, from either world."""

    name: str
    seed: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)] = 1
    world: Literal["sim", "local"] = "sim"
    duration_s: Period = 86_400.0
    start_minute: Minute = 0  # local time of day at t = 0
    model: str = "llama-3.2-3b"
    checkpoint: str = ""  # a folder whose layers workers load as the model (world=local)
    shape: Shape | None = None  # of a model that is not one of `models.inference.SHAPES`, a checkpoint's
    smaller: tuple[Smaller, ...] = ()  # models that serve where the first one cannot, the best first
    fleet: Fleet = Fleet()
    owners: Owners = Owners()
    network: Network = Network()
    workload: Workload = Synthetic()
    faults: tuple[Fault, ...] = ()
    adversaries: tuple[Adversary, ...] = ()
    adversaries_max: Count | None = None  # a scenario with more of them, members and workers, is refused
    adversaries_beyond_f: bool = False  # an experiment: more members may lie than HotStuff or PBFT bears
    policy: PolicyConfig = PolicyConfig()
    edge: bool = False  # every device mounts the edge agent between harvest and its worker, the committee watches
    record: Record = Record()
    reading_s: Period = 60.0  # period of the devices' sensors, and of the fleet's ticks
    backends: tuple[Literal["torch", "jax"], ...] = ("torch",)  # executors by worker, in turn (world=local)
    executor: Literal["model", "paced"] = "model"  # paced: workers hold their scheduled time, and compute nothing
    activations: Literal["f32", "f16", "int8"] = (
        "f32"  # how a worker sends them on; the last two are lossy (world=local)
    )
    cores: Annotated[int, Meta(ge=1)] | None = None  # CPU cores that all workers share (machines of one host)
    pinned: bool = False  # each worker keeps to one core of its host, in turn
    cuts: Literal["tls", "auto", "namespace"] = (
        "tls"  # what parts two nodes: frames above TLS, or the kernel (world=local)
    )
    profile: str = ""  # executor profile measured by `twin calibrate executor`; workers then run at its speed
    sensors: str | tuple[str, ...] = "trace"  # one or several of scenarios.sensors.NAMES (world=local)
    assume: dict[str, bool | float] = msgspec.field(default_factory=dict)  # readings that they lack, by field of a Row

    @property
    def served(self) -> Shape:
        """The served model's shape."""
        return self.shape or SHAPES[self.model]

    @property
    def models(self) -> dict[str, Shape]:
        """All models by name, the best first."""
        return {self.model: self.served, **{one.model: one.served for one in self.smaller}}


class ScenarioError(ValueError):
    """The user's scenario cannot be run; the message is one line for them."""


def build(data: dict[str, Any]) -> Scenario:
    """Validate plain data into a `Scenario`.

    Raises:
        ScenarioError: unknown key, wrong type, value out of range, or parts that contradict one another.
    """
    data = with_protocol(with_rule(data))
    try:
        scenario = msgspec.convert(data, Scenario)
    except msgspec.ValidationError as error:
        raise ScenarioError(explain(str(error), data, Scenario)) from None
    try:
        _cross_check(scenario)
    except ValueError as error:  # parts check themselves, and know of no scenario
        raise ScenarioError(str(error)) from None
    return scenario


def with_rule(data: Any) -> Any:
    """Name the documented harvest rule where limits are given without a rule."""
    return _with_kind(data, "harvest", "rule", "documented")


def with_protocol(data: Any) -> Any:
    """Name Raft where consensus is given parameters without a protocol."""
    return _with_kind(data, "consensus", "protocol", "raft")


def _with_kind(data: Any, family: str, kind: str, default: str) -> Any:
    policy = data.get("policy") if isinstance(data, dict) else None
    group = policy.get(family) if isinstance(policy, dict) else None
    if policy is None or not isinstance(group, dict) or kind in group:
        return data
    return {**data, "policy": {**policy, family: {kind: default, **group}}}


def _cross_check(s: Scenario) -> None:
    """Refuse what no single field shows to be wrong."""
    require_finite(to_plain(s))
    if s.shape is None and s.model not in SHAPES:
        raise ScenarioError(f"model={s.model!r}: allowed: {', '.join(sorted(SHAPES))}")
    for shape in (s.shape, *(one.shape for one in s.smaller)):
        _check_shape(shape)
    if s.checkpoint and s.shape is None:
        raise ScenarioError(f"checkpoint={s.checkpoint!r}: needs its shape as well; twin serve --model DIR finds it")
    if not s.backends:
        raise ScenarioError("backends=[]: expected at least one of torch, jax")
    _check_fleet(s)
    bears = bears_liars(s.policy.consensus) and not s.adversaries_beyond_f
    check_adversaries(s.adversaries, s.adversaries_max, s.fleet, bears=bears)
    check_policy(s.policy)
    council.check(s.policy, s.fleet)
    check_detector(s.policy.membership, s.fleet.size)
    prepared, batched = isinstance(s.policy.recovery, PreparedConfig), isinstance(s.policy.serving, BatchedConfig)
    if prepared and batched and s.network.home == "loopback":
        raise ScenarioError("policy.recovery.rule='prepared': on one host it needs policy.serving.rule=one_by_one")
    if s.network.bursts and s.network.bursts not in CHANNELS:
        raise ScenarioError(f"network.bursts={s.network.bursts!r}: allowed: {', '.join(sorted(CHANNELS))}")
    if s.policy.serving.share_prefixes and s.policy.coordination.spot_checks is not None:
        raise ScenarioError(
            "policy.serving.share_prefixes=true: with spot_checks every stage must have computed all of it"
        )
    check_smaller(s)
    sensors.check(s.sensors, s.assume)
    if s.policy.coordination.spot_checks is not None and s.world == "local":
        if s.executor == "paced":
            raise ScenarioError("executor='paced': with spot_checks something must be computed, expected 'model'")
        if s.activations != "f32":
            raise ScenarioError(f"activations={s.activations!r}: with spot_checks neighbours commit to 'f32' alone")
    if s.duration_s / s.reading_s > READINGS_MAX:
        raise ScenarioError(
            f"reading_s={s.reading_s:g}: expected at most {READINGS_MAX:,} readings in duration_s={s.duration_s:g}"
        )
    _check_network(s.network, s.world)
    _check_workload(s.workload)
    _check_faults(s)


def _check_shape(shape: Shape | None) -> None:
    """Refuse a model without layers, or one whose numbers take no bytes."""
    for name in ("layers", "hidden", "heads", "kv_heads", "head_dim", "ffn", "vocab") if shape else ():
        if getattr(shape, name) < 1:
            raise ScenarioError(f"shape.{name}={getattr(shape, name)}: expected at least 1")
    for name in ("bytes_per_weight", "bytes_per_kv", "bytes_per_activation") if shape else ():
        if getattr(shape, name) <= 0:
            raise ScenarioError(f"shape.{name}={getattr(shape, name)}: expected above 0")


READINGS_MAX = 10_000_000
"""Of a run (our choice): owners' habits are drawn for all of them before it begins. A year of readings each 3 s."""
SECONDS_MAX = 1e9
"""Longest time of a field, 31 years (our bound): nodes count nanoseconds, and send them as 64-bit integers."""


def require_finite(plain: dict[str, Any]) -> None:
    """Refuse a scenario, as plain data, with a number that is not one, or a time that no clock of a node reaches."""
    for path, value in _numbers("", plain):
        if not math.isfinite(value):
            raise ScenarioError(f"{path}={value}: expected a finite number")
        if re.search(r"(?<!_per)_s\b", path) and abs(value) > SECONDS_MAX:
            raise ScenarioError(f"{path}={value}: expected at most {SECONDS_MAX:g} seconds")


def _numbers(path: str, plain: Any) -> Iterator[tuple[str, float]]:
    """Yield every float of plain data with its dotted path."""
    if isinstance(plain, dict):
        for key, value in plain.items():
            yield from _numbers(f"{path}.{key}" if path else str(key), value)
    elif isinstance(plain, list | tuple):
        for i, value in enumerate(plain):
            yield from _numbers(f"{path}[{i}]", value)
    elif isinstance(plain, float):
        yield path, plain


def _check_fleet(s: Scenario) -> None:
    fleet, mains = s.fleet, s.fleet.desktops + s.fleet.gpu_boxes
    if fleet.size == 0:
        raise ScenarioError("fleet.size=0: expected at least one device")
    try:
        check_size(fleet.committee, mains, f=1 if bears_liars(s.policy.consensus) else 0)
    except CommitteeError as error:
        raise ScenarioError(f"fleet.{error}") from None
    if fleet.dedicated > mains:
        raise ScenarioError(f"fleet.dedicated={fleet.dedicated}: needs machines on the mains, the fleet has {mains}")
    if not fleet.time_zones_h:
        raise ScenarioError("fleet.time_zones_h=[]: expected at least one, e.g. [0.0]")
    if fleet.shaped and s.network.home != "loopback":
        raise ScenarioError(
            f"fleet.shaped={sorted(fleet.shaped)}: expected network.home=loopback, machines of one host"
        )
    if (s.cores or s.pinned) and s.network.home != "loopback":
        what = f"cores={s.cores}" if s.cores else "pinned=True"
        raise ScenarioError(f"{what}: expected network.home=loopback, not {s.network.home!r}")
    if s.executor == "paced" and s.network.home != "loopback":
        raise ScenarioError(f"executor='paced': expected network.home=loopback, not {s.network.home!r}")
    names = [f"{name}-{k}" for name, count in fleet.names.items() for k in range(count)]
    if unknown := sorted(set(fleet.shaped) - set(names)):
        raise ScenarioError(f"fleet.shaped: {unknown[0]!r} is no device; allowed: {', '.join(names)}")


def _check_network(n: Network, world: str) -> None:
    if n.replay and (world != "sim" or n.home == "loopback"):
        raise ScenarioError(f"network.replay={n.replay!r}: expected '' with world=local or network.home=loopback")
    if n.access == "fitted" and n.home != "cable":  # fixed lines were measured, whatever their kind
        raise ScenarioError(f"network.home={n.home!r}: expected 'cable' with network.access='fitted'")
    if n.shards == "fetched" and (world != "sim" or n.home == "loopback"):
        raise ScenarioError("network.shards=fetched: expected on_flash with world=local or network.home=loopback")
    if n.sharing == "lv08" and n.slow_start:
        raise ScenarioError("network.slow_start=True: expected false with network.sharing='lv08', which has it already")


def _check_workload(w: Workload) -> None:
    if not any(w.mix.values()):
        raise ScenarioError(f"workload.mix={dict(w.mix)}: expected a weight above 0 for at least one class")
    missing = [name for name in PRIORITIES if name not in w.deadline_s]
    if missing:
        raise ScenarioError(f"workload.deadline_s={dict(w.deadline_s)}: expected one for every class, not {missing[0]}")
    for name, deadline_s in w.deadline_s.items():
        if deadline_s > DEADLINE_MAX_S:  # gateways do not read such a request, and its client asks on and on
            raise ScenarioError(f"workload.deadline_s.{name}={deadline_s}: expected at most {DEADLINE_MAX_S:g}, a year")
    if isinstance(w, Azure):
        hour, _, minute = w.start.partition(":")
        if not (hour.isdecimal() and minute.isdecimal() and int(hour) < 24 and len(minute) == 2 and int(minute) < 60):
            raise ScenarioError(f"workload.start={w.start!r}: expected HH:MM, from 00:00 to 23:59")
        if not w.path:
            raise ScenarioError(
                "workload.path='': the trace's file is needed, e.g. workload.path=AzureLLMInferenceTrace_conv.csv"
            )
    if isinstance(w, Recorded) and not w.path:
        raise ScenarioError("workload.path='': a Run's requests.parquet is needed")


def _check_faults(s: Scenario) -> None:
    fleet = s.fleet
    names = [f"{name}-{k}" for name, count in fleet.names.items() for k in range(count)]
    beyond = ("worker", "random") if fleet.size > fleet.committee else ()
    allowed = faults.LOCAL if s.world == "local" else ()
    faults.check(s.faults, names, fleet.committee, _groups(fleet), ("leader", *beyond), allowed)


def _groups(fleet: Fleet) -> dict[str, range]:
    """Name the groups of a fleet, each with a bound of its size; who is in the drawn ones is settled by the seed."""
    groups = {kind: range(count) for kind, count in zip(KINDS, fleet.counts, strict=True) if count}
    drawn = {"zone": len(fleet.time_zones_h), "carrier": faults.CARRIERS, "version": faults.VERSIONS}
    return groups | {f"{name}-{k}": range(fleet.size) for name, count in drawn.items() for k in range(count)}


def to_plain(scenario: Strict) -> dict[str, Any]:
    """Return the scenario as plain data, every default filled in, for manifests."""
    plain: dict[str, Any] = msgspec.to_builtins(scenario)
    return plain
