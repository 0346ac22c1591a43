"""What it costs to know who is alive, against the size of the group: SWIM with Lifeguard beside phi accrual.

In simulated time, at the detectors' defaults and over links that lose one message in a hundred: how long after a crash
the first member suspects and the last one knows, how often members that live are suspected or held dead, and what a
member sends. Then a group with a quarter of its members slow: SWIM with Lifeguard and without, and phi accrual.
Simulated figures do not depend on this machine; a seed gives the same ones everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean
from typing import NamedTuple

from experiments.bench.table import Line
from policies.config import MembershipRules, PhiConfig, SwimConfig
from policies.membership import failure_detector
from policies.port import NS_PER_S
from scenarios.schema import Network
from sim.cluster import Cluster
from sim.network import Disturbance
from sim.world import few_collections

SIZES = (8, 16, 32, 64, 128)
CRASHES = 2
WARM_S = 10.0
"""Everybody has heard of everybody's first life by then."""
SPANS_S = {"swim": (30.0, 30.0), "phi": (10.0, 10.0)}
"""A quiet spell, in which bytes and false accusations are counted (one push-pull period of SWIM), and the time after
each crash (above the longest suspicion at 128 members that others share). Phi's messages grow with the square of the
group, so its spells are shorter."""
SLOW_SHARE, SLOW_S, AFTER_S = 0.25, 16.0, 16.0
"""A quarter of the members is slow at once: for 16 s nothing that they send, or that is sent to them, arrives, while
their timers go on; all of it arrives at the end, and another 16 s are counted. These numbers are assumptions:
Lifeguard's paper (arXiv 1707.00788) varies the delay of processing in a controlled manner, by values that we do not
have. 16 s is longer than plain SWIM suspects in the largest group here (8.4 s), so that every group is tried."""
SLOW_N = 16
"""Size of the group in this benchmark's own table; `experiments.published.false_positives` has all sizes."""
LINK = Network(backbone_s=0.002, jitter_sigma=0.5, loss=0.01, duplicate=0.0)
DETECTORS: dict[str, MembershipRules] = {"swim": SwimConfig(), "phi": PhiConfig()}
TRIED: dict[str, MembershipRules] = {
    "plain": SwimConfig(lifeguard=False), "lifeguard": SwimConfig(), "phi": PhiConfig(),
}  # fmt: skip
"""Detectors of groups with slow members."""

TITLE = f"membership: {CRASHES} crashes a size, 1 % of messages lost; simulated time"
LINES = (
    *(
        Line(f"{name}_{n}_{key}", f"{name}, {n} members: {label}", decimals)
        for name in DETECTORS
        for n in SIZES
        for key, label, decimals in (
            ("first_s", "first suspicion after (s)", 2),
            ("all_s", "known to all after, worst (s)", 2),
            ("false_suspect_per_h", "false suspicions/member/h", 1),
            ("false_dead", "false deaths", 0),
            ("bytes_per_s", "bytes/s sent by a member", 0),
        )
    ),
    *(Line(f"slow_{name}", f"a quarter of {SLOW_N} slow, {name}: false deaths") for name in TRIED),
)


class Seen(NamedTuple):
    """A change of a member's view."""

    time_s: float
    by: str
    whom: str
    status: str


class Wrong(NamedTuple):
    """False accusations of members that were not slow, one for each member that made it.

    Attributes:
        dead: verdicts.
        dead_by_healthy: those of members that were not slow themselves.
        suspected: suspicions.
    """

    dead: int
    dead_by_healthy: int
    suspected: int


class Group:
    """One simulated group and what its members saw."""

    def __init__(self, config: MembershipRules, n: int, seed: int) -> None:
        self.names = tuple(f"n{i}" for i in range(n))
        self.cluster = Cluster(lambda: failure_detector(config, self.names), n, seed, LINK)

    def hold(self, count: int, seconds: float) -> tuple[str, ...]:
        """Keep the messages of the first ``count`` members back from now on, both ways; return their names."""
        world = self.cluster.world
        slow = Disturbance(frozenset(range(count)), held_until_s=self.cluster.now_s + seconds)
        world.network.disturb(slow)
        world.engine.call_at(int(slow.held_until_s * NS_PER_S), world.network.calm, slow)
        return self.names[:count]

    def seen(self, since_s: float, *statuses: str) -> list[Seen]:
        """Return the accusations since a time."""
        told = (x for x in self.cluster.decisions if x.kind == "seen" and x.time_s >= since_s)
        all_ = (Seen(x.time_s, x.node, *x.value[1:3]) for x in told)  # a tag, then the fields of `policies.local.Seen`
        return [seen for seen in all_ if seen.status in statuses]


def measure(sizes: Sequence[int] = SIZES) -> dict[str, float]:
    """Return the table's figures; fewer ``sizes`` return those alone."""
    figures: dict[str, float] = {}
    for name, config in DETECTORS.items():
        for n in sizes:
            figures |= {f"{name}_{n}_{key}": value for key, value in of_size(config, n, *SPANS_S[name]).items()}
    return figures | {f"slow_{name}": while_some_are_slow(config, SLOW_N).dead for name, config in TRIED.items()}


def of_size(config: MembershipRules, n: int, quiet_s: float, detect_s: float, seed: int = 1) -> dict[str, float]:
    """Return the figures of one detector and size: a quiet spell, then crashes one by one."""
    group = Group(config, n, seed)
    cluster = group.cluster
    cluster.run(WARM_S)
    begun_bytes = cluster.world.network.bytes
    cluster.run(quiet_s)
    sent = (cluster.world.network.bytes - begun_bytes) / quiet_s / n
    firsts, lasts, wrong = list[float](), list[float](), group.seen(WARM_S, "suspect", "dead")
    for i in range(min(CRASHES, n - 3)):
        at_s, victim = cluster.now_s, group.names[i]
        cluster.crash(victim)
        cluster.run(detect_s + 0.37 * i)  # the next crash falls at another phase of the period
        saw = group.seen(at_s, "suspect", "dead")
        firsts.append(min(x.time_s for x in saw if x.whom == victim) - at_s)
        known = {x.by: x.time_s - at_s for x in saw if x.whom == victim and x.status == "dead"}
        up = n - 1 - i
        lasts.append(max(known.values()) if len(known) == up else float("nan"))
        wrong += [x for x in saw if x.whom not in group.names[: i + 1]]
    hours = (cluster.now_s - WARM_S) / 3600
    return {
        "first_s": mean(firsts),
        "all_s": max(lasts),
        "false_suspect_per_h": sum(x.status == "suspect" for x in wrong) / n / hours,
        "false_dead": sum(x.status == "dead" for x in wrong),
        "bytes_per_s": sent,
    }


def while_some_are_slow(config: MembershipRules, n: int, seed: int = 1) -> Wrong:
    """Return how members that are not slow were wronged by a group of whom `SLOW_SHARE` is slow for a while."""
    group = Group(config, n, seed)
    with few_collections():
        group.cluster.run(WARM_S)
        slow = group.hold(round(SLOW_SHARE * n), SLOW_S)
        group.cluster.run(SLOW_S + AFTER_S)
    wrong = [x for x in group.seen(WARM_S, "suspect", "dead") if x.whom not in slow]
    dead = [x for x in wrong if x.status == "dead"]
    return Wrong(len(dead), sum(x.by not in slow for x in dead), len(wrong) - len(dead))
