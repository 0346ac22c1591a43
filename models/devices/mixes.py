"""Fleet mixes as data: which share of a population is which device, by kind, price tier and age.

Within a kind the tiers have their shares, and within a tier a device is the rarer the older it is: exp(-age / life). A
tier that the library has no device of passes its share to the others of the kind. Shares are of devices in use, quoted
from memory of the sources named and rounded; what is not sourced is an assumption and says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from models.arrays import FloatArray, IntArray
from models.devices.kinds import KINDS
from models.devices.rows import LIBRARY, TIERS
from models.draws import uniform

_ENTITIES = 2**32  # of `models.draws`


@dataclass(frozen=True)
class Mix:
    """A population of devices.

    Attributes:
        region: where.
        year: when; devices launched later are not in it.
        kinds: share of each kind, adding to 1.
        tiers: within every kind, share of each of `TIERS`, adding to 1.
        life_years: how fast a kind's older models die out.
        sources: where each of these comes from, by field.

    Raises:
        ValueError: shares do not add to 1, are negative, or name what is not known; a field has no source.
    """

    region: str
    year: int
    kinds: Mapping[str, float]
    tiers: Mapping[str, float]
    life_years: Mapping[str, float]
    sources: Mapping[str, str]

    def __post_init__(self) -> None:
        for field, names in {"kinds": tuple(KINDS), "tiers": TIERS, "life_years": tuple(KINDS)}.items():
            shares: Mapping[str, float] = getattr(self, field)
            if unknown := sorted(set(shares) - set(names)):
                raise ValueError(f"mix of {self.region}: {field} has {unknown[0]!r}; allowed: {', '.join(names)}")
            for name, share in shares.items():
                if not (0.0 <= share < np.inf and (share > 0.0 or field != "life_years")):
                    raise ValueError(f"mix of {self.region}: {field}[{name!r}] is {share}; allowed: numbers above 0")
            total = sum(shares.values())
            if field != "life_years" and abs(total - 1.0) > 1e-9:
                raise ValueError(f"mix of {self.region}: {field} add to {total:g}; allowed: 1")
            if not self.sources.get(field):
                raise ValueError(f"mix of {self.region}: {field} has no source")


_LIFE = {"phone": 3.5, "tablet": 5.0, "laptop": 5.0, "desktop": 6.5, "gpu_box": 4.0}
_LONG_LIFE = {"phone": 5.0, "tablet": 6.0, "laptop": 8.0, "desktop": 9.0, "gpu_box": 6.0}
_LIFE_SOURCE = "assumption: about the replacement cycles that Counterpoint and IDC quote (phones 3.5 years, PCs 5 to 6)"
MIXES: Mapping[str, Mix] = {
    "global_2024": Mix(
        "world", 2024,
        {"phone": 0.66, "tablet": 0.105, "laptop": 0.165, "desktop": 0.065, "gpu_box": 0.005},
        {"budget": 0.35, "mid": 0.40, "high": 0.25},
        _LIFE,
        {
            "kinds": "IDC shipments 2023 (1.17 bn phones, 0.13 bn tablets, 0.26 bn PCs, three quarters of them "
            "notebooks) times life; GPU boxes: assumption",
            "tiers": "Counterpoint 2023: a quarter of phones above 600 USD, about 35 % below 200; other kinds "
            "assumed alike",
            "life_years": _LIFE_SOURCE,
        },
    ),
    "europe_home": Mix(
        "European households", 2024,
        {"phone": 0.49, "tablet": 0.13, "laptop": 0.25, "desktop": 0.11, "gpu_box": 0.02},
        {"budget": 0.20, "mid": 0.40, "high": 0.40},
        _LIFE,
        {
            "kinds": "StatCounter 2024, Europe: about half of page views from phones, most others from PCs; tablets "
            "and the split of laptop, desktop and gaming GPU: assumptions",
            "tiers": "Counterpoint 2023: about 40 % of European phones above 600 USD; the rest an assumption",
            "life_years": _LIFE_SOURCE,
        },
    ),
    "north_america_home": Mix(
        "North American households", 2024,
        {"phone": 0.46, "tablet": 0.15, "laptop": 0.26, "desktop": 0.10, "gpu_box": 0.03},
        {"budget": 0.15, "mid": 0.30, "high": 0.55},
        _LIFE,
        {
            "kinds": "Pew 2021-24: nine of ten adults have a smartphone, eight a computer, five a tablet; split of "
            "computers assumed",
            "tiers": "Counterpoint 2023: more than half of US phones above 600 USD; the rest an assumption",
            "life_years": _LIFE_SOURCE,
        },
    ),
    "low_income": Mix(
        "low- and lower-middle-income countries", 2024,
        {"phone": 0.88, "tablet": 0.03, "laptop": 0.06, "desktop": 0.029, "gpu_box": 0.001},
        {"budget": 0.65, "mid": 0.30, "high": 0.05},
        _LONG_LIFE,
        {
            "kinds": "ITU Facts and Figures 2023: a phone for 6 to 7 of 10 people, a computer in 1 to 2 of 10 "
            "households; tablets and GPUs: assumptions",
            "tiers": "assumption: most handsets below 200 USD (GSMA: affordability is the main barrier)",
            "life_years": "assumption: second-hand markets keep devices about half as long again",
        },
    ),
    "campus_lab": Mix(
        "a university's shared machines", 2024,
        {"phone": 0.0, "tablet": 0.02, "laptop": 0.40, "desktop": 0.50, "gpu_box": 0.08},
        {"budget": 0.30, "mid": 0.45, "high": 0.25},
        _LIFE,
        {
            "kinds": "assumption: desktops in labs, laptops lent out, a GPU for every dozen machines",
            "tiers": "assumption", "life_years": _LIFE_SOURCE,
        },
    ),
}  # fmt: skip
"""Mixes by name. Regions differ in kinds, tiers and age; no source gives all three together."""


def mix_of(name: str) -> Mix:
    """Return a mix by name; a ValueError names those there are."""
    if name not in MIXES:
        raise ValueError(f"mix is {name!r}; allowed: {', '.join(MIXES)}")
    return MIXES[name]


def weights(mix: Mix) -> FloatArray:
    """Return the share of each row of `LIBRARY` in a mix, adding to 1.

    Raises:
        ValueError: a kind has a share, but no device that old.
    """
    share = np.zeros(len(LIBRARY))
    for kind, of_all in mix.kinds.items():
        in_kind = np.array([row.kind == kind and row.year <= mix.year for row in LIBRARY])
        if of_all > 0.0 and not in_kind.any():
            raise ValueError(f"mix of {mix.region}: no {kind} of {mix.year} or before is in the library")
        age = np.array([mix.year - row.year for row in LIBRARY])
        fresh = np.where(in_kind, np.exp(-np.maximum(age, 0) / mix.life_years[kind]), 0.0)
        part = np.zeros(len(LIBRARY))
        for tier, of_kind in mix.tiers.items():
            in_tier = fresh * np.array([row.tier == tier for row in LIBRARY])
            part += of_kind * in_tier / in_tier.sum() if in_tier.any() else 0.0
        share += of_all * part / part.sum() if part.any() else 0.0
    return np.asarray(share / share.sum())


def draw_mix(seed: int, mix: Mix | str, n: int, *, first: int = 0) -> IntArray:
    """Draw the models of devices ``first`` to ``first + n - 1``, as row numbers of `LIBRARY`.

    Keyed by device: the model of one depends on the seed, the mix and its number, not on n or on chunks.

    Args:
        seed: of the run, 0 to 2**64 - 1.
        mix: a `Mix`, or the name of one in `MIXES`.
        n: how many.
        first: number of the first device.

    Returns:
        int64, shape (n,).

    Raises:
        ValueError: the mix is unknown, or the numbers do not fit in 32 bits.
    """
    if not (n >= 0 and first >= 0 and first + n <= _ENTITIES):
        raise ValueError(f"devices {first} to {first + n}; allowed: 0 to {_ENTITIES}")
    chosen = mix_of(mix) if isinstance(mix, str) else mix
    edges = np.cumsum(weights(chosen))
    edges[-1] = 1.0  # cumulative sums round; draws are below 1
    entity = np.arange(first, first + n, dtype=np.int64)
    share = uniform(seed, "device of a mix", entity, 0)
    return np.asarray(np.searchsorted(edges, share, side="right"), dtype=np.int64)
