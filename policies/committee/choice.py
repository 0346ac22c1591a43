"""The choice of a committee: a pure function of candidates, rules, epoch and beacon, the same on every node.

Candidates that fall short of trust or stability are out. The others draw lots: a device has as many tickets as its
trust times its stability allows, a ticket's number is a hash of beacon, epoch and name, and the lowest ticket counts.
So a device is first with the probability of its share of the tickets, nobody can know an epoch's lots before its
beacon, and integers alone decide (no rounding differs between machines). Then seats are filled in the order of the
lots, those who sit already first, under the rules of diversity; where the next in order would make the rules
impossible, the one after is taken, and a seat is taken back if need be.

The beacon must be random and known to all only after the candidates are fixed, or devices will choose names that win;
who provides it is not decided here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b

from policies.committee.candidates import GROUNDS, Candidate, Ground
from policies.committee.check import CommitteeError, check_size, faults
from policies.config import CommitteeConfig
from policies.wire import Message, encode

TICKETS = 10
"""Tickets of a device without fault: the weight's resolution, a tenth (our choice; each costs a hash)."""
STEPS_MAX = 10_000
"""Seats tried before the search gives up (our bound: some seconds with as many devices as may stand; a feasible draw
needs about as many as there are seats)."""
Site = tuple[str, str]  # region, network


class Committee(Message, frozen=True):
    """Who agrees for the village in an epoch; ``faults`` of them may lie."""

    epoch: int
    members: tuple[str, ...]
    faults: int


def tickets(candidate: Candidate) -> int:
    """Return a device's weight in the lottery, at least 1."""
    return max(1, round(TICKETS * candidate.trust * candidate.stability))


def lot(candidate: Candidate, beacon: bytes, epoch: int) -> int:
    """Return a device's best ticket; the lowest goes first."""
    salt = epoch.to_bytes(8, "big")
    names = (encode((candidate.node, ticket)) for ticket in range(tickets(candidate)))
    drawn = (blake2b(name, digest_size=8, key=beacon[:64], salt=salt).digest() for name in names)
    return int.from_bytes(min(drawn), "big")


def select(
    candidates: Sequence[Candidate],
    config: CommitteeConfig,
    epoch: int,
    beacon: bytes,
    sitting: Sequence[str] = (),
) -> Committee:
    """Return the committee of an epoch.

    Args:
        candidates: the fleet's devices, in any order.
        config: size and rules.
        epoch: 0 or more.
        beacon: the epoch's public randomness, 16 bytes or more; 64 are used.
        sitting: last epoch's members. All but ``config.rotate`` of those who still qualify keep their seats where the
            rules allow it; those leave whose lots are worst.

    Raises:
        CommitteeError: no committee satisfies the rules, a device is named twice, the beacon is short; says why.
    """
    twice = [node for node, count in Counter(c.node for c in candidates).items() if count > 1]
    if twice:
        raise CommitteeError(f"candidates: {twice[0]!r} is named twice")
    if epoch < 0 or len(beacon) < 16:
        raise CommitteeError(f"epoch={epoch}, beacon of {len(beacon)} bytes: allowed are 0 or more, and 16 or more")
    check_size(config.size, len(candidates), faults(config.size))
    qualified = [c for c in candidates if c.trust >= config.min_trust and c.stability >= config.min_stability]
    _require_enough(candidates, qualified, config)
    drawn = sorted(qualified, key=lambda c: (lot(c, beacon, epoch), c.node))
    kept = [c for c in drawn if c.node in sitting]
    kept = kept[: max(0, len(kept) - config.rotate)]
    stay = {c.node for c in kept}
    new = [c for c in drawn if c.node not in stay and c.node not in sitting]
    last = [c for c in drawn if c.node not in stay and c.node in sitting]  # who rotates out returns if nobody else can
    members = _Seats([*kept, *new, *last], config).fill()
    return Committee(epoch, tuple(c.node for c in members), faults(config.size))


def _site(candidate: Candidate) -> Site:
    return candidate.region, candidate.network


def _minimum(config: CommitteeConfig) -> dict[Ground, int]:
    least = (config.min_networks, config.min_vendors, config.min_regions, config.min_countries)
    return dict(zip(GROUNDS, least, strict=True))


def _require_enough(candidates: Sequence[Candidate], qualified: Sequence[Candidate], config: CommitteeConfig) -> None:
    if len(qualified) < config.size:
        raise CommitteeError(
            f"committee={config.size}: {len(qualified)} of {len(candidates)} devices qualify (trust of "
            f"{config.min_trust} and stability of {config.min_stability} or more)"
        )
    for ground, needed in _minimum(config).items():
        found = len({c.at(ground) for c in qualified})
        if found < needed:
            raise CommitteeError(
                f"committee={config.size}: devices that qualify have {found} {ground} values, {needed} needed"
            )


class _Seats:
    """The search for the first lawful committee in the order of the lots.

    Whoever would leave the rules without a way to be kept is not seated: a search that finds out at the last seat would
    try all ways of filling those before it.
    """

    def __init__(self, order: list[Candidate], config: CommitteeConfig) -> None:
        self.order, self.config, self.minimum = order, config, _minimum(config)
        self.most = max(1, faults(config.size))
        self.unbound = config.site_max >= config.size and not config.within_faults  # no upper bound is ever reached
        self.steps = 0
        self.members: list[Candidate] = []
        self.sites: Counter[Site] = Counter()  # members at each site, and of each value of a ground; none is zero
        self.held: dict[Ground, Counter[str]] = {ground: Counter() for ground in GROUNDS}

    def fill(self) -> list[Candidate]:
        at = [0]  # for each seat, where in the order to go on looking
        while len(self.members) < self.config.size:
            places = range(at[-1], len(self.order))
            found = next((k for k in places if self.steps <= STEPS_MAX and self._take(k)), None)
            if found is not None:
                at[-1] = found + 1
                at.append(found + 1)
            else:  # nobody fits this seat: take the one before back
                at.pop()
                if self.members:
                    self._give_back()
            if not at or self.steps > STEPS_MAX:
                raise CommitteeError(self._why())
        return self.members

    def _take(self, k: int) -> bool:
        """Seat the k-th in the order if the rules let it, and can still be kept by those after it; return whether."""
        candidate = self.order[k]
        if not self._fits(candidate):
            return False
        self.steps += 1
        self.members.append(candidate)
        self.sites[_site(candidate)] += 1
        for ground, values in self.held.items():
            values[candidate.at(ground)] += 1
        if not self._can_end(k + 1):
            self._give_back()
            return False
        return True

    def _give_back(self) -> None:
        candidate = self.members.pop()
        self.sites -= Counter((_site(candidate),))
        for ground in GROUNDS:
            self.held[ground] -= Counter((candidate.at(ground),))

    def _fits(self, candidate: Candidate) -> bool:
        """Whether the upper bounds let one sit with those who do."""
        return self.sites[_site(candidate)] < self.config.site_max and all(
            self.held[ground][candidate.at(ground)] < self.most for ground in self.config.within_faults
        )

    def _can_end(self, after: int) -> bool:
        """Whether nothing shows that the seats that are left cannot be filled from this place of the order on."""
        left = self.config.size - len(self.members)
        missing = {g: needed - len(self.held[g]) for g, needed in self.minimum.items() if needed > len(self.held[g])}
        if max(missing.values(), default=0) > left:
            return False
        if not missing and self.unbound:
            return len(self.order) - after >= left
        rest = [c for c in self.order[after:] if self._fits(c)]
        if any(len({c.at(g) for c in rest} - self.held[g].keys()) < lacks for g, lacks in missing.items()):
            return False
        brings = sorted((sum(c.at(g) not in self.held[g] for g in missing) for c in rest), reverse=True)
        if sum(brings[:left]) < sum(missing.values()):
            return False
        sites = Counter(map(_site, rest))
        if sum(min(n, self.config.site_max - self.sites[site]) for site, n in sites.items()) < left:
            return False
        for ground in self.config.within_faults:
            values, held = Counter(c.at(ground) for c in rest), self.held[ground]
            if sum(min(n, self.most - held[value]) for value, n in values.items()) < left:
                return False
        return True

    def _why(self) -> str:
        c = self.config
        tried = "no choice" if self.steps <= STEPS_MAX else f"none of the first {STEPS_MAX} choices"
        needs = ", ".join(f"{needed} {ground} values" for ground, needed in self.minimum.items())
        return (
            f"committee={c.size}: {tried} of {len(self.order)} devices has {needs}, at most {c.site_max} at one site "
            f"(region and network) and at most {self.most} of one {' or '.join(c.within_faults) or 'ground'}"
        )
