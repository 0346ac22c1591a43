"""Poison: while a guarded step runs, clocks, chance and I/O raise, and name the line that asked.

A `Poison` is installed once, around a whole run; each step only raises a flag, so that the world's own code goes on
as ever between steps. Functions are replaced where they are found, and under every alias in the modules of policies and
models. ``datetime.datetime`` and ``date`` are C types that take no new attribute: they give way to subclasses that
raise from ``now``, ``utcnow`` and ``today`` and otherwise are what they stand for.

What no replacement reaches: a function kept in a closure, a default, a ``partial`` or an instance before the run began,
and a call from C. The text (`experiments.policy_source`) and the copied step (`sim.guard`) look there.
"""

from __future__ import annotations

import datetime
import sys
from collections.abc import Callable, Iterable
from types import FrameType, ModuleType, TracebackType
from typing import Any

from sim.banned import ADDRESS, CLOCK, MODULES, POISONED, instead_of

OWN_PACKAGES = ("policies", "models")


class PurityError(Exception):
    """A policy did in a step what would make two runs differ; one line that says where, what, and what instead."""


class Poison:
    """Replaces banned callables between ``with`` and its end.

    Args:
        modules: names of the modules of the policies, besides this project's own.

    Attributes:
        on: a step is running.
        caught: the first offence of the running step; kept, because a policy may swallow exceptions.
    """

    def __init__(self, modules: Iterable[str] = ()) -> None:
        self.on = False
        self.caught: PurityError | None = None
        self._modules = set(modules)
        self._undo: list[tuple[Any, str, Any]] = []
        self._depth = 0

    def cover(self, modules: Iterable[str]) -> None:
        """Replace aliases in these modules, too, from the next time it is installed."""
        self._modules.update(modules)

    def __enter__(self) -> Poison:
        self._depth += 1
        if self._depth == 1:
            self._install()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._depth -= 1
        if self._depth:
            return
        for owner, name, before in reversed(self._undo):
            if before is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, before)
        self._undo.clear()

    def _install(self) -> None:
        replaced: dict[int, Any] = {}
        for dotted in POISONED:
            owner, name = _owner(dotted)
            real = getattr(owner, name, None)
            if real is not None:
                replaced[id(real)] = self._replace(owner, name, self._poisoned(dotted, real))
        for kind in (datetime.datetime, datetime.date):
            replaced[id(kind)] = self._replace(datetime, kind.__name__, self._dated(kind))
        for name, module in list(sys.modules.items()):
            if name in self._modules or name.partition(".")[0] in OWN_PACKAGES:
                for alias, value in list(vars(module).items()):
                    if (poisoned := replaced.get(id(value))) is not None:
                        self._replace(module, alias, poisoned)
                if name in self._modules:
                    for builtin in (id, hash):
                        if builtin.__name__ not in vars(module):
                            wrapper = self._poisoned(f"builtins.{builtin.__name__}", builtin)
                            self._replace(module, builtin.__name__, wrapper)

    def _replace(self, owner: Any, name: str, by: Any) -> Any:
        self._undo.append((owner, name, vars(owner).get(name, _ABSENT)))
        setattr(owner, name, by)
        return by

    def _poisoned(self, dotted: str, real: Callable[..., Any]) -> Callable[..., Any]:
        shown = dotted.removeprefix("builtins.").removesuffix(".__init__")
        instead = instead_of(dotted) or ADDRESS

        def refuse_in_a_step(*given: Any, **named: Any) -> Any:
            if self.on and not (given and dotted in _FREE_WITH_A_SEED):
                self._refuse(sys._getframe(1), shown, instead)
            return real(*given, **named)

        return refuse_in_a_step

    def _dated(self, kind: Any) -> Any:
        def refusing(name: str) -> Any:
            def read(cls: Any, *given: Any, **named: Any) -> Any:
                if self.on:
                    self._refuse(sys._getframe(1), f"{kind.__name__}.{name}", CLOCK)
                return getattr(kind, name)(*given, **named)

            return classmethod(read)

        class Meta(type):
            def __instancecheck__(cls, instance: object) -> bool:
                return isinstance(instance, kind)

            def __subclasscheck__(cls, other: type) -> bool:
                return issubclass(other, kind)

        readers = {name: refusing(name) for name in ("now", "utcnow", "today") if hasattr(kind, name)}
        return Meta(kind.__name__, (kind,), {**readers, "__module__": "datetime"})

    def _refuse(self, frame: FrameType | None, what: str, instead: str) -> None:
        if what in ("id", "hash") and frame is not None and frame.f_code.co_name in ("__hash__", "__repr__"):
            return  # how a class of values, a frozen dataclass too, is made a key
        while frame is not None and instead_of(str(frame.f_globals.get("__name__"))) in _OF_LIBRARIES:
            frame = frame.f_back
        where = f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else "?"
        error = PurityError(f"{where}: {what}: {instead}")
        self.caught = self.caught or error
        raise error


_ABSENT = object()
_FREE_WITH_A_SEED = ("numpy.random.default_rng",)
_OF_LIBRARIES = frozenset(MODULES.values()) - {MODULES["sim"]}


def _owner(dotted: str) -> tuple[Any, str]:
    """Return the module or class, and the name in it; modules nobody has imported yet are imported."""
    parts = dotted.split(".")
    found: Any = None
    for end in range(len(parts) - 1, 0, -1):
        try:
            found = __import__(".".join(parts[:end]), fromlist=["x"])
        except ImportError:
            continue
        for part in parts[end:-1]:
            found = getattr(found, part)
        break
    assert isinstance(found, ModuleType | type), dotted
    return found, parts[-1]
