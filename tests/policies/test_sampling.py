"""How a request wants its tokens drawn goes with it: through the log to every attempt, whoever leads."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from policies.gateway import Submit
from policies.jobs import Sampling
from policies.wire import Codec, WireError, encode
from tests.policies.small_village import ready

SAMPLING = Sampling(0.7, 0.9, -5, (2,))


def test_every_attempt_draws_as_the_request_says() -> None:
    """The first attempt, and another on other workers under another leader; greedy ones beside it stay greedy."""
    village = ready(2)
    village.take()
    village.ask("drawn", sampling=SAMPLING)
    village.ask("greedy")
    village.run(1.0)
    jobs = list(village.running.values())
    assert {job.op.split("/")[1]: job.sampling for job in jobs} == {"drawn": SAMPLING, "greedy": None}

    village.crash(village.leader)
    for job in jobs:
        village.crash(job.stages[0].node)
        village.restart(job.stages[0].node)
    village.run(30.0)
    again = list(village.running.values())
    assert {job.op.split("/")[1]: job.sampling for job in again} == {"drawn": SAMPLING, "greedy": None}
    assert {job.op for job in again}.isdisjoint(job.op for job in jobs)


@pytest.mark.parametrize(
    "changes",
    [
        {"temperature": -0.1},
        {"temperature": 2.1},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"seed": 2**63},
        {"ends": (-1,)},
        {"ends": tuple(range(17))},
    ],
)
def test_what_cannot_be_drawn_by_is_malformed(changes: dict[str, Any]) -> None:
    """A client that does not keep to the bounds is refused where its bytes are read, before anything is recorded."""
    codec = Codec((Submit,))
    fair = Submit("m", "p", 1, 1, 0, 60.0, SAMPLING)
    assert codec.decode(encode(fair)) == fair
    with pytest.raises(WireError):
        codec.decode(encode(msgspec.structs.replace(fair, sampling=msgspec.structs.replace(SAMPLING, **changes))))
