"""The published table of three-chain HotStuff, simulated: what is held to the measurements."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from experiments.published.hotstuff import (
    EMPTY,
    MACHINE,
    PAYLOAD,
    PUBLISHED,
    Machine,
    Setting,
    alone_ms,
    group,
    measure,
)

WITHIN = 0.25
TABLE = Path(__file__).resolve().parents[2] / "docs" / "hotstuff.csv"


@pytest.mark.parametrize("setting", [PAYLOAD, EMPTY], ids=lambda s: s.name)
@pytest.mark.parametrize("n", [4, 8])
def test_small_groups_are_as_fast_as_measured(n: int, setting: Setting) -> None:
    """Throughput and latency at 4 members (throughput of 1 KB fitted) and at 8 (predicted) are within a quarter."""
    ours = measure(n, setting, MACHINE)

    assert ours == pytest.approx(PUBLISHED[setting][n], rel=WITHIN)


@pytest.mark.nightly
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("setting", [PAYLOAD, EMPTY], ids=lambda s: s.name)
@pytest.mark.parametrize("n", [16, 32, 64, 128])
def test_a_run_gives_the_row_of_the_recorded_table(n: int, setting: Setting) -> None:
    """Nothing is random: the table in docs, by which the rows are judged, is what the simulation gives now."""
    ours = measure(n, setting, MACHINE)

    assert ours._asdict() == pytest.approx(recorded(n, setting), rel=1e-3)


MISSED = {("1 KB", 16, "ms"): 0.26}
"""Rows of the recorded table that are not within a quarter, and within what they are; docs/agreement.md says why."""


def test_the_recorded_table_is_as_close_as_the_page_says() -> None:
    """Every predicted row is within a quarter of the measurement, but for those that are named as missed."""
    for row in pd.read_csv(TABLE).itertuples():
        within = MISSED.get((row.setting, row.n, row.what), WITHIN)
        assert row.ours == pytest.approx(row.theirs, rel=within), row
        if within > WITHIN:
            assert row.ours != pytest.approx(row.theirs, rel=WITHIN), f"{row}: met now; strike it from the list"


def test_the_recorded_table_has_every_published_number() -> None:
    """No row is left out, and theirs is as published."""
    for setting, rows in PUBLISHED.items():
        for n, theirs in rows.items():
            for what, value in theirs._asdict().items():
                table = pd.read_csv(TABLE)
                found = table[(table["setting"] == setting.name) & (table["n"] == n) & (table["what"] == what)]
                assert found["theirs"].item() == pytest.approx(value, rel=1e-3)


@pytest.mark.parametrize(("chain", "ways"), [(3, 8), (2, 6)])
def test_alone_an_operation_takes_the_ways_of_its_rule(chain: int, ways: int) -> None:
    """80 ms and 60 ms over links of 10 ms, on machines that cost nothing; also at 16 members."""
    for n in (4, 16):
        assert alone_ms(n, chain) == pytest.approx(10.0 * ways, rel=0.03)  # type: ignore[arg-type]


def test_a_sender_sends_one_message_after_another() -> None:
    """A second message of 1000 bytes arrives a millisecond after the first at 1 MB/s, whomever it goes to."""
    network = group(4, PAYLOAD, Machine(0, 0, 1e6), chain=3).network
    first, second = (network.delay_ns(1, to, 1000) for to in (2, 3))

    assert first == 2_000_000  # a millisecond to send, one on the way
    assert second == 3_000_000


def recorded(n: int, setting: Setting) -> dict[str, float]:
    """Return our numbers of the recorded table."""
    table = pd.read_csv(TABLE)
    rows = table[(table["setting"] == setting.name) & (table["n"] == n)]
    return dict(zip(rows["what"], rows["ours"], strict=True))
