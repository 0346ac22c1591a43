"""Canonical bytes of Python state: equal states have equal bytes, whatever the process or its PYTHONHASHSEED.

Sets are sorted, and so are the attributes of an object. A dict and a list keep their order, because a policy sees it.
That two attributes are the same object is not seen: of policies whose attributes share a mutable object, two states
could be taken for one.
"""

from __future__ import annotations

from collections.abc import Callable
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from policies.wire import encode

Reference = Callable[[object], tuple[str, ...] | None]
"""Names what is not state but part of the machine around it, such as a port; None for all else."""


def canonical(value: object, reference: Reference = lambda _: None) -> bytes:
    """Return the canonical bytes of ``value``; what ``reference`` names is written as its name.

    Raises:
        ValueError: ``value`` contains itself, or something that cannot be pickled.
    """
    try:
        return encode(_plain(value, reference))
    except RecursionError:
        raise ValueError(f"state {type(value).__name__}: allowed is state that does not contain itself") from None
    except TypeError as error:
        raise ValueError(f"state {type(value).__name__}: allowed is state that can be pickled ({error})") from None


def _plain(value: Any, reference: Reference) -> Any:
    """Return MessagePack types that stand for ``value``: every container becomes a list that begins with its kind."""
    kind = type(value)
    if value is None or kind in (bool, float, str, bytes):
        return value
    if kind is int:
        return value if -(1 << 63) <= value < 1 << 64 else ["int", str(value)]
    if kind in (tuple, list):
        return [kind.__name__, *(_plain(item, reference) for item in value)]
    if kind is dict:
        return ["dict", *([_plain(key, reference), _plain(item, reference)] for key, item in value.items())]
    if kind in (set, frozenset):
        return [kind.__name__, *sorted(encode(_plain(item, reference)) for item in value)]
    if (name := reference(value)) is not None:
        return ["reference", *name]
    builtin = kind is BuiltinFunctionType and isinstance(value.__self__, ModuleType)
    if builtin or isinstance(value, (type, FunctionType)):
        return ["global", value.__module__, value.__qualname__]
    parts = value.__reduce_ex__(4)  # what pickle would write: how to make it, its attributes, its items
    if isinstance(parts, str):
        return ["global", kind.__module__, parts]
    make, arguments, state, items, pairs = (*parts, None, None, None)[:5]
    if isinstance(state, dict):
        state = tuple(sorted(state.items()))
    items, pairs = (None if given is None else list(given) for given in (items, pairs))
    return ["object", *(_plain(part, reference) for part in (make, arguments, state, items, pairs))]
