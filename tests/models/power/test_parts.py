"""Tests of models.power.parts and compact: tables against device trees, and the compact law against the tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from models import devices, power
from models.power.cores import BIG_BEND, SMALL_BEND
from models.power.parts import DYNAMIC_UW_MHZ_V2, MEMORY_PJ_BIT, NOMINAL_V

COMPACT_ERROR = 0.07  # of full power; the worst platform (Snapdragon 855) has 0.064


def test_platforms_meet_the_tables_they_were_fitted_to(data_folder: Path) -> None:
    """The anchors shipped predict Pixel tables within 10 % on average and 11 % in the worst cluster."""
    frame = pd.read_csv(data_folder / "power_profiles" / "pixel_cpu_core_mA.csv")
    phones = {
        "Snapdragon 821": "marlin", "Snapdragon 835": "taimen", "Snapdragon 845": "crosshatch", "Tensor G3": "shiba",
        "Snapdragon 670": "sargo", "Snapdragon 730G": "sunfish", "Snapdragon 855": "flame",
        "Snapdragon 765G": "bramble",
    }  # fmt: skip
    errors = []
    for platform, phone in phones.items():
        for cluster in power.PLATFORMS[platform]:
            rows = frame[(frame["device"] == phone) & (frame["cluster"] == int(cluster.name))]
            assert cluster.cores == rows["cpu"].nunique()
            predicted = power.core_current_ma(rows["freq_kHz"].to_numpy(float), cluster.anchors_khz, cluster.anchors_ma)
            errors.append(float(np.abs(predicted / rows["core_mA"].to_numpy(float) - 1.0).mean()))

    assert len(phones) == len(power.PLATFORMS)
    assert np.mean(errors) < 0.05
    assert max(errors) < 0.11


def test_dynamic_power_is_that_of_the_device_tree(data_folder: Path) -> None:
    """C f V^2 gives the RK3399's power at every operating point, to the table's 0.1 mW."""
    frame = pd.read_csv(data_folder / "power_profiles" / "soc_dvfs_rk3399.csv")
    core = frame["cluster"].str.split("_").str[1].map(lambda name: f"Cortex-{name}")

    power_w = power.dynamic_w(core.map(DYNAMIC_UW_MHZ_V2).to_numpy(), frame["freq_MHz"], frame["volt_mV"] / 1e3)

    np.testing.assert_allclose(power_w * 1e3, frame["p_dyn_core_mW"], atol=0.051)


@pytest.mark.parametrize("platform", power.PLATFORMS)
def test_the_compact_exponent_follows_the_detailed_table(platform: str) -> None:
    """Over the speeds of governors the compact law stays within 7 % of full power of the detailed one."""
    clusters = power.PLATFORMS[platform]
    full_w, exponent, worst = power.compact(clusters)
    speed = np.linspace(0.5, 1.0, 11)
    detailed_w = power.cpu_w(clusters, speed, [cluster.cores for cluster in clusters])

    compact_w = power.draw_w(0.0, np.inf, full_w, 0.0, 0, 1.0, speed, exponent=exponent).die_w

    print(f"{platform}: {full_w:.2f} W, exponent {exponent:.2f}, worst error {100 * worst:.1f} % of full power")
    assert np.abs(compact_w - detailed_w).max() <= worst * full_w + 1e-12
    assert worst < COMPACT_ERROR


def test_the_library_holds_the_derived_exponents() -> None:
    """A device whose exponent is said to be derived has that of its platform's table."""
    derived = [row for row in devices.LIBRARY if "compact" in row.sources["exponent"]]

    assert len(derived) == 9
    for row in derived:
        platform = row.name.split(" (")[0]
        assert row.exponent == pytest.approx(power.compact(power.PLATFORMS[platform]).exponent, abs=0.006)
        assert row.peak_w > power.compact(power.PLATFORMS[platform]).full_w


def test_parts_add_up_to_a_phone() -> None:
    """A Pixel 8 with all cores busy and its screen at half brightness draws what its profile adds up to, 3 to 6 W."""
    cores_w = float(power.cpu_w(power.PLATFORMS["Tensor G3"], 1.0, [4, 4, 1]))
    by_hand_w = (4 * 90.3 + 4 * 116.7 + 265.9) * 1e-3 * NOMINAL_V

    assert cores_w == pytest.approx(by_hand_w)
    assert 3.0 < cores_w + float(power.screen_w(0.5)) < 6.0
    assert float(power.cpu_w(power.PLATFORMS["Tensor G3"], 1.0, [0, 0, 0])) == 0.0
    assert float(power.memory_w(51.2e9, MEMORY_PJ_BIT["lpddr5"])) == pytest.approx(1.843, abs=1e-3)
    assert power.accelerator_w(20.0, 450.0, [0.0, 1.0, 2.0]).tolist() == [20.0, 450.0, 450.0]


def test_the_slowest_cluster_of_several_bends_by_its_own_class() -> None:
    """With two anchors the first of two clusters takes the small cores' bend, the second and a single one the big's."""
    khz, ma = (3e5, 2e6), (5.0, 100.0)
    cluster = power.Cluster("0", 1, khz, ma, "test")
    small_w, big_w = (
        float(power.core_current_ma(1e6, khz, ma, bend)) * 1e-3 * NOMINAL_V for bend in (SMALL_BEND, BIG_BEND)
    )

    assert float(power.cpu_w([cluster, cluster], 0.5, [1, 0])) == pytest.approx(small_w)
    assert float(power.cpu_w([cluster, cluster], 0.5, [0, 1])) == pytest.approx(big_w)
    assert float(power.cpu_w([cluster], 0.5, [1])) == pytest.approx(big_w)
    assert small_w > 1.1 * big_w


def test_cpu_power_wants_one_load_a_cluster() -> None:
    """Too few loads are refused by number."""
    with pytest.raises(ValueError, match=r"^busy_cores has 1 entries; allowed: 3, one a cluster$"):
        power.cpu_w(power.PLATFORMS["Tensor G3"], 1.0, [4])
