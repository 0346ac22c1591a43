"""A fleet's run: what must not change it, what it leaves behind, and what an interruption costs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import numpy as np
import pytest

from experiments.compose import build, compose_plain
from policies.config import BoincConfig, FederatedConfig, HarvestConfig, HarvestRules, PredictiveConfig
from scenarios.fleet import FleetPolicies, FleetRecord, Outage
from sim.fleet import run, stock
from sim.fleet.checkpoint import STATE
from sim.fleet.record import record
from sim.fleet.run import Workers, deal, run_fleet, sample
from tests.sim.fleet.fleets import HOUR_S, lived, small, table_bytes


@pytest.mark.parametrize("rule", [HarvestConfig(), BoincConfig(), FederatedConfig(), PredictiveConfig()])
def test_receipts_and_counts_know_one_interruption(rule: HarvestRules) -> None:
    """Of each sampled device, in an outage too, as many receipts are of interrupted sessions as the fleet counts."""
    dark = (Outage(region=0, at_s=HOUR_S, for_s=HOUR_S),)
    result = lived(policy=FleetPolicies(rule), record=FleetRecord(histories=400), outages=dark, devices=400)
    told = Counter(receipt[0] for receipt in result.receipts if receipt[-1])

    who, counted = (result.devices[name][result.sampled] for name in ("device", "interrupted"))
    assert [told[device] for device in who.tolist()] == counted.tolist()
    assert told.total() > 0


def test_chunks_and_processes_change_nothing() -> None:
    """One digest for chunks of 1, 70 and 4,000 rows, and for one and two worker processes."""
    digests = {lived(chunk=size, duration_s=HOUR_S / 2).digest for size in (70, 333, 4000)}
    digests.add(lived(chunk=100, processes=2, duration_s=HOUR_S / 2).digest)

    assert len(digests) == 1


def test_seed_and_policy_change_the_digest() -> None:
    """Another seed is another history."""
    assert lived(duration_s=HOUR_S / 2).digest != lived(duration_s=HOUR_S / 2, seed=2).digest


def test_rows_alone_equal_rows_in_the_batch() -> None:
    """Devices run by themselves, decided in a batch of their own, end exactly as in the fleet."""
    result = lived()

    assert result.alone_differs == 0.0
    assert len(result.sampled) == 8
    assert result.violations == []


def test_every_check_of_a_run_holds_and_can_fail() -> None:
    """A run's checks pass, and each goes red when its promise is broken in the result."""
    result = lived()
    good = record(result).manifest["checks"]
    result.alone_differs = 1e-3
    result.devices["sessions"][0] += 1
    result.devices["soc"][1] = 1.5
    result.devices["die_c"][2] = np.nan
    result.violations = ["row 3: die_c is 66; allowed while contributing: below 65"]

    assert all(value is True for value in good.values()), good
    assert not any(value is True for value in record(result).manifest["checks"].values())


def test_an_interrupted_run_goes_on_to_the_same_end(tmp_path: Path) -> None:
    """After a failure, the same scenario goes on from its checkpoint and ends with the digest of a run in one piece."""
    scenario = small(record=FleetRecord(histories=3, checkpoint_h=1.0))

    class Stop(Exception):
        pass

    def stop(share: float, text: str) -> None:
        if share > 0.5:
            raise Stop

    with pytest.raises(Stop):
        run_fleet(scenario, tmp_path, stop)
    resumed = run_fleet(scenario, tmp_path)
    whole = run_fleet(scenario)

    assert resumed.resumed_at_s == HOUR_S
    assert resumed.digest == whole.digest
    assert resumed.receipts == whole.receipts
    assert table_bytes(resumed, tmp_path) == table_bytes(whole, tmp_path)
    assert not (tmp_path / "state").exists()


def test_a_checkpoint_of_another_scenario_is_not_taken_up(tmp_path: Path) -> None:
    """A checkpoint counts only for the very scenario that wrote it."""
    scenario = small(record=FleetRecord(histories=0, checkpoint_h=1.0))

    def stop(share: float, text: str) -> None:
        if share > 0.5:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        run_fleet(scenario, tmp_path, stop)

    assert run_fleet(msgspec.structs.replace(scenario, seed=5), tmp_path).resumed_at_s == 0.0


def test_whoever_leaves_has_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever between two windows the signal comes, a run that ends by it leaves a state to go on from."""
    asked = iter([False, True, True, True])  # the signal comes after the first look

    @contextmanager
    def late() -> Iterator[Callable[[], bool]]:
        yield lambda: next(asked)

    monkeypatch.setattr(run, "_at_interruption", late)
    with pytest.raises(KeyboardInterrupt):
        run_fleet(small(record=FleetRecord(histories=0, checkpoint_h=100.0)), tmp_path)

    assert (tmp_path / STATE / "head.json").exists()


@pytest.mark.slow
def test_ctrl_c_saves_and_the_command_goes_on(tmp_path: Path) -> None:
    """Ctrl-C leaves exit code 130 and a state; the same command finishes from it with the digest of a whole run."""
    words = [
        "scenario=million_day", "devices=3000", "chunk=500", "processes=2",
        "record.checkpoint_h=0.25", "record.histories=2", "duration_s=28800",
    ]  # fmt: skip
    command = [sys.executable, "-m", "experiments.cli", "run", *words, "track=none", f"out={tmp_path / 'run'}"]
    env = {**os.environ, "VILLAGETWIN_HOME": str(tmp_path)}
    process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    head = tmp_path / ".run.state" / STATE / "head.json"
    while not head.exists() and process.poll() is None:  # one window of 32 is done, however fast the machine is
        with suppress(subprocess.TimeoutExpired):  # waits as long as a window takes, and leaves the cores to it
            process.wait(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == 130, err
    assert head.exists()

    done = subprocess.run([*command, "-q", "--json"], env=env, capture_output=True, text=True, check=True)
    whole = run_fleet(msgspec.structs.replace(build(compose_plain(words)), processes=1))

    assert msgspec.json.decode(done.stdout)["digest"] == whole.digest
    assert not (tmp_path / ".run.state").exists()


def test_a_region_without_power_charges_nothing() -> None:
    """In an outage no battery of the region takes charge, devices on the mains are off; elsewhere life goes on."""
    result = lived(regions=2, outages=(Outage(region=0, at_s=0.0, for_s=3 * HOUR_S),), duration_s=3 * HOUR_S)
    who = stock.roster(small())
    region = stock.traits(small(regions=2), who).region
    dark, lit = region == 0, region == 1
    on_mains = result.devices["battery_wh"] == 0.0

    assert result.devices["plug_j"][dark].sum() == 0.0
    assert result.devices["plug_j"][lit].sum() > 0.0
    assert result.devices["off"][dark & on_mains].all()
    assert not result.devices["off"][lit & on_mains].all()


def test_demand_follows_the_work_that_waits() -> None:
    """A window's demand is what waits over what the lent devices could have done in the window before, at most 1."""
    result = lived()
    demands = {row["time_s"]: row["demand"] for row in result.windows}
    done = sum(row["mflop"] for row in result.windows)

    assert set(demands.values()) != {1.0}
    assert all(0.0 <= demand <= 1.0 for demand in demands.values())
    assert done == result.desk.done


def test_the_sample_is_keyed_and_has_no_repetition() -> None:
    """The sampled places are distinct, in order, the same each time, and all devices if so many are asked for."""
    wanted = small(record=FleetRecord(histories=100))
    places = sample(wanted)

    assert len(set(places.tolist())) == 100
    assert places.tolist() == sorted(places.tolist()) == sample(wanted).tolist()
    assert sample(small(devices=5, record=FleetRecord(histories=9))).tolist() == [0, 1, 2, 3, 4]


def test_chunks_hold_one_kind_and_every_row_once() -> None:
    """Chunks cut the fleet's order without gaps, and no chunk spans two kinds."""
    who = stock.roster(small())
    dealt = deal(who, 50, 2)
    chunks = [rows for mine in dealt for rows in mine]

    assert len(dealt) == 2
    assert sorted(np.concatenate(chunks).tolist()) == list(range(600))
    assert all(len(set(who.kind[rows].tolist())) == 1 and rows.size <= 50 for rows in chunks)


def test_what_is_few_of_a_kind_is_put_together() -> None:
    """Each row is in one chunk, none too long; kinds with few rows share chunks, in the fleet's order."""
    who = stock.roster(small())
    for mine in deal(who, 250, 2, few=100):
        kinds = [set(who.kind[rows].tolist()) for rows in mine]
        assert all(rows.size <= 250 and rows.tolist() == sorted(set(rows.tolist())) for rows in mine)
        assert all(len(kind) == 1 for kind, rows in zip(kinds[:-1], mine[:-1], strict=True) if rows.size >= 100)
        assert len(kinds[-1]) > 1
    every = np.concatenate([rows for mine in deal(who, 250, 2, few=100) for rows in mine])
    assert sorted(every.tolist()) == list(range(600))


def test_each_worker_has_the_same_share_of_every_kind() -> None:
    """No worker waits for another: of each kind all have the same number of devices, but for one."""
    who = stock.roster(small())
    held = [np.bincount(who.kind[np.concatenate(mine)], minlength=5) for mine in deal(who, 70, 3)]

    assert np.ptp(held, axis=0).max() <= 1


def test_no_more_workers_than_chunks() -> None:
    """A fleet that fits into a few chunks is not spread over more processes than that."""
    who = stock.roster(small())
    kinds = len(set(who.kind.tolist()))

    assert len(deal(who, 600, 16)) == kinds
    assert [len(mine) for mine in deal(who, 600, 1)] == [kinds]


def test_a_device_is_the_same_in_every_fleet() -> None:
    """Device i has the same model, battery and region in a fleet of 50 and in one of 600."""
    few, many = (stock.roster(small(devices=n)) for n in (50, 600))
    a, b = (stock.traits(small(devices=n), who) for n, who in ((50, few), (600, many)))
    place = {entity: i for i, entity in enumerate(many.entity.tolist())}
    rows = np.array([place[entity] for entity in few.entity.tolist()])

    assert few.model.tolist() == many.model[rows].tolist()
    assert a.battery_wh.tolist() == b.battery_wh[rows].tolist()
    assert a.region.tolist() == b.region[rows].tolist()


def test_a_worker_that_fails_says_why() -> None:
    """A worker's failure reaches the parent with its message, and no process is left."""
    scenario = small(chunk=100, processes=2)
    with Workers(scenario, stock.roster(scenario)) as workers:
        with pytest.raises(RuntimeError, match="no_such_thing"):
            workers.ask("no_such_thing")
        processes = list(workers.processes)

    assert not any(process.is_alive() for process in processes)


def test_receipts_account_for_what_was_lent() -> None:
    """A sampled device's receipts, with what its running session has lent, sum to its history's compute shares."""
    result = lived(duration_s=6 * HOUR_S, record=FleetRecord(histories=60))
    rows = result.histories.frame()
    who = result.devices["device"][result.sampled].tolist()
    shares, contribute = (rows[name].to_numpy().reshape(-1, len(who)) for name in ("compute_share", "contribute"))
    ended: dict[int, float] = {}
    for device, _, _, compute_s, _, _ in result.receipts:
        ended[device] = ended.get(device, 0.0) + compute_s

    assert result.receipts
    for column, device in enumerate(who):
        if not contribute[-1, column]:
            assert ended.get(device, 0.0) == pytest.approx(shares[:, column].sum() * 60.0)
