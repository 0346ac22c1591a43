"""What a policy's own text may not say: the static part of `check_policy`.

It reads the syntax of the class, of the classes it inherits from, and of the functions and classes of its module
that these use. Names are resolved as the running code would resolve them, so an alias hides nothing, and what
stands beside a policy in a file or a notebook cell is not looked at.
"""

from __future__ import annotations

import ast
import builtins
from pathlib import Path
from types import ModuleType
from typing import Any

from experiments.policy_units import PolicyError, Unit, short, units
from policies.port import Policy
from policies.wire import Message
from sim.banned import BUILTINS, METHODS, instead_of

MUTABLE = (list, dict, set, bytearray)
_MUTATORS = frozenset((
    "append", "extend", "insert", "pop", "popleft", "remove", "clear", "add", "discard", "update", "setdefault",
    "appendleft", "popitem", "sort", "reverse",
))  # fmt: skip
_REACHES_IN = frozenset(("getattr", "vars", "setattr", "delattr", "attrgetter", "dir"))
_ORDERED_BY = frozenset(("list", "tuple", "enumerate", "iter", "zip", "map", "filter", "sum", "join", "fromkeys"))
_ORDER_FREE = frozenset(("sorted", "any", "all", "min", "max", "set", "frozenset", "len"))
_SETS = frozenset(("set", "frozenset", "Set", "AbstractSet", "MutableSet"))


def check_source(policy: type[Policy]) -> None:
    """Refuse what would make the two worlds, or two runs, differ.

    Raises:
        PolicyError: the first offence, as ``file:line: what: use that instead``.
    """
    for unit in units(policy):
        rules = _Rules(unit)
        rules.visit(unit.node)
        if rules.found:
            line, text = min(rules.found)
            raise PolicyError(f"{short(unit.file)}:{line}: {text}")


def module_offences(module: ModuleType) -> list[tuple[int, str]]:
    """Return every (line, offence) of a whole module, held against the same rules as a policy's class."""
    assert module.__file__ is not None
    owner = type("TheModule", (), {"__module__": module.__name__})
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    rules = _Rules(Unit(module.__file__, tree, vars(module), owner))
    rules.visit(tree)
    return sorted(rules.found)


class _Rules(ast.NodeVisitor):
    """Walks one unit and collects (line, offence)."""

    def __init__(self, unit: Unit) -> None:
        self.unit, self.found = unit, list[tuple[int, str]]()
        self._locals: list[set[str]] = []
        self._free: set[int] = set()  # generators whose order does not matter
        self._sets: set[str] = set()  # "name" and "self.name" known to be sets
        self._own: set[str] = set()  # attributes set on self
        for node in ast.walk(unit.node):
            self._learn(node)

    def _say(self, node: ast.AST, text: str) -> None:
        self.found.append((getattr(node, "lineno", 0), text))

    def _learn(self, node: ast.AST) -> None:
        pairs: list[tuple[ast.expr, ast.expr | None]] = []
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                    pairs += zip(target.elts, node.value.elts, strict=False)
                else:
                    pairs.append((target, node.value))
        elif isinstance(node, ast.AnnAssign):
            pairs.append((node.target, node.value))
            if _root(node.annotation) in _SETS:
                self._sets.add(ast.unparse(node.target))
        elif isinstance(node, ast.arg) and node.annotation is not None and _root(node.annotation) in _SETS:
            self._sets.add(node.arg)
        for target, value in pairs:
            name = ast.unparse(target)
            if name.startswith("self."):
                self._own.add(name[5:])
            if value is not None and self._is_set(value):
                self._sets.add(name)

    # -- scopes --------------------------------------------------------------------------------------

    def _function(self, node: Any) -> None:
        arguments = node.args
        names = {a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)}
        names |= {a.arg for a in (arguments.vararg, arguments.kwarg) if a}
        names |= {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        self._locals.append(names)
        self.generic_visit(node)
        self._locals.pop()

    visit_FunctionDef = visit_Lambda = _function

    def _forbidden(self, node: Any) -> None:
        kind = type(node).__name__
        what = "global" if kind == "Global" else "nonlocal" if kind == "Nonlocal" else "async and yield"
        instead = "keep state on self" if kind in ("Global", "Nonlocal") else "a handler runs to its end; use timers"
        self._say(node, f"{what}: {instead}")

    visit_AsyncFunctionDef = visit_Await = visit_Yield = visit_YieldFrom = _forbidden
    visit_Global = visit_Nonlocal = _forbidden

    def _resolve(self, name: str) -> Any:
        """Return the global object of this name; None for locals and unknown ones."""
        return None if any(name in names for names in self._locals) else self.unit.names.get(name)

    def _global(self, node: ast.expr) -> Any:
        return self._resolve(node.id) if isinstance(node, ast.Name) else None

    # -- names and imports ---------------------------------------------------------------------------

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._refuse(node, alias.name, alias.name)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            self._refuse(node, f"{node.module}.{alias.name}", f"{node.module}.{alias.name}")

    def visit_Attribute(self, node: ast.Attribute) -> None:
        chain, inner = [node.attr], node.value
        while isinstance(inner, ast.Attribute):
            chain.insert(0, inner.attr)
            inner = inner.value
        base = self._resolve(inner.id) if isinstance(inner, ast.Name) else None
        if isinstance(base, ModuleType) and self._refuse(node, ".".join([base.__name__, *chain]), ast.unparse(node)):
            return
        if node.attr in METHODS:
            self._say(node, f"{node.attr}: {METHODS[node.attr]}")
        if isinstance(node.ctx, ast.Store | ast.Del) and self._is_shared(node.value):
            self._say(node, f"{ast.unparse(node)}: shared by all nodes of a process; keep state on self")
        self.generic_visit(node)

    def visit_Name(self, node: ast.Name) -> None:
        if not isinstance(node.ctx, ast.Load) or any(node.id in names for names in self._locals):
            return
        if node.id not in self.unit.names:
            if node.id in BUILTINS and hasattr(builtins, node.id):
                self._say(node, f"{node.id}: {BUILTINS[node.id]}")
            return
        value = self.unit.names[node.id]
        while hasattr(value, "func") and type(value).__module__ == "functools":
            value = value.func  # a partial is what it calls
        for builtin, instead in BUILTINS.items():
            if value is getattr(builtins, builtin, self):  # under a name of the policy's own
                self._say(node, f"{node.id}: {instead}")
        if isinstance(value, ModuleType):
            origin = value.__name__
        else:
            origin = getattr(value, "__module__", None) or type(getattr(value, "__self__", value)).__module__
        if origin not in ("builtins", self.unit.owner.__module__):
            self._refuse(node, origin, node.id)

    def _refuse(self, node: ast.AST, dotted: str, shown: str) -> bool:
        if instead := instead_of(dotted):
            self._say(node, f"{shown}: {instead}")
        return instead is not None

    # -- shared state --------------------------------------------------------------------------------

    def _is_shared(self, node: ast.expr) -> bool:
        """Whether the object belongs to the module or the class and not to one node."""
        if isinstance(node, ast.Name):
            value = self._resolve(node.id)
            return isinstance(value, MUTABLE) or (isinstance(value, type) and not issubclass(value, Message))
        text = ast.unparse(node)
        if text in ("self.__class__", "type(self)"):
            return True
        name = text.removeprefix("self.")
        return name != text and name not in self._own and isinstance(getattr(self.unit.owner, name, None), MUTABLE)

    def visit_Subscript(self, node: ast.Subscript) -> None:
        if isinstance(node.ctx, ast.Store | ast.Del) and self._is_shared(node.value):
            self._say(node, f"{ast.unparse(node.value)}: shared by all nodes of a process; keep state on self")
        self.generic_visit(node)

    # -- order and equality --------------------------------------------------------------------------

    def _is_set(self, node: ast.expr) -> bool:
        if isinstance(node, ast.Set | ast.SetComp):
            return True
        if isinstance(node, ast.Call):
            return isinstance(node.func, ast.Name) and node.func.id in ("set", "frozenset")
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr | ast.BitAnd | ast.BitXor | ast.Sub):
            return self._is_set(node.left) or self._is_set(node.right)
        return isinstance(node, ast.Name | ast.Attribute) and ast.unparse(node) in self._sets

    def _in_order(self, node: ast.expr) -> None:
        if self._is_set(node):
            text = ast.unparse(node)
            self._say(node, f"{text}: the order of a set differs between processes; use sorted({text})")

    def visit_For(self, node: ast.For) -> None:
        self._in_order(node.iter)
        self.generic_visit(node)

    def _comprehension(self, node: Any) -> None:
        if id(node) not in self._free:
            for generator in node.generators:
                self._in_order(generator.iter)
        self.generic_visit(node)

    visit_ListComp = visit_GeneratorExp = visit_DictComp = _comprehension

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name in _REACHES_IN and any(isinstance(self._global(inner), ModuleType) for inner in node.args):
            self._say(node, f"{ast.unparse(node)}: name what you use of a module, so that it can be read")
        if name in _ORDER_FREE:
            self._free |= {id(argument) for argument in node.args}
        elif name in _ORDERED_BY:
            for argument in node.args:
                self._in_order(argument)
        if isinstance(node.func, ast.Attribute) and name in _MUTATORS:
            owner = node.func.value
            if self._is_shared(owner):
                self._say(node, f"{ast.unparse(owner)}: shared by all nodes of a process; keep state on self")
            elif name == "pop" and not node.args:
                self._in_order(owner)
        self.generic_visit(node)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        if node.type is None or ast.unparse(node.type) == "BaseException":
            self._say(node, "except: it would swallow what stops an endless step; name the error you expect")
        self.generic_visit(node)

    def visit_Starred(self, node: ast.Starred) -> None:
        self._in_order(node.value)
        self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        sides = [node.left, *node.comparators]
        if any(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops) and any(map(_is_float, sides)):
            self._say(node, f"{ast.unparse(node)}: floats differ between CPUs; compare integers or use < and >")
        self.generic_visit(node)


def _is_float(node: ast.expr) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, float)
    if isinstance(node, ast.Call):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        return name in ("float", "uniform")
    return isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div)


def _root(annotation: ast.expr) -> str:
    inner = annotation.value if isinstance(annotation, ast.Subscript) else annotation
    return inner.attr if isinstance(inner, ast.Attribute) else getattr(inner, "id", "")
