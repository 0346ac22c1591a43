"""What is asked of failure detectors: planted views break it, right ones and excused ones do not."""

from __future__ import annotations

import pytest

from policies.config import MembershipRules, NoDetectorConfig, PhiConfig, SwimConfig
from policies.local import Seen
from policies.port import NS_PER_S
from policies.wire import encode
from scenarios.checks import VillageChecks
from scenarios.checks.membership import OVER, ROSE, bounds, tell_fault
from scenarios.summary import detection_summary

SWIM = SwimConfig()
NOTICED_S, TRUSTED_S = 8 + 24 + 30, 90  # of four nodes: two rounds of probes, the longest suspicion, an exchange; three
Happening = tuple[float, str, str, str]  # when, and a view (observer, peer, status) or a fault (kind, node, phase)


def play(*history: Happening, life: int = 1, over_s: float = 1000.0, liars: tuple[str, ...] = ()) -> VillageChecks:
    """Feed views and faults of a village of four."""
    checks = VillageChecks(detector=SWIM, nodes=4, liars=liars)
    for at_s, a, b, c in history:
        now_ns = int(at_s * NS_PER_S)
        if a == "rose":
            checks.tell(now_ns, b, ROSE.kind)
        elif c in ("start", "end"):
            tell_fault(checks, now_ns, a, b, c)
        else:
            checks.decided(now_ns, a, "membership", "seen", encode(Seen(b, c, life)))
    checks.tell(int(over_s * NS_PER_S), "", OVER.kind)
    return checks


def broken(checks: VillageChecks) -> list[str]:
    """Return what broke."""
    return [check.broken for check in checks.detection if check.broken]


HONEST: list[list[Happening]] = [
    [(1, "a", "d", "alive"), (10, "crash", "d", "start"), (12, "a", "d", "suspect"), (20, "a", "d", "dead")],
    [(1, "a", "d", "alive"), (10, "crash", "d", "start"), (60, "rose", "d", "")],  # back before it was missed
    [(1, "a", "d", "alive"), (10, "crash", "d", "start"), (20, "crash", "a", "start")],  # who would say so is down
    [(10, "crash", "d", "start")],  # nobody spoke of it
    [(1, "a", "d", "dead"), (80, "a", "d", "alive")],
    [(1, "a", "d", "dead"), (80, "crash", "d", "start")],  # it became true
    [(1, "partition", "d", "start"), (9, "a", "d", "dead"), (500, "partition", "d", "end"), (580, "a", "d", "alive")],
    [(1, "a", "d", "suspect"), (60, "a", "d", "alive")],  # a suspicion is no verdict
    [(1, "a", "d", "suspect"), (9, "crash", "d", "start"), (60, "a", "d", "dead")],
]
WRONG: list[tuple[list[Happening], str]] = [
    (
        [(1, "a", "d", "alive"), (10, "crash", "d", "start"), (90, "a", "d", "dead")],
        "t=90000000000ns: a holds d alive, which has been down for 80 s; allowed are 62 s",
    ),
    (
        [(1, "a", "d", "alive"), (2, "b", "d", "alive"), (10, "no_power", "d", "start"), (20, "a", "d", "dead")],
        "t=1000000000000ns: b holds d alive, which has been down for 990 s; allowed are 62 s",
    ),
    (
        [(1, "a", "d", "suspect"), (70, "a", "d", "alive")],
        "t=70000000000ns: a holds d suspect, which has been up for 69 s; allowed are 62 s",
    ),
    (
        [(1, "a", "d", "dead"), (120, "a", "d", "alive")],
        "t=120000000000ns: a holds d dead, which has been up for 119 s; allowed are 90 s",
    ),
    (
        [(1, "a", "d", "dead"), (2, "crash", "d", "start"), (50, "rose", "d", "")],
        "t=1000000000000ns: a holds d dead, which has been up for 950 s; allowed are 90 s",
    ),
    (
        [(1, "cut", "d-a", "start"), (9, "a", "d", "dead"), (50, "cut", "d-a", "end"), (150, "a", "c", "alive")],
        "t=150000000000ns: a holds d dead, which has been up for 100 s; allowed are 90 s",
    ),
]  # fmt: skip


@pytest.mark.parametrize("history", HONEST)
def test_right_views_and_excused_ones_break_nothing(history: list[Happening]) -> None:
    """A verdict in time, a node that is back in time, a cut that lasts, and an observer that fell are all in order."""
    assert broken(play(*history)) == []


@pytest.mark.parametrize(("history", "why"), WRONG)
def test_a_wrong_view_that_lasts_breaks_a_promise(history: list[Happening], why: str) -> None:
    """The first one is named, with who holds it, of whom, for how long, and what is allowed."""
    assert broken(play(*history)) == [why]


def test_nothing_is_asked_of_liars_or_about_them() -> None:
    """One that keeps silent is rightly held dead, and one that slanders is not believed."""
    slander: Happening = (1, "x", "d", "dead")
    silent: Happening = (2, "a", "x", "dead")

    assert broken(play(slander, silent, liars=("x",))) == []
    assert broken(play(slander)) != []


def test_the_figures_count_falls_and_wrong_views() -> None:
    """The first verdict counts for a fall, a view of a life that is over for nothing, a wrong one at each holder."""
    checks = play(
        (1, "a", "d", "alive"), (1, "b", "d", "alive"), (10, "crash", "d", "start"), (13, "a", "d", "suspect"),
        (16, "a", "d", "dead"), (17, "b", "d", "dead"), (30, "rose", "d", ""), (31, "c", "d", "dead"),
        (40, "a", "b", "suspect"), (40, "c", "b", "suspect"), (50, "a", "b", "dead"), (51, "a", "b", "alive"),
        over_s=60,
    )  # fmt: skip

    assert detection_summary(checks, sent_bytes=2400, nodes=4, duration_s=60) == {
        "detection_falls_noticed": 1.0, "detection_p50_s": 6.0, "detection_max_s": 6.0,
        "detection_suspected_while_up": 2.0, "detection_dead_while_up": 1.0, "detection_bytes_per_node_per_s": 10.0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("config", "n", "noticed_s", "trusted_s"),
    [
        (SWIM, 4, NOTICED_S, TRUSTED_S),
        (SwimConfig(lifeguard=False), 100, 200 + 4 * 2 + 30, 90),
        (PhiConfig(heartbeat_s=1.0, pause_s=3.0, dead_phi=8.0), 4, 4 * (1 + 5.612), 5),
    ],
)
def test_bounds_follow_the_parameters(config: MembershipRules, n: int, noticed_s: float, trusted_s: float) -> None:
    """By hand: memberlist's suspicion times, and the normal quantile of one in 10^8 (5.612 deviations, by table)."""
    assert bounds(config, n) == pytest.approx((noticed_s, trusted_s), rel=1e-4)


def test_nothing_is_asked_of_a_run_without_a_detector() -> None:
    """Neither promise is there, and the summary says nothing."""
    for config in (None, NoDetectorConfig()):
        checks = VillageChecks(detector=config)
        assert not any(check.name.startswith("the_") for check in checks.all)
        assert detection_summary(checks, 0, 4, 60.0) == {}
