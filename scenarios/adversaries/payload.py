"""Payloads as an adversary sees them: plain arrays that begin with a tag. Pure functions from one to another.

Nothing here knows a message class, so a behaviour fits every policy. A changed payload may be one that the receiver's
codec refuses; that is the receiver's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import msgspec

from policies.wire import encode


def plain(payload: bytes) -> list[Any]:
    """Return a payload as a list, tag first; an empty list if it is none."""
    try:
        found = msgspec.msgpack.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return []
    return found if isinstance(found, list) and found and isinstance(found[0], str) else []


def tag_of(payload: bytes) -> str:
    """Return a payload's tag, or ""."""
    message = plain(payload)
    return str(message[0]) if message else ""


def at(message: Sequence[Any], path: Sequence[int]) -> Any:
    """Return the field at ``path`` of a message with a tag, or None where there is none.

    >>> at(["vote", 7, [1, 2]], (1, 0))
    1
    """
    found: Any = message[1:]
    for index in path:
        if not isinstance(found, list) or index >= len(found):
            return None
        found = found[index]
    return found


def put(message: list[Any], path: Sequence[int], value: Any) -> list[Any]:
    """Return a copy of a message with another value at ``path``, which must be there.

    >>> put(["vote", 7, [1, 2]], (1, 0), 9)
    ['vote', 7, [9, 2]]
    """
    copy = list(message)
    inner, index = copy, path[0] + 1
    for following in path[1:]:
        inner[index] = list(inner[index])
        inner, index = inner[index], following
    inner[index] = value
    return copy


def replaced(value: Any, change: Callable[[Any], Any]) -> Any:
    """Return ``value`` with every leaf of its lists and maps changed."""
    if isinstance(value, list):
        return [replaced(item, change) for item in value]
    if isinstance(value, dict):
        return {key: replaced(item, change) for key, item in value.items()}
    return change(value)


def leaves(value: Any) -> Iterator[Any]:
    """Yield what stands in lists and maps, and in those in them.

    >>> list(leaves(["vote", [b"x", {"of": 7}]]))
    ['vote', b'x', 7]
    """
    if isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from leaves(item)
    else:
        yield value


def swapped(payload: bytes, swaps: Mapping[Any, Any]) -> bytes:
    """Return a message with texts and byte strings swapped, wherever they stand after its tag."""
    message = plain(payload)
    if not message:
        return payload
    leaves = (str, bytes)
    return encode([message[0], *replaced(message[1:], lambda x: swaps.get(x, x) if isinstance(x, leaves) else x)])


def lookalike(value: str | bytes, key: str) -> str | bytes:
    """Return something of the same type and length, named by ``value`` and ``key``; of a text, hexadecimal digits."""
    raw = value.encode() if isinstance(value, str) else value
    made, count = b"", 0
    while len(made) < len(raw):
        made += blake2b(raw, key=f"{key}/{count}".encode()[:64], person=b"lookalike").digest()
        count += 1
    return made.hex()[: len(value)] if isinstance(value, str) else made[: len(raw)]


def other(value: Any, number: int) -> Any:
    """Return the ``number``-th other value of the same form; what has none is returned as it is.

    >>> other(5, 2), other(True, 1), other([1, [True]], 1)
    (7, False, [2, [False]])
    """
    if isinstance(value, bool):
        return value ^ (number % 2 == 1)
    if isinstance(value, int | float):
        return value + number
    if isinstance(value, str | bytes):
        return lookalike(value, str(number))
    if isinstance(value, list):
        return [other(item, number) for item in value]
    return value


def flip(value: Any) -> Any:
    """Return ``value`` with its last bit flipped; a text's last character is another of its alphabet."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value ^ 1
    if isinstance(value, bytes) and value:
        return value[:-1] + bytes([value[-1] ^ 1])
    if isinstance(value, str) and value:
        return value[:-1] + ("1" if value[-1] == "0" else "0")
    return value


def substitute(signed: bytes, old: Any, new: Any) -> bytes:
    """Return what was signed with ``new`` in the place of every ``old``, if it is an encoded array; else as it is."""
    try:
        inside = msgspec.msgpack.decode(signed)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return signed
    if not isinstance(inside, list):
        return signed
    if isinstance(old, list):
        return encode([new if item == old else item for item in inside])
    return encode(replaced(inside, lambda item: new if type(item) is type(old) and item == old else item))
