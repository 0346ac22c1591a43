"""Standing by in a village of two models: for stages of either, each by its own bytes, and never for one another."""

from __future__ import annotations

import msgspec
import pytest

from policies.config import DegradeConfig, PreparedConfig
from policies.jobs import PreparedJob, SessionJob
from policies.problem import Problem
from policies.work import Placed, PlacedOf
from tests.policies.small_village import RULES, TWO_HOLD_ALL, SmallVillage
from tests.policies.test_standing import DEADLY, lost, one

SMALL = Problem("s", 2, 450.0, 50.0, 0.0, 50.0)
HALF_HOLDS_SMALL = 550.0  # memory_bytes: a layer of the small model, none of the large one


def under_way(memory_bytes: float = TWO_HOLD_ALL, recovery: PreparedConfig = DEADLY) -> SmallVillage:
    """A village of three, two of which serve a model that keeps all classes content, and run one request for ever."""
    rules = msgspec.structs.replace(RULES, degrade=DegradeConfig(services=("standard",), dwell_s=40.0, drain_s=20.0))
    village = SmallVillage(3, memory_bytes, rules, recovery=recovery, smaller=(SMALL,))
    village.run(40.0)
    village.take()
    village.ask("1", prompt_tokens=400, new_tokens=100)
    village.run(1.0)
    return village


def spare_of(village: SmallVillage, job: SessionJob) -> str:
    """The worker that is in no pipeline."""
    (name,) = set(village.workers) - {stage.node for stage in job.stages}
    return name


@pytest.mark.parametrize(("model", "memory_bytes"), [("m", TWO_HOLD_ALL), ("s", HALF_HOLDS_SMALL)])
def test_a_standby_takes_the_place_of_the_stage_that_it_stood_by_for(model: str, memory_bytes: float) -> None:
    """Whichever model it is: the pipeline comes again with it, and the attempt that follows resumes."""
    village = under_way(memory_bytes)
    head, job = one(village)
    spare = spare_of(village, job)
    assert isinstance(job, PreparedJob)
    assert job.model == model
    assert [(each.index, each.node) for each in job.standbys] == [(0, spare)]
    assert village.coordination().lines.spares[spare].model == model
    lost(village, head, 1, head, (7, 8))
    village.run(1.0)
    placed = village.seen(Placed) + village.seen(PlacedOf)
    assert [stage.node for stage in placed[-1].stages] == [spare, job.stages[1].node]
    then_head, then = one(village)
    assert isinstance(then, PreparedJob)
    assert (then_head, then.model, then.resume, then.forced) == (spare, model, True, (7, 8))


def test_layers_of_another_model_are_no_standby() -> None:
    """The numbers of the layers are the same, the model is not: nobody is told of such a worker, nor placed with it."""
    village = under_way()
    _, job = one(village)
    leader, spare = village.coordination(), spare_of(village, job)
    assert leader._standbys_of("m", job.stages[0]) == [spare]
    leader.lines.spares[spare] = leader.lines.spares[spare]._replace(model="s")
    assert leader._standbys_of("m", job.stages[0]) == []
    leader._stand_by()  # and it is turned into one
    assert leader.lines.spares[spare].model == "m"


def test_a_stage_is_weighed_by_its_own_model() -> None:
    """Times and keys go as the bytes of layers and of caches do, activations are the card's."""
    village = under_way()
    _, job = one(village)
    leader, spare = village.coordination(), spare_of(village, job)
    (line,) = leader.lines.lines.values()
    large = leader._exposure(line, 1, spare)
    line.model = "s"
    small = leader._exposure(line, 1, spare)
    layers = line.stages[1].last - line.stages[1].first
    can = village.capability
    assert small.kv_bytes == large.kv_bytes / 2
    assert (large.input_bytes, small.input_bytes) == (100.0, 50.0)
    assert small.prefill_s_token == pytest.approx(layers * can.prefill_s_token_layer / 2)
    assert small.others_s_token == pytest.approx(large.others_s_token / 2)
    assert small.step_s == pytest.approx(can.step_s + layers * can.layer_s / 2)


def test_what_the_small_model_goes_on_with_resumes_there_only() -> None:
    """All but one worker die: it serves the small model, asks for what is kept, and has no standby."""
    village = under_way()
    head, job = one(village)
    for name in {stage.node for stage in job.stages}:
        village.crash(name)
    village.desk.sessions.clear()
    village.run(60.0)
    _, then = one(village)
    assert isinstance(then, PreparedJob)
    assert (then.model, then.kept, then.resume, then.standbys) == ("s", "anna/1", True, ())
    assert head not in [stage.node for stage in then.stages]


@pytest.mark.parametrize("ratio", [1.0, 1.0 + 2**-10])
def test_the_bytes_are_those_of_the_model_that_runs(ratio: float) -> None:
    """1 in 1,024 of 500 tokens' 54 bytes each, 4 bytes of a token and 50 of an activation."""
    village = under_way(HALF_HOLDS_SMALL, recovery=msgspec.structs.replace(DEADLY, bytes_ratio=ratio))
    standbys = one(village)[1].standbys  # type: ignore[attr-defined]
    assert [each.until for each in standbys] == ([] if ratio == 1.0 else [int(500 * 54 / 4 / 2**10)])
