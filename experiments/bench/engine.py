"""How fast the engine is: its lane against SimPy's timeouts and against a bare heap of callbacks.

All candidates do the same work: CLOCKS periodic clocks, each with a period of its own, EVENTS ticks in all.
Rates are per second of this process's CPU time, so that a busy machine disturbs them little.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from time import process_time

import simpy
from simpy.events import ProcessGenerator

from experiments.bench.table import Line
from sim.engine import Engine

EVENTS = 200_000
CLOCKS = 1_000
REPEATS = 5
# Spread by a prime step over a factor of 40, so that the clocks interleave and ties are rare.
PERIODS_NS = [1_000 + 37 * clock for clock in range(CLOCKS)]

TITLE = f"engine: {EVENTS:,} events of {CLOCKS:,} clocks, median of {REPEATS} interleaved repeats"
LINES = (
    Line("simpy_per_s", "events / CPU s: SimPy timeouts in processes"),
    Line("processes_per_s", "events / CPU s: the same on the engine"),
    Line("lane_per_s", "events / CPU s: engine lane, call_at"),
    Line("heap_per_s", "events / CPU s: bare heap of callbacks"),
    # What this project asks of the lane: worth having beside SimPy, and little above the cost of a heap at all.
    Line("lane_over_simpy", "lane / SimPy", 2, at_least=1.5),
    Line("lane_over_heap", "lane / bare heap", 2, at_least=0.6),
    Line("processes_over_simpy", "processes on the engine / SimPy", 2),
)


def _until_ns(events: int) -> int:
    """Return the time by which the clocks have ticked about `events` times together, in ns."""
    return round(events / sum(1 / period_ns for period_ns in PERIODS_NS))


def _time_processes(environment: type[simpy.Environment], events: int) -> float:
    """Return ticks per second of clocks that are SimPy processes waiting for timeouts."""
    env, ticks, until_ns = environment(), [0] * CLOCKS, _until_ns(events)

    def clock(number: int, period_ns: int) -> ProcessGenerator:
        while True:
            yield env.timeout(period_ns)
            ticks[number] += 1

    for number, period_ns in enumerate(PERIODS_NS):
        env.process(clock(number, period_ns))
    start_s = process_time()
    env.run(until=until_ns)
    return sum(ticks) / (process_time() - start_s)


def _time_lane(events: int) -> float:
    """Return ticks per second of clocks that are calls which schedule themselves again."""
    engine, ticks, until_ns = Engine(), [0] * CLOCKS, _until_ns(events)

    def tick(number: int) -> None:
        ticks[number] += 1
        engine.call_at(engine.now + PERIODS_NS[number], tick, number)

    for number, period_ns in enumerate(PERIODS_NS):
        engine.call_at(period_ns, tick, number)
    start_s = process_time()
    engine.run(until=until_ns)
    return sum(ticks) / (process_time() - start_s)


def _time_heap(events: int) -> float:
    """Return ticks per second of the least code that keeps time and order: a heap, a counter and a loop."""
    queue: list[tuple[int, int, Callable[[int], None], int]] = []
    sequence, ticks, until_ns, now_ns = count(), [0] * CLOCKS, _until_ns(events), 0

    def tick(number: int) -> None:
        ticks[number] += 1
        heappush(queue, (now_ns + PERIODS_NS[number], next(sequence), tick, number))

    for number, period_ns in enumerate(PERIODS_NS):
        heappush(queue, (period_ns, next(sequence), tick, number))
    start_s = process_time()
    while queue[0][0] < until_ns:
        now_ns, _, function, argument = heappop(queue)
        function(argument)
    return sum(ticks) / (process_time() - start_s)


def measure(events: int = EVENTS, repeats: int = REPEATS) -> dict[str, float]:
    """Measure the candidates in turn, `repeats` times over, so that a slow minute hits all of them.

    Args:
        events: Ticks of one measurement, about.
        repeats: Measurements of each candidate.

    Returns:
        Medians in events per CPU second (`simpy_per_s`, `processes_per_s`, `lane_per_s`, `heap_per_s`) and
        of the ratios within a repeat (`lane_over_simpy`, `lane_over_heap`, `processes_over_simpy`).
    """
    rows = []
    for _ in range(repeats):
        simpy_per_s = _time_processes(simpy.Environment, events)
        processes_per_s = _time_processes(Engine, events)
        lane_per_s = _time_lane(events)
        heap_per_s = _time_heap(events)
        rows.append(
            {
                "simpy_per_s": simpy_per_s,
                "processes_per_s": processes_per_s,
                "lane_per_s": lane_per_s,
                "heap_per_s": heap_per_s,
                "lane_over_simpy": lane_per_s / simpy_per_s,
                "lane_over_heap": lane_per_s / heap_per_s,
                "processes_over_simpy": processes_per_s / simpy_per_s,
            }
        )
    return {name: statistics.median(row[name] for row in rows) for name in rows[0]}
