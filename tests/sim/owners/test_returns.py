"""The chance that owners are back: as often as it says they are, whoever they are and whatever the hour."""

from __future__ import annotations

import numpy as np
import pytest

from models.availability import DECOMPOSITIONS
from sim.owners import crowd
from sim.owners.crowd import PLUGGED, SCREEN, WIFI
from sim.owners.returns import chances

STEPS, STEP_S = 2 * 1440, 60
KINDS = np.repeat(np.arange(5), (500, 120, 120, 120, 20))
SATURDAY_NIGHT = (1320.0, 4)  # Friday, 22:00: the weekend's clock begins within the run


def lived(story: str, seed: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the chances of a crowd's two days, and by step whether owners are away and whether they come back."""
    who = np.arange(KINDS.size)
    args = (story, seed, who, KINDS, 60.0 * (who % 3), *SATURDAY_NIGHT)
    people, flags = crowd.start(*args), []
    for k in range(0, STEPS, 60):
        some, people = crowd.window(story, seed, people, who, KINDS, k, 60, STEP_S)
        flags.append(some)
    away = np.concatenate(flags) & (PLUGGED | WIFI | SCREEN) == PLUGGED | WIFI
    return chances(*args, STEPS, STEP_S)[:-1].astype(float), away[:-1], away[:-1] & ~away[1:]


def sigmas(chance: np.ndarray, away: np.ndarray, back: np.ndarray, some: np.ndarray) -> tuple[float, int]:
    """Return by how many standard deviations returns differ from what was expected, and how many there were."""
    here = away & some
    p = chance[here]
    seen = int(back[here].sum())
    return float((seen - p.sum()) / np.sqrt((p * (1.0 - p)).sum() + 1e-9)), seen


@pytest.mark.slow
@pytest.mark.parametrize("story", DECOMPOSITIONS)
def test_owners_come_back_as_often_as_foretold(story: str) -> None:
    """By kind, level of the chance, hour and day, returns are within four standard deviations of their expectation."""
    chance, away, back = lived(story)
    hour = np.arange(STEPS - 1)[:, None] // 60
    level = np.digitize(chance * 60.0, (0.1, 0.3, 1.0, 1.5))
    groups = {
        **{("kind", k): (k == KINDS)[None] for k in range(4)},
        **{("level", k): level == k for k in range(5)},
        **{("hours", k): hour % 24 // 4 == k for k in range(6)},
        **{("day", k): hour // 24 == k for k in range(2)},
    }
    off = {name: sigmas(chance, away, back, some) for name, some in groups.items()}

    assert all(seen >= 20 and abs(z) < 4.0 for z, seen in off.values()), off
    # A phone whose run is likely a short one comes back many times as often as one in the middle of a long one.
    assert chance[away & (KINDS == 0)].max() > 20.0 * chance[away & (KINDS == 0)].min()
    assert chance[:, KINDS == 4].max() == 0.0  # nobody comes to these


def test_who_else_is_in_the_crowd_changes_nothing() -> None:
    """A device's chances are the same alone and in any order of company."""
    who, kind = np.array([3, 9, 4, 7]), np.array([2, 0, 3, 0])
    args = ("wifi_limited", 3)
    together = chances(*args, who, kind, np.zeros(4), 0.0, 2, 300, STEP_S)
    alone = [chances(*args, who[k : k + 1], kind[k : k + 1], 0.0, 0.0, 2, 300, STEP_S)[:, 0] for k in range(4)]

    assert (together == np.array(alone).T).all()
