"""A fleet lives through its windows: one worker's share of the devices, chunk by chunk, window by window.

A `Share` owns some chunks from the first window to the last: their state, their owners, their running totals. It is
told the fleet's signals for a window and answers with sums. Sums are of integers (energies in mJ, charges in 1e-6), so
that neither the order nor the size of chunks can change them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from models.availability import DECOMPOSITIONS
from models.battery.reading import Charge
from policies.harvest import Devices, make, violations
from policies.harvest.receipts import no_tally, settle
from policies.readings import HARVEST_STATES, Decision, Readings
from scenarios.fleet import FleetScenario, price_at
from sim.fleet import stock
from sim.fleet.again import Taken, blank, own, pick, run_again, without_governor
from sim.fleet.blocks import Block, Blocks
from sim.fleet.fed import may_be_fed, run_fed
from sim.fleet.idle import lit_first
from sim.fleet.lasting import Lasting, may_last
from sim.fleet.packs import run_packed
from sim.fleet.physics import State
from sim.fleet.quiet import Restful, may_be_quiet, nothing, run_quiet, told, without_plug
from sim.fleet.reading import Device, Sums
from sim.fleet.rest import may_rest, run_rest
from sim.fleet.window import (
    Air,
    Chunk,
    Counts,
    Last,
    Result,
    Signals,
    Start,
    Trace,
    run_numpy,
)
from sim.owners import crowd

Array = Any

NOON_MIN = 720.0
WARMEST_MIN = 900.0  # 15:00, as the climate's wave has it
DAY_MIN = 1440.0
KWH_J = 3.6e6

IDLE_AT_START_S = 3600.0  # since the screen was last on, at the start (assumption)
OWNERS_AHEAD = 60  # readings that owners are drawn for at once
MANY = 4096  # rows: for fewer, another round of NumPy's calls costs more than what it leaves out
TABLET = 1  # in scenarios.fleet.KINDS: phones and tablets are carried about


class Totals(NamedTuple):
    """Running totals since the start, one element a device."""

    lent_s: Array
    chip_s: Array  # of the whole chip at full speed
    flop: Array
    total_j: Array
    village_j: Array
    plug_j: Array
    through_ah: Array  # into and out of the battery
    hot_s: Array
    times_low: Array
    sessions: Array
    interrupted: Array
    soc_sum: Array  # over the ends of windows
    board_c_sum: Array


class Lot(NamedTuple):
    """One chunk on its way through the run."""

    who: stock.Roster
    what: stock.Traits
    chunk: Chunk
    blocks: list[Block]  # under JAX
    device: Device
    last: Last
    crowd: Any  # the owners' state at the start of their block of windows
    totals: Totals
    open: tuple[Any, ...] = ()  # of watched chunks: the last decision, and what running sessions have lent


COLUMNS: dict[str, Callable[[Lot], Array]] = {
    "device": lambda lot: lot.who.entity, "kind": lambda lot: lot.who.kind, "model": lambda lot: lot.who.model,
    **{name: lambda lot, name=name: getattr(lot.totals, name) for name in Totals._fields},
    "soc": lambda lot: lot.device.body.charge.soc,
    **{name: lambda lot, name=name: getattr(lot.device.body, name) for name in ("die_c", "board_c", "skin_c", "off")},
    "contributing": lambda lot: lot.last.contribute,
    "battery_wh": lambda lot: lot.what.battery_wh, "capacity_ah": lambda lot: lot.what.capacity_ah,
}  # fmt: skip
"""What a run says of each device at its end; asked for one at a time, so that a million devices need no second copy."""


class _Ahead(NamedTuple):
    """What a chunk's owners do in one block of windows, and their state after it."""

    block: int
    flags: Array
    crowd: Any


class Report(NamedTuple):
    """What a share says of a window: per kind, integer sums and worst cases."""

    sums: dict[str, dict[str, int]]
    peaks: dict[str, dict[str, float]]


class Share:
    """The chunks of one worker.

    Args:
        scenario: the fleet's.
        chunks: places in the fleet's fixed order, one array a chunk.
        roster: the whole fleet.
        number: of the worker, by which its part of a checkpoint is named.
        watched: `histories` will be called instead of `advance`.
    """

    def __init__(
        self, scenario: FleetScenario, chunks: Sequence[Array], roster: stock.Roster, number: int = 0,
        *, watched: bool = False,
    ) -> None:  # fmt: skip
        self.scenario, self.number, self.watched = scenario, number, watched
        self.habits = DECOMPOSITIONS[scenario.decomposition]
        self.policy = make(scenario.policy.harvest)
        self.table = _cast(stock.cell_tables(), scenario)
        self.steps = round(scenario.window_s / scenario.reading_s)
        self.block = max(1, OWNERS_AHEAD // self.steps)
        self._ahead: dict[int, _Ahead] = {}
        self._next = 0
        self.zones_min = np.array(scenario.time_zones_h) * 60.0
        self._jax = Blocks(self.policy) if scenario.backend == "jax" else None
        self.lots = [self._lot(rows, roster) for rows in chunks]
        self.violations: list[str] = []  # of the harvest envelope, found by `histories`
        self.receipts: list[tuple[Any, ...]] = []  # of sessions that ended, rows of scenarios.record's table
        # Whole seconds add up to the same sum, however they are put together.
        able = isinstance(self.policy, Restful) and isinstance(self.policy, Lasting)
        self._foretells: Any = self.policy if able and float(scenario.reading_s).is_integer() else None

    def _lot(self, rows: Array, roster: stock.Roster) -> Lot:
        s, n = self.scenario, rows.size
        who = stock.Roster(*(column[rows] for column in roster))
        what = stock.traits(s, who)
        fixed, site = stock.fixed(s.seed, who, what.battery_wh, s.reading_s), stock.site(s, who)
        no = np.zeros(n, dtype=bool)
        ambient_c = self._air(who, what, site.zone, 0, no).ambient_c
        soc = stock.first_soc(s, who, what.has_battery)
        body = State(Charge(soc, np.zeros(n)), ambient_c, ambient_c, ambient_c, np.zeros(n), no)
        memory = self.policy.init(Devices(what.dedicated, what.has_battery, what.flops))
        people = crowd.start(self.habits, s.seed, who.entity, who.kind, what.zone_min, s.start_minute, s.weekday)
        chunk = _cast(Chunk(self.table, fixed, site), s)
        blocks = self._jax.cut(chunk, n) if self._jax else []
        chunk = Chunk(chunk.table, stock.shared(chunk.fixed), stock.shared(chunk.site))
        device = own(_cast(Device(body, memory, np.full(n, IDLE_AT_START_S)), s))  # windows are written over it
        totals = Totals(*(np.zeros(n) for _ in Totals._fields))
        rest = Decision(no, *(np.zeros(n) for _ in range(3)), np.zeros(n, dtype=np.int64))
        opened = (rest, no_tally(rest)) if self.watched else ()
        return Lot(who, what, chunk, blocks, device, own(Last(no, no)), people, totals, opened)

    def advance(self, number: int, demand: float) -> Report:
        """Live through window ``number``, the village using ``demand`` of what is lent, and report it."""
        signals = self.signals(number, demand)
        results = self._lived(number, signals)
        report = Report({}, {})
        for i, (device, sums, counts, last) in enumerate(results):
            sums, counts, last = _plain(sums), _plain(counts), _plain(last)
            lot = self.lots[i]._replace(device=device, last=last)
            lot = self.lots[i] = lot._replace(totals=self._added(lot, sums, counts))
            plugged = self.flags(i, number)[-1] & crowd.PLUGGED != 0
            _report(report, lot, sums, counts, plugged, signals)
        return report

    def _lived(self, number: int, signals: Signals) -> list[Result]:
        """Return what a window leaves of each chunk.

        Under NumPy first of quiet rows, then of fed ones, of those at rest, of the others, and under governors, all
        written over what the chunks had. JAX, to which a row costs the same whatever it needs, runs all rows alike.
        """
        starts = [self._start(i, number) for i in range(len(self.lots))]
        if self._jax is not None:
            results = [blank(nothing(start)) for start in starts]
            left = [
                self._jax.run(start, lot.blocks, signals, result)
                for start, lot, result in zip(starts, self.lots, results, strict=True)
            ]
        else:
            results = [nothing(start) for start in starts]
            results = [(device, own(sums), own(counts), last) for device, sums, counts, last in results]
            left = self._ungoverned(starts, signals, results)
        throttled = [Taken(rows, pick(start, rows)) for rows, start in zip(left, starts, strict=True)]
        run_again(lambda start: self._governed(start, signals), throttled, results)
        return results

    def _governed(self, start: Start, signals: Signals) -> Result:
        """Return what a window leaves of rows that meet their governor."""
        if self._jax is None:
            return run_numpy(self.policy, start, signals)[0]
        return self._jax.run_governed(start, signals)

    def _ungoverned(self, starts: list[Start], signals: Signals, results: list[Result]) -> list[Array]:
        """Write what a window leaves of each chunk's rows under NumPy; return those that asked their governor."""
        policy, todo = self._foretells, [np.ones(start.flags.shape[1], dtype=bool) for start in starts]

        def quiet(start: Start, before: Result) -> tuple[Result, Array]:
            return told(policy, start, run_quiet(start, policy.rest_below_c), signals, before)

        def fed(start: Start, before: Result) -> tuple[Result, Array]:
            return run_fed(policy, start, signals, before)

        def at_rest(start: Start, before: Result) -> tuple[Result, Array]:
            return run_rest(policy, start, signals, before)

        def full(start: Start, before: Result) -> tuple[Result, Array]:
            found, asked = run_numpy(self.policy, start, signals, governed=False)
            return found, ~asked

        def governed(start: Start, before: Result) -> tuple[Result, Array]:
            return self._governed(start, signals), np.ones(start.flags.shape[1], dtype=bool)

        bare = [without_governor(start) for start in starts]
        if policy is not None:
            rows = [lit_first(start, may_be_quiet(policy, start)) for start in bare]
            run_packed(quiet, [without_plug(start) for start in bare], rows, results, todo)
            lasting = [may_last(policy, start, signals) & rest for start, rest in zip(bare, todo, strict=True)]
            rows = [lit_first(start, may_be_fed(start, lasts)) for start, lasts in zip(bare, lasting, strict=True)]
            run_packed(fed, bare, rows, results, todo)
            rows = [
                lit_first(start, may_rest(start, lasts) & rest)
                for start, lasts, rest in zip(bare, lasting, todo, strict=True)
            ]
            if sum(some.size for some in rows) > MANY:
                run_packed(at_rest, bare, rows, results, todo)
        rows = [np.flatnonzero(rest) for rest in todo]
        if sum(some.size for some in rows) > MANY:
            run_packed(full, bare, rows, results, todo)
        else:
            run_packed(governed, starts, rows, results, todo)
        return [np.flatnonzero(rest) for rest in todo]

    def _start(self, i: int, number: int) -> Start:
        """Return chunk i at the start of a window."""
        flags, lot = self.flags(i, number), self.lots[i]
        outdoors = flags[0] & crowd.WIFI == 0
        air = _cast(self._air(lot.who, lot.what, lot.chunk.site.zone, number, outdoors), self.scenario)
        return Start(lot.chunk, lot.device, lot.last, air, flags)

    def histories(self, number: int, demand: float) -> list[Trace]:
        """Live through window ``number`` as `advance` does, under NumPy, and keep every reading of each chunk.

        On the way each decision is held against its envelope, and the sessions that end leave receipts.
        """
        traces = []
        for i in range(len(self.lots)):
            start, watch = self._start(i, number), _Watch(self, self.lots[i], number)
            (device, _, _, last), _ = run_numpy(self.policy, start, self.signals(number, demand), watch=watch)
            self.lots[i] = self.lots[i]._replace(device=device, last=last, open=watch.open)
            traces.append(Trace(*(np.stack(column) for column in zip(*watch.rows, strict=True)), flags=start.flags))
        return traces

    def column(self, name: str) -> Array:
        """Return one of `COLUMNS`, what has become of the share's devices, in the order of its chunks."""
        return np.concatenate([np.asarray(COLUMNS[name](lot)) for lot in self.lots])

    def state(self) -> dict[str, Array]:
        """Return everything that changes as named arrays, for `restore`."""
        saved = {}
        for i, lot in enumerate(self.lots):
            turned = i in self._ahead and self._next % self.block == 0  # the next window begins a block
            people = self._ahead[i].crowd if turned else lot.crowd
            for k, leaf in enumerate(_leaves((lot.device, lot.last, people, lot.totals, lot.open))):
                saved[f"{i}.{k}"] = np.asarray(leaf)
        return saved

    def restore(self, saved: Mapping[str, Array]) -> None:
        """Go on from what `state` returned for the same scenario and chunks."""
        for i, lot in enumerate(self.lots):
            form = (lot.device, lot.last, lot.crowd, lot.totals, lot.open)
            leaves = iter([saved[f"{i}.{k}"] for k in range(len(_leaves(form)))])
            device, last, people, totals, opened = _rebuilt(form, leaves)
            self.lots[i] = lot._replace(device=device, last=last, crowd=people, totals=totals, open=opened)

    def rss_kib(self) -> int:
        """Return the peak resident memory of the process that this share is in."""
        return peak_rss_kib()

    def save_file(self, folder: str) -> None:
        """Write this worker's file of a checkpoint."""
        np.savez(Path(folder) / f"worker-{self.number}.npz", **self.state())

    def restore_file(self, folder: str) -> None:
        """Go on from this worker's file of a checkpoint."""
        with np.load(Path(folder) / f"worker-{self.number}.npz") as saved:
            self.restore(dict(saved))

    def warm_up(self) -> float:
        """Compile what will be called, and return the seconds that took."""
        if self._jax is None:
            return 0.0
        begun = time.perf_counter()
        for lot in {block.size: one for one in self.lots for block in one.blocks}.values():
            no = np.zeros(lot.who.entity.size, dtype=bool)
            air = _cast(self._air(lot.who, lot.what, lot.chunk.site.zone, 0, no), self.scenario)
            flags = np.zeros((self.steps, no.size), dtype=np.uint8)
            self._jax.warm_up(Start(lot.chunk, lot.device, lot.last, air, flags), lot.blocks, self.signals(0, 1.0))
        return time.perf_counter() - begun

    def signals(self, number: int, demand: float) -> Signals:
        """Return what the fleet tells its devices in a window."""
        s = self.scenario
        minutes = s.start_minute + (number * self.steps + np.arange(self.steps)) * (s.reading_s / 60.0)
        zone_minute = (minutes[:, None] + self.zones_min) % DAY_MIN
        since_s = s.reading_s if number else 0.0
        return Signals(demand, zone_minute.astype(s.precision), since_s, s.reading_s, price_at(s, number))

    def flags(self, i: int, number: int) -> Array:
        """Return what the owners of chunk i do in a window, (reading, device) bits; windows are asked for in turn.

        A plug in a region without mains is none.
        Owners heed no signal of the fleet, so they are drawn a block of windows at a time, which costs half.
        """
        s, lot, (block, place) = self.scenario, self.lots[i], divmod(number, self.block)
        ahead = self._ahead.get(i)
        if ahead is None or ahead.block != block:
            people = lot.crowd if ahead is None else ahead.crowd
            steps = self.block * self.steps
            flags, after = crowd.window(
                self.habits, s.seed, people, lot.who.entity, lot.who.kind, block * steps, steps, s.reading_s
            )
            self.lots[i] = lot._replace(crowd=people)
            ahead = self._ahead[i] = _Ahead(block, flags, after)
        self._next = number + 1
        flags = ahead.flags[place * self.steps : (place + 1) * self.steps]
        out = [o.region for o in s.outages if o.at_s <= number * s.window_s < o.at_s + o.for_s]
        return np.where(np.isin(lot.what.region, out), flags & np.uint8(~crowd.PLUGGED & 0xFF), flags) if out else flags

    def _air(self, who: stock.Roster, what: stock.Traits, zone: Array, number: int, outdoors: Array) -> Air:
        """Return the air around each device in the middle of a window; the sun is for what is carried about."""
        climate = self.scenario.climate
        middle = (number + 0.5) * self.scenario.window_s / 60.0 + self.scenario.start_minute + self.zones_min
        wave = np.cos((middle - WARMEST_MIN) * (2.0 * np.pi / DAY_MIN))
        noon = np.maximum(0.0, np.cos((middle - NOON_MIN) * (2.0 * np.pi / DAY_MIN)))
        ambient_c = climate.mean_c + what.climate_c + climate.swing_c * wave[zone]
        return Air(ambient_c, np.where((who.kind <= TABLET) & outdoors, climate.sun_w * noon[zone], 0.0))

    def _added(self, lot: Lot, sums: Sums, counts: Counts) -> Totals:
        t, step_s = lot.totals, self.scenario.reading_s
        chip_s = sums.done * step_s
        through_ah = sums.current_a * np.asarray(lot.chunk.fixed.cells) * (step_s / 3600.0)
        return Totals(
            lent_s=t.lent_s + counts.lent * step_s,
            chip_s=t.chip_s + chip_s,
            flop=t.flop + chip_s * lot.what.flops,
            total_j=t.total_j + sums.total_w * step_s,
            village_j=t.village_j + sums.village_w * step_s,
            plug_j=t.plug_j + sums.plug_w * step_s,
            through_ah=t.through_ah + through_ah,
            hot_s=t.hot_s + counts.hot * step_s,
            times_low=t.times_low + counts.low,
            sessions=t.sessions + counts.sessions,
            interrupted=t.interrupted + counts.interrupted,
            soc_sum=t.soc_sum + np.asarray(lot.device.body.charge.soc),
            board_c_sum=t.board_c_sum + np.asarray(lot.device.body.board_c),
        )


class _Watch:
    """Looks at every reading of a chunk through one window."""

    def __init__(self, share: Share, lot: Lot, number: int) -> None:
        self.share, self.lot = share, lot
        self.now_s = number * share.scenario.window_s
        self.rows: list[tuple[Array, ...]] = []
        self.open = lot.open

    def __call__(self, device: Device, readings: Readings, decision: Decision) -> None:
        share, lot, body = self.share, self.lot, device.body
        config, step_s = share.scenario.policy.harvest, share.scenario.reading_s
        share.violations += violations(config, Devices(lot.what.dedicated, lot.what.has_battery), readings, decision)
        before, tally = self.open
        since_s = step_s if self.now_s else 0.0
        receipts, tally = settle(tally, before, decision, readings, self.now_s, since_s)
        for row in np.flatnonzero(receipts.ended).tolist():
            _, started_s, ended_s, compute_s, reason, interrupted = (column[row].item() for column in receipts)
            share.receipts.append(
                (int(lot.who.entity[row]), started_s, ended_s, compute_s, HARVEST_STATES[int(reason)], interrupted)
            )
        self.open = (decision, tally)
        self.rows.append(
            (body.charge.soc, body.die_c, body.skin_c, decision.contribute, decision.compute_share, decision.state)
        )
        self.now_s += step_s


def _report(report: Report, lot: Lot, sums: Sums, counts: Counts, plugged: Array, signals: Signals) -> None:
    """Add a chunk's window to the report."""
    body = lot.device.body
    soc, die_c, skin_c, off = (np.asarray(v) for v in (body.charge.soc, body.die_c, body.skin_c, body.off))
    battery, step_s = lot.what.has_battery, signals.step_s
    columns = {
        "devices": np.ones(soc.shape, dtype=np.int64),
        "readings_lent": counts.lent,
        "contributing": lot.last.contribute,
        "sessions": counts.sessions,
        "interrupted": counts.interrupted,
        "readings_hot": counts.hot,
        "times_low": counts.low,
        "charging": plugged & battery,
        "off": off,
        "low": lot.last.low & battery,
        "batteries": battery,
        "total_mj": _whole(sums.total_w * step_s * 1e3),
        "village_mj": _whole(sums.village_w * step_s * 1e3),
        "plug_mj": _whole(sums.plug_w * step_s * 1e3),
        "chip_us": _whole(sums.done * step_s * 1e6),
        "mflop": _whole(sums.done * step_s * lot.what.flops * 1e-6),
        "soc_ppm": _whole(np.where(battery, soc, 0.0) * 1e6),
        "skin_mc": _whole(skin_c * 1e3),
        "die_mc": _whole(die_c * 1e3),
    }
    if signals.price is not None:  # whole millionths, each device's for itself: no chunk changes the sum
        columns["cost_micro"] = _whole(sums.plug_w * (step_s / KWH_J * signals.price * 1e6))
    kinds = stock.kind_slices(lot.who.kind)
    firsts = [rows.start for _, rows in kinds]  # one call a column, not one a column and kind
    totals = {name: np.add.reduceat(column, firsts, dtype=np.int64).tolist() for name, column in columns.items()}
    skin_max_c, die_max_c = (np.maximum.reduceat(column, firsts).tolist() for column in (skin_c, die_c))
    soc_min = np.minimum.reduceat(soc, firsts).tolist()
    for k, (kind, _) in enumerate(kinds):
        into = report.sums.setdefault(kind, dict.fromkeys(columns, 0))
        for name, total in totals.items():
            into[name] += total[k]
        worst = report.peaks.setdefault(kind, {"skin_c_max": -np.inf, "die_c_max": -np.inf, "soc_min": np.inf})
        worst["skin_c_max"] = max(worst["skin_c_max"], skin_max_c[k])
        worst["die_c_max"] = max(worst["die_c_max"], die_max_c[k])
        worst["soc_min"] = min(worst["soc_min"], soc_min[k])


def _whole(values: Array) -> Array:
    return np.rint(np.asarray(values, dtype=np.float64)).astype(np.int64)


def _plain(values: Any) -> Any:
    return type(values)(*(np.asarray(value) for value in values))


def _cast(values: Any, scenario: FleetScenario) -> Any:
    """Return a tree of arrays with its floats in the scenario's precision."""
    if isinstance(values, tuple):
        parts = [_cast(value, scenario) for value in values]
        return type(values)(*parts) if hasattr(values, "_fields") else tuple(parts)
    array = np.asarray(values)
    return array.astype(scenario.precision, copy=False) if array.dtype.kind == "f" else array


def _leaves(tree: Any) -> list[Array]:
    return [leaf for part in tree for leaf in _leaves(part)] if isinstance(tree, tuple) else [tree]


def _rebuilt(tree: Any, leaves: Iterator[Array]) -> Any:
    if not isinstance(tree, tuple):
        return next(leaves)
    parts = [_rebuilt(part, leaves) for part in tree]
    return type(tree)(*parts) if hasattr(tree, "_fields") else tuple(parts)


def peak_rss_kib() -> int:
    """Return this process's peak resident memory so far."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
