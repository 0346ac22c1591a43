"""What a policy must look like: handlers by their right names, messages that travel. Part of `check_policy`."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterator
from typing import Any

from msgspec import inspect as types

from experiments.policy_units import PolicyError, functions_of, short
from policies.port import Policy
from policies.wire import Codec, Message

HANDLERS = tuple(name for name in vars(Policy) if name.startswith("on_"))
CLOSE = 0.8  # similarity of difflib above which a method's name is taken for a misspelt handler


def check_shape(policy: type[Policy]) -> None:
    """Refuse handlers that would never be called, and messages that would never arrive.

    Raises:
        PolicyError: the first of them.
    """
    if not any(getattr(policy, name) is not getattr(Policy, name) for name in HANDLERS):
        raise PolicyError(f"{policy.__qualname__}: has no handler; write one of {', '.join(HANDLERS)}")
    for kind in policy.__mro__:
        if issubclass(kind, Policy) and kind is not Policy:
            for function in functions_of(kind):
                _check_handler(function)
    for field in ("messages", "requests"):
        _check_messages(policy, field)


def sample(kind: type[Message]) -> Message:
    """Return some message of this class, for a client that has nothing to say."""
    values = [_value(field.type) for field in _fields(kind) if field.required]
    return kind(*values)


def _check_handler(function: Any) -> None:
    name, where = function.__name__, f"{short(function.__code__.co_filename)}:{function.__code__.co_firstlineno}"
    if name not in HANDLERS:
        near = difflib.get_close_matches(name, HANDLERS, n=1, cutoff=CLOSE)
        if name.startswith("on_") or near:
            hint = f"did you mean {near[0]}?" if near else f"allowed are {', '.join(HANDLERS)}"
            raise PolicyError(f"{where}: {name}: no such handler; {hint}")
        return
    wanted = list(inspect.signature(getattr(Policy, name)).parameters)
    try:
        inspect.signature(function).bind(*wanted)
    except TypeError:
        given = ", ".join(inspect.signature(function).parameters)
        raise PolicyError(f"{where}: {name}({given}): it is called with ({', '.join(wanted)})") from None


def _check_messages(policy: type[Policy], field: str) -> None:
    declared: Any = getattr(policy, field)
    where = f"{policy.__qualname__}.{field}"
    if not isinstance(declared, tuple):
        raise PolicyError(f"{where}: is a {type(declared).__name__}; write a tuple of classes, e.g. (Ping,)")
    tags: dict[Any, str] = {}
    for kind in declared:
        if not (isinstance(kind, type) and issubclass(kind, Message)):
            raise PolicyError(f"{where}: {kind!r} is no subclass of policies.wire.Message")
        tag = kind.__struct_config__.tag
        if tag is None:
            raise PolicyError(f'{where}: {kind.__name__} has no tag; class {kind.__name__}(Message, tag="...")')
        if tag in tags:
            raise PolicyError(f"{where}: {tags[tag]} and {kind.__name__} have the same tag {tag!r}")
        tags[tag] = kind.__name__
        for one in _fields(kind):
            for inner in _parts(one.type):
                if isinstance(inner, types.CustomType):
                    name = getattr(inner.cls, "__name__", inner.cls)
                    raise PolicyError(
                        f"{where}: {kind.__name__}.{one.name}: {name} does not travel; "
                        "use int, float, str, bytes, bool, tuple, dict or another Message"
                    )
    try:
        Codec(declared)
    except TypeError as error:
        raise PolicyError(f"{where}: {str(error).splitlines()[0]}") from None


def _fields(kind: type[Message]) -> tuple[types.Field, ...]:
    try:
        info = types.type_info(kind)
    except (TypeError, NameError) as error:
        raise PolicyError(f"{kind.__name__}: {str(error).splitlines()[0]}") from None
    assert isinstance(info, types.StructType)
    return info.fields


def _parts(kind: types.Type) -> Iterator[types.Type]:
    """Yield a type and the types inside it; those of another message are that message's."""
    yield kind
    if isinstance(kind, types.StructType):
        return
    for name in kind.__struct_fields__:
        value = getattr(kind, name)
        for inner in value if isinstance(value, tuple) else (value,):
            if isinstance(inner, types.Type):
                yield from _parts(inner)


def _value(kind: types.Type) -> Any:
    if isinstance(kind, types.UnionType):
        return _value(kind.types[0])
    if isinstance(kind, types.StructType):
        return kind.cls(*(_value(field.type) for field in kind.fields if field.required))
    if isinstance(kind, types.TupleType):
        return tuple(_value(inner) for inner in kind.item_types)
    if isinstance(kind, types.LiteralType):
        return kind.values[0]
    plain: dict[type[types.Type], Any] = {
        types.IntType: 1, types.FloatType: 1.0, types.StrType: "x", types.BytesType: b"x", types.BoolType: True,
        types.VarTupleType: (), types.ListType: [], types.SetType: set(), types.DictType: {},
    }  # fmt: skip
    return plain.get(type(kind))
