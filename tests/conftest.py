"""What all tests share: where the measured data lie, how far a law is from its reference."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from experiments.opened import CHECKOUT, tell_at_exit

REAL = tuple(
    f"tests/{name}"
    for name in ("conformance", "notebooks", "real_backends", "setup", "scenarios/adversaries/test_worlds")
)
"""Tests that wait for real processes and sockets, or need much memory: one at a time, whatever runs beside."""
settings.register_profile("untimed", deadline=None)  # a busy machine breaks no law
settings.load_profile("untimed")


def pytest_configure() -> None:
    """Keep account of files that are opened, where `twin test nightly` asks for it."""
    tell_at_exit(sources=True)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """With ``--dist loadfile``, leave all `REAL` tests to one process; other files go where there is room."""
    if config.getoption("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadScopeScheduling  # here: whoever runs one process needs no xdist

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "real" if nodeid.startswith(REAL) else nodeid.partition("::")[0]

    return Scheduling(config, log)


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of measured data, beside the checkout or where VILLAGETWIN_DATA says; skips where there is none."""
    path = Path(os.environ.get("VILLAGETWIN_DATA") or CHECKOUT.parent / "shared" / "data")
    if not path.is_dir():
        pytest.skip(f"no data at {path}")
    return path


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that asks for `physics`, before ``-m physics`` chooses."""
    for item in items:
        if "physics" in getattr(item, "fixturenames", ()):
            item.add_marker("physics")


@pytest.fixture
def physics(record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """Tell `twin validate physics` how far a law is from its reference; asserts nothing.

    ``physics(law, reference, error, unit, bar, worst=None, note="")``: call it before the assertion, once a case. Calls
    that differ in figures only become one row of the table.

    Args of what is returned:
        law: ``subject: what is compared``; the subject is the section of docs/physics.md.
        reference: who says so.
        error: what the bar is for; a mean or a root mean square if there is a worst case beside it.
        unit: of error, worst and bar; ``rel.`` for shares of the reference.
        bar: the issue's, else the test's own.
        worst: the largest error of this case, where error is not that.
        note: a few words for the reader.
    """

    def record(
        law: str, reference: str, error: float, unit: str, bar: float, *, worst: float | None = None, note: str = ""
    ) -> None:
        largest = None if worst is None else float(worst)
        row = {"law": law, "reference": reference, "error": float(error), "unit": unit, "bar": float(bar)}
        record_property("physics", json.dumps({**row, "worst": largest, "note": note}))

    return record


@pytest.fixture(name="broken")
def _broken(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return what puts a library of another version in place of one: it is installed, and does not load."""

    def break_it(name: str) -> None:
        folder = tmp_path_factory.mktemp("broken")
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(f"raise RuntimeError('lib{name}.so is of another version')")
        monkeypatch.delitem(sys.modules, name, raising=False)
        monkeypatch.syspath_prepend(folder)

    return break_it
