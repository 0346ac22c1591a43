"""Owners who respond: a Mesa model of people who feel heat and empty batteries, take rewards and talk.

Their days are the crowd's (`sim.owners.crowd`): plug, screen and network come from the same decomposition and the same
draws. What is added is whether they lend their device at all, and whether they take it off the charger when it is hot:

    utility = own leaning + rewards - annoyance + what friends do

An owner thinks again now and then, sooner when annoyed, and lends the device while utility is above 0. Annoyance
comes from skin temperature, from unplugging a phone that is nearly empty, and from hours lent; it fades. Friends
are a small world (Watts and Strogatz, Nature 393, 1998). All strengths are assumptions, in one place (`Response`).

The state is arrays, updated for all owners at once; an `OwnerAgent` is one owner's view of them, so that Mesa's agent
sets select, group and collect as usual.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import mesa
import networkx as nx
import numpy as np

from models import draws
from models.availability.decompositions import Decomposition
from sim.owners import crowd


@dataclass(frozen=True)
class Response:
    """How strongly owners respond; every value an assumption but those with a source.

    Attributes:
        lends_at_first: share of owners who lend their device before any experience.
        warm_c: skin temperature from which heat annoys; 43 °C is the limit of long contact (ISO 13732-1), warm is less.
        heat_per_k_h: annoyance an hour and kelvin above that.
        low_soc: charge below which an unplugged phone counts as low; 0.2 is where phones warn.
        low: annoyance of an empty phone; less in proportion above empty.
        per_lent_h: annoyance of an hour lent (noise, wear, mistrust).
        fades_days: time constant of annoyance.
        reward_scale: reward a day that counts as much as one unit of utility does not: log(1 + reward / scale).
        reward: utility of that logarithm.
        remembers_days: time constant of rewards in memory.
        annoyance: utility lost per unit of annoyance.
        friends: utility when all friends lend rather than as many as at first.
        gossip: utility lost per unit of friends' mean annoyance.
        thinks_days: mean time between second thoughts; annoyance of 1 doubles their rate.
        hot_c: skin temperature at which some take the device off its charger, for a window.
        takes_off: share of those who do.
    """

    lends_at_first: float = 0.5
    warm_c: float = 38.0
    heat_per_k_h: float = 0.05
    low_soc: float = 0.2
    low: float = 0.5
    per_lent_h: float = 0.002
    fades_days: float = 7.0
    reward_scale: float = 0.1
    reward: float = 0.5
    remembers_days: float = 7.0
    annoyance: float = 2.0
    friends: float = 1.0
    gossip: float = 0.5
    thinks_days: float = 3.0
    hot_c: float = 43.0
    takes_off: float = 0.3

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not np.isfinite(value) or value < 0.0:
                raise ValueError(f"{field.name} is {value}; allowed: finite numbers from 0 up")
        if not 0.0 < self.lends_at_first < 1.0 or self.takes_off > 1.0:
            raise ValueError("lends_at_first and takes_off: allowed: shares, the first neither 0 nor 1")
        for name in ("low_soc", "fades_days", "reward_scale", "remembers_days", "thinks_days"):
            if getattr(self, name) <= 0.0:
                raise ValueError(f"{name} is {getattr(self, name)}; allowed: above 0")


NO_RESPONSE = Response(
    heat_per_k_h=0.0, low=0.0, per_lent_h=0.0, reward=0.0, annoyance=0.0, friends=0.0, gossip=0.0, takes_off=0.0
)
"""Owners who notice nothing: the crowd, and a constant half of it lends."""


class Experience(NamedTuple):
    """What owners noticed in the window before, one element a device; NaN where there was nothing to notice."""

    skin_c: Any  # highest
    soc_at_unplug: Any  # charge when taken off the charger; NaN if it was not
    harvested_h: Any
    reward: Any  # in the scenario's currency


class OwnerAgent(mesa.Agent):
    """One owner's view of the population's arrays."""

    def __init__(self, model: Population, row: int) -> None:
        super().__init__(model)
        self.row = row

    @property
    def opted_in(self) -> bool:
        """Whether this owner lends the device."""
        return bool(self.model.opted_in[self.row])

    @property
    def annoyance(self) -> float:
        """0 is content."""
        return float(self.model.annoyance[self.row])

    @property
    def friends(self) -> list[int]:
        """Rows of the friends."""
        return sorted(self.model.graph[self.row])


class Population(mesa.Model):
    """Owners and their devices, one step an exchange window.

    Args:
        decomposition, seed, entity, kind_code, zone_min, start_minute, weekday: as for `sim.owners.crowd.start`.
        response: strengths.
        friends: neighbours in the small world, an even number.
        far: share of friendships that go anywhere rather than next door.

    Attributes:
        opted_in: (n,) bool: who lends the device now.
        annoyance, reward_a_day: (n,).
    """

    def __init__(
        self, decomposition: str | Decomposition, seed: int, entity: Any, kind_code: Any, zone_min: Any = 0.0,
        start_minute: float = 0.0, weekday: int = 0, *, response: Response | None = None, friends: int = 6,
        far: float = 0.1,
    ) -> None:  # fmt: skip
        super().__init__(seed=draws.key_of(seed, "agents mesa")[0])
        self.entity, self.kind_code = np.asarray(entity), np.asarray(kind_code)
        n = len(self.entity)
        if not 0 < friends < n or not 0.0 <= far <= 1.0:
            raise ValueError(f"friends is {friends}, far {far}; allowed: 1 to {n - 1}, and a share")
        self.decomposition, self.draw_seed = decomposition, seed
        self.response = response or Response()
        self.crowd = crowd.start(decomposition, seed, self.entity, self.kind_code, zone_min, start_minute, weekday)
        self.graph = nx.watts_strogatz_graph(n, friends, far, seed=draws.key_of(seed, "agents friends")[0])
        pairs = np.array(self.graph.edges, dtype=np.int64).reshape(-1, 2)
        self._from, self._to = np.concatenate([pairs[:, 0], pairs[:, 1]]), np.concatenate([pairs[:, 1], pairs[:, 0]])
        self._degree = np.maximum(1, np.bincount(self._from, minlength=n))
        u = self._uniform("agents leaning", 0)
        share = self.response.lends_at_first
        self.leaning = np.log((1.0 - u) / np.maximum(u, 2.0**-53)) + np.log(share / (1.0 - share))  # logistic
        self.opted_in = self.leaning > 0.0
        self.annoyance, self.reward_a_day = np.zeros(n), np.zeros(n)
        self.flags = np.zeros((0, n), dtype=np.uint8)
        OwnerAgent.create_agents(self, n, list(range(n)))

    def window(self, first_step: int, steps: int, step_s: float, experience: Experience | None = None) -> np.ndarray:
        """Advance one exchange window and return its flags, (steps, n) uint8 as `sim.owners.crowd.window` does.

        Args:
            first_step, steps, step_s: the window.
            experience: of the window before; none before the first.
        """
        self.step(first_step, steps, step_s, experience)
        return self.flags

    def step(self, first_step: int, steps: int, step_s: float, experience: Experience | None = None) -> None:
        """Feel, think, then live through the window."""
        hot = np.zeros(len(self.entity), dtype=bool)
        if experience is not None:
            felt = self._checked(experience)
            self._feel(felt, steps * step_s)
            hot = felt.skin_c >= self.response.hot_c
        self._think(steps * step_s)
        self.flags, self.crowd = crowd.window(
            self.decomposition, self.draw_seed, self.crowd, self.entity, self.kind_code, first_step, steps, step_s
        )
        taken_off = hot & (self._uniform("agents takes off", self.steps) < self.response.takes_off)
        self.flags[:, taken_off] &= np.uint8(0xFF ^ crowd.PLUGGED)

    def _feel(self, felt: Experience, elapsed_s: float) -> None:
        r, hours = self.response, elapsed_s / 3600.0
        heat = r.heat_per_k_h * hours * np.maximum(0.0, felt.skin_c - r.warm_c)
        empty = r.low * np.maximum(0.0, 1.0 - felt.soc_at_unplug / r.low_soc)
        self.annoyance = self.annoyance * np.exp(-hours / (24.0 * r.fades_days)) + heat + empty
        self.annoyance = self.annoyance + r.per_lent_h * felt.harvested_h
        kept = np.exp(-hours / (24.0 * r.remembers_days))
        self.reward_a_day = self.reward_a_day * kept + (1.0 - kept) * felt.reward * 24.0 / hours

    def _think(self, elapsed_s: float) -> None:
        r = self.response
        rate = (1.0 + self.annoyance) * elapsed_s / (86400.0 * r.thinks_days)
        thinks = self._uniform("agents thinks", self.steps) < -np.expm1(-rate)
        self.opted_in = np.where(thinks, self.utility() > 0.0, self.opted_in)

    def utility(self) -> np.ndarray:
        """Return what each owner would gain by lending, (n,)."""
        r = self.response
        lend = self._of_friends(self.opted_in.astype(np.float64)) - r.lends_at_first
        told = self._of_friends(self.annoyance)
        rewards = r.reward * np.log1p(np.maximum(0.0, self.reward_a_day) / r.reward_scale)
        return np.asarray(self.leaning + rewards - r.annoyance * self.annoyance + r.friends * lend - r.gossip * told)

    def _of_friends(self, values: np.ndarray) -> np.ndarray:
        """Return the mean over each owner's friends."""
        total = np.bincount(self._from, weights=values[self._to], minlength=len(values))
        return np.asarray(total / self._degree)

    def _uniform(self, purpose: str, index: int) -> np.ndarray:
        return np.asarray(draws.uniform(self.draw_seed, purpose, self.entity, index))

    def _checked(self, experience: Experience) -> Experience:
        """Return float arrays in which nothing noticed is neutral: cold, full, 0 h, 0."""
        neutral = Experience(-300.0, 1.0, 0.0, 0.0)
        arrays = []
        for name, value, nothing in zip(Experience._fields, experience, neutral, strict=True):
            array = np.asarray(value, dtype=np.float64)
            if array.shape != self.entity.shape or np.isinf(array).any():
                raise ValueError(f"{name}: shape {array.shape}; allowed: {self.entity.shape} finite numbers or NaN")
            arrays.append(np.where(np.isnan(array), nothing, array))
        return Experience(*arrays)
