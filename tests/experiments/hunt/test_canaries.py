"""The canaries of all arenas: what a hunt plants beside the correct policies, to be sure that it finds anything."""

from __future__ import annotations

import msgspec
import pytest

from experiments.hunt.arenas import NAMES, arena
from experiments.hunt.swarm import draw


@pytest.mark.parametrize("name", NAMES)
def test_the_canary_of_an_arena_plays(name: str) -> None:
    """It is one of the arena's defects, and a trial of it runs to its end, broken or not."""
    place = arena(name)
    assert place.canary in place.defects
    shape = msgspec.structs.replace(place.shape, policy=place.canary)
    assert place.run(draw(place, shape, 1)).steps > 0
