"""State as bytes: the same bytes for equal state, whatever the process or its hash seed, and the state back from them.

Pickle is no such form: its bytes depend on which equal strings happen to be one object, and on the order of a set.
Here immutable values stand by value, sets are sorted, attributes stand by name, and mutable objects are numbered in
the order they are met, so that two names of one list stay two names of one list. A dict keeps its order: a policy may
iterate over it, so two dicts in another order are two states.

    >>> freeze({"peers": {"b", "a"}}, {}) == freeze({"peers": {"a", "b"}}, {})
    True
    >>> thaw(freeze([1, {2.5: (None, b"x")}], {}), {})
    [1, {2.5: (None, b'x')}]
"""

from __future__ import annotations

import copyreg
import pickle
from collections.abc import Mapping
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any, NamedTuple

import msgspec

from policies.wire import encode

_PLAIN = frozenset((bool, float, str, bytes, type(None)))
HARMLESS = frozenset((
    ("copyreg", "__newobj__"), ("collections", "deque"), ("collections", "OrderedDict"), ("collections", "Counter"),
    ("collections", "defaultdict"), *(("builtins", kind) for kind in ("dict", "int", "list", "object", "set", "tuple")),
))  # fmt: skip
"""What makes plain containers and does nothing else, by module and name."""
_INT_MIN, _INT_MAX = -(2**63), 2**64  # what MessagePack's integers hold


class FreezeError(TypeError):
    """Something has no form as bytes; the message says where it hangs and what it is."""

    def __init__(self, what: str, where: str = "") -> None:
        super().__init__(f"{where}: {what}" if where else what)
        self.what, self.where = what, where


def freeze(value: Any, outside: Mapping[str, object]) -> bytes:
    """Return ``value`` and all that hangs on it as canonical bytes.

    Args:
        value: the state.
        outside: what is no part of the state, by a name under which `thaw` will find its counterpart.

    Raises:
        FreezeError: a generator, a lock, a local function, a class of a function's body, ...
    """
    try:
        return encode(_Freezer(outside).put(value))
    except RecursionError:
        raise FreezeError("is nested too deep, or contains itself by way of something immutable") from None


def thaw(data: bytes, outside: Mapping[str, object], packages: tuple[str, ...] = ()) -> Any:
    """Return what `freeze` was given, with the ``outside`` of here.

    Args:
        data: the bytes.
        outside: as `freeze` had it.
        packages: where classes and functions may come from, beside plain containers; any, if none are named. Bytes of
            unknown origin name what they like, and it is called.

    Raises:
        FreezeError: something comes from elsewhere.
    """
    return _Thawer(outside, packages).get(msgspec.msgpack.decode(data))


class Attributes(NamedTuple):
    """What an object's ``__getstate__`` returned, without the object; thawed, it is that state again."""

    state: Any


class _Freezer:
    def __init__(self, outside: Mapping[str, object]) -> None:
        self._outside = outside
        self._names = {id(thing): name for name, thing in outside.items()}
        self._numbers: dict[int, int] = {}
        self._kept: list[Any] = []  # what is made on the way stays alive, so that no identity is used twice

    def put(self, value: Any) -> Any:
        kind = type(value)
        if kind in _PLAIN:
            return value
        if kind is int:
            return value if _INT_MIN <= value < _INT_MAX else ["int", str(value)]
        if (name := self._names.get(id(value))) is not None:
            return ["outside", name]
        if kind is tuple:
            return ["tuple", [self.put(item) for item in value]]
        if kind is Attributes:
            return self._state(value.state)
        if kind is frozenset:
            return ["frozenset", self._sorted(value)]
        if _is_global(value):
            return _named(value)
        if _by_value(kind):
            return ["value", *self._apart(value)]
        if (number := self._numbers.get(id(value))) is not None:
            return ["same", number]
        self._numbers[id(value)] = len(self._numbers)
        self._kept.append(value)
        if kind is list:
            return ["list", self._items(value)]
        if kind is dict:
            return ["dict", self._pairs(value.items())]
        if kind is set:
            return ["set", self._sorted(value)]
        return ["object", *self._apart(value)]

    def _items(self, items: Any) -> list[Any]:
        return [self._at(f"[{i}]", item) for i, item in enumerate(items)]

    def _pairs(self, pairs: Any) -> list[Any]:
        return [[self._at("key", key), self._at(f"[{key!r}]", value)] for key, value in pairs]

    def _sorted(self, items: Any) -> list[Any]:
        ordered = sorted(items, key=lambda item: encode(_Freezer(self._outside).put(item)))
        return [self.put(item) for item in ordered]

    def _at(self, where: str, value: Any) -> Any:
        try:
            return self.put(value)
        except FreezeError as error:
            raise FreezeError(error.what, where + error.where) from None

    def _apart(self, value: Any) -> list[Any]:
        """Return an object as pickle's protocol takes it apart: [maker, arguments, state, items, pairs]."""
        kind = type(value)
        try:
            take_apart = copyreg.dispatch_table.get(kind)
            parts: Any = take_apart(value) if take_apart else value.__reduce_ex__(4)
        except (TypeError, pickle.PicklingError):
            raise FreezeError(f"a {kind.__name__} cannot be copied") from None
        if isinstance(parts, str):  # a constant of a module
            return [_named(_itself), [_named(value)], None, [], []]
        self._kept.append(parts)
        make, arguments, state, items, pairs = (*parts, None, None, None)[:5]
        made = [self.put(make), [self.put(argument) for argument in arguments]]
        return [*made, self._state(state), self._items(items or ()), self._pairs(pairs or ())]

    def _state(self, state: Any) -> Any:
        """Return attributes by name: the order in which a policy happened to set them is no state."""
        if type(state) is dict and all(type(name) is str for name in state):
            return ["attributes", [[name, self._at(f".{name}", state[name])] for name in sorted(state)]]
        if type(state) is tuple and len(state) == 2 and all(part is None or type(part) is dict for part in state):
            return ["both", [self._state(part) for part in state]]  # of the instance's dict, and of its slots
        return self.put(state)


class _Body:
    """What an unpickler reads as a file."""

    def __init__(self, rest: bytes) -> None:
        self._rest = rest

    def read(self, count: int) -> bytes:
        taken, self._rest = self._rest[:count], self._rest[count:]
        return taken

    def readline(self) -> bytes:
        return self.read(self._rest.find(b"\n") + 1)


class _Finder(pickle.Unpickler):
    """Reads the name of a class or function, which must be one of some packages or of `HARMLESS`."""

    def __init__(self, body: bytes, packages: tuple[str, ...]) -> None:
        super().__init__(_Body(body))
        self._packages = packages

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in HARMLESS:
            return super().find_class(module, name)
        if module.split(".")[0] in self._packages:
            found = super().find_class(module, name)
            if getattr(found, "__module__", None) == module:  # and not what the module has imported
                return found
        raise FreezeError(f"{module}.{name} is none of {', '.join(self._packages)}")


class _Thawer:
    def __init__(self, outside: Mapping[str, object], packages: tuple[str, ...]) -> None:
        self._outside, self._packages = outside, packages
        self._made: list[Any] = []

    def get(self, form: Any) -> Any:
        if type(form) is not list:
            return form
        tag, body = form[0], form[1]
        if tag == "int":
            return int(body)
        if tag == "outside":
            return self._outside[body]
        if tag == "tuple":
            return tuple([self.get(item) for item in body])
        if tag == "frozenset":
            return frozenset([self.get(item) for item in body])
        if tag == "global":
            return _Finder(body, self._packages).load() if self._packages else pickle.loads(body)
        if tag == "same":
            return self._made[body]
        if tag == "value":
            return self._build(form[1:])
        if tag == "object":
            return self._object(form[1:])
        if tag == "attributes":
            return {name: self.get(value) for name, value in body}
        if tag == "both":
            return tuple([self.get(part) for part in body])
        return self._container(tag, body)

    def _container(self, tag: str, body: list[Any]) -> Any:
        made: Any = {"list": list, "dict": dict, "set": set}[tag]()
        self._made.append(made)  # before what it holds, which may hold it
        if tag == "dict":
            for key, value in body:
                made[self.get(key)] = self.get(value)
        else:
            (made.extend if tag == "list" else made.update)([self.get(item) for item in body])
        return made

    def _object(self, parts: list[Any]) -> Any:
        number = len(self._made)
        self._made.append(None)
        return self._build(parts, number)

    def _build(self, parts: list[Any], number: int | None = None) -> Any:
        make, arguments, state, items, pairs = parts
        made = self.get(make)(*(self.get(argument) for argument in arguments))
        if number is not None:
            self._made[number] = made
        apply_state(made, self.get(state))
        for item in items:
            made.append(self.get(item))
        for key, value in pairs:
            made[self.get(key)] = self.get(value)
        return made


def apply_state(made: Any, state: Any) -> None:
    """Give an object the state that its ``__getstate__`` or its reduction returned, as pickle does."""
    if state is None:
        return
    if hasattr(made, "__setstate__"):
        made.__setstate__(state)
        return
    attributes, slots = state if type(state) is tuple else (state, None)
    if attributes:
        vars(made).update(attributes)
    for name, value in (slots or {}).items():
        setattr(made, name, value)


def _by_value(kind: type) -> bool:
    """Whether equal objects of this class are one: they hash by value, which only what never changes may do."""
    config = getattr(kind, "__struct_config__", None)
    if config is not None:
        return bool(config.frozen)
    hashes: Any = kind.__hash__
    return hashes is not None and hashes is not object.__hash__


def _itself(value: Any) -> Any:
    return value


def _is_global(value: Any) -> bool:
    if isinstance(value, type | FunctionType):
        return True
    return isinstance(value, BuiltinFunctionType) and isinstance(value.__self__, ModuleType | None)


def _named(value: Any) -> list[Any]:
    try:
        return ["global", pickle.dumps(value, 4)]
    except (pickle.PicklingError, AttributeError):
        raise FreezeError(f"{getattr(value, '__qualname__', value)} is not found under its name in a module") from None
