"""The probe of the machine: it runs, takes off the law that the twin uses, and profiles are read or refused."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from real_backends import compute, host_probe, readiness
from real_backends.executors import DESK_TINY
from scenarios.hosts import (
    AUTO,
    HOST_FIELDS,
    PROFILE_FIELDS,
    SIGNATURE_FIELDS,
    START_FIELDS,
    UNMEASURED,
    capability,
    profile_hash,
    read_profile,
    step_law,
)
from scenarios.schema import ScenarioError
from sim.laws import measured

LAW = {name: 1e-6 * (k + 1) for k, name in enumerate(PROFILE_FIELDS)}


@pytest.mark.slow
def test_the_probe_measures_every_field_and_leaves_nothing(tmp_path: Path) -> None:
    """Three real processes give finite times in a sensible order, and no file stays behind."""
    pytest.importorskip("torch", reason="torch is not installed: pip install 'villagetwin[torch]'")
    law = dict.fromkeys(PROFILE_FIELDS, 0.0)
    found = host_probe.measure_host("torch", law, tmp_path, 0.0)

    assert set(found) == {*HOST_FIELDS, *SIGNATURE_FIELDS, "probe_pairs"} - {"input_s"}
    assert found["probe_pairs"] == host_probe.PAIRS_MIN
    assert np.isfinite(list(found.values())).all()
    assert found["cores"] >= 1
    assert min(found["hop_s"], found["client_s"], found["fsync_s"]) > 0
    assert 0 < found["sign_s"] < found["verify_s"]  # Ed25519 verifies with about three times the work
    assert found["step_overhead_s"] > 0  # nothing was taken off, so it is the whole step
    assert list(tmp_path.iterdir()) == []


def test_the_probe_takes_off_the_law_of_the_twin() -> None:
    """What the probe subtracts from a session is what the twin charges for the same stages."""
    law = measured({**UNMEASURED, **LAW, "step_overhead_s": 0.0})
    cuts = [(stage.last - stage.first, stage.last == DESK_TINY.layers) for stage in host_probe.STAGES]

    decode_s = sum(law.decode(*cut).per_stream_s for cut in cuts)
    prefill_s = sum(law.prefill(*cut, host_probe.PROMPT_TOKENS).scaled_s for cut in cuts)
    assert host_probe.pass_law_s(LAW, 1) == pytest.approx(decode_s, rel=1e-12)
    assert host_probe.pass_law_s(LAW, host_probe.PROMPT_TOKENS) == pytest.approx(prefill_s, rel=1e-12)


def test_the_overhead_is_charged_once_a_step() -> None:
    """Each stage's step takes the overhead longer, whatever its size."""
    without, with_it = (measured({**UNMEASURED, "step_overhead_s": s}) for s in (0.0, 3e-4))

    assert with_it.decode(5, True).per_stream_s - without.decode(5, True).per_stream_s == pytest.approx(3e-4)
    assert with_it.prefill(2, False, 9).scaled_s - without.prefill(2, False, 9).scaled_s == pytest.approx(3e-4)


def test_a_planner_sees_one_hop_between_two_ends() -> None:
    """Both ends of a link together state one hop."""
    assert 2 * capability({**UNMEASURED, "hop_s": 1e-3}).one_way_s == pytest.approx(1e-3)


@pytest.mark.parametrize("path", ["", AUTO])
def test_without_a_profile_the_numbers_are_assumed(path: str) -> None:
    """Nothing is measured behind the user's back, and the manifest says so."""
    assert read_profile(path) == UNMEASURED
    assert profile_hash(read_profile(path)) == "assumed"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hop_s": None}, "lacks 'hop_s'; make one with: twin calibrate executor"),
        ({"fsync_s": -1.0}, "fsync_s=-1.0: must be at least 0"),
        ({"cores": 0}, "cores=0: must be at least 1"),
        ({"client_s": "quick"}, "cannot be read"),
        ({"hop_s": float("nan")}, "hop_s=nan: must be at least 0"),
        ({"hop_s": float("inf")}, "hop_s=inf: must be at least 0, and finite"),
        ({"sign_s": 3e-5}, "lacks 'verify_s'; make one with: twin calibrate executor"),
        ({"sign_s": 3e-5, "verify_s": -1e-4}, "verify_s=-0.0001: must be at least 0"),
    ],
)
def test_a_wrong_profile_is_one_clear_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    """The error names the field and what is allowed."""
    plain = {k: v for k, v in {**UNMEASURED, **changes}.items() if v is not None}
    path = tmp_path / "profile.json"
    path.write_text(json.dumps(plain))

    with pytest.raises(ScenarioError, match=message) as error:
        read_profile(str(path))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["[]", "null", "3"])
def test_a_file_that_is_no_profile_is_said_to_be_none(tmp_path: Path, text: str) -> None:
    """JSON of another shape is named as such, not by what Python cannot do with it."""
    path = tmp_path / "profile.json"
    path.write_text(text)

    with pytest.raises(ScenarioError, match="is no profile; make one with: twin calibrate executor"):
        read_profile(str(path))


def test_work_is_counted_before_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who hears a result finds its time in ``busy_s``, as the probe takes differences of it; a failure counts too."""
    told: list[float] = []
    hand_over = compute._hand_over

    def listen(*arguments: Any) -> None:
        told.append(thread.busy_s)
        hand_over(*arguments)

    async def run() -> None:
        assert await thread.run(sum, range(100_000)) == 4_999_950_000
        with pytest.raises(ZeroDivisionError):
            await thread.run(divmod, 1, 0)
        thread.close()

    async def make() -> compute.Compute:
        return compute.Compute()

    monkeypatch.setattr(compute, "_hand_over", listen)
    with asyncio.Runner() as runner:
        thread = runner.run(make())
        runner.run(run())
    assert 0 < told[0] < told[1] == thread.busy_s


@pytest.mark.slow
def test_a_start_is_measured_part_by_part(tmp_path: Path) -> None:
    """Launched processes tell what each part took: a launch is by far the longest, and no file stays behind."""
    pytest.importorskip("torch", reason="torch is not installed: pip install 'villagetwin[torch]'")
    found = readiness.measure_start("torch", step_law(UNMEASURED), tmp_path)

    assert set(found) == set(START_FIELDS)
    assert found["start_s"] > 10 * found["warm_again_s"] >= 0
    assert found["start_s"] > found["weights_s"] > 0
    assert 1e6 < found["load_bytes_per_s"] < 1e12
    assert list(tmp_path.iterdir()) == []


def test_a_launch_that_fails_is_one_line(tmp_path: Path) -> None:
    """What the process said last is in it."""
    with pytest.raises(OSError, match="launched failed: ") as error:
        readiness.measure_start("nothing", step_law(UNMEASURED), tmp_path)
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []
