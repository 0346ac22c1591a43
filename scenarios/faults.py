"""Faults as data: one vocabulary for scenario files, notebooks and the hunter.

A fault has a time, a length and victims. Victims are named: a node (``phone-3``), ``committee:K``, ``leader``,
``worker`` (one that is busy), ``random`` (any worker), or a group, ``group:NAME``, whose members fall together: a time
zone, a carrier, an app version. Times are seconds from the start of the run.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sized
from math import gamma
from typing import Annotated, Any, ClassVar, Literal, Union

import msgspec
from msgspec import Meta

Count = Annotated[int, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0)]
Moment = Annotated[float, Meta(ge=0.001)]
"""Seconds that a fault lasts, or between its steps: below a millisecond no timer of a node comes in it (our bound)."""
Lag = Annotated[float, Meta(ge=1e-6)]
"""Seconds by which something comes later: less than a microsecond is below what links and disks take in any case."""
NonNegative = Annotated[float, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]

DOWN_SIGMA = 1.37
"""Spread of log-normal downtimes, as of LANL node repairs (fitted to the failure data of the LANL systems)."""

CARRIERS, VERSIONS = 3, 2
"""Mobile carriers and versions of the app among a village's devices: assumptions, for faults that a group shares."""

Writes = Literal["lost", "torn", "reordered", "corrupted"]
"""What a crash makes of writes that were not yet durable: none reached the disk; the first ones did, the last of them
in part; any subset did, with holes; they did, with a bit flipped. What was durable stays as it was."""


class Base(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind"):
    """Base of every fault."""

    victims: ClassVar[tuple[str, ...]] = ("node",)  # the fields that name nodes


class Timed(Base, frozen=True, kw_only=True):
    """A fault that begins at a time."""

    at_s: NonNegative


class Spell(Timed, frozen=True, kw_only=True):
    """A fault that begins at a time and lasts."""

    for_s: Moment = 60.0


# -- machines -------------------------------------------------------------------------------------------


class Crash(Timed, frozen=True, kw_only=True, tag="crash"):
    """A node stops at once and restarts ``down_s`` later (never, if negative)."""

    node: str
    down_s: float = 30.0
    writes: Writes = "lost"
    disk: Literal["kept", "lost"] = "kept"  # lost: it comes back with an empty disk (amnesia)


class Pause(Spell, frozen=True, kw_only=True, tag="pause"):
    """A node does nothing for a while, then goes on where it was: a stopped process, a sleeping laptop."""

    node: str


class Slow(Spell, frozen=True, kw_only=True, tag="slow"):
    """Every step and every job of a node takes ``factor`` times as long."""

    node: str
    factor: Annotated[float, Meta(ge=1, le=1e6)] = 10.0


class Clock(Spell, frozen=True, kw_only=True, tag="clock"):
    """A node's wall clock is off: by a step, and by a drift that grows. Afterwards it is right again.

    Its monotonic clock, and with it every timer, stays true: an operating system slews that one.
    """

    node: str
    offset_s: float = 0.0
    drift_ppm: Annotated[float, Meta(ge=-1e6, le=1e6)] = 0.0  # from a clock that stands still to one of twice the speed


class Churn(Base, frozen=True, kw_only=True, tag="churn"):
    """Random crashes of workers, or of one group, all run long: Weibull uptimes and log-normal downtimes."""

    victims: ClassVar[tuple[str, ...]] = ("group",)
    group: str = ""  # "": every worker
    mean_hours: Annotated[float, Meta(ge=1e-6)] = 200.0
    shape: Annotated[float, Meta(ge=0.1, le=10)] = 1.0  # of the uptimes; 1 is exponential, below 1 clustered
    down_median_s: Lag = 120.0
    down_sigma: Annotated[float, Meta(ge=0, le=10)] = DOWN_SIGMA


class Cascade(Timed, frozen=True, kw_only=True, tag="cascade"):
    """One member of a group falls and the others carry its load: each step, each may fall, and the more so the fewer.

    The chance in a step is ``chance`` times (members / members left) to the power ``steepness``, at most one.
    """

    victims: ClassVar[tuple[str, ...]] = ("group",)
    group: str
    chance: Share = 0.05
    steepness: Annotated[float, Meta(ge=0, le=20)] = 2.0
    step_s: Moment = 5.0
    steps: Annotated[int, Meta(ge=1, le=1000)] = 10
    down_s: float = 60.0


# -- networks -------------------------------------------------------------------------------------------


class Partition(Spell, frozen=True, kw_only=True, tag="partition"):
    """``group`` cannot talk to any other node; ``one_way`` lets its own messages out."""

    victims: ClassVar[tuple[str, ...]] = ("group",)
    group: tuple[Count | str, ...]  # names, or committee members by index
    one_way: bool = False


class Cut(Spell, frozen=True, kw_only=True, tag="cut"):
    """Pairs of nodes that cannot talk to each other, while each still talks to the rest; ``one_way``: to the second."""

    victims: ClassVar[tuple[str, ...]] = ("pairs",)
    pairs: Annotated[tuple[tuple[str, str], ...], Meta(min_length=1)]
    one_way: bool = False


class Loss(Spell, frozen=True, kw_only=True, tag="loss"):
    """Links lose this share of messages; ``nodes`` are those whose links are bad, () is all."""

    victims: ClassVar[tuple[str, ...]] = ("nodes",)
    share: Share
    nodes: tuple[str, ...] = ()


class Delay(Spell, frozen=True, kw_only=True, tag="delay"):
    """Messages take ``by_s`` longer."""

    victims: ClassVar[tuple[str, ...]] = ("nodes",)
    by_s: Lag
    nodes: tuple[str, ...] = ()


class Duplicate(Spell, frozen=True, kw_only=True, tag="duplicate"):
    """This share of messages arrives twice."""

    victims: ClassVar[tuple[str, ...]] = ("nodes",)
    share: Share
    nodes: tuple[str, ...] = ()


class Reorder(Spell, frozen=True, kw_only=True, tag="reorder"):
    """This share of messages is held back by up to ``by_s``, so that later ones overtake."""

    victims: ClassVar[tuple[str, ...]] = ("nodes",)
    share: Share
    by_s: Lag = 0.1
    nodes: tuple[str, ...] = ()


# -- disks ----------------------------------------------------------------------------------------------


class SlowDisk(Spell, frozen=True, kw_only=True, tag="slow_disk"):
    """Every sync takes ``by_s`` longer."""

    node: str
    by_s: Lag = 0.1


class FailingDisk(Spell, frozen=True, kw_only=True, tag="failing_disk"):
    """A sync fails: nobody knows what reached the disk, so the node stops, and stays down until the end of the spell.

    To go on after a failed fsync, as if the next could make up for it, loses data (Rebello et al., "Can applications
    recover from fsync failures?", USENIX ATC 2020).
    """

    node: str
    writes: Writes = "torn"


class FullDisk(Spell, frozen=True, kw_only=True, tag="full_disk"):
    """Nothing can be written: the node stops at its next save and cannot come back before there is room."""

    node: str


class Rot(Timed, frozen=True, kw_only=True, tag="rot"):
    """A bit of a durable record flips, or a write turns out to have landed at another place, over what stood there.

    The node notices when it next reads its disk. By default never in the last good copy of a datum: the newest durable
    record of a disk, which nothing behind it proves to have been there, is spared. ``last_copy`` allows it, and no
    crash-fault protocol survives that. Both happen: Bairavasundaram et al., "An Analysis of Data Corruption in the
    Storage Stack" (FAST'08).
    """

    node: str
    damage: Literal["bit", "misdirected"] = "bit"
    last_copy: bool = False


# -- the world around a device --------------------------------------------------------------------------


class HeatWave(Spell, frozen=True, kw_only=True, tag="heat_wave"):
    """The air around devices is ``by_c`` warmer."""

    victims: ClassVar[tuple[str, ...]] = ("nodes",)
    by_c: Annotated[float, Meta(gt=0, le=40)] = 10.0
    nodes: tuple[str, ...] = ()


class PowerCut(Spell, frozen=True, kw_only=True, tag="power_cut"):
    """No mains: what has no battery stops, what has one runs on it."""

    victims: ClassVar[tuple[str, ...]] = ("nodes",)
    nodes: tuple[str, ...] = ()


class NetworkSwitch(Spell, frozen=True, kw_only=True, tag="network_switch"):
    """A device is on another network: its mobile one, or none."""

    node: str
    to: Literal["mobile", "none"] = "mobile"


class TakeAway(Spell, frozen=True, kw_only=True, tag="take_away"):
    """The owner takes the device in hand: unplugged, its screen on."""

    node: str


Fault = Union[  # noqa: UP007
    Crash, Pause, Slow, Clock, Churn, Cascade, Partition, Cut, Loss, Delay, Duplicate, Reorder, SlowDisk, FailingDisk,
    FullDisk, Rot, HeatWave, PowerCut, NetworkSwitch, TakeAway,
]  # fmt: skip

MACHINES = (Crash, Pause, Slow, Clock, Churn, Cascade)
NETWORKS = (Partition, Cut, Loss, Delay, Duplicate, Reorder)
DISKS = (SlowDisk, FailingDisk, FullDisk, Rot)
SURROUNDINGS = (HeatWave, PowerCut, NetworkSwitch, TakeAway)
LOCAL = (Crash, Pause, Churn, Partition, Cut, Loss, Delay, Duplicate, Reorder, FullDisk)
"""What processes of one machine can be made to suffer (world=local)."""


FAULTS_MAX = 4096
"""In one schedule: draws are keyed by a fault's place in it and one of a million nodes, in 32 bits."""


class FaultError(ValueError):
    """A schedule of faults that cannot be carried out; the message is one line that names the item."""


def kind_of(fault: Any) -> str:
    """Return a fault's kind, as files spell it.

    >>> kind_of(Loss(at_s=1.0, share=0.1))
    'loss'
    """
    return str(fault.__struct_config__.tag)


def end_s(fault: Fault) -> float:
    """Return when a fault is over, s; infinity for one that never ends."""
    if isinstance(fault, Churn):
        return float("inf")
    if isinstance(fault, Crash):
        return fault.at_s + fault.down_s if fault.down_s >= 0 else float("inf")
    if isinstance(fault, Cascade):
        return fault.at_s + fault.steps * fault.step_s + max(0.0, fault.down_s)
    return fault.at_s + (fault.for_s if isinstance(fault, Spell) else 0.0)


def weibull_s(standard_exponential: float, churn: Churn) -> float:
    """Return an uptime, s: Weibull with the churn's mean and shape, from a draw of the exponential law of mean 1.

    A power of an exponential is Weibull; its mean is the scale times Gamma(1 + 1 / shape).
    """
    scale_h = churn.mean_hours / gamma(1.0 + 1.0 / churn.shape)
    return float(scale_h * standard_exponential ** (1.0 / churn.shape) * 3600.0)


def check(
    faults: tuple[Fault, ...], nodes: Collection[str], committee: int, groups: Mapping[str, Sized],
    roles: Collection[str] = ("leader", "worker", "random"), allowed: tuple[type, ...] = (),
) -> None:  # fmt: skip
    """Refuse faults that name nobody, or a world that cannot suffer them.

    Args:
        faults: the schedule.
        nodes: every node's name.
        committee: members that an index may name.
        groups: group's name to its members.
        roles: victims that are chosen when the time comes.
        allowed: kinds that this world carries out; () is all.

    Raises:
        FaultError: one line that names the fault, the value and what is allowed.
    """
    if len(faults) > FAULTS_MAX:
        raise FaultError(f"faults: there are {len(faults)}; expected at most {FAULTS_MAX}")
    for i, fault in enumerate(faults):
        if allowed and not isinstance(fault, allowed):
            kinds = ", ".join(sorted(kind_of(kind) for kind in allowed))
            raise FaultError(f"faults[{i}].kind={kind_of(fault)!r}: not in this world; allowed: {kinds}")
        for field, who in _named(fault):
            _check_who(f"faults[{i}].{field}", who, nodes, committee, groups, roles)
        if isinstance(fault, Partition):
            _check_group(i, fault, nodes)
        elif isinstance(fault, Cut):
            for pair in fault.pairs:
                if pair[0] == pair[1]:
                    raise FaultError(f"faults[{i}].pairs={list(pair)}: expected two different nodes")
        elif isinstance(fault, Cascade) and len(groups.get(fault.group.removeprefix("group:"), ())) < 2:
            raise FaultError(f"faults[{i}].group={fault.group!r}: expected a group of at least two nodes")


def _named(fault: Fault) -> Iterator[tuple[str, int | str]]:
    """Yield (field, victim) for every victim a fault names."""
    for field in fault.victims:
        value: Any = getattr(fault, field)
        if isinstance(value, str):
            if value or not isinstance(fault, Churn):
                yield field, value
            continue
        for item in value:
            for who in item if isinstance(item, tuple) else (item,):
                yield field, who


def _check_group(i: int, fault: Partition, nodes: Collection[str]) -> None:
    group = list(fault.group)
    twice = [who for who in group if group.count(who) > 1]
    if twice:
        raise FaultError(f"faults[{i}].group={group}: {twice[0]!r} is there twice; expected each node once")
    if len(group) in (0, len(nodes)):
        raise FaultError(f"faults[{i}].group={group}: expected somebody on both sides")


def _check_who(
    where: str, who: int | str, nodes: Collection[str], committee: int, groups: Mapping[str, Sized],
    roles: Collection[str],
) -> None:  # fmt: skip
    if isinstance(who, int):
        if who >= committee:
            raise FaultError(f"{where}={who}: committee has members 0..{committee - 1}")
        return
    if who in nodes or who in roles:
        return
    role, _, name = who.partition(":")
    if role == "committee" and name.isdecimal() and int(name) < committee and str(int(name)) == name:
        return
    if role == "group" and name in groups:
        return
    allowed = [*roles, *([f"committee:0..{committee - 1}"] if committee else []), *_ranges(nodes)]
    allowed += [f"group:{name}" for name in sorted(groups)]
    raise FaultError(f"{where}={who!r}: no such node; allowed: {', '.join(allowed)}")


def _ranges(nodes: Collection[str]) -> list[str]:
    """Name nodes shortly: ``phone-0..399`` for what is numbered from 0 without a gap."""
    stems: dict[str, list[int]] = {}
    plain: list[str] = []
    for node in nodes:
        stem = node.rstrip("0123456789")
        if len(stem) < len(node):
            stems.setdefault(stem, []).append(int(node[len(stem) :]))
        else:
            plain.append(node)
    for stem, numbers in stems.items():
        low, high = min(numbers), max(numbers)
        whole = len(numbers) == high - low + 1
        plain += [f"{stem}{low}..{high}"] if whole and high > low else [f"{stem}{k}" for k in sorted(numbers)]
    return plain
