"""The reader of the Azure trace: every format it says it takes, and a name and line for everything else."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import numpy as np
import pytest

from scenarios.schema import ScenarioError
from scenarios.traces import read_azure, read_rates

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
ROWS = "2023-11-16 18:15:46.6805900,374,44\n2023-11-16 18:15:50.9951690,396,109\n"
DATA = Path(os.environ.get("VILLAGETWIN_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"))


def write(folder: Path, text: str) -> Path:
    """Write a trace."""
    path = folder / "trace.csv"
    path.write_text(text)
    return path


def test_plain_and_gzip_read_alike_to_the_tick(tmp_path: Path) -> None:
    """Stamps keep their 100 ns; the first arrival is 0; compression is seen from the bytes, not the name."""
    plain = write(tmp_path, HEADER + ROWS)
    packed = tmp_path / "packed.csv"
    packed.write_bytes(gzip.compress((HEADER + ROWS).encode()))

    for path in (plain, packed):
        arrival_s, prompt, new = read_azure(path)
        assert arrival_s.tolist() == [0.0, pytest.approx(4.314579, abs=2e-7)]
        assert (prompt.tolist(), new.tolist()) == ([374, 396], [44, 109])


def test_rows_out_of_order_are_sorted_with_their_lengths_and_empty_ones_count_as_one_token(tmp_path: Path) -> None:
    """Arrivals rise, each with its own lengths; nobody serves less than one token; whole seconds need no decimals."""
    late_first = HEADER + "2023-11-16 18:15:50,9,0\n2023-11-16 18:15:40.5,0,7\n"
    arrival_s, prompt, new = read_azure(write(tmp_path, late_first))

    assert (arrival_s.tolist(), prompt.tolist(), new.tolist()) == ([0.0, 9.5], [1, 9], [7, 1])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", r"trace.csv:1: columns \[\]; expected \['TIMESTAMP'"),
        ("time,in,out\n", r"trace.csv:1: columns \['time', 'in', 'out'\]"),
        (HEADER, r"trace.csv:2: the trace holds no requests"),
        (HEADER + ROWS + "2023-11-16 18:15:51,12\n", r"trace.csv:4: not a row of TIMESTAMP,Con"),
        (HEADER + ROWS + "2023-11-16 18:15:51,12,3,4\n", r"trace.csv:4: not a row"),
        (HEADER + ROWS + "yesterday,12,3\n", r"trace.csv:4: not a row"),
        (HEADER + "2023-11-16 18:15:51,12,three\n" + ROWS, r"trace.csv:2: not a row"),
        (HEADER + "2023-11-16 18:15:51,-12,3\n", r"trace.csv:2: not a row .*\(-12 tokens\)"),
        (HEADER + f"2023-11-16 18:15:51,{2**24 + 1},3\n", r"trace.csv:2: not a row .*\(16777217 tokens\)"),
        (HEADER + ROWS + "2023-11-16 18:15:51.12x,1,3\n", r"trace.csv:4: not a row"),
        (HEADER + "x" * 200_000 + ",1,3\n", r"trace.csv:\d: not a row"),
        (HEADER + ROWS + "\n", r"trace.csv:4: not a row"),
    ],
)
def test_a_malformed_trace_is_named_by_file_and_line(tmp_path: Path, text: str, says: str) -> None:
    """A wrong header, a wrong row or no row at all is one line with the file and the line."""
    with pytest.raises(ScenarioError, match=says):
        read_azure(write(tmp_path, text))


def test_damaged_and_missing_files_are_the_users_error_too(tmp_path: Path) -> None:
    """A gzip that is cut short or damaged, bytes that are no text, and a missing file are refused in one line."""
    rng = np.random.default_rng(1)
    rows = "".join(f"2023-11-16 18:15:46.{rng.integers(10**7):07d},{rng.integers(5000)},7\n" for _ in range(2000))
    whole = gzip.compress((HEADER + rows).encode())
    middle = len(whole) // 2
    damaged = whole[:middle] + bytes(x ^ 0xFF for x in whole[middle : middle + 64]) + whole[middle + 64 :]
    for data in (whole[:middle], whole[:-4], damaged, b"\x1f\x8b", b"\xff\xfe\x00"):
        path = tmp_path / "trace.csv.gz"
        path.write_bytes(data)
        with pytest.raises(ScenarioError, match=r"trace.csv.gz:\d+: not a row"):
            read_azure(path)
    with pytest.raises(ScenarioError, match=r"nowhere.csv: no such file"):
        read_azure(tmp_path / "nowhere.csv")
    with pytest.raises(ScenarioError, match="no such file"):
        read_azure(tmp_path)


def test_the_published_trace_is_kept_whole() -> None:
    """All 19,366 requests of the conversation trace arrive, in order, over its 59 minutes."""
    path = DATA / "traces" / "azure_llm_2023_conv.csv.gz"
    if not path.is_file():
        pytest.skip(f"the trace is not at {path}; set VILLAGETWIN_DATA")
    arrival_s, prompt, new = read_azure(path)

    assert len(arrival_s) == len(prompt) == len(new) == 19_366
    assert arrival_s[0] == 0.0
    assert (np.diff(arrival_s) >= 0).all()
    assert 3400 < arrival_s[-1] < 3600
    assert prompt.min() >= 1
    assert new.min() >= 1


def rates(folder: Path, *rows: str, header: str = "trace,t_s,mbps") -> Path:
    """Write a trace of rates."""
    file = folder / "rates.csv"
    file.write_text("\n".join([header, *rows]) + "\n")
    return file


def test_rates_hold_until_the_next_sample(tmp_path: Path) -> None:
    """Times count from a trace's first sample, the last one holds for the median step; plain and gzip are the same."""
    plain = rates(tmp_path, "a,5,8", "a,6,16", "a,8,0", "b,0,1", "b,2,1")
    packed = tmp_path / "rates.csv.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    for path in (plain, packed):
        found = read_rates(path)

        assert list(found) == ["a", "b"]
        assert found["a"].times_s.tolist() == [0.0, 1.0, 3.0, 4.5]
        assert found["a"].bytes_per_s.tolist() == [1e6, 2e6, 0.0]


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        (("a,0,1", "a,31,1"), r":3: trace 'a' goes from 0 s to 31 s; allowed: forward by at most 30 s"),
        (("a,0,1", "a,2,1", "a,1,1"), r":4: trace 'a' goes from 2 s to 1 s"),
        (("a,0,1", "a,0,1"), r":3: trace 'a' goes from 0 s to 0 s"),
        (("a,0,1", "b,0,1", "b,1,1", "a,1,1"), r":5: trace 'a' begins again"),
        (("a,0,1", "a,1,-2"), r":3: not a row of trace,t_s,mbps"),
        (("a,0,1", "a,1,x"), r":3: not a row of trace,t_s,mbps"),
        (("a,0,1", "a,1"), r":3: not a row of trace,t_s,mbps"),
        (("a,0,1",), "trace 'a' has one sample"),
        ((), ":2: the file holds no samples"),
    ],
)
def test_rates_with_gaps_or_disorder_are_refused(tmp_path: Path, rows: tuple[str, ...], text: str) -> None:
    """A gap, a clock that stands or goes back, a torn trace and a malformed row are named by their row, in one line."""
    with pytest.raises(ScenarioError, match=text) as caught:
        read_rates(rates(tmp_path, *rows))
    assert "\n" not in str(caught.value)


def test_rates_need_their_columns_and_their_file(tmp_path: Path) -> None:
    """Other columns and no file are refused."""
    with pytest.raises(ScenarioError, match=":1: columns"):
        read_rates(rates(tmp_path, header="t,mbps"))
    with pytest.raises(ScenarioError, match="no such file"):
        read_rates(tmp_path / "none.csv")


@pytest.mark.parametrize("name", ["hsdpa3g_norway", "oboe_wired_wifi_cell", "fcc_broadband"])
def test_published_rates_are_read(name: str, data_folder: Path) -> None:
    """The published sets have no gap over 30 s and come in order."""
    found = read_rates(data_folder / "net_bandwidth" / f"{name}.csv.gz")

    assert len(found) > 100
    assert all(trace.carried_bytes(trace.length_s - 1e-6) > 0.0 for trace in found.values())
