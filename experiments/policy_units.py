"""Which text is a policy's: its class, the classes it inherits from, and what these use of their module."""

from __future__ import annotations

import ast
import linecache
from collections.abc import Iterator
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from experiments.compose import UsageError
from policies.port import Policy
from policies.wire import Message


class PolicyError(UsageError):
    """A policy breaks a rule; the message is one line that says where and what to write instead."""


@dataclass(frozen=True)
class Unit:
    """A class, function or module whose text is held against the rules.

    Attributes:
        file: where it stands.
        node: its syntax.
        names: the globals it sees.
        owner: the policy's class; of a module's text, a class without attributes in that module.
    """

    file: str
    node: ast.ClassDef | ast.FunctionDef | ast.Module
    names: dict[str, Any]
    owner: type


def units(policy: type[Policy]) -> Iterator[Unit]:
    """Yield the policy's classes, and what they use of their module."""
    waiting: list[Any] = [kind for kind in policy.__mro__ if _is_users(kind)]
    seen: set[int] = set()
    while waiting:
        subject = waiting.pop(0)
        if id(subject) in seen:
            continue
        seen.add(id(subject))
        unit = _unit(subject, policy)
        if unit is None:
            continue
        yield unit
        for node in ast.walk(unit.node):
            used = unit.names.get(node.id) if isinstance(node, ast.Name) else None
            if getattr(used, "__module__", "") == subject.__module__ and isinstance(used, FunctionType | type):
                waiting.append(used)


def functions_of(kind: type) -> Iterator[FunctionType]:
    """Yield the functions that a class defines itself."""
    for value in vars(kind).values():
        inner = getattr(value, "fget", None) or getattr(value, "__func__", value)
        if isinstance(inner, FunctionType) and inner.__module__ == kind.__module__:
            yield inner


def _is_users(kind: type) -> bool:
    return issubclass(kind, Policy) and kind is not Policy


def _unit(subject: Any, owner: type) -> Unit | None:
    if isinstance(subject, type):
        if issubclass(subject, Message):
            return None
        function = next(functions_of(subject), None)
    else:
        function = subject
    if function is None:
        return None
    file, line = function.__code__.co_filename, function.__code__.co_firstlineno
    try:
        tree = ast.parse("".join(linecache.getlines(file)))
    except SyntaxError:
        raise PolicyError(f"{file}: cannot be read as Python") from None
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == subject.__name__:
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            if first <= line <= (node.end_lineno or line):
                return Unit(file, node, function.__globals__, owner)
    raise PolicyError(f"{subject.__qualname__}: its source is not to be found; define it in a file or a notebook cell")


def short(file: str) -> str:
    """Return a file as a user knows it; a notebook's cells are no files."""
    return "notebook" if "ipykernel" in file or file.startswith("<ipython") else file
