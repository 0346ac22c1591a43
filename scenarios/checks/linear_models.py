"""Sequential objects whose histories `scenarios.checks.linear` judges: what each operation returns, and what it leaves.

Operations are tuples that begin with their verb. An answer `UNKNOWN` is possible everywhere; where an operation says
nothing but that it was done, its answer is not looked at.
"""

from __future__ import annotations

from typing import Any

from scenarios.checks.linear import ILLEGAL, UNKNOWN, Model


def _register(state: Any, asked: Any, answer: Any) -> Any:
    verb = asked[0]
    if verb == "read":
        return state if answer is UNKNOWN or answer == state else ILLEGAL
    if verb == "write":
        return asked[1]
    if verb == "cas":
        swaps = state == asked[1]
        if answer is not UNKNOWN and answer != swaps:
            return ILLEGAL
        return asked[2] if swaps else state
    raise ValueError(f"operation {verb!r}: a register has read, write and cas")


def _one_key(state: Any, asked: Any, answer: Any) -> Any:
    verb, _, *values = asked
    if verb == "get":
        return state if answer is UNKNOWN or answer == state else ILLEGAL
    if verb == "put":
        return values[0]
    if verb == "append":
        return state + values[0]
    raise ValueError(f"operation {verb!r}: a key-value store has get, put and append")


def _versioned(state: Any, asked: Any, answer: Any) -> Any:
    (verb, _, *values), (held, version) = asked, state
    new = {"put": lambda: values[0], "add": lambda: (held or 0) + values[0], "cas": lambda: values[1], "get": None}[
        verb
    ]
    done = new is not None and (verb != "cas" or held == values[0])
    left = (new(), version + 1) if new is not None and done else state
    expected = ((version > 0 if verb == "get" else done), *left)
    return left if answer is UNKNOWN or answer == expected else ILLEGAL


def _counter(state: Any, asked: Any, answer: Any) -> Any:
    verb = asked[0]
    if verb == "read":
        return state if answer is UNKNOWN or answer == state else ILLEGAL
    if verb == "add":
        return state + asked[1]
    raise ValueError(f"operation {verb!r}: a counter has read and add")


def _set(state: Any, asked: Any, answer: Any) -> Any:
    verb = asked[0]
    if verb == "read":
        return state if answer is UNKNOWN or sorted(answer) == sorted(state) else ILLEGAL
    if verb == "add":
        return state | {asked[1]}
    raise ValueError(f"operation {verb!r}: a set has read and add")


REGISTER = Model("register", None, _register)
"""``("read",)`` returns the value, None before any write; ``("write", v)``; ``("cas", old, new)`` returns whether."""
KEY_VALUE = Model("key_value", "", _one_key, part=lambda asked: asked[1])
"""``("get", key)`` returns a text, "" at first; ``("put", key, text)``; ``("append", key, text)``."""
VERSIONED = Model("versioned registers", (None, 0), _versioned, part=lambda asked: asked[1])
"""Registers whose every write moves a version by one; all answers are (ok, value, version) as the register is left.

``("get", key)`` is ok where something was written; ``("put", key, v)``; ``("add", key, n)`` counts from 0;
``("cas", key, old, new)`` is ok where it swapped.
"""
COUNTER = Model("counter", 0, _counter)
"""``("read",)`` returns the sum; ``("add", n)``."""
SET = Model("set", frozenset(), _set)
"""``("read",)`` returns the members, in any order and each once; ``("add", v)``."""
