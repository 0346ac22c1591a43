"""A policy's digest follows its imports, and nothing else."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from policies.config import HarvestConfig
from policies.consensus import raft
from scenarios import digests

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(name="package")
def _package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of its own in `policies`' place: one imports two, two imports three, four stands alone."""
    folder = tmp_path / "pols"
    (folder / "family").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "family" / "__init__.py").write_text("")
    (folder / "family" / "one.py").write_text("from .two import Two\nclass One: pass\n")
    (folder / "family" / "two.py").write_text("import json\ndef f():\n    from pols import three\nclass Two: pass\n")
    (folder / "three.py").write_text("X = 1\n")
    (folder / "four.py").write_text("X = 1\n")
    monkeypatch.setattr(digests, "COVERED", ("pols",))
    monkeypatch.syspath_prepend(tmp_path)
    for cache in (digests._file_of, digests._module_sha256, digests._module_imports):
        cache.cache_clear()
    yield folder
    for name in [name for name in sys.modules if name.split(".")[0] == "pols"]:
        del sys.modules[name]


def _digest() -> str:
    for cache in (digests._file_of, digests._module_sha256, digests._module_imports):
        cache.cache_clear()
    return digests.source_sha256(importlib.import_module("pols.family.one").One)


def test_imports_are_followed_transitively(package: Path) -> None:
    """Relative imports, imports inside functions and packages on the way all count; a stranger does not."""
    assert digests.modules_of("pols.family.one") == (
        "pols", "pols.family", "pols.family.one", "pols.family.two", "pols.three",
    )  # fmt: skip


@pytest.mark.parametrize(("file", "changes"), [("three.py", True), ("family/two.py", True), ("four.py", False)])
def test_only_what_a_policy_uses_changes_its_digest(package: Path, file: str, changes: bool) -> None:
    """An edit far down the imports changes the digest; an edit beside them does not."""
    before = _digest()
    (package / file).write_text((package / file).read_text() + "Y = 2\n")

    assert (_digest() != before) is changes


def test_the_digest_is_the_same_in_another_process() -> None:
    """Two processes, whatever they have imported, name the same source alike."""
    code = "import policies.consensus.raft as r; from scenarios.digests import source_sha256 as s; print(s(r.Raft))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == digests.source_sha256(raft.Raft)


def test_the_manifest_names_class_source_and_parameters() -> None:
    """Objects of one class with other parameters share a source digest and nothing more."""

    class Mine:
        def __init__(self, config: HarvestConfig) -> None:
            self.config = config

    one, two = Mine(HarvestConfig()), Mine(HarvestConfig(max_cpu=0.1))
    manifest = digests.policies_manifest({"b": two, "a": one, "c": raft.Raft})

    assert list(manifest) == ["a", "b", "c"]
    assert manifest["a"]["source_sha256"] == manifest["b"]["source_sha256"]
    assert manifest["a"]["parameters_sha256"] != manifest["b"]["parameters_sha256"]
    assert manifest["c"]["class"] == "policies.consensus.raft.member:Raft"
    assert digests.digest_of(manifest) == digests.digest_of(dict(reversed(manifest.items())))


def test_a_policy_of_ones_own_is_digested_with_what_it_imports() -> None:
    """A class outside the project has a digest too, of its own text and the project's modules it names."""
    assert len(digests.source_sha256(JustAClass)) == 64


class JustAClass:
    """A class of this test."""


def test_versions_name_python_and_numpy() -> None:
    """The manifest says what a result was made with."""
    assert {"python", "machine", "numpy", "msgspec"} <= set(digests.versions())
