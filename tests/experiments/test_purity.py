"""The purity nets: which naughty policy is caught by which, and that what ships passes them all."""

from __future__ import annotations

import datetime
import os
import random
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from experiments.policy_source import check_source
from experiments.policy_units import PolicyError
from policies.config import RaftConfig
from policies.consensus.raft import Raft
from policies.election import Election
from policies.port import Policy
from scenarios.schema import build
from sim.banned import POISONED, instead_of
from sim.cluster import Cluster
from sim.guard import Guards
from sim.poison import Poison, PurityError
from sim.village import simulate
from tests.experiments import naughty as n

NETS = {
    "poison": Guards(copy_every=0, lines_max=0),
    "copy": Guards(poison=False, copy_every=1, lines_max=0),
    "budget": Guards(poison=False, copy_every=0, lines_max=20_000),
}
"""One net at a time. An endless step is for the budget alone: it would end no other run."""
CLOCKS_AND_CHANCE: list[tuple[type[Policy], str]] = [
    (n.Clock, "text poison copy"),
    (n.ClockUnderAnAlias, "text poison copy"),
    (n.ClockByName, "text poison copy"),
    (n.ClockInAPartial, "text copy"),  # the partial holds the clock itself, which no replacement reaches
    (n.ClockSwallowed, "text poison copy"),
    (n.Calendar, "text poison copy"),
    (n.CalendarOfTheModule, "text poison copy"),
    (n.Chance, "text poison copy"),
    (n.ChanceOfItsOwn, "text poison copy"),
    (n.Entropy, "text poison copy"),
    (n.Secret, "text poison copy"),
    (n.Unique, "text poison copy"),
    (n.Array, "text poison copy"),
    (n.Generator, "text poison copy"),
    (n.ByName, "text poison copy"),
]
OTHERS: list[tuple[type[Policy], str]] = [
    (n.Address, "text poison copy"),
    (n.Hash, "text poison"),
    (n.Unordered, "text"),  # and a second process with another hash seed, where there is one
    (n.SetPop, "text"),
    (n.Says, "text poison"),
    (n.Reads, "text poison"),
    (n.Threads, "text poison"),
    (n.InTheClass, "text copy"),
    (n.InTheModule, "copy"),
    (n.InAClosure, "text copy"),  # the text refuses what it cannot find
    (n.InADefault, "copy"),
    (n.Uncopyable, "copy"),
]


def run(policy: type[Policy], guards: Guards) -> None:
    """Run two guarded nodes for a virtual second."""
    Cluster(policy, 2, guards=guards).run(1)


def caught_by(policy: type[Policy]) -> dict[str, str]:
    """Return what each net that catches a policy says."""
    said = {}
    try:
        check_source(policy)
    except PolicyError as error:
        said["text"] = str(error)
    for net, guards in NETS.items():
        try:
            run(policy, guards)
        except PurityError as error:
            said[net] = str(error)
    return said


@pytest.mark.parametrize(("policy", "nets"), CLOCKS_AND_CHANCE + OTHERS, ids=lambda one: getattr(one, "__name__", ""))
def test_each_naughty_policy_is_caught_by_these_nets_and_no_other(policy: type[Policy], nets: str) -> None:
    """The table is exact; every message is one line that names the policy's file and line, or its handler."""
    said = caught_by(policy)

    assert sorted(said) == sorted(nets.split())
    for line in said.values():
        assert "\n" not in line
        assert "naughty.py:" in line or policy.__name__ in line or "on_timer('tick')" in line


def test_a_clock_and_global_chance_are_caught_twice() -> None:
    """No policy that reads a clock or draws from the process's chance hangs on one net."""
    assert min(len(nets.split()) for _, nets in CLOCKS_AND_CHANCE) >= 2


def test_poison_names_the_line_and_the_replacement() -> None:
    """The line is the policy's own, even where the function asked is written in Python and asks others."""
    for policy, instead in (
        (n.Unique, "uuid.uuid4: use self.port.rng"),
        (n.Calendar, "datetime.now: use self.port.now"),
    ):
        with pytest.raises(PurityError, match=instead) as refused:
            run(policy, NETS["poison"])
        file, line, _ = str(refused.value).split(":", 2)

        assert Path(file).read_text().splitlines()[int(line) - 1].strip().startswith("return ")


@pytest.mark.parametrize("policy", [n.Endless, n.EndlessInAHelper], ids=lambda policy: policy.__name__)
def test_an_endless_step_is_stopped_at_the_same_count_each_time(policy: type[Policy]) -> None:
    """No clock decides: the same line, the same words, and the tracer of before is back in place."""
    before, said = sys.gettrace(), set()
    for _ in range(2):
        with pytest.raises(PurityError, match=r"naughty\.py:\d+: .*20,000 lines .* must end \(n0: Endless") as refused:
            run(policy, NETS["budget"])
        said.add(str(refused.value))

    assert len(said) == 1
    assert sys.gettrace() is before


def test_a_step_with_too_many_bytes_is_named() -> None:
    """A note of 70 MB is above what any node may queue."""
    with pytest.raises(PurityError, match=r"70,000,\d+ bytes of effects of one step, on_timer\('tick'\); all"):
        run(n.Wordy, NETS["budget"])


def poisoned_places() -> tuple[object, ...]:
    """Return what now stands where poison may stand."""
    return (
        time.time, os.urandom, random.random, open, print, datetime.datetime, datetime.date, np.random.rand,
        vars(n)["m"], vars(n)["dt"],
    )  # fmt: skip


def test_the_world_may_read_its_clock_between_steps_and_all_is_put_back() -> None:
    """Poison acts inside a step alone; after a run, and after a failed one, every function is the one of before."""
    real = poisoned_places()
    with Poison(("tests.experiments.naughty",)) as poison:
        assert time.time is not real[0]
        assert time.time() > 0
        assert isinstance(real[5](2026, 1, 1), datetime.datetime)
        assert datetime.datetime.now() > real[5](2026, 1, 1)
        poison.on = True
        with pytest.raises(PurityError, match=r"time\.time: use self\.port\.now"):
            time.time()
        assert np.random.default_rng(7).random() == pytest.approx(0.625095466, abs=1e-9)  # PCG64, seed 7
        poison.on = False
    with pytest.raises(PurityError):
        run(n.Clock, NETS["poison"])

    now = poisoned_places()
    assert all(one is other for one, other in zip(now, real, strict=True))
    assert "hash" not in vars(n)


def test_every_poisoned_name_has_a_replacement_and_exists() -> None:
    """The list of poisons is part of the one list of what is banned."""
    for dotted in POISONED:
        assert instead_of(dotted.removesuffix(".__init__")), dotted


def make_raft() -> dict[str, Policy]:
    """Return a member of three."""
    return {"consensus": Raft(RaftConfig(), ("n0", "n1", "n2"))}


@pytest.mark.parametrize("make", [Election, make_raft], ids=["Election", "Raft"])
def test_a_guarded_run_is_the_bare_run(make: type[Election]) -> None:
    """With every net under every step the digest of all that happens is the one without any."""
    bare, guarded = Cluster(make, 3), Cluster(make, 3, guards=Guards(copy_every=1))
    for cluster in (bare, guarded):
        cluster.run(5)
        cluster.crash("n1", torn=0.5)
        cluster.run(5)
        cluster.restart("n1")
        cluster.run(5)

    assert guarded.digest == bare.digest
    assert guarded.steps > 40


def test_a_budget_that_forbids_everything_is_refused() -> None:
    """Bad guards are one line that names the field."""
    with pytest.raises(ValueError, match=r"guards\.effects_max=0: allowed are 1 or more"):
        Guards(effects_max=0)


def test_the_village_passes_every_net() -> None:
    """Raft, coordination, gateway, harvest, workers and edge agents, among them one that lies, pass guarded, and the
    record's digest is the one of the bare run."""
    none = dict.fromkeys(("phones", "tablets", "laptops", "gpu_boxes"), 0)
    plain = {
        "name": "desks", "duration_s": 120.0, "model": "llama-3.2-1b", "network": {"home": "fibre"}, "edge": True,
        "fleet": {**none, "phones": 2, "desktops": 5, "dedicated": 5, "committee": 3},
        "workload": {"kind": "synthetic", "requests": 20, "prompt_tokens": 20, "new_tokens": 20, "flat": True},
        "faults": [{"kind": "crash", "at_s": 60, "node": "leader", "down_s": 20, "writes": "torn"}],
        "adversaries": [{"behaviour": "silent", "count": 1, "from_s": 50.0}],
    }  # fmt: skip
    bare = simulate(build(plain))
    guarded = simulate(build(plain), guards=Guards(copy_every=5))

    assert guarded.digest == bare.digest
