"""Digests of sources: which policy ran, as a name for the text of every module it is made of.

A policy's digest covers its own module and, transitively, every module of `policies` and `models` that
these import, found in their syntax trees: the same in both worlds, and the same whether or not anything was
imported.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import json
import platform
import sys
import textwrap
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

COVERED = ("policies", "models")
"""The packages whose modules a policy's digest follows."""

VERSIONED = (
    "villagetwin", "numpy", "scipy", "pandas", "pyarrow", "networkx", "simpy", "mesa", "msgspec",
    "jax", "torch", "cryptography", "hydra-core", "mlflow",
)  # fmt: skip
"""Distributions whose version can change a result or its file."""


def source_sha256(subject: type | ModuleType) -> str:
    """Return the SHA-256 of a policy's source: its module and all it imports from `policies` and `models`.

    Args:
        subject: a class (its module counts whole) or a module; from a notebook, a class is its own text.
    """
    name = subject.__module__ if isinstance(subject, type) else subject.__name__
    root = name.split(".")[0]
    parts: list[tuple[str, str]] = []
    if root in COVERED:
        roots: Iterable[str] = (name,)
    else:
        source = _outside_source(subject)
        package = name if _is_package(name) else name.rpartition(".")[0]
        parts.append(("outside", _sha256(source.encode())))
        roots = _imports(source, package)
    parts += [(module, _module_sha256(module)) for module in modules_of(*roots)]
    return _sha256(json.dumps(parts).encode())


def modules_of(*roots: str) -> tuple[str, ...]:
    """Return ``roots`` and every module of `policies` and `models` that they import, transitively, sorted."""
    seen: set[str] = set()
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += _module_imports(name)
    return tuple(sorted(seen))


def policies_manifest(paths: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """Return, for each mounted path, the policy's class and digests.

    Args:
        paths: path to a policy object, its class or a module. An object's ``config``, where it has one, is
            digested as its parameters.
    """
    manifest: dict[str, dict[str, str]] = {}
    for path, subject in sorted(paths.items()):
        named = subject if isinstance(subject, type | ModuleType) else type(subject)
        row = {"class": class_name(named), "source_sha256": source_sha256(named)}
        config = None if named is subject else getattr(subject, "config", None)
        if isinstance(config, msgspec.Struct):
            row["parameters_sha256"] = _sha256(msgspec.json.encode(config, order="deterministic"))
        manifest[path] = row
    return manifest


def class_name(subject: type | ModuleType) -> str:
    """Return ``module:Class``, or the module's name."""
    return f"{subject.__module__}:{subject.__qualname__}" if isinstance(subject, type) else subject.__name__


def digest_of(policies: Mapping[str, Mapping[str, str]]) -> str:
    """Return one digest for a whole node's policies, from a `policies_manifest`."""
    return _sha256(json.dumps(policies, sort_keys=True).encode())


def tree_sha256(folders: Iterable[Path]) -> str:
    """Return the SHA-256 of every Python file under ``folders``, by relative name and content."""
    digest = hashlib.sha256()
    for folder in folders:
        for file in sorted(folder.rglob("*.py")):
            name = f"{folder.name}/{file.relative_to(folder).as_posix()}"
            digest.update(f"{name}\0{_sha256(file.read_bytes())}\n".encode())
    return digest.hexdigest()


def versions() -> dict[str, str]:
    """Return the versions of Python, the machine and the installed distributions that matter to a result."""
    found = {"python": platform.python_version(), "machine": platform.machine(), "system": platform.system()}
    for name in VERSIONED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _outside_source(subject: type | ModuleType) -> str:
    """Return the text of a user's file, or, from a notebook, of the class alone."""
    name = subject.__module__ if isinstance(subject, type) else subject.__name__
    module = sys.modules.get(name)
    whole = name != "__main__" and module is not None and getattr(module, "__file__", None)
    return inspect.getsource(module if whole else subject)  # type: ignore[arg-type]


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@lru_cache(maxsize=1024)
def _file_of(name: str) -> Path | None:
    """Return a covered module's file, without importing it (only its parent packages are)."""
    loaded = sys.modules.get(name)
    if loaded is not None and getattr(loaded, "__file__", None):
        return Path(str(loaded.__file__))
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin) if spec and spec.origin and spec.origin.endswith(".py") else None


def _is_package(name: str) -> bool:
    file = _file_of(name)
    return file is not None and file.name == "__init__.py"


@lru_cache(maxsize=1024)
def _module_sha256(name: str) -> str:
    file = _file_of(name)
    return _sha256(file.read_bytes()) if file else ""


@lru_cache(maxsize=1024)
def _module_imports(name: str) -> tuple[str, ...]:
    file = _file_of(name)
    if file is None:
        return ()
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    return _imports(file.read_text(), package)


def _imports(source: str, package: str) -> tuple[str, ...]:
    """Return the covered modules that ``source``, a module of ``package``, names in its import statements."""
    names: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(textwrap.dedent(source))]
    while waiting:
        node = waiting.pop()
        inner = ast.iter_child_nodes(node)  # an import is a statement: to look into expressions takes most of a walk
        waiting += [child for child in inner if isinstance(child, ast.stmt | ast.excepthandler | ast.match_case)]
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            up = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*up, *([node.module] if node.module else [])])
            names.add(base)
            names |= {f"{base}.{alias.name}" for alias in node.names}
    # A name may be an attribute instead of a module; a module brings its packages along.
    found: set[str] = set()
    for name in names:
        parts = name.split(".")
        if parts[0] in COVERED:
            found |= {".".join(parts[: i + 1]) for i in range(len(parts))}
    return tuple(sorted(name for name in found if _file_of(name) is not None))
