"""The edge agent alone in a Cell: its life, deployments, drains, leases, faults, maintenance and limits."""

from __future__ import annotations

import math
from typing import Any

import pytest

from policies import port as p
from policies.config import EdgeConfig
from policies.edge import EdgeAgent
from policies.edge.messages import Accepted, Deploy, Ended, Granted, Heartbeat, Noted, Parting, Withdraw
from policies.jobs import Done, LoadJob, Lost, Progress, SessionJob
from policies.local import Lend
from policies.port import NS_PER_S
from policies.seats import InOffice
from tests.policies.edge.bench_device import COMMITTEE, FINE, GIB, LENT, TAKEN, Bench, deploy

# -- there and gone ----------------------------------------------------------------------------------


def test_a_lent_device_connects_and_is_online_once_somebody_answers() -> None:
    """Heartbeats say what is free; the first lease makes it online."""
    bench = Bench()
    bench.read()
    ((member, hello),) = bench.lend()

    assert (member, hello.state, hello.held) == ("k1", "connecting", ())
    bench.grant()
    assert bench.phases == ["connecting", "online"]
    ((_, hello),) = bench.fire("heartbeat")
    assert (hello.free_memory_bytes, hello.free_compute_millis, hello.free_tasks) == (1 << 30, 500, 2)
    assert bench.now == 30 * NS_PER_S


def test_a_device_that_is_not_lent_says_nothing() -> None:
    """No heartbeat, no timer, and a late lease is refused and counted."""
    bench = Bench()
    bench.lend(TAKEN)
    bench.grant()

    assert (bench.said, bench.timers, bench.state) == ([], {}, "offline")
    assert bench.edge.life.refused == {("offline", "lease"): 1}
    assert bench.notes == ["edge_illegal"]


def test_only_an_answer_keeps_a_device_there() -> None:
    """Its own heartbeats do not: with no answer the lease ends, counted from when the answered one was sent."""
    bench = Bench().running()
    sent = bench.now
    bench.fire("heartbeat")

    assert bench.timers["lease"][0] == sent + 60 * NS_PER_S
    bench.fire("lease")
    assert (bench.state, bench.edge.held, bench.jobs) == ("connecting", {}, {})
    assert bench.edge.room.used == (0, 0, 0)
    assert bench.ends() == []  # the watch has counted it as lost; nobody is owed a word


def test_an_old_answer_gives_no_lease() -> None:
    """A grant that comes after its own lease, or from the future, is no grant."""
    bench = Bench()
    bench.lend()
    bench.now = 60 * NS_PER_S
    for sent_ns in (0, bench.now + 1):
        bench.hear(Granted(sent_ns))

    assert bench.state == "connecting"


def test_a_late_answer_takes_nothing_from_a_newer_lease() -> None:
    """A copy of an earlier grant neither shortens the lease nor brings the next heartbeat forward."""
    bench = Bench().online()
    bench.fire("heartbeat")
    bench.grant()
    before = {name: bench.timers[name][0] for name in ("lease", "heartbeat")}
    bench.now += 5 * NS_PER_S
    bench.hear(Granted(0))

    assert {name: bench.timers[name][0] for name in ("lease", "heartbeat")} == before


def test_a_silent_member_is_left_for_the_next() -> None:
    """Five heartbeats unanswered, then the other member; its lease does not cover the first one's deployments."""
    bench = Bench().running()
    asked = [bench.fire("heartbeat")[0][0] for _ in range(6)]
    assert (asked, bench.now) == (["k1"] * 5 + ["k2"], 40 * NS_PER_S)
    bench.grant("k1")
    assert "a" in bench.edge.held
    bench.grant("k2")

    assert (bench.state, bench.edge.held, bench.edge.room.used) == ("online", {}, (0, 0, 0))
    assert bench.timers["heartbeat"][0] == bench.now + 30 * NS_PER_S


def test_a_device_that_nobody_answers_asks_all_and_then_slowly() -> None:
    """Five times each, two seconds apart, then once a heartbeat."""
    bench = Bench()
    bench.lend()
    times = []
    for _ in range(13):
        bench.fire("heartbeat")
        times.append(bench.now // NS_PER_S)

    assert times == [2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 50, 80, 110]


def test_nobody_outside_the_committee_is_heard() -> None:
    """A stranger deploys nothing, grants nothing and withdraws nothing."""
    bench = Bench().running()
    for message in (deploy("b"), Granted(bench.now), Withdraw("a"), Noted("a")):
        assert bench.hear(message, "stranger") == []

    assert list(bench.edge.held) == ["a"]


def test_a_member_that_placed_nothing_withdraws_nothing() -> None:
    """The next member knows it not; whoever placed it would be told that it was withdrawn, which nobody did."""
    bench = Bench().running()
    assert bench.hear(Withdraw("a"), "k2") == []
    bench.hear(deploy("a", priority=6), "k2")

    assert list(bench.edge.held) == ["a"]
    assert bench.said[-1] == ("k2", Ended("a", "refused", "another deployment has this name"))


def test_a_report_to_a_member_that_is_dead_ends_some_time() -> None:
    """It is repeated for a drain and a silence beside another member's lease, not for as long as the device is lent."""
    bench = Bench().running(deploy("a", work=True))
    bench.end(max(bench.jobs), Done("out", 4, 7))
    while bench.state != "online" or bench.edge._member == 0:
        bench.fire(min(bench.timers, key=lambda name: bench.timers[name][0]))
        if bench.edge._member == 1:
            bench.grant("k2")
    assert list(bench.edge.reports) == ["a"]
    for _ in range(47):
        bench.fire("resend") if "resend" in bench.timers else None
        bench.grant("k2")

    assert (bench.state, bench.edge.reports) == ("online", {})


def test_a_watch_that_is_voted_out_is_left_and_its_deployments_with_it() -> None:
    """Another committee sits, the worker says: its first is asked, whose lease covers nothing of the old one's."""
    bench = Bench().running()
    bench.edge.on_local("worker", InOffice(1, ("k7", "k2")))
    asked, _ = bench.fire("heartbeat")[0]
    bench.hear(Granted(bench.now), "k1")
    held = list(bench.edge.held)
    bench.grant("k7")

    assert (asked, held, bench.edge.held) == ("k7", ["a"], {})


def test_a_watch_that_sits_on_is_kept() -> None:
    """Only the others changed."""
    bench = Bench().running()
    bench.edge.on_local("worker", InOffice(1, ("k7", "k1")))

    assert bench.fire("heartbeat")[0][0] == "k1"


# -- deployments -------------------------------------------------------------------------------------


def test_a_deployment_is_brought_then_runs_its_work_then_ends() -> None:
    """Room first, then the transfer as a job, then the work; its end frees the room and is told until noted."""
    bench = Bench().online()
    assert bench.hear(deploy(work=True)) == [("k1", Accepted("a"))]
    ((load, job),) = bench.jobs.items()
    assert (bench.state, type(job), bench.edge.room.used.tasks) == ("deploying", LoadJob, 1)

    bench.end(load, Done("", 0, 0))
    ((work, job),) = bench.jobs.items()
    assert (bench.state, type(job)) == ("running", SessionJob)

    assert bench.end(work, Progress(2)) == []
    done = ("k1", Ended("a", "done", "", "out", 4))
    assert bench.end(work, Done("out", 4, 7)) == [done]
    assert (bench.state, bench.edge.room.used, bench.edge.room.released) == ("online", (0, 0, 0), 1)
    assert bench.fire("resend") == [done]
    bench.hear(Noted("a"))
    assert bench.fire("resend") == []
    assert bench.phases == ["connecting", "online", "deploying", "running", "online"]


def test_a_copy_of_an_order_starts_nothing() -> None:
    """While it is held it is accepted again, ended it is reported again, noted it is refused."""
    bench = Bench().running()
    assert bench.hear(deploy()) == [("k1", Accepted("a"))]
    bench.hear(Withdraw("a"))
    assert bench.hear(deploy()) == [("k1", Ended("a", "withdrawn", ""))]
    bench.hear(Noted("a"))
    assert bench.hear(deploy()) == [("k1", Ended("a", "refused", "it has ended here"))]

    assert (bench.jobs, bench.edge.room.released) == ({}, 1)


@pytest.mark.parametrize(
    ("order", "short"),
    [(deploy("b", memory=2 << 30), "memory_bytes"), (deploy("b", millis=501), "compute_millis")],
)
def test_what_does_not_fit_is_refused_with_the_reason(order: Deploy, short: str) -> None:
    """Nothing is held for it, and what runs goes on."""
    bench = Bench().running()

    assert bench.hear(order) == [("k1", Ended("b", "refused", f"no room: {short}"))]
    assert (bench.state, list(bench.edge.held)) == ("running", ["a"])


def test_ten_deployments_on_one_phone_are_two() -> None:
    """The predecessor reserved nothing; here the third of ten is refused."""
    bench = Bench().online()
    for number in range(10):
        bench.hear(deploy(f"d{number}"))

    assert list(bench.edge.held) == ["d0", "d1"]
    assert len([end for end in bench.ends() if end[1] == "refused"]) == 8


def test_a_device_that_is_not_leased_refuses_and_counts() -> None:
    """While it connects nothing is brought; the refusal says in which state it is."""
    bench = Bench()
    bench.lend()

    assert bench.hear(deploy()) == [("k1", Ended("a", "refused", "the device is connecting"))]
    assert bench.edge.life.refused == {("connecting", "fetch"): 1}


def test_a_lost_transfer_frees_its_room() -> None:
    """Failed, with the job's reason."""
    bench = Bench().online()
    bench.hear(deploy())
    (load,) = bench.jobs

    assert bench.end(load, Lost("disk")) == [("k1", Ended("a", "failed", "disk"))]
    assert (bench.state, bench.edge.room.used, bench.edge.room.released) == ("online", (0, 0, 0), 1)
    assert bench.end(load, Done("", 0, 0)) == []  # nothing more is heard of it


# -- the owner comes back ----------------------------------------------------------------------------


def test_a_taken_device_hands_everything_back_at_once_and_says_so_until_it_is_heard() -> None:
    """Jobs stop, room is free, the progress is told; it drains until every hand-back is noted, then parts."""
    bench = Bench().running(deploy("a"))
    bench.hear(deploy("b", work=True))
    bench.end(max(bench.jobs), Done("", 0, 0))
    bench.end(max(bench.jobs), Progress(3))
    said = bench.lend(TAKEN)

    assert said == [("k1", Ended("a", "handed_back", "draining")), ("k1", Ended("b", "handed_back", "draining", "", 3))]
    assert (bench.state, bench.jobs, bench.edge.room.used) == ("draining", {}, (0, 0, 0))
    bench.hear(Noted("a"))
    assert bench.fire("resend") == [("k1", Ended("b", "handed_back", "draining", "", 3))]
    ((member, parting),) = bench.hear(Noted("b"))
    assert (member, parting) == ("k1", Parting(bench.edge._boot, 2, "offline"))
    assert bench.state == "offline"
    assert set(bench.timers) <= {"resend"}
    assert bench.worker.heard[-1].on is False


def test_a_drain_nobody_hears_ends_with_its_time() -> None:
    """After `drain_s` the device parts, and repeats its reports until its watch, too, has given it up."""
    bench = Bench().running()
    bench.lend(TAKEN)
    bench.fire("drain")

    assert bench.state == "offline"
    count = 0
    while "resend" in bench.timers:
        bench.fire("resend")
        count += 1
    assert count == (30 + 60) / 2  # a drain and a silence, every two seconds
    assert bench.edge.reports == {}


def test_a_device_lent_again_while_it_drains_connects_after_the_drain() -> None:
    """The drain is not broken off; what was asked meanwhile is done from offline."""
    bench = Bench().running()
    bench.lend(TAKEN)
    bench.lend()
    assert bench.state == "draining"
    bench.hear(Noted("a"))

    assert bench.phases[-3:] == ["draining", "offline", "connecting"]


# -- maintenance and faults --------------------------------------------------------------------------


def test_maintenance_lets_work_end_and_hands_the_rest_back() -> None:
    """Standing deployments go at once; work may end; then the device is under maintenance and the worker idle."""
    bench = Bench().running(deploy("serves"), deploy("works", work=True))
    (work,) = bench.jobs
    answer = bench.maintain(True)

    assert (answer.state, answer.event, list(bench.edge.held)) == ("draining", "maintain", ["works"])
    assert bench.worker.heard[-1].on
    bench.end(work, Done("out", 4, 7))
    assert bench.state == "draining"  # until both ends are heard
    bench.note_all()
    assert (bench.state, bench.worker.heard[-1]) == ("maintenance", Lend(False, 0.0, 0.0, "maintenance"))
    assert bench.lent_limits() == {"compute": 0.0, "memory": 0.0}

    assert bench.maintain(False).state == "connecting"
    assert (bench.worker.heard[-1].on, bench.limits["compute"]) == (True, 0.5)


def test_work_that_does_not_end_is_handed_back_when_the_drain_is_over() -> None:
    """Maintenance waits `drain_s` and no longer."""
    bench = Bench().running(deploy(work=True))
    bench.maintain(True)
    begun = bench.now
    bench.fire("drain")

    assert (bench.state, bench.ends()) == ("maintenance", [("a", "handed_back")])
    assert bench.now - begun == 30 * NS_PER_S
    assert bench.jobs == {}


def test_the_owner_comes_before_a_drain() -> None:
    """A device that is taken while work runs out for maintenance gives it back at once."""
    bench = Bench().running(deploy(work=True))
    bench.maintain(True)
    bench.lend(TAKEN)

    assert (bench.jobs, bench.edge.room.used, bench.ends()) == ({}, (0, 0, 0), [("a", "handed_back")])
    bench.note_all()
    assert bench.state == "maintenance"


def test_maintenance_outlives_a_crash_and_its_end_too() -> None:
    """It is durable before it is confirmed; a device under maintenance stays so however it is lent."""
    bench = Bench()
    assert bench.maintain(True).state == "maintenance"
    bench.boot()
    bench.lend()
    assert (bench.state, bench.worker.heard) == ("maintenance", [])
    bench.maintain(False)
    bench.boot()
    assert bench.state == "offline"


def test_the_end_of_no_maintenance_is_refused() -> None:
    """The answer says so, and it is counted."""
    bench = Bench().online()

    assert (bench.maintain(False).event, bench.state) == ("refused", "online")
    assert bench.edge.counts["illegal"] == 1


def test_too_many_lost_jobs_in_a_row_are_an_error_that_passes() -> None:
    """Five as in the documented breaker; everything goes back, nothing is lent, and after a minute it tries again."""
    bench = Bench().running(deploy("stays"))
    for number in range(5):
        bench.hear(deploy(f"d{number}"))
        bench.end(max(bench.jobs), Lost("disk"))

    assert (bench.state, bench.ends()[-1]) == ("error", ("stays", "handed_back"))
    assert (bench.worker.heard[-1].on, bench.limits["compute"]) == (False, 0.0)
    begun = bench.now
    bench.fire("retry")
    assert (bench.state, bench.now - begun) == ("connecting", 60 * NS_PER_S)
    assert bench.worker.heard[-1].on


def test_one_success_clears_the_row_of_faults() -> None:
    """Four losses, a success, four losses: still online."""
    bench = Bench().online()
    for number in range(9):
        bench.hear(deploy(f"d{number}"))
        bench.end(max(bench.jobs), Done("", 0, 0) if number == 4 else Lost("disk"))
        bench.hear(Withdraw(f"d{number}"))

    assert bench.state == "online"


def test_a_crash_forgets_and_reserves_nothing() -> None:
    """The next life begins offline with all its room, and its heartbeats say that it is another life."""
    bench = Bench().running()
    before = [m.boot for _, m in bench.said if isinstance(m, Heartbeat)]
    bench.boot()
    bench.lend()

    assert (bench.state, bench.edge.room.used) == ("connecting", (0, 0, 0))
    assert bench.said[-1][1].boot not in before


# -- how much ----------------------------------------------------------------------------------------


def test_what_is_lent_is_the_narrower_of_harvest_and_ladder() -> None:
    """Compute and memory are held to it, and the worker hears of a change once."""
    bench = Bench().online()
    assert bench.lent_limits() == {"compute": 0.5, "memory": 1 / 16}
    bench.lend(Lend(True, 0.25, 0.01, "thermal_throttle"))
    assert bench.lent_limits() == {"compute": 0.25, "memory": 0.01}
    bench.read(die_c=65.0)
    assert bench.lent_limits() == {"compute": 0.15, "memory": 0.01}
    bench.read(die_c=64.0)
    bench.read(die_c=63.0)

    assert bench.worker.heard == [
        Lend(True, 0.5, 1 / 16, "harvesting"),
        Lend(True, 0.25, 0.01, "thermal_throttle"),
        Lend(True, 0.15, 0.01, "thermal_throttle"),
    ]


def test_free_memory_moves_what_is_lent() -> None:
    """At 2 GB free half a GB is lent until 2.5 GB are passed; where it is not told, nothing is, and that is counted."""
    bench = Bench().online()
    lent = []
    for free_gb in (2.1, 2.0, 2.4, 2.6, 0.5, math.nan, 16.0):
        bench.read(memory_free_bytes=free_gb * GIB)
        lent.append(bench.limits["memory"] * 16)

    assert lent == [1.0, 0.5, 0.5, 1.0, 0.25, 0.0, 1.0]
    assert bench.edge.counts["blind"] == 1


def test_pieces_are_cut_by_the_ladder_whether_lent_or_not() -> None:
    """The smallest of an unread device, the usual and none larger of a cool one with memory; said when it changes."""
    bench = Bench()
    shares = [bench.limits["chunk"]]
    for reading in ({}, {"die_c": 55.0}, {"die_c": 55.0, "memory_free_bytes": 3.0 * GIB}, {"soc": 0.05, "die_c": 65.0}):
        bench.read(**reading)
        shares.append(bench.limits["chunk"])
    said = len(bench.limits_on("chunk"))
    bench.lend()
    bench.read(soc=0.05, die_c=66.0)

    assert shares == [64 / 512, 1.0, 320 / 512, 192 / 512, 64 / 512]
    assert len(bench.limits_on("chunk")) == said == 5
    bench.boot()
    assert bench.limits_on("chunk") == [64 / 512]  # whoever cuts may have forgotten it


def test_an_owner_who_takes_memory_puts_deployments_out() -> None:
    """Room shrinks with free memory: of two that fitted the less important goes."""
    bench = Bench().running(deploy("low", priority=2, memory=GIB // 4), deploy("high", priority=8, memory=GIB // 4))
    bench.read(memory_free_bytes=0.6 * GIB)

    assert (list(bench.edge.held), bench.ends()) == (["high"], [("low", "evicted")])


def test_limits_that_fall_put_the_least_important_out() -> None:
    """At a critical charge one task may stay: the more important one."""
    bench = Bench().running(deploy("low", priority=2), deploy("high", priority=8))
    bench.read(soc=0.09)

    assert (list(bench.edge.held), bench.ends()) == (["high"], [("low", "evicted")])
    assert bench.state == "running"


def test_a_device_that_was_never_read_lends_the_least() -> None:
    """Unread is unknown: the most careful rung, until the first reading."""
    bench = Bench()
    bench.lend()
    assert bench.lent_limits() == {"compute": 0.15, "memory": 0.0}
    bench.read()
    assert bench.lent_limits() == {"compute": 0.5, "memory": 1 / 16}


def test_blind_readings_are_counted_and_noted_once_a_spell() -> None:
    """A sensor that vanishes is seen, and the ladder stands on its most careful rung meanwhile."""
    bench = Bench().online()
    for die_c in (math.nan, math.nan, 30.0, math.nan):
        bench.read(die_c=die_c)

    assert (bench.edge.counts["blind"], bench.notes) == (3, ["edge_blind", "edge_blind"])
    assert bench.limits["compute"] == 0.15


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"battery_low": 0.05}, "battery_critical, battery_low, battery_conservative are 0.1, 0.05, 0.4"),
        ({"hot_c": 70.0}, "warm_c, hot_c, critical_c are 45, 70, 65"),
        ({"offline_after_s": 10.0}, "heartbeat_s, offline_after_s are 60, 10"),
    ],
)
def test_rungs_out_of_order_are_refused(changes: dict[str, Any], message: str) -> None:
    """One line with the fields and the values."""
    with pytest.raises(ValueError, match=message):
        EdgeAgent(EdgeConfig(**changes), COMMITTEE, GIB, NS_PER_S)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"battery_conservative": 0.95},
            r"battery_conservative is 0\.95; allowed: below 0\.95, 1 less .* a full battery",
        ),
        ({"battery_conservative": 1.0}, r"battery_conservative is 1; allowed: below 0\.95"),
        ({"hysteresis_battery": 0.6}, r"battery_conservative is 0\.4; allowed: below 0\.4"),
    ],
)
def test_a_rung_that_a_full_battery_does_not_leave_is_refused(changes: dict[str, Any], message: str) -> None:
    """A device that has once been low would stay careful for ever, charged or not."""
    with pytest.raises(ValueError, match=message):
        EdgeAgent(EdgeConfig(**changes), COMMITTEE, GIB, NS_PER_S)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((), GIB, 1), "committee"),
        ((COMMITTEE, math.nan, 1), "memory_bytes is nan"),
        ((COMMITTEE, 0, 1), "memory_bytes is 0"),
        ((COMMITTEE, GIB, 0), "every_ns is 0"),
    ],
)
def test_bad_arguments_are_refused(arguments: tuple[Any, ...], message: str) -> None:
    """Names the argument, its value and what is allowed."""
    with pytest.raises(ValueError, match=message):
        EdgeAgent(EdgeConfig(), *arguments)


def test_the_agent_asks_for_readings_at_its_period() -> None:
    """Every sixty seconds here."""
    bench = Bench()
    effects = bench.cell.step(0, 0, (p.START, "", {}, 1))

    assert (p.SENSE, "edge", 60 * NS_PER_S) in effects
    assert LENT.on
    assert FINE.plugged
