"""One identity, two lives: a second Cell under the same key, and a Cell that wakes up with old memories.

Both need what was durable at a moment, so they keep a copy of what the driver has confirmed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from policies import port as p
from policies.port import Effect, Input
from policies.rng import Rng
from scenarios.adversaries.behaviours import OldState, Twins
from scenarios.adversaries.wrapped import Place, Steps, Wrapped, peer_of

ANOTHER_LIFE = 1 << 32
"""Added to a twin's incarnation, so that its random streams are others; no node restarts so often."""
TWIN_JOBS = 1 << 40
"""Added to a twin's job ids: executors know a job by its node and id alone, and no Cell counts so far."""

_MARKED = (p.SET_TIMER, p.CANCEL_TIMER, p.SAVE, p.SUBMIT, p.CANCEL)


class Durable:
    """A copy of what a Cell's saves have made durable."""

    def __init__(self) -> None:
        self.saved: dict[str, bytes] = {}
        self._pending: dict[str, list[tuple[int, tuple[tuple[str, bytes | None], ...]]]] = {}

    def restart(self, saved: Mapping[str, bytes]) -> None:
        """Begin with what the disk kept."""
        self.saved, self._pending = dict(saved), {}

    def take(self, given: Input, effects: tuple[Effect, ...]) -> None:
        """See one step."""
        if given[0] == p.DURABLE:
            pending = self._pending.get(given[1], [])
            while pending and pending[0][0] <= given[2]:
                for key, value in pending.pop(0)[1]:
                    if value is None:
                        self.saved.pop(key, None)
                    else:
                        self.saved[key] = value
        for effect in effects:
            if effect[0] == p.SAVE:
                self._pending.setdefault(effect[1], []).append((effect[2], effect[3]))


class OldStateCell(Wrapped[OldState]):
    """Starts again from an old state, which it keeps on the same disk under its own path."""

    def __init__(self, cell: Steps, behaviour: OldState, place: Place, index: int) -> None:
        super().__init__(cell, behaviour, place, index)
        self._durable, self._kept = Durable(), behaviour.nothing

    def begin(self, given: Input) -> Iterable[Effect]:
        kind, path, saved, incarnation = given
        mine = self.own + "/"
        self._kept = self._kept or self.own in saved
        real = {key: value for key, value in saved.items() if key != self.own and not key.startswith(mine)}
        kept = {key.removeprefix(mine): value for key, value in saved.items() if key.startswith(mine)}
        old = {} if self.behaviour.nothing else kept
        self._durable.restart(real)
        yield from self.act((kind, path, old if self._kept and self.acting else real, incarnation))

    def act(self, given: Input) -> list[Effect]:
        out: list[Effect] = []
        if self.acting and not self._kept:
            self._kept = True
            old = sorted(self._durable.saved.items())
            out.append((p.SAVE, self.own, 1, ((self.own, b""), *((f"{self.own}/{key}", value) for key, value in old))))
        return out + super().act(given)

    def feed(self, given: Input) -> tuple[Effect, ...]:
        effects = super().feed(given)
        self._durable.take(given, effects)
        return effects


class TwinCells(Wrapped[Twins]):
    """Two Cells; timers, saves and jobs of the second have the paths ``~K:path``."""

    def __init__(self, cell: Steps, behaviour: Twins, place: Place, index: int) -> None:
        super().__init__(cell, behaviour, place, index)
        self._durable, self._incarnation = Durable(), 0
        self._twin: Steps | None = None
        self._mark = self.own + ":"
        self._old: dict[str, bytes] = {}
        drawn = [n for n in place.peers if Rng(place.seed, place.party, f"{self.own} half {n}", 0).below(2)]
        self._its = frozenset(behaviour.peers or drawn)

    def begin(self, given: Input) -> Iterable[Effect]:
        kind, path, saved, self._incarnation = given
        self._old = {k.removeprefix(self._mark): v for k, v in saved.items() if k.startswith(self._mark)}
        real = {key: value for key, value in saved.items() if not key.startswith(self._mark)}
        self._durable.restart(real)
        return self.act((kind, path, real, self._incarnation))

    def act(self, given: Input) -> list[Effect]:
        kind, path, *rest = given
        if not self.acting:
            return [] if path.startswith(self._mark) else list(self._feed_first(given))
        out: list[Effect] = []
        if self._twin is None and kind != p.START:
            out += self._fork()
        if path.startswith(self._mark):
            return out + list(self._feed_twin((kind, path.removeprefix(self._mark), *rest)))
        if kind == p.MESSAGE and given[2] in self._its:
            return out + list(self._feed_twin(given))
        out += [effect for effect in self._feed_first(given) if peer_of(effect) not in self._its]
        if kind in (p.PEER, p.READINGS, p.DECISION):
            out += self._feed_twin(given)
        elif kind == p.START:
            out += self._fork()
        return out

    def _feed_first(self, given: Input) -> tuple[Effect, ...]:
        effects = self.feed(given)
        self._durable.take(given, effects)
        return effects

    def _fork(self) -> list[Effect]:
        self._twin = self.place.make()
        saved, out = self._old or dict(self._durable.saved), list[Effect]()
        if (
            saved and not self._old
        ):  # what it begins with is its own from now on, and stands on the disk for its next life
            out.append((p.SAVE, self.own, 1, tuple((self._mark + key, value) for key, value in sorted(saved.items()))))
        return out + list(self._feed_twin((p.START, "", saved, self._incarnation + ANOTHER_LIFE)))

    def _feed_twin(self, given: Input) -> Iterator[Effect]:
        if given[0] == p.JOB:
            given = (*given[:2], given[2] - TWIN_JOBS, given[3])
        assert self._twin is not None
        effects = self._twin.step(self.now, self.wall, given)
        self.crypto_ops, self._twin.crypto_ops = self.crypto_ops + self._twin.crypto_ops, 0
        for effect in effects:
            kind, path, *rest = effect
            peer = peer_of(effect)
            if peer == self.place.me:  # to itself, not to the other
                yield (kind, path, f"{peer}/{self._mark}{effect[2].partition('/')[2] or path}", effect[3])
            elif peer in self._its or kind not in (p.SEND, p.SENSE, p.LIMIT, *_MARKED):
                yield effect
            elif kind in (p.SUBMIT, p.CANCEL):
                yield (kind, self._mark + path, rest[0] + TWIN_JOBS, *rest[1:])
            elif kind == p.SAVE:
                yield (kind, self._mark + path, rest[0], tuple((self._mark + key, value) for key, value in rest[1]))
            elif kind in _MARKED:
                yield (kind, self._mark + path, *rest)
