"""The shards that a node has in memory: those that its own load jobs asked for, within what it lends.

No frame of a peer brings any in, and no session: one of an earlier plan that goes on would bring back its own in place
of what was loaded since. What an earlier plan left is kept while sessions use it, and goes where there is no room for
both. All of this runs in the compute thread, but `lend`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from policies.serving.batching import BLOCK_TOKENS
from real_backends.compute import Compute
from real_backends.executors import ModelSpec, Shard, Weights, make_shard
from real_backends.executors.paced import ShardMaker
from real_backends.lent_memory import LentMemory

Models = Mapping[str, Callable[[], tuple[ModelSpec, Weights]]]
"""Model name to a function that loads it."""
Layers = tuple[str, int, int]
"""A model, the first layer and the one after the last."""


@dataclass
class HeldShards:
    """One node's shards.

    Args:
        compute: its thread.
        models: what can be loaded.
        backend: "torch" or "jax".
        used: returns the shards that sessions use.
        empty: takes their caches from all sessions.
        make: makes shards (`executors.paced`).
        together: sessions that a step may run at once.
        memory: what shards may take; none: as much as there is.

    Attributes:
        held: those that serve.
        pool_bytes: the most that their pools took at one moment.
    """

    compute: Compute
    models: Models
    backend: str
    used: Callable[[], list[Shard]]
    empty: Callable[[], None]
    make: ShardMaker = make_shard
    together: int = 1
    memory: LentMemory | None = None
    held: dict[Layers, Shard] = field(default_factory=dict)
    pool_bytes: int = 0
    _second: tuple[Layers, Shard] | None = None
    _loaded: dict[str, tuple[ModelSpec, Weights]] = field(default_factory=dict)

    def lend(self, share: float) -> None:
        """Let shards take this share of the node's memory from now on; once nothing is lent, none stays."""
        if self.memory is not None:
            self.memory.share = share
            if share <= 0:
                self.compute.beside(self._let_go)

    def placed(self, model: str, first: int, last: int) -> Shard:
        """Return the shard of these layers, which is here because this node was asked to hold it.

        Raises:
            ValueError: it is not.
        """
        if (shard := self.held.get((model, first, last))) is None:
            raise ValueError(f"layers [{first}, {last}) of {model!r} are not placed here")
        return shard

    def load(self, model: str, first: int, last: int) -> Shard:
        """Return the shard of these layers, which this node is asked to hold, and bring it into memory.

        Raises:
            ValueError: unknown model or layers, or more than this node lends.
            ExecutorUnavailable: the framework is not installed.
        """
        key = (model, first, last)
        if key not in self.held:
            spec, weights = self.weights(model)
            spec.check_cut(first, last)
            self._make_room(key)
            shard = self.make(self.backend, spec, weights, first, last)
            shard.warm_up(self.together)
            self.held[key] = shard
            self.pool_bytes = max(self.pool_bytes, sum(one.pool_bytes() for one in self.held.values()))
        return self.held[key]

    def second(self, model: str, first: int, last: int, make: ShardMaker) -> Shard:
        """Return a shard that serves nobody, with blocks for one session; it stays until another one is asked for.

        Raises:
            ValueError: unknown model or layers, or no room beside those that serve.
        """
        key = model, first, last
        if self._second is None or self._second[0] != key:
            self._second = None
            spec, weights = self.weights(model)
            spec.check_cut(first, last)
            if self._taken_bytes() + self._need_bytes(key, 1) > self._lent_bytes():
                raise ValueError(f"layers [{first}, {last}) of {model!r}: no room beside what serves")
            self._second = key, make(self.backend, spec, weights, first, last, blocks=-(-spec.context // BLOCK_TOKENS))
        return self._second[1]

    def try_out(self, model: str) -> None:
        """Load a model's weights and the framework, and run one token: a first session must not wait for it."""
        spec, weights = self.weights(model)
        self.make(self.backend, spec, weights, 0, 1).warm_up(self.together)

    def weights(self, model: str) -> tuple[ModelSpec, Weights]:
        """Return a model, read once.

        Raises:
            ValueError: unknown model.
        """
        if model not in self.models:
            raise ValueError(f"model={model!r}: allowed are {', '.join(sorted(self.models)) or 'none'}")
        if model not in self._loaded:
            self._loaded[model] = self.models[model]()
        return self._loaded[model]

    def model_of(self, weights: Weights) -> str:
        """Return the name by which a model with these weights was asked for; checkpoints may call themselves alike."""
        return next(name for name, (_, loaded) in self._loaded.items() if loaded is weights)

    def _make_room(self, key: Layers) -> None:
        """Let go what is in the way of new layers: what nobody uses, and of what is used what there is no room for."""
        need_bytes, lent_bytes = self._need_bytes(key), self._lent_bytes()
        if need_bytes > lent_bytes:
            model, first, last = key
            needs = f"need {need_bytes:.0f} bytes of memory, {lent_bytes:.0f} are lent"
            raise ValueError(f"layers [{first}, {last}) of {model!r} {needs}")
        used = {id(shard) for shard in self.used()}  # after a new plan the old one still drains
        self.held = {at: one for at, one in self.held.items() if id(one) in used}  # memory is for one plan's
        if self._taken_bytes() + need_bytes > lent_bytes:
            self._second = None
        if self._taken_bytes() + need_bytes > lent_bytes:
            self._let_go()

    def _let_go(self) -> None:
        self.empty()
        self.held, self._second = {}, None

    def _lent_bytes(self) -> float:
        return float("inf") if self.memory is None else self.memory.lent_bytes

    def _need_bytes(self, layers: Layers, sessions: int | None = None) -> float:
        return 0.0 if self.memory is None else self.memory.need_bytes(*layers, sessions)

    def _taken_bytes(self) -> float:
        second = 0.0 if self._second is None else self._need_bytes(self._second[0], 1)
        return sum(map(self._need_bytes, self.held)) + second
