"""Run seeds once more, in a process of their own, and tell their digests: what `experiments.hunt.campaign` compares."""

from __future__ import annotations

import json
import sys

from experiments.hunt.arenas import arena
from experiments.hunt.campaign import kinds_of
from experiments.hunt.swarm import draw
from experiments.opened import tell_at_exit
from scenarios.trial import build_trial


def main() -> None:
    """Read what is asked on stdin, as JSON; write seed to digest on stdout."""
    tell_at_exit(sources=False)
    asked = json.load(sys.stdin)
    shape = build_trial(asked["shape"])
    place = arena(shape.arena)
    kinds = kinds_of(asked["kinds"], place.kinds)
    json.dump({seed: place.run(draw(place, shape, seed, kinds)).digest for seed in asked["seeds"]}, sys.stdout)


if __name__ == "__main__":
    main()
