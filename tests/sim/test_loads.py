"""Shards that are fetched: over links, from whoever has them, once, and resumed by whole tensors."""

from __future__ import annotations

import pytest

from models.inference import SHAPES
from policies.jobs import LoadJob
from policies.wire import encode
from scenarios.schema import ScenarioError, build
from sim.loads import HEAD, LOAD_BYTES_PER_S, SILENT_S, tensors_bytes
from sim.village import simulate
from tests.sim.bench_compute import BACKBONE_S, FAST, ONE_WAY_S, RATE, SHAPE, Bench
from tests.sim.test_village import a_night

LAYER, HEAD_BYTES = SHAPE.layer_bytes(), SHAPE.head_bytes()
HOME_S = ONE_WAY_S + BACKBONE_S
"""Before the first byte of a layer comes from the model's home, and from another device."""
LATER_S = 1e4
"""When a first load has long ended."""
PEER_S = 2 * ONE_WAY_S + BACKBONE_S


def pool(count: int) -> Bench:
    """Return devices that have nothing of the model."""
    bench = Bench(*[FAST] * count)
    bench.compute.loads.fetched = True
    return bench


def load(bench: Bench, at_s: float, device: str, job_id: int, layers: int = 2, model: str = SHAPE.name) -> None:
    """A device is told to load the first layers."""
    node = bench.world.by_name[device]
    bench.at(at_s, bench.compute.submit, node, "worker", job_id, encode(LoadJob(model, 0, layers)))


def read_s(layers: int = 2) -> float:
    """Return what reading from flash takes."""
    return (layers * LAYER + HEAD_BYTES) / LOAD_BYTES_PER_S


def fetch_s(before_s: float, layers: int = 2) -> float:
    """Return what layers and head take over a link alone."""
    return (layers + 1) * before_s + (layers * LAYER + HEAD_BYTES) / RATE


def test_what_was_fetched_once_is_only_read_after() -> None:
    """From the home at the link's rate; the second time, and after a crash too, from flash."""
    bench = pool(1)
    load(bench, 0.0, "d0", 1)
    bench.at(LATER_S, bench.world.crash, bench.world.by_name["d0"])
    bench.at(LATER_S, bench.world.start, bench.world.by_name["d0"])
    load(bench, LATER_S + 1.0, "d0", 2)
    ended = bench.run()

    assert ended[1][0] == pytest.approx(fetch_s(HOME_S) + read_s(), rel=1e-6)
    assert ended[2][0] - LATER_S - 1.0 == pytest.approx(read_s(), rel=1e-6)
    assert bench.compute.loads.fetched_bytes == pytest.approx(2 * LAYER + HEAD_BYTES)


def test_two_that_fetch_from_one_share_its_link() -> None:
    """A device that has the layers gives them to two others, each at half its rate up."""
    bench = pool(3)
    load(bench, 0.0, "d0", 1)
    load(bench, LATER_S, "d1", 2)
    load(bench, LATER_S, "d2", 3)
    ended = bench.run()

    expected_s = 3 * PEER_S + 2 * (2 * LAYER + HEAD_BYTES) / RATE + read_s()
    assert [ended[job][0] - LATER_S for job in (2, 3)] == pytest.approx([expected_s] * 2, rel=1e-4)


@pytest.mark.parametrize("mover", ["d0", "d1"])
def test_a_load_goes_on_when_an_end_is_on_another_network(mover: str) -> None:
    """Whoever fetches, or gives, and has another address has broken the transfer off: it goes on after the silence."""
    took = []
    for moves in (False, True):
        bench = pool(2)
        load(bench, 0.0, "d0", 1)
        load(bench, LATER_S, "d1", 2)
        if moves:
            bench.at(LATER_S + PEER_S + 0.3 * HEAD_BYTES / RATE, bench.compute.leave, mover)
        took.append(bench.run()[2][0] - LATER_S)

    assert took[1] - took[0] == pytest.approx(0.3 * HEAD_BYTES / RATE + SILENT_S + PEER_S, rel=1e-4)


def test_a_device_on_no_network_fetches_nothing_from_anywhere() -> None:
    """Not even the home is within reach: what is under way stops, what begins waits, until it is on one again."""
    bench = pool(1)
    load(bench, 0.0, "d0", 1)
    bench.at(1.0, bench.compute.leave, "d0", True)
    load(bench, LATER_S, "d0", 2)
    bench.run(LATER_S + 1000.0)
    assert bench.heard == []
    assert bench.compute.loads.fetched_bytes == pytest.approx((1.0 - HOME_S) * RATE, rel=1e-6)

    bench.at(LATER_S + 1000.0, bench.compute.leave, "d0")
    ended = bench.run()
    assert LATER_S + 1000.0 < ended[1][0] < LATER_S + 1000.0 + SILENT_S + 2 * fetch_s(HOME_S) + read_s()


def test_a_broken_load_resumes_at_the_tensor_that_was_broken() -> None:
    """Cancelled in the third tensor of a layer: the first two stay, and so does the head that came before."""
    bench = pool(1)
    sizes = tensors_bytes(SHAPE)
    cut_s = 2 * HOME_S + (HEAD_BYTES + sizes[0] + sizes[1] + 0.5 * sizes[2]) / RATE
    load(bench, 0.0, "d0", 1)
    bench.at(cut_s, bench.compute.cancel, bench.world.by_name["d0"], 1)
    load(bench, cut_s + 1.0, "d0", 2)
    ended = bench.run()

    left_s = 2 * HOME_S + (2 * LAYER - sizes[0] - sizes[1]) / RATE
    assert set(ended) == {2}
    assert ended[2][0] == pytest.approx(cut_s + 1.0 + left_s + read_s(), rel=1e-6)
    assert bench.compute.loads.fetched_bytes == pytest.approx(2 * LAYER + HEAD_BYTES + 0.5 * sizes[2])


def test_models_have_layers_of_their_own() -> None:
    """A layer is one model's: another's of the same number is fetched in its own size, from who has that one."""
    other = SHAPES["llama-3.2-3b"]
    bench = pool(2)
    bench.compute.loads.shape_of = {SHAPE.name: SHAPE, other.name: other}.__getitem__
    load(bench, 0.0, "d0", 1)
    load(bench, LATER_S, "d1", 2, model=other.name)
    load(bench, 2 * LATER_S, "d0", 3, model=other.name)
    load(bench, 3 * LATER_S, "d0", 4)
    ended = bench.run()

    size_bytes = 2 * other.layer_bytes() + other.head_bytes()
    took_s = {2: 3 * HOME_S + size_bytes / RATE, 3: 3 * PEER_S + size_bytes / RATE}
    for job, seconds in took_s.items():
        begun_s = (job - 1) * LATER_S
        assert ended[job][0] - begun_s == pytest.approx(seconds + size_bytes / LOAD_BYTES_PER_S, rel=1e-6)
    assert ended[4][0] - 3 * LATER_S == pytest.approx(read_s(), rel=1e-6)
    assert bench.compute.loads.fetched_bytes == pytest.approx(2 * LAYER + HEAD_BYTES + 2 * size_bytes)


@pytest.mark.parametrize("fault", ["crash", "cut"])
def test_a_source_that_goes_is_replaced(fault: str) -> None:
    """The giver crashes or is parted between two layers: after the silence, the rest comes from the home."""
    bench = pool(2)
    load(bench, 0.0, "d0", 1)
    load(bench, LATER_S, "d1", 2)
    at_s = LATER_S + 2 * PEER_S + (HEAD_BYTES + 1e-3 * LAYER) / RATE
    if fault == "crash":
        bench.at(at_s, bench.world.crash, bench.world.by_name["d0"])
    else:
        bench.at(at_s, bench.world.network.cut_off, [0])
        bench.at(at_s, bench.compute.cut)
    ended = bench.run()

    assert ended[2][0] - at_s == pytest.approx(SILENT_S + 2 * HOME_S + 2 * LAYER / RATE + read_s(), rel=1e-6)


def test_tensors_make_up_the_layer() -> None:
    """Of every shape; a dense one has seven, and they are those of a checkpoint: two squares, two of the cache."""
    for shape in SHAPES.values():
        assert sum(tensors_bytes(shape)) == pytest.approx(shape.layer_bytes())
    sizes = tensors_bytes(SHAPE)
    assert len(sizes) == 7
    assert sizes[0] / sizes[1] == pytest.approx(SHAPE.heads / SHAPE.kv_heads)
    assert HEAD < 0  # no layer's number


def test_a_village_that_fetches_serves_later_and_repeats_itself() -> None:
    """The same night without the model on flash: bytes cross the links, promises hold, twice the same way."""
    requests = {"kind": "synthetic", "requests": 60, "prompt_tokens": 100, "new_tokens": 40}
    plain = a_night(duration_s=3600.0, workload=requests)
    fetching = {**plain, "network": {"shards": "fetched", "home": "fibre"}}
    first, again = simulate(build(fetching)), simulate(build(fetching))

    assert all(verdict is True for verdict in first.manifest["checks"].values()), first.manifest["checks"]
    assert first.summary["fetched_bytes"] > 1e9
    assert simulate(build(plain)).summary["fetched_bytes"] == 0.0
    assert first.digest == again.digest


def test_real_workers_have_their_checkpoint() -> None:
    """What only the simulated world does is refused elsewhere, in one line."""
    with pytest.raises(ScenarioError, match=r"network\.shards=fetched: expected on_flash"):
        build({"name": "x", "network": {"shards": "fetched", "home": "loopback"}})
