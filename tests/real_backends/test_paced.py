"""Paced workers: they hold the law's time on a clock of the test's, and keep what a real shard keeps."""

from __future__ import annotations

import numpy as np
import pytest

from real_backends.executors import DESK_TINY, Pipeline
from real_backends.executors.paced import PacedShard, Stretched
from real_backends.executors.shard import Part
from scenarios.hosts import PACED, capability, step_law
from scenarios.schema import ScenarioError, Shaped, build, to_plain
from tests.real_backends.beating import desks

LAW = step_law(PACED)


class _Time:
    """A clock that only sleeping moves, and that sleeps as long as it is told."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def _shard(first: int, last: int, time: _Time | None = None, pacing: float = 1.0) -> PacedShard:
    clock = time or _Time()
    return PacedShard(DESK_TINY, first, last, LAW, pacing, 7, lambda: clock.now_s, clock.sleep)


@pytest.mark.parametrize("pacing", [1.0, 4.5])
def test_a_step_ends_at_the_deadline_of_the_law(pacing: float) -> None:
    """A prompt and a token hold what the law says for the shard's layers and head, times the pacing."""
    time = _Time()
    shard = _shard(5, 8, time, pacing)
    x = np.zeros((16, DESK_TINY.hidden), np.float32)
    shard.forward("s", x, 0)
    assert time.now_s - 100.0 == pytest.approx(pacing * LAW.step_s(3, True, 16))

    begun_s = time.now_s
    shard.forward("s", x[:1], 16)
    assert time.now_s - begun_s == pytest.approx(pacing * LAW.step_s(3, True, 1))


def test_a_step_of_several_sessions_holds_the_time_of_a_batch() -> None:
    """Sessions that step together take less than one after another, more than one, and what the twin says they take."""
    time = _Time()
    shard = _shard(5, 8, time)
    row = np.zeros((1, DESK_TINY.hidden), np.float32)
    shard.step([Part(name, row, 0) for name in "abcd"])

    assert time.now_s - 100.0 == pytest.approx(LAW.batch_s(3, True, [1] * 4))
    assert LAW.step_s(3, True, 1) < LAW.batch_s(3, True, [1] * 4) < 4 * LAW.step_s(3, True, 1)
    assert LAW.batch_s(3, True, [1]) == LAW.step_s(3, True, 1)
    assert LAW.batch_s(3, True, [1, 6, 9]) == LAW.step_s(3, True, 16)


def test_tokens_do_not_depend_on_the_cut() -> None:
    """Any number of workers says the same, another prompt or seed says something else, and all ids are the model's."""
    whole = Pipeline([_shard(0, 8)]).generate([3, 1, 4], 12)

    assert Pipeline([_shard(0, 2), _shard(2, 7), _shard(7, 8)]).generate([3, 1, 4], 12) == whole
    assert Pipeline([_shard(0, 8)]).generate([3, 1, 5], 12) != whole
    assert Pipeline([PacedShard(DESK_TINY, 0, 8, LAW, seed=8, sleep=None)]).generate([3, 1, 4], 12) != whole
    assert len(set(whole)) > 6
    assert 0 <= min(whole) <= max(whole) < DESK_TINY.vocab


def test_caches_take_what_a_real_shards_take() -> None:
    """A session takes keys and values of whole blocks in each layer, of a pool as large as torch's."""
    torch_shard = pytest.importorskip("real_backends.executors.torch_shard", reason="torch is not installed")
    from real_backends.executors import DEFAULT_SEED, make_checkpoint

    weights = make_checkpoint(DESK_TINY, DEFAULT_SEED)
    real = torch_shard.TorchShard(DESK_TINY, weights, 2, 5, threads=1, device="cpu", dtype="fp32", blocks=None)
    held = _shard(2, 5)
    x = np.zeros((4, DESK_TINY.hidden), np.float32)
    for shard in (real, held):
        for session in ("a", "b"):
            shard.forward(session, x, 0)

    assert held.kv_bytes() == real.kv_bytes() == 2 * 3 * 2 * 2 * 16 * 16 * 4
    assert held.pool_bytes() == real.pool_bytes() == 4 * 256 // 16 * real.kv_bytes() // 2
    held.drop("a")
    assert held.kv_bytes() == real.kv_bytes() // 2


def test_a_stretched_shard_takes_a_factor_longer() -> None:
    """It computes, then sleeps for the rest; what it says is the inner shard's."""
    time = _Time()
    inner = _shard(0, 8, time)
    stretched = Stretched(inner, 3.0, lambda: time.now_s, time.sleep)
    out = stretched.forward("s", np.array([5]), 0)

    assert time.now_s - 100.0 == pytest.approx(3 * LAW.step_s(8, True, 1))
    assert (out == _shard(0, 8).forward("s", np.array([5]), 0)).all()
    assert stretched.sessions() == inner.sessions() == 1


def test_planners_hear_what_a_worker_is_shaped_into() -> None:
    """Its pace, its memory and its link are in its capability."""
    profile = {**PACED, "step_overhead_s": 0.0, "hop_s": 1e-3}
    plain = capability(profile)
    shaped = capability(profile, Shaped(pacing=3.0, memory_bytes=1e6, one_way_s=0.01, bytes_per_s=1e4))

    assert (shaped.layer_s, shaped.step_s) == (3 * plain.layer_s, 3 * plain.step_s)
    assert (shaped.memory_bytes, shaped.bytes_per_s) == (1e6, 1e4)
    assert shaped.one_way_s == pytest.approx(plain.one_way_s + 0.01)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"shaped": {"desk-9": {}}}, "'desk-9' is no device; allowed: desk-0, desk-1"),
        ({"shaped": {"desk-0": {"pacing": 7.0}}}, "pacing"),
        ({"shaped": {"desk-0": {"memory_bytes": 0.0}}}, "memory_bytes"),
    ],
)
def test_a_wrong_shape_is_one_line(changes: dict[str, object], message: str) -> None:
    """An unknown device and a value outside of what is allowed are named."""
    plain = to_plain(desks(2))
    network = {**plain["network"], "home": "loopback"}
    with pytest.raises(ScenarioError, match=message) as error:
        build({**plain, "network": network, "fleet": {**plain["fleet"], **changes}})
    assert "\n" not in str(error.value)


def test_only_processes_of_one_host_are_shaped_or_paced() -> None:
    """Elsewhere devices have kinds, and links of their own."""
    plain = to_plain(desks(2))
    home = {**plain["network"], "home": "cable"}
    with pytest.raises(ScenarioError, match=r"network\.home=loopback"):
        build({**plain, "network": home, "executor": "paced"})
    with pytest.raises(ScenarioError, match=r"network\.home=loopback"):
        build({**plain, "network": home, "fleet": {**plain["fleet"], "shaped": {"desk-0": {}}}})
