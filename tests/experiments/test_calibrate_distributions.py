"""Tests of ``twin calibrate links`` and ``failures``: fits come back from their file, stored ones can be made again."""

from __future__ import annotations

import argparse
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from experiments.calibration import distributions, failures, links
from experiments.calibration.distributions import Source, fit_all, write
from experiments.compose import UsageError
from models.distributions import read_fits
from models.distributions.fit import Sample
from models.failures.lives import FITS as LIVES
from models.links.access import FITS as RATES


def made(path: Path) -> Sample:
    """Stand in for a reader."""
    table = pd.read_csv(path)
    return Sample.of(table["value"].to_numpy(float), table["unit"].to_numpy())


def test_fits_come_back_from_their_file(tmp_path: Path) -> None:
    """What was fitted is read again with its law, source and quality; a changed file has another digest."""
    values = np.random.default_rng(1).lognormal(2.0, 0.5, 2000)
    pd.DataFrame({"value": values, "unit": np.arange(2000) % 20}).to_csv(tmp_path / "some.csv", index=False)
    source = Source("rate.made.up", "some.csv", "value", "all", "unit", "Mbit/s", made)
    plain = fit_all([source], tmp_path, quiet=True)
    write(tmp_path / "fits.json", plain)
    found = read_fits(tmp_path / "fits.json")["rate.made.up"]

    assert found.law.family == "log-normal"
    assert found.law.parameters == pytest.approx((np.exp(2.0), 0.5), rel=0.05)
    assert (found.units, found.values, found.file) == (20, 2000, "some.csv")
    (tmp_path / "some.csv").write_text("value,unit\n1,a\n")
    assert plain["files"] != distributions.digests(["some.csv"], tmp_path)


def test_a_file_of_another_format_is_refused(tmp_path: Path) -> None:
    """The format is named."""
    (tmp_path / "fits.json").write_text('{"format": 9}')
    with pytest.raises(ValueError, match=r"fits\.json: format is 9; allowed: 1"):
        read_fits(tmp_path / "fits.json")


@pytest.mark.parametrize("subject", [links, failures], ids=["links", "failures"])
def test_what_is_missing_is_named_before_anything_is_fitted(subject: ModuleType, tmp_path: Path) -> None:
    """A folder without the sets is refused in one line, and nothing is written."""
    parser = argparse.ArgumentParser()
    subject.add_arguments(parser)
    options = parser.parse_args(["--data", str(tmp_path), "--out", str(tmp_path / "fits.json")])
    with pytest.raises(UsageError, match=r"--data .*: no \w+/.*\.csv") as caught:
        subject.run(options)

    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("*.json"))


def test_names_are_the_stored_ones() -> None:
    """Every class that is fitted is stored, and no other."""
    assert {source.name for source in links.SOURCES} == set(RATES)
    assert {source.name for source in failures.SOURCES} == set(LIVES)


@pytest.mark.parametrize("name", ["down.wifi.campus", "gap.cloud-online.cua"])
def test_a_stored_fit_can_be_made_again(name: str, data_folder: Path) -> None:
    """The same data give the same choice, parameters and distances."""
    source = next(source for source in (*links.SOURCES, *failures.SOURCES) if source.name == name)
    row = fit_all([source], data_folder, quiet=True)["fits"][name]
    stored = {**RATES, **LIVES}[name]

    assert (row["chosen"], row["units"], row["values"]) == (stored.chosen, stored.units, stored.values)
    assert row["parameters"] == pytest.approx(stored.law.parameters, rel=1e-4)
    assert row["ks_units"] == pytest.approx(stored.ks_units, abs=1e-3)


def test_outage_rates_of_a_known_chain_are_found_again() -> None:
    """Steps of a chain with rates 0.05 and 0.4 a second, two seconds apart, give these rates."""
    from models import draws
    from models.links.loss import Channel

    channel = Channel(0.05, 0.4, 0.0, 1.0, "made up")
    bad = channel.states(False, np.full(400_000, 2.0), draws.uniform(1, "chain", 0, np.arange(400_000)))
    rows = pd.DataFrame({"t_s": 2.0 * np.arange(400_000), "mbps": np.where(bad, 0.0, 5.0)})
    found = links._rates(links._moves(rows, "mbps", 1.0, 2.0), 2.0)

    assert found == pytest.approx([0.05, 0.4], rel=0.02)


def test_faults_of_a_server_pair_start_and_end(tmp_path: Path) -> None:
    """An end closes the oldest open start of the same fault; what has no end by the log's last event stays open."""
    rows = [("a", 1.0, "fault_start"), ("a", 2.0, "fault_end"), ("a", 5.0, "fault_start"), ("b", 6.0, "fault_start")]
    table = pd.DataFrame(rows, columns=["node", "day", "event"]).assign(level="Hardware Failure", cls="GPU", desc="x")
    table.to_csv(tmp_path / "faults.csv", index=False)
    found = failures.gpu_faults(tmp_path / "faults.csv")

    assert found[["node", "start_h"]].values.tolist() == [["a", 24.0], ["a", 120.0], ["b", 144.0]]
    assert found["end_h"].isna().tolist() == [False, True, True]
