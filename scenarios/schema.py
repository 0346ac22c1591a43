"""The scenario: what happens, as typed data. One place defines each field, its unit, its range and its default.

YAML, the command line and notebooks all end here: `build` turns plain data into a frozen `Scenario` or refuses with
one line that names the field, the value and what is allowed. Nothing is written before it has passed.
"""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Literal, Union

import msgspec
from msgspec import Meta

from policies.config import PolicyConfig

Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0)]
NonNegative = Annotated[float, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
Minute = Annotated[int, Meta(ge=0, le=1439)]


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of every part: frozen, and closed to unknown keys."""


class Fleet(Strict, frozen=True):
    """How many devices of each kind, and who runs the control plane."""

    phones: Count = 400
    tablets: Count = 30
    laptops: Count = 50
    desktops: Count = 16
    gpu_boxes: Count = 4
    dedicated: Count = 2  # mains machines lent all day: harvest hours, idle time and screen do not apply to them
    committee: Annotated[int, Meta(ge=1, le=9)] = 5  # Raft members, taken from the machines on the mains
    time_zones_h: tuple[Annotated[float, Meta(ge=-12, le=14)], ...] = (0.0,)

    @property
    def size(self) -> int:
        """Number of devices."""
        return self.phones + self.tablets + self.laptops + self.desktops + self.gpu_boxes


class Owners(Strict, frozen=True):
    """Habits of the owners. Assumptions, stated in `models.availability`."""

    plug_minute: Minute = 1350  # median minute of the evening plug-in
    unplug_minute: Minute = 425  # median minute of the morning unplug
    spread_min: Positive = 75.0  # standard deviation of both
    nightly_share: Share = 0.8  # owners who charge every night
    top_ups_per_day: NonNegative = 1.2
    screen_minutes_per_day: NonNegative = 240.0
    away_share: Share = 0.7  # phones that leave home (and Wi-Fi) by day
    ambient_c: Annotated[float, Meta(ge=-30, le=50)] = 22.0


class Network(Strict, frozen=True):
    """Access links and the backbone between them."""

    home: Literal["cable", "fibre", "loopback"] = "cable"
    mobile: Literal["lte", "5g"] = "lte"
    backbone_s: NonNegative = 0.012  # one-way
    loss: Share = 0.001  # of messages, end to end, after the access links' own loss
    jitter_sigma: NonNegative = 0.3
    duplicate: Share = 0.0005


Priority = Literal["critical", "high", "normal", "low", "background"]
PRIORITIES: tuple[str, ...] = ("critical", "high", "normal", "low", "background")

DEFAULT_MIX: dict[Priority, float] = {"critical": 2, "high": 10, "normal": 60, "low": 20, "background": 8}
DEFAULT_DEADLINE_S: dict[Priority, float] = {
    "critical": 30, "high": 60, "normal": 120, "low": 300, "background": 900,
}  # fmt: skip
"""Relative weights and deadlines by class: assumptions; 300 s is the village's documented inference time-out."""


class WorkloadBase(Strict, frozen=True):
    """What every workload has: priorities, deadlines, and how patient clients are."""

    mix: dict[Priority, NonNegative] = msgspec.field(default_factory=lambda: dict(DEFAULT_MIX))
    deadline_s: dict[Priority, Positive] = msgspec.field(default_factory=lambda: dict(DEFAULT_DEADLINE_S))
    clients: Annotated[int, Meta(ge=1)] = 40
    retry_s: Positive = 10.0  # a client that heard nothing asks the next gateway, with the same op_id


class Synthetic(WorkloadBase, frozen=True, tag_field="kind", tag="synthetic"):
    """A synthetic day: arrivals by a daily curve, lengths log-normal, both fitted (`scenarios.workload`)."""

    requests: Count = 22_000
    prompt_tokens: Annotated[int, Meta(ge=1)] | None = None  # fixed lengths instead of the fitted ones
    new_tokens: Annotated[int, Meta(ge=1)] | None = None
    flat: bool = False  # constant rate instead of the daily curve


class Azure(WorkloadBase, frozen=True, tag_field="kind", tag="azure_conv"):
    """The Azure LLM inference trace of 2023, as published: CSV, plain or gzip."""

    path: str = ""
    start: str = "01:00"  # when in the day its first request arrives
    thin: Annotated[float, Meta(gt=0, le=1)] = 1.0  # keep this share of the requests, by a keyed draw
    speed: Positive = 1.0  # 2 halves the gaps between arrivals
    repeat: Annotated[int, Meta(ge=1, le=1000)] = 1  # play it again, shuffled within minutes by the seed


Workload = Union[Synthetic, Azure]  # noqa: UP007


class Crash(Strict, frozen=True, tag_field="kind", tag="crash"):
    """A node stops at once; what was not synced is lost. It restarts ``down_s`` later (never, if negative)."""

    at_s: NonNegative
    node: str  # a device's name, "leader", "worker" (a busy one), "committee:K" or "random"
    down_s: float = 30.0
    torn: bool = False  # the last unsynced write survives in part


class Partition(Strict, frozen=True, tag_field="kind", tag="partition"):
    """Committee members ``group`` (by index) cannot talk to any other node; ``one_way`` lets their own messages out."""

    at_s: NonNegative
    group: tuple[Count, ...]
    for_s: Positive = 60.0
    one_way: bool = False


class Loss(Strict, frozen=True, tag_field="kind", tag="loss"):
    """Every link loses this share of messages for a while."""

    at_s: NonNegative
    share: Share
    for_s: Positive = 60.0


class Churn(Strict, frozen=True, tag_field="kind", tag="churn"):
    """Random crashes of workers: exponential gaps with this mean per device, and log-normal downtimes."""

    mean_hours: Positive = 200.0
    down_median_s: Positive = 120.0


Fault = Union[Crash, Partition, Loss, Churn]  # noqa: UP007


class Adversary(Strict, frozen=True):
    """An honest node with a wrapper around it."""

    behaviour: Literal["silent", "wrong_results"]
    count: Count = 1
    from_s: NonNegative = 0.0


class Record(Strict, frozen=True):
    """What the run keeps."""

    journals: Literal["none", "committee", "all"] = "none"
    devices_every_s: Positive = 600.0


class Scenario(Strict, frozen=True):
    """Everything a world needs to run, from either world."""

    name: str
    seed: Annotated[int, Meta(ge=0, le=(1 << 63) - 1)] = 1
    world: Literal["sim", "local"] = "sim"
    duration_s: Positive = 86_400.0
    start_minute: Minute = 0  # local time of day at t = 0
    model: str = "llama-3.2-3b"
    fleet: Fleet = Fleet()
    owners: Owners = Owners()
    network: Network = Network()
    workload: Workload = Synthetic()
    faults: tuple[Fault, ...] = ()
    adversaries: tuple[Adversary, ...] = ()
    policy: PolicyConfig = PolicyConfig()
    record: Record = Record()
    reading_s: Positive = 60.0  # period of the devices' sensors, and of the fleet's ticks
    backends: tuple[Literal["torch", "jax"], ...] = ("torch",)  # executors by worker, in turn (world=local)
    cores: Annotated[int, Meta(ge=1)] | None = None  # CPU cores that all workers share (machines of one host)
    profile: str = ""  # executor profile measured by `twin calibrate executor`; workers then run at its speed
    sensors: Literal["host", "trace"] = "trace"


class ScenarioError(ValueError):
    """The user's scenario cannot be run; the message is one line for them."""


def build(data: dict[str, Any]) -> Scenario:
    """Validate plain data into a `Scenario`.

    Raises:
        ScenarioError: unknown key, wrong type, value out of range, or parts that contradict one another.
    """
    try:
        scenario = msgspec.convert(data, Scenario)
    except msgspec.ValidationError as error:
        raise ScenarioError(_explain(str(error), data)) from None
    _cross_check(scenario)
    return scenario


def _cross_check(s: Scenario) -> None:
    if s.fleet.committee > s.fleet.desktops + s.fleet.gpu_boxes:
        mains = s.fleet.desktops + s.fleet.gpu_boxes
        raise ScenarioError(f"fleet.committee={s.fleet.committee}: needs machines on the mains, the fleet has {mains}")
    for i, fault in enumerate(s.faults):
        if isinstance(fault, Partition) and any(k >= s.fleet.committee for k in fault.group):
            raise ScenarioError(
                f"faults[{i}].group={list(fault.group)}: committee has members 0..{s.fleet.committee - 1}"
            )
    if isinstance(s.workload, Azure) and not s.workload.path:
        raise ScenarioError(
            "workload.path='': the trace's file is needed, e.g. workload.path=AzureLLMInferenceTrace_conv.csv"
        )


def to_plain(scenario: Scenario) -> dict[str, Any]:
    """Return the scenario as plain data, every default filled in, for manifests."""
    plain: dict[str, Any] = msgspec.to_builtins(scenario)
    return plain


def _explain(message: str, data: dict[str, Any]) -> str:
    """Turn msgspec's message into: field=value: what is allowed."""
    text, _, where = message.partition(" - at `$")
    path = where.rstrip("`").lstrip(".")
    if "unknown field" in text:
        key = text.split("`")[1]
        names = sorted(_field_names(path))
        near = difflib.get_close_matches(key, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"allowed: {', '.join(names)}"
        return f"{'.'.join(x for x in (path, key) if x)}: no such field; {hint}"
    value = _at(data, path)
    return f"{path}={value!r}: {text[0].lower()}{text[1:]}"


def _at(data: Any, path: str) -> Any:
    for part in path.replace("[", ".").replace("]", "").split("."):
        if isinstance(data, dict) and part in data:
            data = data[part]
        elif isinstance(data, list | tuple) and part.isdigit() and int(part) < len(data):
            data = data[int(part)]
    return data


def _field_names(path: str) -> set[str]:
    """Field names allowed at a dotted path of the schema."""
    kinds: list[Any] = [Scenario]
    for part in [x for x in path.replace("[...]", ".*").replace("[", ".*").split(".") if x]:
        found: list[Any] = []
        for kind in kinds:
            for field in msgspec.structs.fields(kind):
                if field.name == part or part.startswith("*"):
                    found += _structs_in(field.type)
        if not part.startswith("*"):
            kinds = found or kinds
    return {field.name for kind in kinds for field in msgspec.structs.fields(kind)}


def _structs_in(kind: Any) -> list[Any]:
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return [kind]
    return [s for inner in getattr(kind, "__args__", ()) for s in _structs_in(inner)]
