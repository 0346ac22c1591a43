"""From a validator's message to one line for a person: field=value, and what is allowed there.

It knows no field by name: what is allowed is read off the types of the struct that was being built.
"""

from __future__ import annotations

import difflib
from typing import Any, Literal, get_origin

import msgspec

ANY_KEY = "[...]"


def explain(message: str, data: Any, root: type[msgspec.Struct]) -> str:
    """Turn msgspec's message about ``data``, which should have been a ``root``, into one line.

    >>> class Box(msgspec.Struct):
    ...     colour: Literal["red", "blue"]
    >>> explain("Invalid enum value 'pink' - at `$.colour`", {"colour": "pink"}, Box)
    "colour='pink': expected one of red, blue"
    """
    text, _, where = message.partition(" - at `")
    key, in_keys, inside = where.rstrip("`").partition("key` in `")
    path = _with_keys(root, (inside if in_keys else key).lstrip("$").lstrip("."), data)
    if "unknown field" in text:
        field = text.split("`")[1]
        kinds = _meant(root, path, data)
        names = sorted({f.name for kind in kinds for f in msgspec.structs.fields(kind)})
        near = difflib.get_close_matches(field, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"allowed: {', '.join(names)}"
        if not names:
            hint = f"{kinds[0].__struct_config__.tag_field}={kinds[0].__struct_config__.tag} has none"
        return f"{'.'.join(x for x in (path, field) if x)}: no such field; {hint}"
    shown = f"{path or 'scenario'}={_at(data, path)!r}"
    if text.startswith("Invalid "):
        where_types = _types(root, path)
        allowed = _literals(_keys(where_types) if in_keys else where_types) or _tags(root, path)
        if allowed:
            bad = f"{text.split(chr(39))[1]!r} is none of them; " if in_keys else ""
            return f"{shown}: {bad}expected one of {', '.join(allowed)}"
    return f"{shown}: {text[0].lower()}{text[1:]}"


def _with_keys(root: Any, path: str, data: Any) -> str:
    """Name what the validator writes as ``[...]``: the first entry of that dict which is no value of its type."""
    for _ in range(path.count(ANY_KEY)):
        before, _, after = path.partition(ANY_KEY)
        members = [member for kind in _types(root, before) for member in _members(kind)]
        kinds = [member.__args__[1] for member in members if get_origin(member) is dict]
        there = _at(data, before)
        entries = there.items() if isinstance(there, dict) else ()
        wrong = next((key for key, value in entries if not any(_is(value, kind) for kind in kinds)), None)
        path = before + (f".{wrong}" if wrong is not None else "") + after
    return path


def _is(value: Any, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def _parts(path: str) -> list[str]:
    return [part for part in path.replace("[", ".").replace("]", "").split(".") if part]


def _at(data: Any, path: str) -> Any:
    for part in _parts(path):
        if isinstance(data, dict) and part in data:
            data = data[part]
        elif isinstance(data, list | tuple) and part.isdigit() and int(part) < len(data):
            data = data[int(part)]
    return data


def _types(root: Any, path: str) -> list[Any]:
    """Types allowed at a dotted path; an index stands for any element."""
    kinds: list[Any] = [root]
    for part in _parts(path):
        if part.isdigit():
            kinds = [inner for kind in kinds for union in _members(kind) for inner in getattr(union, "__args__", ())]
        else:
            values = [m.__args__[1] for kind in kinds for m in _members(kind) if get_origin(m) is dict]
            fields = [f.type for k in _structs(kinds) for f in msgspec.structs.fields(k) if f.name == part]
            kinds = fields + values
    return kinds


def _members(kind: Any) -> list[Any]:
    """The members of a union, or the type itself; `Annotated` is looked through."""
    kind = getattr(kind, "__origin__", kind) if hasattr(kind, "__metadata__") else kind
    if get_origin(kind) in (None, tuple, list, dict, Literal):
        return [kind]
    return [member for inner in kind.__args__ for member in _members(inner)]


def _structs(kinds: list[Any]) -> list[Any]:
    found = [member for kind in kinds for member in _members(kind)]
    return [kind for kind in found if isinstance(kind, type) and issubclass(kind, msgspec.Struct)]


def _meant(root: Any, path: str, data: Any) -> list[Any]:
    """The structs that may stand at a path: of a tagged union the one that the data names, if it names one."""
    structs, there = _structs(_types(root, path)), _at(data, path)
    tags = there.values() if isinstance(there, dict) else ()
    return [kind for kind in structs if kind.__struct_config__.tag in tags] or structs


def _literals(kinds: list[Any]) -> list[str]:
    found = [member for kind in kinds for member in _members(kind)]
    return [str(value) for kind in found if get_origin(kind) is Literal for value in kind.__args__]


def _keys(kinds: list[Any]) -> list[Any]:
    return [kind.__args__[0] for kind in kinds if get_origin(kind) is dict]


def _tags(root: Any, path: str) -> list[str]:
    """Tags of the union whose tag field stands at ``path``."""
    parent = path.rpartition(".")[0]
    return [str(kind.__struct_config__.tag) for kind in _structs(_types(root, parent))]
