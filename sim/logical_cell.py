"""A Cell whose state can be taken out, put back and compared: what exploration needs of one node.

Only exploration copies a Cell, so the copying stands here and knows the Cell's inside. Apart from the copy stay the
key handle, the port's views and the decoders, which belong to the node and not to its state.

Two things of the port are abstracted, because their values would tell states apart that behave alike:

- Draws. Every draw is the lowest one (``bits64`` is 0), so a stream is no state. This loses nothing for a policy whose
  draws only set lengths of timers, because here a timer fires at any time after it was set, however long it is. Of a
  policy that draws anything else, such as a peer to ask or a nonce, only the runs with the lowest draws are explored.
- Time. A policy that reads neither ``now`` nor ``wall`` cannot tell when it is stepped, and for it time stands still.
  One that does read them is refused, unless ``clock`` is true: then a node's time is the latest deadline of the timers
  that it has fired, and part of its state. Every run explored so is possible (a timer may be late), but runs in which a
  message comes between two deadlines are not told apart from those in which it comes at the first.
"""

from __future__ import annotations

import io
import pickle
from collections import deque
from collections.abc import Mapping
from typing import Any

from policies.cell import Cell, _JournalledKeys, _View
from policies.port import Effect, Keys, Policy
from policies.rng import Rng
from sim.canonical import canonical

Timer = tuple[str, str]  # path and name


class ScopeError(ValueError):
    """What is asked cannot be explored."""


class LogicalCell(Cell):
    """A Cell in logical time, whose state is a value.

    Args:
        policies: path to policy, or the one policy.
        me: this node's identity.
        peers: the other nodes.
        keys: this node's key handle.
        clock: whether policies may read time.
    """

    def __init__(
        self, policies: Mapping[str, Policy] | Policy, me: str, peers: tuple[str, ...], *, keys: Keys, clock: bool
    ) -> None:
        super().__init__(policies, me, peers, seed=0, keys=keys)
        self.clock = clock
        self.views = {path: _LogicalView(self, path) for path in self.paths}
        for path, policy in self._policies.items():
            if any("__slots__" in vars(kind) for kind in type(policy).__mro__[:-1]):
                raise ScopeError(f"policy {type(policy).__name__} has __slots__: allowed are attributes in a __dict__")
            policy.port = self.views[path]

    # -- state as a value ----------------------------------------------------------------------------

    def take(self) -> bytes:
        """Return the state between two steps, for `put`.

        Raises:
            ScopeError: an attribute of a policy cannot be copied.
        """
        file = io.BytesIO()
        generations = {path: view._generation for path, view in self.views.items()}
        try:
            _Out(file, self).dump((self._attributes(), self._held, self._tokens, self._timers, generations))
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            raise ScopeError(f"policies {self.paths}: allowed are attributes that can be pickled ({error})") from None
        return file.getvalue()

    def put(self, snapshot: bytes) -> None:
        """Become what `take` returned, here or at another node of the same policies; not after a step that raised."""
        attributes, self._held, self._tokens, self._timers, generations = self._loaded(snapshot)
        self._blocked = {path for path, held in self._held.items() if held}
        for path, policy in self._policies.items():
            vars(policy).clear()
            vars(policy).update(attributes[path], port=self.views[path])
            self.views[path]._generation = generations[path]

    def look(self, snapshot: bytes) -> dict[str, Policy]:
        """Return copies of the policies as they were, by path; they have no port."""
        copies = {}
        for path, attributes in self._loaded(snapshot)[0].items():
            kind = type(self._policies[path])
            copies[path] = kind.__new__(kind)
            vars(copies[path]).update(attributes)
        return copies

    def same(self) -> bytes:
        """Return canonical bytes that are equal for states that behave alike.

        Timers' generations are left out, because no policy sees one. So are the tokens of a policy that does not
        listen to ``on_durable``: it is assumed to use the returned token for nothing else.
        """
        listening = [p for p, policy in self._policies.items() if type(policy).on_durable is not Policy.on_durable]
        return canonical(
            (
                [(path, sorted(attributes.items())) for path, attributes in self._attributes().items()],
                [(path, [effects for _, effects in held]) for path, held in self._held.items()],
                [(path, self._tokens[path]) for path in listening],
            ),
            self.reference,
        )

    def generation(self, timer: Timer) -> int:
        """Return the generation of an armed timer."""
        return self._timers[timer]

    # -- what is not state ---------------------------------------------------------------------------

    def reference(self, value: object) -> tuple[str, ...] | None:
        """Name what a policy may hold that is this node's and not state."""
        if isinstance(value, _View):
            return ("port", value._path)
        if isinstance(value, _JournalledKeys):
            return ("keys", value._path)
        if isinstance(value, Policy):
            return next((("policy", path) for path, policy in self._policies.items() if policy is value), None)
        return None

    def referred(self, name: tuple[str, ...]) -> Any:
        """Return what `reference` named."""
        kind, path = name
        if kind == "policy":
            return self._policies[path]
        return self.views[path] if kind == "port" else self.views[path].keys

    def _attributes(self) -> dict[str, dict[str, Any]]:
        return {
            path: {name: value for name, value in vars(policy).items() if name != "port"}
            for path, policy in self._policies.items()
        }

    def _loaded(self, snapshot: bytes) -> tuple[
        dict[str, dict[str, Any]],
        dict[str, deque[tuple[int, list[Effect]]]],
        dict[str, int],
        dict[Timer, int],
        dict[str, int],
    ]:  # fmt: skip
        loaded: Any = _In(io.BytesIO(snapshot), self).load()
        return loaded  # type: ignore[no-any-return]


class _LogicalView(_View):
    """A view of the port without chance, and without time unless the cell has a clock."""

    __slots__ = ()

    @property
    def now(self) -> int:
        return self._time("now", self._cell.now)

    @property
    def wall(self) -> int:
        return self._time("wall", self._cell.wall)

    def _time(self, name: str, value: int) -> int:
        cell = self._cell
        if isinstance(cell, LogicalCell) and not cell.clock:
            raise ScopeError(f"policy {self._path!r} reads port.{name}: allowed with clock=True")
        return value

    @property
    def rng(self) -> Rng:
        return _LOWEST

    @rng.setter
    def rng(self, keyed: Rng) -> None:
        """Refuse the keyed stream that a Cell gives at every start."""


class _Lowest(Rng):
    """Every draw is the lowest."""

    __slots__ = ()

    def bits64(self) -> int:
        return 0


_LOWEST = _Lowest(0, "", "", 0)


class _Out(pickle.Pickler):
    def __init__(self, file: io.BytesIO, cell: LogicalCell) -> None:
        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._cell = cell

    def persistent_id(self, value: object) -> tuple[str, ...] | None:
        return self._cell.reference(value)


class _In(pickle.Unpickler):
    def __init__(self, file: io.BytesIO, cell: LogicalCell) -> None:
        super().__init__(file)
        self._cell = cell

    def persistent_load(self, name: Any) -> Any:
        return self._cell.referred(name)
