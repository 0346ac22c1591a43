"""Measured rates replayed over a world's links."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models.links.replay import RateTrace
from scenarios.schema import Network, ScenarioError, build
from sim.bulk import Bulk
from sim.engine import NS_PER_S, Engine
from sim.network import Links, MessageNetwork
from sim.replays import Replays
from sim.sharing import Flow, Sharing
from sim.village import simulate

TRACES = (
    RateTrace(np.array([0.0, 1.0, 3.0, 4.0]), np.array([1000.0, 0.0, 4000.0])),
    RateTrace(np.array([0.0, 0.5, 2.5]), np.array([300.0, 900.0])),
)


def carried(size_bytes: float, node: int = 1, seed: int = 7) -> tuple[Flow, RateTrace, float]:
    """Send so much from node 0, whose link is wide, to a node that plays a trace; return the flow, trace and offset."""
    engine = Engine()
    network = MessageNetwork(seed, Links.alike(3, 0.0, 1e9), Network(backbone_s=0.0, loss=0.0, jitter_sigma=0.0))
    bulk = Bulk(Sharing(engine), network)
    replays = Replays(engine, bulk, TRACES, [1, 2], seed)
    flow = bulk.send(0, node, size_bytes, lambda flow: None)
    engine.run(until=200 * NS_PER_S)
    return flow, replays.traces[node], replays.offset_s[node]


@pytest.mark.parametrize("size_bytes", [1.0, 500.0, 2500.0, 40_000.0])
@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_a_transfer_ends_when_the_traces_integral_says(size_bytes: float, seed: int) -> None:
    """A transfer that has the link to itself ends as the law of the trace has it, outages and repetitions included."""
    flow, trace, offset_s = carried(size_bytes, seed=seed)

    assert flow.finished_s == pytest.approx(float(trace.end_s(offset_s, size_bytes)) - offset_s, rel=1e-5, abs=1e-6)


def test_each_device_plays_its_own_part_of_a_trace_the_same_for_a_seed() -> None:
    """Two devices begin at different moments; a second run draws the same."""
    one, again, other = carried(2500.0), carried(2500.0), carried(2500.0, node=2)

    assert (one[0].finished_s, one[2]) == (again[0].finished_s, again[2])
    assert one[2] != other[2]


def rates(folder: Path) -> Path:
    """Write a small file of rates."""
    path = folder / "rates.csv"
    path.write_text("trace,t_s,mbps\n" + "".join(f"ride,{t},{0.5 + t % 3}\n" for t in range(20)))
    return path


def test_a_village_replays_and_says_so(tmp_path: Path) -> None:
    """A scenario names the file; the manifest tells it, and the same seed gives the same digest."""
    words = {
        "name": "rides", "duration_s": 120.0, "network": {"replay": str(rates(tmp_path))},
        "fleet": {
            "phones": 4, "laptops": 2, "desktops": 3, "tablets": 0, "gpu_boxes": 0, "dedicated": 3, "committee": 3,
        },
        "workload": {"kind": "synthetic", "requests": 10, "flat": True},
    }  # fmt: skip
    first, second = (simulate(build(words)) for _ in range(2))

    assert "mobile ones replayed from rates.csv" in first.manifest["fidelity"]["network"]
    assert first.digest == second.digest


@pytest.mark.parametrize(("home", "world"), [("cable", "local"), ("loopback", "sim")])
def test_where_no_link_is_modelled_nothing_can_be_replayed(home: str, world: str) -> None:
    """Real links, and those of one machine, have the rates they have."""
    with pytest.raises(ScenarioError, match=r"network\.replay='x\.csv': expected ''"):
        build({"name": "x", "network": {"replay": "x.csv", "home": home}, "world": world})


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    """The run does not begin without its trace."""
    with pytest.raises(ScenarioError, match=r"^network\.replay: .*none\.csv: no such file"):
        simulate(build({"name": "x", "network": {"replay": str(tmp_path / "none.csv")}}))
