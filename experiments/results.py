"""Results for people: load a scenario, simulate it, and hold the Run as numbers, DataFrames and plots.

>>> from experiments import load
>>> load("four_desks", seed=7, fleet__desktops=5).fleet.size
5
"""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from experiments.verdict import Check
    from scenarios.fleet import FleetScenario
    from scenarios.record import Record
    from scenarios.schema import Scenario


MANIFEST: dict[str, type] = {
    "config": dict, "policies": dict, "checks": dict, "check_events": dict, "run": dict, "seed": int,
}  # fmt: skip
"""What of a manifest is read by name, where it is there, and what it is."""
LATER = ("model",)
"""Columns that Runs kept before there were such ones lack."""


class Run:
    """What one run left behind, from a finished folder or fresh from a world.

    Attributes:
        folder: where it lies, or None while it is only in memory.
        summary: flat name to number; units last in the names.
        manifest: digest, seed, world, fidelity, config, versions, policies and more.

    Raises:
        experiments.compose.UsageError: a file of the folder cannot be read; tables are read when they are asked for.
    """

    def __init__(self, record: Record | None = None, folder: Path | None = None) -> None:
        if record is None and folder is None:
            raise ValueError("a Run needs a record or a folder")
        self._record = record
        self.folder = folder
        if record is not None:
            self.summary: dict[str, float] = record.summary
            self.manifest: dict[str, Any] = record.manifest
        else:
            assert folder is not None
            self.summary, self.manifest = (_plain(folder / name) for name in ("summary.json", "manifest.json"))
            for name, kind in MANIFEST.items():
                if not isinstance(self.manifest.get(name, kind()), kind):
                    raise _damaged(folder / "manifest.json", ValueError(f"{name} is {self.manifest[name]!r}"))

    @cached_property
    def requests(self) -> pd.DataFrame:
        """One row a request (`scenarios.record.TABLES`)."""
        return self._table("requests")

    @cached_property
    def devices(self) -> pd.DataFrame:
        """One row a device and sample."""
        return self._table("devices")

    @cached_property
    def decisions(self) -> pd.DataFrame:
        """What policies decided: leaders, placements, settlements."""
        return self._table("decisions")

    @cached_property
    def commits(self) -> pd.DataFrame:
        """One row an entry of the replicated log: when it was committed first and last, and by how many."""
        return self._table("commits")

    @cached_property
    def faults(self) -> pd.DataFrame:
        """What was done to the village, by whom."""
        return self._table("faults")

    @cached_property
    def sessions(self) -> pd.DataFrame:
        """One row a session that gave all its tokens; empty in Runs that were kept before there was this table."""
        from scenarios.record import frame

        there = self.folder is None or (self.folder / "sessions.parquet").exists()
        empty: pd.DataFrame = frame("sessions", ())
        return self._table("sessions") if there else empty

    @cached_property
    def fleet(self) -> pd.DataFrame:
        """Of a fleet's run: one row a window and kind of device (`scenarios.record.FLEET_TABLES`)."""
        return self._table("fleet")

    @cached_property
    def totals(self) -> pd.DataFrame:
        """Of a fleet's run: one row a device."""
        return self._table("totals")

    @cached_property
    def histories(self) -> pd.DataFrame:
        """Of a fleet's run: every reading of the sampled devices."""
        return self._table("histories")

    def history(self, device: int | None = None) -> pd.DataFrame:
        """Of a fleet's run: every reading of one sampled device, the first unless told; others are not loaded."""
        if self.folder is None:
            rows = self.histories
            chosen = rows["device"].iloc[0] if device is None and len(rows) else device
            return rows[rows["device"] == chosen]
        import pandas as pd
        import pyarrow.parquet as pq

        path = self.folder / "histories.parquet"
        try:
            if device is None:
                with pq.ParquetFile(path) as file:
                    first = next(file.iter_batches(1, columns=["device"]), None)
                device = first and first[0][0].as_py()
            return pd.read_parquet(path, filters=[("device", "==", device)])
        except (OSError, ValueError) as error:
            raise _damaged(path, error) from None

    @cached_property
    def receipts(self) -> pd.DataFrame:
        """Of a fleet's run: the sampled devices' sessions, as the ledger takes them."""
        return self._table("receipts")

    @property
    def is_fleet(self) -> bool:
        """Whether this is a fleet's run rather than a village's."""
        from scenarios.record import is_fleet

        return is_fleet(self.manifest)

    @property
    def journals(self) -> dict[str, bytes]:
        """Node to the bytes of its journal."""
        if self._record is not None:
            return self._record.journals
        assert self.folder is not None
        try:
            return {f.stem: f.read_bytes() for f in sorted((self.folder / "journals").glob("*.journal"))}
        except OSError as error:
            raise _damaged(self.folder / "journals", error) from None

    @property
    def name(self) -> str:
        """The scenario's name."""
        return str(self.config.get("name", "run"))

    @property
    def config(self) -> dict[str, Any]:
        """The scenario, plain."""
        return dict(self.manifest.get("config", {}))

    @property
    def seed(self) -> int:
        """The run's seed."""
        return int(self.manifest.get("seed", self.config.get("seed", 0)))

    @property
    def world(self) -> str:
        """``sim`` or ``local``."""
        return str(self.manifest.get("world", "sim"))

    @property
    def digest(self) -> str:
        """Digest of the event history."""
        return str(self.manifest.get("digest", ""))

    @cached_property
    def checks(self) -> list[Check]:
        """The verdict: the world's own checks and those of the books."""
        from experiments.verdict import verdict

        return verdict(self)

    @property
    def plot(self) -> Any:
        """``timeline, latency, fleet, battery, temperature, contributors, events, agreement``; each takes an ``ax``.

        Of a fleet's run: ``lent, heat, charge, power, harm, history`` (`experiments.fleet_plots`).
        """
        if self.is_fleet:
            from experiments.fleet_plots import FleetPlots

            return FleetPlots(self)
        from experiments.plots import Plots

        return Plots(self)

    def __repr__(self) -> str:
        return f"Run({self.name!r}, seed={self.seed}, world={self.world!r}, digest={self.digest[:12]!r})"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(name)}</td><td style='text-align:right'>{number(value)}</td></tr>"
            for name, value in self.summary.items()
        )
        failed = [check.name for check in self.checks if not check.passed]
        verdict = f"failed: {html.escape(', '.join(failed))}" if failed else f"all {len(self.checks)} checks passed"
        title = f"{html.escape(self.name)} · seed {self.seed} · {self.world} · {verdict}"
        return f"<div><b>{title}</b><table>{rows}</table></div>"

    def _table(self, name: str) -> pd.DataFrame:
        import pandas as pd

        from scenarios.parts import Parts
        from scenarios.record import FLEET_TABLES, TABLES, frame

        rows = None if self._record is None else self._record.tables.get(name, ())
        if rows is not None and (self.folder is None or not isinstance(rows, Parts)):  # parts go when they are joined
            made: pd.DataFrame = frame(name, rows)
            return made
        assert self.folder is not None
        try:
            table = pd.read_parquet(self.folder / f"{name}.parquet")
            absent = [column for column in {**TABLES, **FLEET_TABLES}[name] if column not in (*table.columns, *LATER)]
            if absent:
                raise ValueError(f"no column {', '.join(absent)}")
        except (OSError, ValueError) as error:  # pyarrow's are of these
            raise _damaged(self.folder / f"{name}.parquet", error) from None
        return table


def _plain(file: Path) -> dict[str, Any]:
    """Return what a file of a Run's says as JSON, one object."""
    try:
        found = json.loads(file.read_text())
        if not isinstance(found, dict):
            raise ValueError("it is no JSON object")
    except (OSError, ValueError) as error:
        raise _damaged(file, error) from None
    return found


def _damaged(file: Path, error: Exception) -> Exception:
    from experiments.compose import UsageError
    from experiments.folders import show_path

    return UsageError(f"{show_path(file)}: this Run is damaged, run it again: {error}")


def load(scenario: str = "first_village", *, seed: int = 1, **overrides: Any) -> Any:
    """Compose and check a scenario of conf/.

    Args:
        scenario: a choice of conf/scenario.
        seed: names every random draw.
        overrides: as on the command line, with ``__`` for a dot or slash: ``fleet="small_50"``,
            ``policy__harvest="generous"``, ``fleet__phones=100``.

    Raises:
        ValueError: one line naming the field, the value and what is allowed.
    """
    from experiments.compose import build, compose_plain, groups

    known = groups()
    words = [f"scenario={scenario}", f"seed={seed}"]
    for name, value in overrides.items():
        group = name.replace("__", "/")
        key = group if group in known and isinstance(value, str) else name.replace("__", ".")
        words.append(f"{key}={value if isinstance(value, str) else json.dumps(value)}")
    return build(compose_plain(words))


def simulate(
    scenario: Scenario | FleetScenario,
    policy: Any = None,
    *,
    progress: Callable[[float, str], None] = lambda share, text: None,
) -> Run:
    """Run a scenario in the simulated world.

    Args:
        scenario: from `load`.
        policy: a policy of your own in place of the village's, as `sim.village.simulate` takes it.
        progress: called with the finished share and a text.
    """
    from scenarios.fleet import FleetScenario

    if isinstance(scenario, FleetScenario):
        from sim.fleet.record import simulate_fleet

        return Run(simulate_fleet(scenario, progress=progress))
    from sim.village import simulate as simulate_record

    return Run(simulate_record(scenario, policy=policy, progress=progress))


def open_run(path: str | Path) -> Run:
    """Open a finished Run: a folder, or the start of its name under runs."""
    from experiments.folders import find_run

    return Run(folder=find_run(str(path)))


TOO_LONG = 1e15
"""From here on a number's digits do not fit the 23 columns of a summary, and were cut off at their end."""


def number(value: Any) -> str:
    """Return a number as people read it: four significant digits, thousands apart, powers of ten from 1e15 on.

    >>> number(21999), number(0.123456), number(1234567.8), number(39526708706566995072)
    ('21,999', '0.1235', '1,234,568', '3.953e+19')
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if value != value:  # NaN: nothing was measured
        return "–"
    if abs(value) >= TOO_LONG:
        return f"{value:.4g}"
    if float(value).is_integer() or abs(value) >= 10_000:
        return f"{value:,.0f}"
    return f"{value:.4g}"
