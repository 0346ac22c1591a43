"""Tidy: no module of policies or models names what `sim.banned` bans, but for the exceptions written down here."""

from __future__ import annotations

import ast
import importlib
import tomllib
from pathlib import Path

import pytest

from experiments.policy_source import module_offences
from sim.banned import BUILTINS, METHODS, MODULES

ROOT = Path(__file__).parents[1]
MODULE_NAMES = sorted(
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for folder in ("policies", "models")
    for file in (ROOT / folder).rglob("*.py")
)
NAMES_A_TABLE = "names the table of fits that stands beside it"
EXCEPTIONS: dict[str, dict[str, str]] = {  # module to the beginning of an offence, to why it stands
    "policies.committee.bound": {"odds == 1.0": "a value as somebody wrote it, not one that was computed"},
    "policies.consensus.hotstuff.tree": {"async and yield": "ancestors of a block, walked to the end within the step"},
    "policies.frozen": {"id:": "tells objects apart while it walks them; no number of it leaves"},
    "policies.harvest.elementwise": {"config.hour_": "a value as somebody wrote it, not one that was computed"},
    "policies.log": {"async and yield": "a reader of records; a driver's, called from no handler"},
    "models.availability.fit": {"np.random.default_rng": "a fit outside any run, from a seed that is an argument"},
    "models.availability.robust": {"orders": "the only element of a set of one"},
    "models.availability.score": {
        "np.random.default_rng": "a bootstrap outside any run, from a seed that is an argument",
        "pathlib.Path": "reads the traces a fit is scored on",
        "Path:": "the same",
        "open:": "the same",
    },
    "models.devices.rows": {"pathlib.Path": "reads the table that stands beside it", "Path:": "the same"},
    "policies.tasks.book": {"async and yield": "an iterator over its own rows, run to its end within the step"},
    "models.distributions.fit": {"async and yield": "a generator of folds; fits are made outside any run"},
    "models.distributions.law": {"pathlib.Path": NAMES_A_TABLE, "Path:": NAMES_A_TABLE},
    "models.engines.kernels": {
        "pathlib.Path": "reads an engine's tables, before any run",
        "Path:": "the same",
        "async and yield": "a reader of rows, run to its end within the reading",
    },
    "models.failures.bursts": {"FILE:": NAMES_A_TABLE},
    "models.failures.lives": {"pathlib.Path": NAMES_A_TABLE, "Path:": NAMES_A_TABLE, "FILE:": NAMES_A_TABLE},
    "models.inference.catalogue": {"pathlib.Path": NAMES_A_TABLE, "Path:": NAMES_A_TABLE},
    "models.inference.chips": {"pathlib.Path": NAMES_A_TABLE, "Path:": NAMES_A_TABLE},
    "models.inference.prices": {"pathlib.Path": NAMES_A_TABLE, "Path:": NAMES_A_TABLE, "FILE:": NAMES_A_TABLE},
    "models.inference.quantisation": {"pathlib.Path": NAMES_A_TABLE, "Path:": NAMES_A_TABLE},
    "models.inference.tolerances": {"pathlib.Path": NAMES_A_TABLE, "Path:": NAMES_A_TABLE, "FILE:": NAMES_A_TABLE},
    "models.links.access": {"pathlib.Path": NAMES_A_TABLE, "Path:": NAMES_A_TABLE, "FILE:": NAMES_A_TABLE},
    "models.links.backbone": {"FILE:": NAMES_A_TABLE},
    "models.links.loss": {"FILE:": NAMES_A_TABLE},
    "models.thermal.crossing": {"jax.lax": "the law's own JAX form, imported where it is asked for"},
    "models.thermal.phone_fit": {"jax.lax": "the law's own JAX form, imported where it is asked for"},
}
EXACT_IN_MODELS = "floats differ between CPUs"
"""Models guard divisions by comparing with a zero that was written, not computed; their bits are tested elsewhere."""


@pytest.mark.parametrize("name", MODULE_NAMES)
def test_a_module_says_nothing_that_is_banned(name: str) -> None:
    """Every offence is an exception with a reason, and every exception is still needed."""
    allowed, used, found = EXCEPTIONS.get(name, {}), set(), []
    for line, text in module_offences(importlib.import_module(name)):
        beginning = next((start for start in allowed if text.startswith(start)), None)
        if beginning is not None:
            used.add(beginning)
        elif not (name.startswith("models.") and EXACT_IN_MODELS in text):
            found.append(f"{name}:{line}: {text}")

    assert found == []
    assert used == set(allowed)


def test_exceptions_are_of_modules_that_exist() -> None:
    """A module that is gone leaves no exception behind."""
    assert set(EXCEPTIONS) <= set(MODULE_NAMES)


def test_the_import_contracts_ban_nothing_that_the_text_allows() -> None:
    """What import-linter forbids a policy to reach is in the one list, so that its message names a replacement."""
    linter = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (pure,) = [contract for contract in linter["contracts"] if contract["id"] == "pure"]

    assert [name for name in pure["forbidden_modules"] if name not in MODULES] == []


def test_the_list_is_data_and_says_what_to_do_instead() -> None:
    """Each entry is a name and a short replacement; nothing is banned without one."""
    for name, instead in {**MODULES, **BUILTINS, **METHODS}.items():
        assert ast.parse(name, mode="eval")
        assert 5 < len(instead) < 80, name
