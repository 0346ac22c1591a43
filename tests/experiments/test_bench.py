"""The benchmarks at tiny sizes: what they return, print and refuse. How fast anything is, no test says."""

from __future__ import annotations

import gc
import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from experiments import bench, cli
from experiments.bench import (
    batches,
    determinism,
    engine,
    first_village,
    fleet_spec,
    membership,
    million_day,
    planners,
    raft,
    sharing,
)
from experiments.bench.table import Line, missed, show
from policies.consensus.messages import Elected
from policies.wire import encode
from sim import fog, world
from sim.sharing import MODES

TINY_VILLAGE = ("fleet=small_50", "duration_s=600", "workload.requests=5", "faults=none", "adversary=none")


def keys(module: object) -> set[str]:
    """Return the keys that a benchmark's table documents."""
    return {line.key for line in module.LINES}  # type: ignore[attr-defined]


def test_a_line_holds_a_figure_to_its_bar() -> None:
    """A figure on its bar meets it, one beyond it does not, and what is not a number meets none."""
    floor, ceiling, free = Line("a", "a", at_least=2), Line("b", "b", at_most=2), Line("c", "c")

    assert floor.meets(2)
    assert not floor.meets(1.9)
    assert ceiling.meets(2)
    assert not ceiling.meets(2.1)
    assert free.meets(-1e9)
    assert not floor.meets(math.nan)
    assert not ceiling.meets(math.nan)
    assert "MISSED" in floor.row(1)
    assert "met" in floor.row(3)
    assert "met" not in free.row(3)


def test_a_table_leaves_out_what_was_not_measured_and_prints_what_has_no_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An unmeasured line is neither printed nor missed; a figure without a line is printed by its key."""
    lines = (Line("here", "is here", at_least=1), Line("away", "is away", at_least=1))
    show("title", {"here": 0.0, "refused: no leader": 3.0}, lines)
    printed = capsys.readouterr().out.splitlines()

    assert [text.split("  ")[1] for text in printed[1:]] == ["is here", "refused: no leader"]
    assert missed({"here": 0.0}, lines) == ["here"]


def test_the_batches_benchmark_returns_its_figures(data_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every line of its table is measured, and leaps differ from iterations by rounding only."""
    monkeypatch.setenv("VILLAGETWIN_DATA", str(data_folder))
    figures = batches.measure(60)

    assert set(figures) == keys(batches)
    assert all(math.isfinite(value) for value in figures.values())
    assert all(figures[f"{trace}_leaps_{key}"] < 1e-9 for trace in batches.TRACES for key in batches.FIGURES)


def test_the_engine_benchmark_returns_its_figures() -> None:
    """Every figure of the table is measured and positive."""
    figures = engine.measure(events=2_000, repeats=1)

    assert set(figures) == keys(engine)
    assert all(value > 0 for value in figures.values())


def test_the_sharing_benchmark_ends_all_its_flows() -> None:
    """A small network yields every figure of the table, with paths up to the core and more than one flow at once."""
    figures = sharing.measure(count=40, hosts=200, repeats=1)

    assert set(figures) == keys(sharing)
    assert figures["hops"] == 7
    assert 1 < figures["peak_flows"] <= 40
    assert all(figures[f"{mode}_per_s"] > 0 for mode in MODES)


def test_the_planners_benchmark_returns_its_figures() -> None:
    """A few small plans fill its table; no placement flows more than the proven one."""
    figures = planners.measure(pipelines=2, pools=4, large=70, devices_max=3)

    assert set(figures) == keys(planners)
    assert all(figures[key] > 0 for key in figures if key.endswith("_s"))
    assert -1e-6 <= figures["placement_gap_median"] <= figures["placement_gap_worst"] < 1


def test_the_raft_benchmark_runs_its_faults_and_keeps_its_checks() -> None:
    """A minute holds the leader's crash, a second election, about ten commits a second, and no broken check."""
    figures = raft.measure(simulated_s=60.0, repeats=1)

    assert set(figures) == keys(raft)
    assert figures["elections"] >= 2
    assert 500 < figures["commits"] < 650
    assert figures["checks_broken"] == 0


def test_the_fed_checks_can_break() -> None:
    """The checks beside the cluster see its decisions: a second leader of a term is a broken check."""
    run = raft._Run(1)
    run.go(5.0)
    now_ns, _, term = run.checks.leaders[-1]
    run.checks.decided(now_ns, "somebody else", "consensus", "leader", encode(Elected(term)))

    assert not run.checks.one_leader.holds


@pytest.mark.parametrize(("devices", "hours"), [(1, 1.0), (60, 3.0), (101, 25.0)])
def test_both_forms_of_the_fleet_end_the_same(devices: int, hours: float) -> None:
    """Ours and plain SimPy agree on tasks, latencies and every battery, to the last bit."""
    figures = fleet_spec.measure(devices=devices, hours=hours, seed=3)

    assert set(figures) == keys(fleet_spec)
    assert figures["same_outcome"] == 1
    assert figures["tasks"] > 0


def test_both_forms_gate_tasks_of_an_empty_fleet() -> None:
    """Batteries that start at 6 % fall below the gate by day: tasks are skipped, and in both forms the same ones."""
    inputs = fog.draw(devices=40, seed=5, hours=30.0)
    inputs.charge_j[:] = 0.06 * fog.SPEC.battery_j
    inputs.shift_ns[:] += 16 * 3600 * fog.NS_PER_S  # plugged in from 14:00 on
    ours, simpys = fog.run(inputs), fleet_spec.run_simpy(inputs)

    assert ours == simpys
    assert ours.skipped > 0
    assert ours.tasks > 0


def test_determinism_digests_agree_across_hash_seeds() -> None:
    """Two processes with different hash seeds digest the same histories, and another seed others."""
    figures = determinism.measure(raft_s=5.0, village=TINY_VILLAGE, hash_seeds=("1", "2"))

    assert figures == {"raft_digests": 1, "village_digests": 1, "seeds_told_apart": 1, "processes": 2}


def test_the_village_benchmark_returns_its_figures() -> None:
    """A tiny village in a process of its own gives every figure but those of the trace."""
    figures = first_village.measure(TINY_VILLAGE, traces=False)
    expected = {key for key in keys(first_village) if not key.startswith("azure_")}

    assert {key for key in figures if not key.startswith("refused: ")} == expected
    assert figures["rss_mib"] > 10
    assert 0 < figures["port_steps"] < 1e6


def test_the_village_benchmark_plays_the_trace_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the trace's file in the data folder, both hours are played."""
    folder = tmp_path / "traces"
    folder.mkdir()
    rows = "".join(f"2023-11-16 18:00:0{k}.0000000,100,10\n" for k in range(3))
    (folder / first_village.TRACE.name).write_text(f"TIMESTAMP,ContextTokens,GeneratedTokens\n{rows}")
    monkeypatch.setenv("VILLAGETWIN_DATA", str(tmp_path))
    monkeypatch.setattr(first_village, "_in_a_process", lambda words: played.append(list(words)) or dict(answer))
    answer = dict.fromkeys(keys(first_village), 0.5)
    played: list[list[str]] = []
    figures = first_village.measure()

    assert set(figures) == keys(first_village)
    assert [word for words in played for word in words if word.startswith("workload.start")] == [
        "workload.start='01:00'",
        "workload.start='12:00'",
    ]


def test_a_failing_scenario_is_named() -> None:
    """What the village's process said last is part of the error."""
    with pytest.raises(RuntimeError, match="fleet=nowhere"):
        first_village.measure(("fleet=nowhere",), traces=False)


def test_an_unknown_benchmark_is_refused_before_any_runs() -> None:
    """The error names the benchmark and what is allowed."""
    with pytest.raises(ValueError, match=r"bench nothing: .*allowed: engine, sharing, churn, batches, raft"):
        bench.main(["engine", "nothing"])


@pytest.mark.parametrize(("value", "code", "verdict"), [(2.0, 0, "every bar is met"), (0.5, 3, "engine.rate")])
def test_the_exit_code_tells_whether_every_bar_is_met(
    value: float, code: int, verdict: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """0 and a closing line when all is well, 3 and the figure's name when not; --json prints the figures alone."""
    module = SimpleNamespace(TITLE="t", LINES=(Line("rate", "rate", at_least=1),), measure=lambda: {"rate": value})
    monkeypatch.setattr(bench, "import_module", lambda name: module)

    assert bench.main(["engine"]) == code
    assert verdict in capsys.readouterr().out.splitlines()[-1]
    assert bench.main(["engine"], as_json=True) == code
    assert json.loads(capsys.readouterr().out) == {"engine": {"rate": value}}
    assert bench.figures(["engine"]) == {"engine.rate": value}


def test_a_lone_task_takes_its_transfer_and_its_service() -> None:
    """Closed form: 80 ms on the link, 20 ms on the way, 5 s at the fog node; a second task waits for the first."""
    inputs = fog.draw(devices=1, seed=1, hours=1.0)
    alone = fog.Inputs(inputs.charge_j, inputs.shift_ns, inputs.arrival_ns[:1], inputs.device[:1], inputs.until_ns)
    twice = fog.Inputs(
        inputs.charge_j, inputs.shift_ns, inputs.arrival_ns[[0, 0]], inputs.device[[0, 0]], inputs.until_ns
    )

    assert fog.run(alone).mean_latency_s == pytest.approx(5.1)
    assert fog.run(twice).mean_latency_s == pytest.approx((5.1 + 10.1) / 2)


def test_a_larger_fleet_holds_the_smaller_one() -> None:
    """Draws are keyed by device: the first devices' batteries and arrivals do not change with the fleet's size."""
    small, large = fog.draw(7, seed=2, hours=6.0), fog.draw(30, seed=2, hours=6.0)
    first = large.device < 7

    assert small.charge_j.tolist() == large.charge_j[:7].tolist()
    assert small.arrival_ns.tolist() == large.arrival_ns[first].tolist()


def test_arrivals_are_a_poisson_process_of_the_stated_rate() -> None:
    """Counts of 400 devices over 10 h have mean and variance 60, within four standard errors."""
    inputs = fog.draw(devices=400, seed=9, hours=10.0)
    counts = np.bincount(inputs.device, minlength=400)

    assert abs(counts.mean() - 60) < 4 * math.sqrt(60 / 400)
    assert abs(counts.var(ddof=1) - 60) < 4 * 60 * math.sqrt(2 / 399 + 1 / (60 * 400))


@pytest.mark.parametrize(("devices", "hours"), [(0, 1.0), (1, 0.0), (1, math.nan)])
def test_a_fleet_of_nothing_is_refused(devices: int, hours: float) -> None:
    """The error names both fields and what is allowed."""
    with pytest.raises(ValueError, match=r"devices=.*hours=.*allowed"):
        fog.run_fleet_spec(devices, 1, hours)


def test_digesting_steps_together_changes_no_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    """The digest is of the whole history, however many steps are digested at once."""
    together = raft.run_once(5.0)[1]
    monkeypatch.setattr(world, "DIGEST_EVERY", 1)

    assert raft.run_once(5.0)[1] == together
    assert raft.run_once(6.0)[1] != together


def test_a_run_leaves_the_collector_as_it_was() -> None:
    """The garbage collector's thresholds are the same after a run, also after one that an error ended."""
    before = gc.get_threshold()
    run = raft._Run(1)
    run.go(1.0)
    run.world.engine.call_at(run.world.engine.now + 1, lambda _: 1 // 0, None)
    with pytest.raises(ZeroDivisionError):
        run.world.run(2.0)

    assert gc.get_threshold() == before


@pytest.mark.slow
def test_a_small_day_of_a_fleet_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half an hour of 400 devices yields every figure of the table but SimPy's, and breaks no check."""
    monkeypatch.setattr(million_day, "beside_simpy", dict)
    monkeypatch.setattr(million_day, "compile_modules", lambda: None)  # two of six runs, for the sake of times alone
    figures = million_day.measure(devices=400, hours=0.5, smaller=(200,), chunks=False)

    simpy = {"over_simpy", "over_simpy_numpy", "simpy_us_per_reading", "simpy_soc_off", "cpu_ns_per_reading_numpy"}
    assert set(figures) >= keys(million_day) - simpy - {"cpu_ns_per_reading_jax", "chunks_same_digest"}
    assert figures["checks_broken"] == 0


@pytest.mark.nightly
def test_the_benchmarks_figures(record_property: Callable[[str, Any], None]) -> None:
    """Every benchmark runs at its full size; its figures are recorded, and those that time cannot touch hold."""
    figures = bench.figures()
    for name, value in figures.items():
        record_property(name, value)
    record_property("seeds", [1])

    assert figures["first_village.checks_broken"] == 0
    assert figures["raft.checks_broken"] == 0


def test_a_small_group_fills_the_table_of_membership() -> None:
    """Every figure of the sizes asked for is there, nobody is held dead wrongly, and Lifeguard spares the healthy."""
    figures = membership.measure((8,))

    assert set(figures) == {key for key in keys(membership) if "_8_" in key or key.startswith("slow")}
    assert all(value >= 0 for value in figures.values())  # nor is one no number: all learned of every crash
    assert figures["swim_8_false_dead"] == figures["phi_8_false_dead"] == 0
    assert figures["slow_lifeguard"] < figures["slow_plain"] / 10


def test_help_names_the_benchmarks(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody has to be refused to learn what there is."""
    assert cli.main(["bench", "--help"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert all(name in said for name in bench.NAMES)


def test_a_short_overhead_fills_its_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """One worker and a hop between two processes give every figure of the table; hops take time, and end."""
    pytest.importorskip("torch", reason="torch is not installed: pip install 'villagetwin[torch]'")
    from experiments.bench import overhead
    from real_backends.executors.seeded import RECIPES

    monkeypatch.setattr(overhead, "SMALL", RECIPES["tiny"].spec)
    for name, size in (("TOKENS", 4), ("PAIRS", 1), ("HOP_SESSIONS", 1), ("HOP_TOKENS", 4)):
        monkeypatch.setattr(overhead, name, size)
    figures = overhead.measure()

    assert set(figures) == {line.key for line in overhead.LINES}
    assert all(value > 0 for value in figures.values())
