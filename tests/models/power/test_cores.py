"""Tests of models.power.cores: the core-current law against vendors' tables and its own anchors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.power.cores import BIG_BEND, SMALL_BEND, Cluster, core_current_ma


@given(
    khz=st.lists(st.floats(2e5, 4e6), min_size=1, max_size=3, unique=True).filter(
        lambda values: all(b > 1.05 * a for a, b in zip(sorted(values), sorted(values)[1:], strict=False))
    ),
    data=st.data(),
)
def test_the_law_passes_through_its_anchors(khz: list[float], data: st.DataObject) -> None:
    """At the anchors themselves the law gives their currents, however many there are."""
    anchors_khz = sorted(khz)
    anchors_ma = data.draw(st.lists(st.floats(1.0, 500.0), min_size=len(khz), max_size=len(khz)))

    current_ma = core_current_ma(anchors_khz, anchors_khz, anchors_ma)

    np.testing.assert_allclose(current_ma, anchors_ma, rtol=1e-9)


@pytest.mark.parametrize(("ways", "worst"), [((0.0, 0.4, 1.0), 15.0), ((0.2, 1.0), 15.0), ((0.0, 1.0), 18.0)])
def test_phones_of_other_makers_are_within_ten_per_cent(
    data_folder: Path, ways: tuple[float, ...], worst: float
) -> None:
    """Xiaomi's own tables, none of which was in the fit, are met within 10 % on average from two or three anchors."""
    frame = pd.read_csv(data_folder / "power_profiles" / "android_power_profiles.csv")
    errors = {}
    for device in ("redminote8t", "redminote9s", "mi9lite"):
        for cluster, bend in ((0, SMALL_BEND), (1, BIG_BEND)):
            items = frame[frame["device"] == device].groupby("item")["value"]
            khz = items.get_group(f"cpu.core_speeds.cluster{cluster}").to_numpy(float)
            ma = items.get_group(f"cpu.core_power.cluster{cluster}").to_numpy(float)
            at = [int(np.abs(khz - khz[0] - way * (khz[-1] - khz[0])).argmin()) for way in ways]
            others = np.delete(np.arange(khz.size), at)
            predicted = core_current_ma(khz, khz[at], ma[at], bend)
            errors[device, cluster] = 100.0 * np.abs(predicted / ma - 1.0)[others].mean()

    print({key: round(float(value), 1) for key, value in errors.items()})

    assert np.mean(list(errors.values())) < 10.0
    assert max(errors.values()) < worst


def test_anchors_of_many_clusters_go_along() -> None:
    """Each row may have its own anchors: the result is that of the rows one by one, under NumPy and JAX."""
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    khz = np.array([[3e5, 9e5, 1.8e6], [5e5, 1.5e6, 3e6]])
    ma = np.array([[2.8, 8.4, 25.7], [8.3, 41.6, 265.9]])
    freq = np.array([1.2e6, 2.0e6])

    together = core_current_ma(freq, khz, ma)

    alone = [float(core_current_ma(f, k, m)) for f, k, m in zip(freq, khz, ma, strict=True)]
    np.testing.assert_allclose(together, alone, rtol=1e-14)
    np.testing.assert_allclose(jax.jit(core_current_ma)(freq, khz, ma), together, rtol=1e-13)


@pytest.mark.parametrize(
    ("khz", "ma", "cores", "words"),
    [
        ((9e5, 3e5), (2.0, 3.0), 1, "anchors_khz is .*; allowed: rising, above 0"),
        ((3e5, float("nan")), (2.0, 3.0), 1, "anchors_khz is .*; allowed: rising, above 0"),
        ((3e5, 9e5), (2.0, 0.0), 1, "anchors_ma is .*; allowed: numbers above 0"),
        ((3e5, 9e5), (2.0,), 1, "2 frequencies, 1 currents; allowed: 1 to 3 each"),
        ((3e5,), (2.0,), 0, "cores is 0; allowed: integers from 1"),
    ],
)
def test_a_cluster_refuses_what_is_no_table(
    khz: tuple[float, ...], ma: tuple[float, ...], cores: int, words: str
) -> None:
    """A cluster with falling, missing or impossible anchors is refused in one line."""
    with pytest.raises(ValueError, match=f"^cluster 'big': {words}$"):
        Cluster("big", cores, khz, ma, "test")
