"""State that is no node's own: in policies' classes and their bases, in closures, defaults, and globals they name.

Nodes of one process would share it, a crash would not erase it, and no other process would see it. It is found once a
run, and then read before and after a step; both readings are equal where a policy is pure.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from types import FunctionType, ModuleType
from typing import Any

from policies.frozen import FreezeError, freeze
from policies.port import Policy

_PLAIN = (bool, int, float, str, bytes, type(None))
_NO_STATE = (type, FunctionType, ModuleType, staticmethod, classmethod, property)


class Shared:
    """What the nodes of these policies share.

    Args:
        kinds: the policies' classes.
    """

    def __init__(self, kinds: Iterable[type[Policy]]) -> None:
        self._bases = list(dict.fromkeys(base for kind in kinds for base in users(kind)))
        self._places = [place for base in self._bases for place in _places(base) if _may_change(*place[1:])]

    def read(self) -> dict[str, Any]:
        """Return each place's state in a form that can be compared, by a name a user knows."""
        found: dict[str, Any] = {f"an attribute of {base.__qualname__}": tuple(vars(base)) for base in self._bases}
        for name, holder, key in self._places:
            value = _value(holder, key)
            found[name] = (type(value), value) if type(value) in _PLAIN else _bytes(value)
        return found


def users(kind: type[Policy]) -> list[type[Policy]]:
    """Return the class and its bases, as far as they are a user's."""
    return [base for base in kind.__mro__ if issubclass(base, Policy) and base is not Policy]


def _places(base: type[Policy]) -> Iterator[tuple[str, Any, str]]:
    """Yield (name, what holds it, under which key)."""
    in_module: dict[str, None] = {}
    for name, value in vars(base).items():
        inner = getattr(value, "__func__", value)
        if isinstance(inner, FunctionType):
            in_module |= dict.fromkeys(inner.__code__.co_names)
            yield f"{inner.__qualname__}'s defaults", inner, "__defaults__"
            for variable, held in zip(inner.__code__.co_freevars, inner.__closure__ or (), strict=True):
                yield f"{inner.__qualname__}'s {variable}", held, "cell_contents"
        elif not name.startswith("__"):
            yield f"{base.__qualname__}.{name}", vars(base), name
    for name in in_module:
        yield name, vars(sys.modules[base.__module__]), name


def _value(holder: Any, key: str) -> Any:
    try:
        return holder.get(key) if isinstance(holder, Mapping) else getattr(holder, key)
    except ValueError:  # a closure's variable that has no value yet
        return None


def _may_change(holder: Any, key: str) -> bool:
    value = _value(holder, key)
    return not isinstance(value, _NO_STATE) and _bytes(value) is not None


def _bytes(value: Any) -> bytes | None:
    """Return the state as bytes, or None for what keeps no plain state: a decoder, a lock."""
    try:
        return freeze(value, {})
    except FreezeError:
        return None
