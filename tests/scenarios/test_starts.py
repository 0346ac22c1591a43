"""What a launched process does before it is warm: the same sizes that an executor runs, and a law that adds them up."""

from __future__ import annotations

import pytest

from experiments.results import load
from scenarios.hosts import UNMEASURED, step_law
from scenarios.schema import Scenario, build, to_plain
from scenarios.starts import all_ready_s, ready_s, warmed_sizes

START = {"start_s": 3.0, "weights_s": 0.2, "load_bytes_per_s": 1e8, "warm_s": 0.7, "warm_again_s": 0.1}


def desks(**changes: object) -> Scenario:
    scenario: Scenario = load("four_desks", duration_s=12.0, workload__requests=6)
    return build({**to_plain(scenario), **changes})


def test_jax_warms_every_size_that_may_come() -> None:
    """Powers of two of sessions, and of tokens up to the context; torch runs one token, paced workers nothing."""
    assert warmed_sizes("jax", 100, 5) == [(1, 1), (2, 1), (4, 1), (8, 1), (1, 16), (1, 32), (1, 64), (1, 128)]
    assert warmed_sizes("jax", 32, 64) == [(1, 1), (2, 1), (4, 1), (8, 1), (1, 16), (1, 32)]
    assert warmed_sizes("torch", 100, 5) == [(1, 1)]
    assert warmed_sizes("paced", 100, 5) == []


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_a_shard_runs_the_sizes_that_are_counted(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`warm_up` runs the steps of the law and no other."""
    pytest.importorskip(backend, reason=f"{backend} is not installed: pip install 'villagetwin[{backend}]'")
    from real_backends.executors import DESK_TINY, make_checkpoint, make_shard

    shard = make_shard(backend, DESK_TINY, make_checkpoint(DESK_TINY, 1), 0, 1, device="cpu")
    ran: list[tuple[int, int]] = []
    monkeypatch.setattr(type(shard), "_run", lambda self, *given: ran.append(
        (len(given[0]), 1) if backend == "torch" else (len(given[1]), given[2])
    ))  # fmt: skip
    shard.warm_up(6)
    assert ran == warmed_sizes(backend, DESK_TINY.context, 6)


def test_a_start_is_the_sum_of_its_parts() -> None:
    """Launch, weights, one layer and each program with its step; a restart finds the programs; paced ones run none."""
    profile = {**UNMEASURED, **START}
    shape, law = desks().served, step_law(profile)
    sizes = warmed_sizes("jax", 256, 1)
    steps_s = sum(law.step_s(1, False, sessions * tokens) for sessions, tokens in sizes)
    alike_s = 3.0 + 0.2 + (shape.layer_bytes() + shape.head_bytes()) / 1e8

    assert ready_s(desks(), profile, "jax") == pytest.approx(alike_s + len(sizes) * 0.7 + steps_s)
    assert ready_s(desks(), profile, "jax", again=True) == pytest.approx(alike_s + len(sizes) * 0.1 + steps_s)
    assert ready_s(desks(), profile, "torch") == pytest.approx(alike_s + 0.7 + law.step_s(1, False, 1))
    assert ready_s(desks(executor="paced"), profile, "torch") == pytest.approx(alike_s)
    assert ready_s(desks(), UNMEASURED, "jax") == 0.0
    batched = to_plain(desks())["policy"] | {"serving": {"rule": "batched"}}
    more_s = ready_s(desks(policy=batched), profile, "jax") - ready_s(desks(), profile, "jax")
    assert more_s == pytest.approx(2 * 0.7 + law.step_s(1, False, 2) + law.step_s(1, False, 4))


def test_processes_that_start_together_share_the_cores() -> None:
    """Four on two cores take twice as long as one, two on four cores as long as one."""
    one = ready_s(desks(), {**UNMEASURED, **START}, "torch")
    assert all_ready_s(desks(), {**UNMEASURED, **START, "cores": 2}, 4) == pytest.approx(2 * one)
    assert all_ready_s(desks(), {**UNMEASURED, **START, "cores": 4}, 2) == pytest.approx(one)
