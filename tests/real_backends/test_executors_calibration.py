"""Calibration of executors: on a clock that obeys a law we know, and on real shards."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")
jax = pytest.importorskip("jax", reason="jax is not installed")

from real_backends import executors as ex  # noqa: E402  (needs torch and jax)
from real_backends.executors import calibration  # noqa: E402


class LawfulShard:
    """A shard whose steps take exactly the time the law says, on a clock of its own, with a slow spell."""

    spec, backend, device, threads = ex.DESK_TINY, "numpy", "cpu", 1
    now_ns = 0
    calls = 0

    def __init__(self, first: int, last: int) -> None:
        self.first, self.last = first, last

    def forward(self, session: str, x: np.ndarray, position: int) -> np.ndarray:
        law_ns = (100_000, 40_000, 30_000) if len(x) == 1 else (500_000, 2_000, 90_000)
        layers = self.last - self.first
        time_ns = law_ns[0] + len(x) * layers * law_ns[1] + (self.last == self.spec.layers) * law_ns[2]
        LawfulShard.calls += 1
        slow = 100 <= LawfulShard.calls < 140  # a minority of the repeats of each cell
        LawfulShard.now_ns += time_ns * (50 if slow else 1)
        return x

    def drop(self, session: str) -> None:
        """Nothing is held."""

    def sessions(self) -> int:
        return 0


def test_calibration_recovers_a_known_law() -> None:
    """From shards that obey the law, with a slow spell in between, every coefficient comes back exactly."""
    profile = ex.calibrate(LawfulShard, ex.DESK_TINY, seconds=0.5, clock=lambda: LawfulShard.now_ns)

    assert profile["repeats"] >= calibration.REPEATS_MIN
    assert [profile[name] for name in ("decode_s_step", "decode_s_layer", "decode_s_head")] == pytest.approx(
        [100e-6, 40e-6, 30e-6], rel=1e-9
    )
    assert [profile[name] for name in ("prefill_s_step", "prefill_s_token_layer", "prefill_s_head")] == pytest.approx(
        [500e-6, 2e-6, 90e-6], rel=1e-9
    )
    assert max(profile["decode_fit_error"], profile["prefill_fit_error"]) < 1e-9
    assert profile["hash"] == calibration.profile_hash(dict(profile))
    assert profile["hash"] != calibration.profile_hash(dict(profile) | {"threads": 2})


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_calibration_of_a_real_shard_is_complete(backend: str) -> None:
    """A profile of a real executor names where it was measured, and its times are finite and not negative."""
    spec = replace(ex.DESK_TINY, layers=4, context=32)
    weights = ex.make_checkpoint(spec, 0)

    profile = ex.calibrate(
        lambda first, last: ex.make_shard(backend, spec, weights, first, last, device="cpu"),
        spec,
        seconds=0.0,
    )

    times_s = [value for name, value in profile.items() if "_s_" in name]
    assert np.isfinite(times_s).all()  # type: ignore[arg-type]
    assert min(times_s) >= 0.0  # type: ignore[type-var]
    assert (profile["backend"], profile["device"], profile["spec"]) == (backend, "cpu", spec.name)
    assert profile["cpu_model"]
    assert profile["framework_version"][0].isdigit()
    with pytest.raises(ValueError, match="at least 4"):
        ex.calibrate(LawfulShard, replace(spec, layers=3))
