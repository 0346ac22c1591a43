"""A test rests on every file that its process or a child may import, and on none that cannot matter to it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import grimp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.rests_on import PACKAGES, Sources

ROOT = Path(__file__).resolve().parents[2]
TEST = "tests/sim/test_it.py"
PLAIN = {
    TEST: "import sim.world\n",
    "tests/conftest.py": "",
    "tests/sim/rows.csv": "",
    "tests/other/test_other.py": "",
    "sim/__init__.py": "",
    "sim/world.py": "def late():\n    from policies.village import Village\n",
    "sim/other.py": "import sim.world\n",
    "policies/village.py": "",
    "policies/arenas/__init__.py": "",
    "policies/arenas/raft.py": "import models.deep\n",
    "models/deep.py": "",
    "models/table.csv": "",
    "conf/config.yaml": "",
    "requirements.lock": "",
}
NEEDED = {TEST, "tests/conftest.py", "tests/sim/rows.csv", "sim/__init__.py", "sim/world.py", "policies/village.py"}
NEEDED |= {"models/table.csv", "conf/config.yaml", "requirements.lock"}
ARENAS = {"policies/arenas/__init__.py", "policies/arenas/raft.py", "models/deep.py"}
Edit = Callable[[dict[str, str]], Sources]


@pytest.fixture
def checkout(tmp_path: Path) -> Edit:
    """Write files over those of a small project and return what it is now."""

    def edit(files: dict[str, str]) -> Sources:
        for name, content in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(content)
        return Sources(tmp_path)

    edit(PLAIN)
    return edit


def test_a_change_outdates_a_result_just_where_it_matters(checkout: Edit) -> None:
    """Each file in turn is changed: the digest moves for imports, late ones too, settings and data, and no others."""
    before = checkout({})
    digest = before.digest(before.rests_on(TEST))
    moved = set()
    for name, content in PLAIN.items():
        now = checkout({name: f"{content}\n"})
        if now.digest(now.rests_on(TEST)) != digest:
            moved.add(name)
        checkout({name: content})
    assert moved == NEEDED


@pytest.mark.parametrize(
    "source",
    [
        'import_module(f"policies.arenas.{name}")',
        'run([executable, "-m", "policies.arenas.raft"])',
        'run([executable, "-c", "import os; from policies.arenas import raft"])',
        'CLASS = "policies.arenas.raft:Raft"',
        'ARENAS = "policies.arenas"',
        "def late():\n    from policies.arenas import raft",
        "import policies.arenas.raft as arena",
    ],
)
def test_modules_named_in_any_way_count_with_what_they_import(checkout: Edit, source: str) -> None:
    """By import, by a name that is said whole or begun, and in a child's program."""
    assert checkout({TEST: source}).rests_on(TEST) >= ARENAS


@pytest.mark.parametrize(
    "source", ["'''As policies.arenas.raft does.'''", "# policies.arenas.raft", "raise E('policies. ')"]
)
def test_what_only_explains_names_nothing(checkout: Edit, source: str) -> None:
    """Docstrings and comments start no process."""
    assert not checkout({TEST: source}).rests_on(TEST) & ARENAS


def test_a_page_counts_for_who_opened_it_alone(checkout: Edit) -> None:
    """A table in docs that a test compares with outdates that test's result, and the results of no others."""
    page = "docs/table.csv"
    first = checkout({page: "1\n"})
    opened = first.known([page, "runs/other.csv"])
    before = [first.digest(first.rests_on(TEST, files)) for files in (opened, ())]
    then = checkout({page: "2\n"})
    now = [then.digest(then.rests_on(TEST, files)) for files in (opened, ())]

    assert [one == other for one, other in zip(before, now, strict=True)] == [False, True]


def test_a_package_that_imports_when_asked_counts_whole(checkout: Edit) -> None:
    """Nobody knows which of its modules a name is from."""
    lazy = {
        "policies/arenas/__init__.py": "def __getattr__(name):\n    ...\n",
        TEST: "from policies.arenas import Raft",
    }
    assert checkout(lazy).rests_on(TEST) >= ARENAS


MODULES = [f"models/m{k}.py" for k in range(6)]
GRAPHS = st.fixed_dictionaries({name: st.sets(st.sampled_from(MODULES)) for name in MODULES})


@given(then=GRAPHS, now=GRAPHS)
def test_reading_imports_as_they_are_now_misses_no_change(
    tmp_path_factory: pytest.TempPathFactory, then: dict[str, set[str]], now: dict[str, set[str]]
) -> None:
    """Whatever imports were before and are now: a digest is the same only if all that was imported is as it was."""
    root = tmp_path_factory.mktemp("graph")
    (root / "tests").mkdir()
    (root / "models").mkdir()
    (root / "tests" / "test_it.py").write_text("import models.m0\n")
    seen = []
    for graph in (then, now):
        for name, imported in graph.items():
            lines = (f"import models.{Path(other).stem}\n" for other in sorted(imported))
            (root / name).write_text("".join(lines))
        sources = Sources(root)
        files = sources.rests_on("tests/test_it.py")
        seen.append((files, sources.digest(files)))
    same = all(then[name] == now[name] for name in seen[0][0] if name in then)
    assert (seen[0][1] == seen[1][1]) == same


def test_all_that_another_library_finds_imported_is_found_here() -> None:
    """Of every module of the project: no import in grimp's graph, which the floors are checked with, is missing."""
    graph = grimp.build_graph(*[name for name in PACKAGES if name != "conf"], cache_dir=None)
    sources = Sources(ROOT)
    for module in sorted(graph.modules):
        path = module.replace(".", "/")
        file = f"{path}.py" if (ROOT / f"{path}.py").exists() else f"{path}/__init__.py"
        named = sources._named_by(file)
        for other in graph.find_modules_directly_imported_by(module):
            there = other.replace(".", "/")
            assert named & {f"{there}.py", f"{there}/__init__.py"}, f"{module} imports {other}"


@pytest.mark.parametrize("test", ["tests/policies/consensus/test_pbft_storms.py", "tests/sim/twins/test_play.py"])
def test_all_that_python_imports_is_found(test: str) -> None:
    """Import a file of long tests in a process of its own: every module of the project that is there is known."""
    module = test.removesuffix(".py").replace("/", ".")
    code = (
        "import importlib, json, sys; importlib.import_module(sys.argv[1]);"
        "print(json.dumps([f for m in sys.modules.values() if (f := getattr(m, '__file__', None))]))"
    )
    done = subprocess.run([sys.executable, "-c", code, module], cwd=ROOT, capture_output=True, text=True, check=True)
    paths = [Path(name) for name in json.loads(done.stdout)]
    sources = Sources(ROOT)
    imported = sources.known(path.relative_to(ROOT).as_posix() for path in paths if path.is_relative_to(ROOT))
    assert len(imported) > 50
    assert imported <= sources.rests_on(test)
