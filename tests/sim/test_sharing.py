"""Fluid sharing against closed forms and against progressive filling written naively."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.engine import NS_PER_S, Engine
from sim.sharing import MODES, Demand, Flow, Planned, Sharing, completion_times, max_min_rates
from sim.sharing.allocation import Allocation
from sim.sharing.parts import Resource, Share
from tests.sim.filling import Wish, ends, rates

NAMES = "abcdef"
# Round numbers make ties, where rounding and order could tell; odd ones make long chains of bottlenecks.
_round = st.sampled_from([0.5, 1.0, 2.0, 3.0, 10.0])
_positive = st.one_of(_round, st.floats(0.05, 20.0))
_paths = st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True)
_caps = st.one_of(st.just(math.inf), _positive)
_capacities = st.fixed_dictionaries(dict.fromkeys(NAMES, _positive))
_planned = st.builds(
    Planned,
    path=_paths,
    size=_positive,
    start_s=st.one_of(st.just(0.0), st.floats(0.0, 10.0)),
    weight=_positive,
    cap_per_s=_caps,
    latency_s=st.one_of(st.just(0.0), st.floats(0.0, 1.0)),
)


@settings(max_examples=1000, deadline=None)
@given(_capacities, st.lists(_planned, min_size=1, max_size=9))
def test_ends_are_those_of_progressive_filling(capacities: dict[str, float], flows: list[Planned]) -> None:
    """Completion times of random flows equal the naive solver's to 1e-9 relative."""
    got = completion_times({name: (capacity, 0.0) for name, capacity in capacities.items()}, flows)
    wishes = [
        Wish(dict.fromkeys(flow.path, 1.0), flow.weight, flow.cap_per_s, flow.size, flow.start_s + flow.latency_s)
        for flow in flows
    ]

    assert got.mode == "max_min"
    assert got.finished_s == pytest.approx(ends(capacities, wishes), rel=1e-9)


@settings(max_examples=300, deadline=None)
@given(_capacities, st.lists(st.builds(Demand, _paths, _positive, _caps), max_size=9))
def test_rates_are_those_of_progressive_filling(capacities: dict[str, float], demands: list[Demand]) -> None:
    """Rates of flows that are all there equal the naive solver's to 1e-9 relative."""
    wishes = [Wish(dict.fromkeys(d.path, 1.0), d.weight, d.cap_per_s) for d in demands]

    assert max_min_rates(capacities, demands) == pytest.approx(rates(capacities, wishes), rel=1e-9)


_changes = st.lists(
    st.one_of(
        st.tuples(st.just("add"), _paths, _positive, _caps),
        st.tuples(st.just("remove"), st.integers(0, 99)),
        st.tuples(st.just("capacity"), st.sampled_from(NAMES), _positive),
        st.tuples(st.just("settle")),
    ),
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(_capacities, _changes)
def test_any_history_of_changes_ends_at_the_same_rates(capacities: dict[str, float], changes: list[Any]) -> None:
    """Kept up to date through additions, removals and new capacities, rates equal those computed afresh."""
    allocation = Allocation()
    resources = {name: allocation.resource(name, capacity) for name, capacity in capacities.items()}
    there: list[tuple[Share, Wish]] = []
    for change in [*changes, ("settle",)]:
        match change:
            case ("add", path, weight, cap):
                legs = [(resources[name], 1.0) for name in path]
                there.append((allocation.add(legs, weight, cap), Wish(dict.fromkeys(path, 1.0), weight, cap)))
            case ("remove", k) if there:
                allocation.remove(there.pop(k % len(there))[0])
            case ("capacity", name, capacity):
                allocation.set_capacity(resources[name], capacity)
                capacities = {**capacities, name: capacity}
            case ("settle",):
                allocation.settle()
                want = rates(capacities, [wish for _, wish in there])
                assert [share.rate_per_s for share, _ in there] == pytest.approx(want, rel=1e-9)


def test_a_change_does_not_touch_what_it_does_not_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    """An arrival on one side of a network with slack in its middle fills that side's resources alone."""
    engine = Engine()
    sharing = Sharing(engine)
    for name, capacity in (("left", 10.0), ("middle", 1000.0), ("right", 10.0)):
        sharing.add(name, capacity)
    for side in ("left", "right"):
        for _ in range(3):
            sharing.start([side, "middle"], 1e6)
    engine.run(until=NS_PER_S)
    touched: list[str] = []
    touch: Callable[[Allocation, Resource], None] = Allocation._touch
    monkeypatch.setattr(Allocation, "_touch", lambda self, r: touched.append(r.name) or touch(self, r))
    sharing.start(["left"], 1.0)
    engine.run(until=2 * NS_PER_S)

    assert set(touched) == {"left"}


def test_a_flow_waits_its_latency_and_then_shares() -> None:
    """Two flows of 1 s each on one link: closed form, with the latency first and the wakes on whole nanoseconds."""
    engine, woken = Engine(), []
    sharing = Sharing(engine)
    sharing.add("link", 3.0, latency_s=0.1)
    flows = [
        sharing.start(["link"], 3.0, latency_s=0.2, done=lambda flow: woken.append((flow, engine.now))) for _ in "ab"
    ]
    engine.run()

    assert [flow.finished_s for flow in flows] == pytest.approx([2.3, 2.3], rel=1e-15)
    assert woken == [(flows[0], 2_300_000_000), (flows[1], 2_300_000_000)]
    assert {flow.mode for flow in flows} == {"max_min"}


def test_what_a_flow_leaves_is_free_from_its_exact_end() -> None:
    """Ends between two nanoseconds do not add up to waiting: a third of a second, a thousand times, is exact."""
    engine = Engine()
    sharing = Sharing(engine)
    sharing.add("link", 3.0)
    flows = [sharing.start(["link"], 1.0, weight=1e12 ** (k % 2), after_s=k / 3) for k in range(1000)]
    engine.run()

    assert max(flow.finished_s or 0.0 for flow in flows) == pytest.approx(1000 / 3, rel=1e-13)


@pytest.mark.parametrize("mode", MODES)
def test_a_long_run_loses_no_precision(mode: str) -> None:
    """After a thousand days beside an endless flow, flows of microseconds still take the nanoseconds of the first day.

    A double of that many seconds has a grain of 15 ns.
    """
    took_ns: list[list[int]] = []
    for start_ns in (NS_PER_S + 1, 1000 * 86400 * NS_PER_S + 1):
        engine = Engine()
        sharing = Sharing(engine, mode)
        sharing.add("link", 1e9)
        sharing.start(["link"], 1e18)
        took: list[int] = []

        def one(flow: Flow | None, e: Engine = engine, s: Sharing = sharing, took: list[int] = took) -> None:
            took.append(e.now)
            if len(took) <= 20:
                s.start(["link"], 100.37 * len(took), done=one)

        engine.call_at(start_ns, one, None)
        engine.run(until=start_ns + NS_PER_S)
        took_ns.append([now - start_ns for now in took])

    assert len(took_ns[0]) == 21
    assert took_ns[1] == took_ns[0]


def test_a_cancelled_flow_leaves_its_rate_to_others_and_tells_what_is_left() -> None:
    """Half a second at half the rate, then the other has all of it; the cancelled one never calls `done`."""
    engine, done = Engine(), []
    sharing = Sharing(engine)
    sharing.add("link", 100.0)
    kept = sharing.start(["link"], 100.0)
    gone = sharing.start(["link"], 100.0, done=done.append)
    engine.run(until=NS_PER_S // 2)

    assert (kept.rate_per_s, gone.rate_per_s, sharing.left(kept)) == (50.0, 50.0, 75.0)
    assert sharing.cancel(gone) == 75.0
    assert (kept.rate_per_s, gone.rate_per_s) == (100.0, 0.0)
    engine.run()
    assert kept.finished_s == 1.25
    assert (gone.finished_s, gone.cancelled, done) == (None, True, [])


def test_a_renewed_flow_goes_on_as_it_was_told() -> None:
    """From a change on a flow carries what it was told to, at its new price; others have what that leaves."""
    engine = Engine()
    sharing = Sharing(engine)
    sharing.add("executor", 1.0)
    one = sharing.start(["executor"], 4.0, cap_per_s=1.0)
    two = sharing.start(["executor"], 4.0, cap_per_s=1.0)
    gone = sharing.start(["executor"], 9.0, cap_per_s=1.0, after_s=50.0)
    sharing.cancel(gone)

    def renew(_: Any) -> None:
        left = sharing.left(one), sharing.left(two)
        assert left == pytest.approx((3.0, 3.0), rel=1e-12)
        sharing.renew([(one, 3.0, {"executor": 0.25}), (two, 0.75, {"executor": 0.5}), (gone, 1.0, {})])

    engine.call_at(2 * NS_PER_S, renew, None)  # each has had half of it for two seconds
    engine.run()

    assert two.finished_s == pytest.approx(2.75, rel=1e-12)  # 0.25 + 0.5 is not all: both run at their caps
    assert one.finished_s == pytest.approx(5.0, rel=1e-12)
    assert gone.finished_s is None
    sharing.renew([(one, 1.0, {})])  # ended: stays so
    assert sharing.left(one) == 0.0


@pytest.mark.parametrize("mode", MODES)
def test_a_new_capacity_holds_from_its_moment_on(mode: str) -> None:
    """Half the bytes at one rate and half at a tenth of it; also where the capacity weighs the flow."""
    engine = Engine()
    sharing = Sharing(engine, mode)
    sharing.add("link", 1000.0)
    flow = sharing.start(["link"], 1000.0)
    full_s = completion_times({"link": (1000.0, 0.0)}, [Planned(["link"], 1000.0)], mode).finished_s[0]
    engine.call_at(int(full_s / 2 * NS_PER_S), lambda _: sharing.set_capacity("link", 100.0), None)
    engine.run()

    assert flow.finished_s == pytest.approx(full_s / 2 + full_s / 2 * 10.0, rel=1e-8)


def test_a_new_capacity_weighs_lv08_flows_anew() -> None:
    """After a change, flows share as if the link had had its capacity from the start: it is part of their RTT."""
    rates_per_s = []
    for first in (1e6, 5e4):
        engine = Engine()
        sharing = Sharing(engine, "lv08")
        sharing.add("thin", first, latency_s=0.01)
        sharing.add("common", 6e4, latency_s=0.01)
        flows = [sharing.start(path, 1e9) for path in (["thin", "common"], ["common"])]
        engine.run(until=NS_PER_S)
        sharing.set_capacity("thin", 5e4)
        rates_per_s.append([flow.rate_per_s for flow in flows])

    assert rates_per_s[0] == pytest.approx(rates_per_s[1], rel=1e-12)


def test_shares_go_by_the_inverse_of_the_rtt_in_its_mode() -> None:
    """Latencies of 10 and 30 ms share a link 3 to 1 by RTT, and equally in the plain mode."""
    rates_per_s = {}
    for mode in ("max_min", "rtt_weighted"):
        engine = Engine()
        sharing = Sharing(engine, mode)
        sharing.add("link", 400.0)
        flows = [sharing.start(["link"], 1e6, latency_s=latency_s) for latency_s in (0.01, 0.03)]
        engine.run(until=NS_PER_S)
        rates_per_s[mode] = [flow.rate_per_s for flow in flows]

    assert rates_per_s["max_min"] == [200.0, 200.0]
    assert rates_per_s["rtt_weighted"] == pytest.approx([300.0, 100.0])


def test_a_lone_lv08_flow_has_the_published_throughput() -> None:
    """One flow on a gigabit link carries 115.476 MB/s (125 x 0.97 / 1.05) after 13.01 latencies of 0.1 ms."""
    (end_s,) = completion_times({"link": (1.25e8, 1e-4)}, [Planned(["link"], 1e9)], "lv08").finished_s

    assert end_s == pytest.approx(1e9 * 1.05 / (1.25e8 * 0.97) + 13.01e-4, rel=1e-12)


def test_flows_started_by_an_end_begin_at_the_same_nanosecond() -> None:
    """A relay of ten flows of 1 s, each started by the end of the one before, takes 10 s."""
    engine, ended = Engine(), []
    sharing = Sharing(engine)
    sharing.add("link", 10.0)

    def again(flow: Flow | None) -> None:
        ended.append(engine.now)
        if len(ended) <= 10:
            sharing.start(["link"], 10.0, done=again)

    again(None)
    engine.run()
    assert ended == [k * NS_PER_S for k in range(11)]


def _start(**changes: Any) -> None:
    sharing = Sharing(Engine())
    sharing.add("a", 1.0)
    sharing.start(**{"path": ["a"], "size": 1.0, **changes})


def _renew(left: float, takes: dict[str, float]) -> None:
    sharing = Sharing(Engine())
    sharing.add("a", 1.0)
    sharing.renew([(sharing.start(["a"], 1.0), left, takes)])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Sharing(Engine(), "tcp"), r"mode tcp: .*allowed: max_min, rtt_weighted, lv08"),
        (lambda: Sharing(Engine()).add("a", 0.0), r"resource a: capacity_per_s \(0.0\) must be above 0 and finite"),
        (lambda: Sharing(Engine()).add("a", math.nan), r"resource a: capacity_per_s \(nan\) must be above 0"),
        (lambda: Sharing(Engine()).add("a", -1.0), r"resource a: capacity_per_s \(-1.0\) must be above 0"),
        (lambda: Sharing(Engine()).add("a", 1.0, -1.0), r"resource a: latency_s \(-1.0\) must be at least 0"),
        (lambda: Sharing(Engine()).set_capacity("a", 1.0), r"resource a: unknown; allowed: one that was added"),
        (lambda: _start(path=[]), r"flow: path \(\[\]\) must name at least one resource"),
        (lambda: _start(path=["b"]), r"flow: path names b, which is unknown; allowed: resources that were added"),
        (lambda: _start(path=["a", "a"]), r"flow: path names a twice; allowed: each resource once"),
        (lambda: _start(back=["c"]), r"flow: back names c, which is unknown"),
        (lambda: _start(size=-1.0), r"flow: size \(-1.0\) must be at least 0 and finite"),
        (lambda: _start(size=math.nan), r"flow: size \(nan\) must be at least 0 and finite"),
        (lambda: _start(weight=0.0), r"flow: weight \(0.0\) must be above 0 and finite"),
        (lambda: _renew(0.0, {}), r"flow: left \(0.0\) must be above 0"),
        (lambda: _renew(1.0, {"b": 1.0}), r"flow: takes names b; allowed: resources on its path"),
        (lambda: _start(cap_per_s=0.0), r"flow: cap_per_s \(0.0\) must be above 0"),
        (lambda: max_min_rates({"a": math.inf}, []), r"resource a: capacity_per_s \(inf\) must be above 0 and finite"),
        (lambda: max_min_rates({"a": 1.0}, [Demand(["b"])]), r"demand 0: path names b, which is unknown"),
    ],
)
def test_bad_input_is_one_line_with_item_value_and_what_is_allowed(wrong: Callable[[], Any], message: str) -> None:
    """Each refusal names what is wrong, its value, and what is allowed."""
    with pytest.raises(ValueError, match=message) as refusal:
        wrong()

    assert "\n" not in str(refusal.value)


def test_a_refused_resource_is_not_added_twice() -> None:
    """A name is taken once; the error says so."""
    sharing = Sharing(Engine())
    sharing.add("a", 1.0)
    with pytest.raises(ValueError, match=r"resource a: is there already; allowed: a new name"):
        sharing.add("a", 2.0)
