"""What a test rests on: the project's files that its process, or one that it starts, may import or read; one digest.

The files are found by what Python sources say, so that children count whose imports nobody sees: imports anywhere in a
file, and dotted names in strings (``-m real_backends.node``, ``import_module(f"experiments.hunt.arenas.{name}")``,
programs for ``python -c``). In doubt more counts than is needed: a string that names a package, or leaves the end of a
name open, names every module in it. What a run opened besides is told by who saw it (`experiments.opened`).

Sources are read as they are now, although those of the run decide. That is enough: where a file does not count any
more, one that imported it has changed or has lost its own importer, and so on up to the test; the first of that chain
still counts, and what it now holds outdates the digest.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

PACKAGES = ("models", "policies", "scenarios", "sim", "real_backends", "experiments", "conf")
"""Folders of what is tested; all that is no Python in them counts for every test."""
SETTINGS = ("pyproject.toml", "requirements.lock", "twin")
"""Files beside them that count for every test."""
OPENED = ("docs",)
"""Folders whose files count for who opened them alone: pages and tables that tests compare with."""
RESULTS = "tests/nightly.json"
"""What tests came to; no test rests on it."""
_ROOT = f"(?:{'|'.join((*PACKAGES, 'tests'))})"
_DOTTED = re.compile(rf"\b{_ROOT}(?:\.\w+)+|^{_ROOT}(?:\.\w+)*\.$")
"""A name of a module in a string, or the beginning of one: ``real_backends.executors.`` before a brace."""


class Sources:
    """The files of a checkout as they are when this is made.

    Args:
        root: the checkout.
    """

    def __init__(self, root: Path) -> None:
        self._content = {name: (root / name).read_bytes() for name in _files(root)}
        self._digests = {name: hashlib.sha256(content).digest() for name, content in self._content.items()}
        self._below: dict[str, set[str]] = defaultdict(set)  # folder to all modules in it
        for name in self._content:
            for folder in Path(name).parents if name.endswith(".py") else ():
                self._below[folder.as_posix()].add(name)
        asked = tuple(f"{folder}/" for folder in ("tests", *OPENED))
        self._always = {name for name in self._content if not name.startswith(asked) and not name.endswith(".py")}

    def rests_on(self, test: str, opened: Iterable[str] = ()) -> set[str]:
        """Return what a file of tests rests on; files are named as in git, from the checkout on.

        Args:
            test: the file.
            opened: what a run opened besides; what is no file here is left out.
        """
        todo = {*self.beside(test), *opened, *self._always}
        found: set[str] = set()
        while todo:
            file = todo.pop()
            if file not in found and file in self._content:
                found.add(file)
                todo |= self._named_by(file)
        return found

    def beside(self, test: str) -> set[str]:
        """Return a file of tests, what pytest reads for it, the files beside it that are no Python, and `SETTINGS`."""
        folder = f"{Path(test).parent.as_posix()}/"
        given = {test, *SETTINGS, *((above / "conftest.py").as_posix() for above in Path(test).parents)}
        given |= {name for name in self._content if name.startswith(folder) and not name.endswith(".py")}
        return self.known(given)

    def known(self, files: Iterable[str]) -> set[str]:
        """Return those that are files of the project."""
        return self._content.keys() & set(files)

    def digest(self, files: Iterable[str]) -> str:
        """Return the SHA-256 of names and contents; a file that is not here has none."""
        whole = hashlib.sha256()
        for file in sorted(files):
            whole.update(file.encode() + b"\0" + self._digests.get(file, b""))
        return whole.hexdigest()

    def _named_by(self, file: str) -> set[str]:
        """Return the files that one file's imports and strings name."""
        if not file.endswith(".py"):
            return set()
        imported, said = _names(self._content[file], Path(file).parts[:-1])
        found = {found for name in imported for found in self._imported_as(name)}
        return found | {found for name in said for found in self._said_as(name)}

    def _imported_as(self, name: str) -> set[str]:
        """Return what an import of a module, or of a name in one, brings: each package begins before what is in it."""
        parts = name.split(".")
        beginnings = ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]
        found = [
            file for path in beginnings for end in ("/__init__.py", ".py") if (file := path + end) in self._content
        ]
        if found and found[-1].endswith("/__init__.py") and b"def __getattr__" in self._content[found[-1]]:
            return {*found, *self._below[str(Path(found[-1]).parent)]}  # a package that imports when it is asked
        return set(found)

    def _said_as(self, name: str) -> set[str]:
        """Return the module that a string names, or all in the package that it names or begins to name."""
        parts = name.rstrip(".").split(".")
        for end in range(len(parts), 0 if name.endswith(".") else 1, -1):
            path, dotted = "/".join(parts[:end]), ".".join(parts[:end])
            if path in self._below or f"{path}.py" in self._content:
                return self._imported_as(dotted) | self._below.get(path, set())
        return self._imported_as(parts[0])


def _files(root: Path) -> set[str]:
    """Return all files that can count: none that a tool left behind."""
    inside = [path for folder in (*PACKAGES, *OPENED, "tests") for path in (root / folder).rglob("*")]
    names = [path.relative_to(root) for path in (*inside, *(root / name for name in SETTINGS)) if path.is_file()]
    kept = [name for name in names if not any(part.startswith((".", "__pycache__")) for part in name.parts)]
    return {name.as_posix() for name in kept} - {RESULTS}


@cache
def _names(source: bytes, folder: tuple[str, ...]) -> tuple[frozenset[str], frozenset[str]]:
    """Return the names that a source imports, at its beginning or later, and those of modules that its strings say."""
    tree = ast.parse(source)
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # strings that only explain
    texts = [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose
    ]
    return frozenset(_imported(tree, folder)), frozenset(name for text in texts for name in _DOTTED.findall(text))


def _imported(tree: ast.Module, folder: tuple[str, ...]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = folder[: len(folder) + 1 - node.level] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)
